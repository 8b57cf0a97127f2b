"""L1 distance of Haar wavelet pyramids, of images and of video, as in the autoencoders of owl-vaes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.losses.pair_loss import PairLoss, Reduction


class HaarLoss(PairLoss):
    r"""L1 distance of the subbands of an orthonormal Haar pyramid.

    A level splits the low band of the one before into a low band and :math:`2^d - 1` detail bands, each of half the
    size. With :math:`E_j` the mean absolute difference of all details at level j and :math:`A_j` that of the low band,

    .. math::
        L = \frac{1}{2} \Big( A_J + \sum_{j=1}^{J} E_j \Big) \quad (d = 2), \qquad
        L = \frac{1}{J} \sum_{j=1}^{J} A_j + E_j \quad (d = 3),

    averaged over the leading axes. The two forms differ in the published code, also in how they continue odd sizes:
    with zeros in two dimensions, with the last value in three.

    Images are (..., H, W), and volumes or video (..., D, H, W), of any range.

    Args:
        levels: J, as deep as the smallest side allows: 2^(J - 1) must be smaller than it.
        dims: d, 2 or 3 transformed axes.
        reduction: see :class:`ffl.losses.pair_loss.PairLoss`.
    Raises:
        ValueError: an impossible option.

    Example:
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
        low = (fake - real).flatten(0, -self.dims - 1)[:, None]
        total = low.new_zeros(len(low))
        for level in range(1, self.levels + 1):
            low, *details = haar_bands(low)
            norm = 2 ** (-self.dims * level / 2)
            total = total + sum(map(_mean_magnitude, details)) * (norm / len(details))
            if self.dims == 3:
                total = total + _mean_magnitude(low) * norm
        total = (total + _mean_magnitude(low) * norm) / 2 if self.dims == 2 else total / self.levels
        return total.view(len(fake), -1).mean(1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, dims={self.dims}, reduction={self.reduction!r}"


def haar_bands(images: Tensor) -> list[Tensor]:
    """One level of the Haar transform along all axes but the first two, as sums and differences of neighbours.

    Args:
        images: (N, 1, H, W) or (N, 1, D, H, W), float32 or float64. An odd size gets a zero (two axes) or a copy of
            its last value (three axes) at its end.
    Returns:
        Four or eight bands of half the size, the low band first; 2 or sqrt(8) times those of the orthonormal transform.
    """
    dims = images.ndim - 2
    odd = [pad for size in reversed(images.shape[2:]) for pad in (0, size % 2)]
    if any(odd):
        images = F.pad(images, odd, mode="constant" if dims == 2 else "replicate")
    bands = [images]
    for axis in range(-dims, 0):
        pairs = [band.unflatten(axis, (-1, 2)).unbind(axis) for band in bands]
        bands = [band for first, second in pairs for band in (first + second, first - second)]
    return bands


def _mean_magnitude(bands: Tensor) -> Tensor:
    """(N, ...) to (N,)."""
    return bands.abs().flatten(1).mean(1)
