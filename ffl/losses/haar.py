"""L1 distance of Haar wavelet pyramids, of images and of video, as in the autoencoders of owl-vaes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.losses.focal_frequency import Reduction
from ffl.losses.pair_loss import PairLoss

# Half a megabyte for each thread of a CPU.
_CHUNK_PIXELS = 1 << 17


def haar_formula(f_r: Tensor, f_f: Tensor, levels: int = 4, dims: int = 2) -> Tensor:
    """The loss as published, of even sizes; the tests compare what is faster with it.

    Args:
        f_r: real images, (..., H, W) or (..., D, H, W), floating; sides are multiples of 2^levels.
        f_f: generated images, same shape.
        levels: of the pyramid, at least 1.
        dims: transformed axes, 2 or 3.
    Returns:
        Scalar, the mean over all leading axes.
    """
    A, total = f_f - f_r, torch.zeros(())
    for _ in range(levels):
        bands = [A]
        for axis in range(-dims, 0):
            pairs = [band.unflatten(axis, (-1, 2)).unbind(axis) for band in bands]
            bands = [band / 2**0.5 for first, second in pairs for band in (first + second, first - second)]
        A, *E = bands
        total = total + torch.stack(E).abs().mean() + (A.abs().mean() if dims == 3 else 0)
    return (A.abs().mean() + total) / 2 if dims == 2 else total / levels


class HaarLoss(PairLoss):
    r"""L1 distance of the subbands of an orthonormal Haar pyramid.

    A level splits the low band of the one before into a low band and $2^d - 1$ detail bands, each of half the
    size. With $E_j$ the mean absolute difference of all details at level j and $A_j$ that of the low band,

    $$
    L = \frac{1}{2} \Big( A_J + \sum_{j=1}^{J} E_j \Big) \quad (d = 2), \qquad
    L = \frac{1}{J} \sum_{j=1}^{J} A_j + E_j \quad (d = 3),
    $$

    averaged over the leading axes. The two forms differ in the published code, also in how they continue odd sizes:
    with zeros in two dimensions, with the last value in three.

    Images are (..., H, W), and volumes or video (..., D, H, W), of any range.

    Args:
        levels: J, as deep as the smallest side allows: 2^(J - 1) must be smaller than it.
        dims: d, 2 or 3 transformed axes.
        reduction: see ``ffl.losses.pair_loss.PairLoss``.
    Raises:
        ValueError: an impossible option.

    Examples:
        >>> import torch
        >>> from ffl.losses import HaarLoss
        >>> fake, real = torch.zeros(2, 3, 16, 16), torch.ones(2, 3, 16, 16)
        >>> HaarLoss()(fake, real)  # no details, and a constant doubles at each of four levels
        tensor(8.)
    """

    def __init__(self, levels: int = 4, *, dims: int = 2, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        if not isinstance(levels, int) or levels < 1:
            raise ValueError(f"levels must be a whole number, 1 or more, got {levels!r}")
        if dims not in (2, 3):
            raise ValueError(f"dims must be 2 or 3, got {dims!r}")
        self.levels = levels
        self.dims = dims
        self.shape = "(..., H, W)" if dims == 2 else "(..., D, H, W)"

    def check_size(self, size: torch.Size) -> None:
        deepest = math.ceil(math.log2(min(size)))
        if self.levels > deepest:
            raise ValueError(
                f"levels={self.levels} is too deep for {'x'.join(map(str, size))}: sides halve to 1 after {deepest}"
            )

    def per_sample(self, fake: Tensor, real: Tensor) -> Tensor:
        # The pyramid is linear, so that of the difference does.
        difference = (fake - real).flatten(0, -self.dims - 1)[:, None]
        # The gradient by hand, in one buffer: autograd, with a tensor for each step, takes up to twice as long. A CPU
        # takes a few planes at a time, so that its caches hold them; a GPU does better on all at once.
        with torch.no_grad():
            gradient = difference.clone(memory_format=torch.contiguous_format)
            on_cpu = gradient.device.type == "cpu" and not torch.compiler.is_compiling()
            for planes in gradient.split(max(1, _CHUNK_PIXELS // gradient[0].numel()) if on_cpu else len(gradient)):
                planes.copy_(self._gradient(planes, 1))
        # A norm is the scalar product of its argument and its gradient (Euler), and the gradient of L1 is constant.
        return (gradient * difference).view(len(fake), -1).sum(1) / (difference.shape[0] / len(fake))

    def _gradient(self, low: Tensor, level: int) -> Tensor:
        """Gradient of the loss of each plane with respect to the low band that a level splits.

        Args:
            low: (N, 1, ...), the sums of neighbours so far without their norm; overwritten.
            level: from 1.
        Returns:
            Same shape.
        """
        # One level, in place: the low band is every second value along each axis, and the others are details.
        size = low.shape[2:]
        odd = [pad for length in reversed(size) for pad in (0, length % 2)]
        bands = F.pad(low, odd, mode="constant" if self.dims == 2 else "replicate") if any(odd) else low
        _add_and_subtract_neighbours(bands, self.dims)
        low_band = bands[..., ::2, ::2] if self.dims == 2 else bands[..., ::2, ::2, ::2]

        # What a unit of each coefficient adds to the loss.
        unit = 2 ** (-self.dims * level / 2) / low_band[0].numel() / (2 if self.dims == 2 else self.levels)
        counts = self.dims == 3 or level == self.levels
        slope = low_band.sign() * (unit if counts else 0)
        if level < self.levels:
            slope += self._gradient(low_band.clone(memory_format=torch.contiguous_format), level + 1)
        bands.sign_().mul_(unit / (2**self.dims - 1))
        low_band.copy_(slope)

        # Back to the pixels: sums and differences are their own transpose, and a copied value adds to its original.
        _add_and_subtract_neighbours(bands, self.dims)
        for axis, length in enumerate(size, start=2):
            if length % 2:
                if self.dims == 3:
                    bands.select(axis, length - 1).add_(bands.select(axis, length))
                bands = bands.narrow(axis, 0, length)
        return bands

    def extra_repr(self) -> str:
        return f"levels={self.levels}, dims={self.dims}, reduction={self.reduction!r}"


def _add_and_subtract_neighbours(values: Tensor, dims: int) -> None:
    """Replace each pair of neighbours by its sum and its difference, along each of the last axes, of even sizes."""
    for axis in range(-dims, 0):
        first, second = values.unflatten(axis, (-1, 2)).unbind(axis)
        first.add_(second)
        second.mul_(-2).add_(first)
