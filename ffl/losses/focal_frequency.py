"""Focal frequency loss (Jiang et al., ICCV 2021, Section 3), its DCT variant and ablations (Tables 7 and 8).

Three properties of the loss shape the implementation:

- Every transform is linear, so the difference image is transformed, not the two images; a minibatch average
  spectrum is the spectrum of the average image.
- Images are real, so half a spectrum tells all of it: an interior column stands for itself and for its mirror
  image.
- The weight is locked (Section 3.3), so the gradient is the inverse transform of 2 w (F_f - F_r) / (M N): one
  transform forward and one backward in all.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ffl.spectrum import dct2, idct2

Reduction = Literal["mean", "sum", "none"]
Transform = Literal["dft", "dct"]
Ablation = Literal["none", "no_freq", "no_phase", "no_ampli", "no_focal"]
Basis = Literal["dft", "dct", "pixels"]

# Amplitudes well below this carry no phase in the "no_ampli" ablation. Rounding [-1, 1] to 8 bits puts noise
# of amplitude 2.3e-3 into each coefficient of an orthonormal spectrum, so phases down there mean nothing.
_PHASE_FLOOR = 1e-3


def focal_frequency_loss(
    pred: Tensor,
    target: Tensor,
    matrix: Tensor | None = None,
    *,
    loss_weight: float = 1.0,
    alpha: float = 1.0,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    reduction: Reduction = "mean",
    transform: Transform = "dft",
    ablation: Ablation = "none",
) -> Tensor:
    """Focal frequency loss between two batches of images; see :class:`FocalFrequencyLoss` for the arguments.

    Args:
        pred: (N, C, H, W), floating, any range; generated images.
        target: same shape; real images. Receives a gradient too where it requires one.
        matrix: spectrum weight matrix that replaces Eq. 9, values in [0, 1] (not checked, since that would
            wait for the device), broadcastable to (N, patches, C, H / patch_factor, W / patch_factor), with
            the zero frequency at index (0, 0).
    Returns:
        Scalar, or (N,) with ``reduction="none"``; float64 if an input is, else float32.
    Raises:
        TypeError: an image is not a floating tensor, or the matrix is complex.
        ValueError: shapes or options are impossible; the message names the value and what is allowed.
    """
    _check_options(alpha, patch_factor, ave_spectrum, reduction, transform, ablation)
    _check_images(pred, target, patch_factor)
    if matrix is not None and ablation != "none":
        raise ValueError(f'matrix replaces the focal weight and needs ablation="none", got ablation={ablation!r}')

    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    with torch.autocast(pred.device.type, enabled=False):
        if ave_spectrum:
            pred, target = (images.mean(0, keepdim=True, dtype=dtype) for images in (pred, target))
        fake, real = pred.to(dtype), target.to(dtype)
        exponent = 0.0 if ablation == "no_focal" else alpha
        if ablation in ("no_phase", "no_ampli"):
            distance = _partial_distance(_patches(fake, patch_factor), _patches(real, patch_factor), ablation)
            weight = spectrum_weight_matrix(distance, exponent, log_matrix, batch_matrix)
            per_image = _mean(weight * distance, pred.shape[-1] // patch_factor)
        else:
            basis: Basis = "pixels" if ablation == "no_freq" else transform
            difference = _patches(fake - real, patch_factor)
            predefined = None if matrix is None else _predefined_weight(matrix, difference, basis)
            per_image, *_ = _FocalMean.apply(difference, predefined, basis, exponent, log_matrix, batch_matrix)
        per_image = per_image * loss_weight
    if reduction == "none":
        return per_image
    return per_image.mean() if reduction == "mean" else per_image.sum()


def spectrum_weight_matrix(
    distance: Tensor, alpha: float = 1.0, log_matrix: bool = False, batch_matrix: bool = False
) -> Tensor:
    """Dynamic spectrum weighting: w = |F_r - F_f|^alpha (Eq. 9), normalised into [0, 1] (Section 3.3).

    Args:
        distance: (..., H, W), squared differences |F_r - F_f|^2, of a whole or a half spectrum.
        alpha: exponent, at least 0.
        log_matrix: take log(w + 1) before the normalisation.
        batch_matrix: divide by the largest weight of the whole batch instead of that of each (H, W) spectrum.
    Returns:
        Same shape and dtype, no gradient; zero where the largest weight is zero.
    """
    weight = distance.detach().pow(alpha / 2)
    if log_matrix:
        weight.log1p_()
    peak = weight.amax() if batch_matrix else weight.amax((-2, -1), keepdim=True)
    return weight.div_(peak.clamp_min(torch.finfo(weight.dtype).tiny))


class FocalFrequencyLoss(nn.Module):
    r"""Focal frequency loss, a drop-in for the module that the authors published.

    For one channel of one image or patch of M x N pixels, with orthonormal spectra F_r (real) and F_f (fake):

    .. math::
        w(u, v) = |F_r(u, v) - F_f(u, v)|^\alpha, \qquad
        \mathrm{FFL} = \frac{1}{MN} \sum_{u=0}^{M-1} \sum_{v=0}^{N-1}
            \frac{w(u, v)}{\max w} |F_r(u, v) - F_f(u, v)|^2

    (Eqs. 9 and 10), averaged over images, patches and channels. No gradient flows through w, in any order of
    differentiation. Half-precision inputs are transformed in float32 and autocast is off inside.

    Args:
        loss_weight: factor on the result.
        alpha: exponent of the weight, at least 0.
        patch_factor: number of patches on each edge, each with its own spectrum; must divide H and W.
        ave_spectrum: compare the average spectra of the two minibatches, as the paper does for StyleGAN2.
            There is then no value per image, so only ``reduction="mean"`` is possible.
        log_matrix: log(w + 1) in place of w before the normalisation.
        batch_matrix: normalise by the maximum over the batch instead of per image, patch and channel.
        reduction: "none" gives the mean over each image, shape (N,); "mean" and "sum" are the mean and the
            sum of those N values.
        transform: "dft", or "dct" for the orthonormal DCT-II (Table 7). The DCT is two matrix products, whose
            precision ``torch.set_float32_matmul_precision`` governs.
        ablation: a row of Table 8. The paper does not print these losses; here all of them are Eqs. 9 and 10
            with another error E in the place of F_f - F_r, both in the distance and in the weight:

            - "none": the full loss, E = F_f - F_r.
            - "no_freq": hard pixels, E is the difference of the images themselves; ``transform`` is unused.
            - "no_phase": amplitude alone (Eq. 5), E = \|F_f\| - \|F_r\|.
            - "no_ampli": phase alone (Eq. 6), E = F_f / \|F_f\| - F_r / \|F_r\|, so that \|E\|^2 =
              2 - 2 cos of the angle between the two: Eq. 7 on the unit circle, smooth where a difference of
              angles would wrap around. \|F\| stands for sqrt(\|F\|^2 + 1e-6) here, which bounds the gradient.
            - "no_focal": w = 1, which is Eq. 8 and by Parseval's theorem the mean squared error.

    A predefined ``matrix`` makes alpha, log_matrix and batch_matrix irrelevant. Where it has an axis that the
    spectra lack, the result is the average over that axis: a matrix (N, C, H, W) meets the patch axis with
    its first one, so that with one patch every image is weighted by every matrix, as in the authors' code.

    Example:
        >>> import torch
        >>> from ffl import FocalFrequencyLoss
        >>> pred, target = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
        >>> FocalFrequencyLoss()(pred, target)  # one frequency differs, by 8; 8^2 / 64 pixels
        tensor(1.)
        >>> FocalFrequencyLoss(loss_weight=100.0, reduction="none")(pred, target)
        tensor([100., 100.])
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        alpha: float = 1.0,
        patch_factor: int = 1,
        ave_spectrum: bool = False,
        log_matrix: bool = False,
        batch_matrix: bool = False,
        *,
        reduction: Reduction = "mean",
        transform: Transform = "dft",
        ablation: Ablation = "none",
    ) -> None:
        super().__init__()
        _check_options(alpha, patch_factor, ave_spectrum, reduction, transform, ablation)
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.patch_factor = patch_factor
        self.ave_spectrum = ave_spectrum
        self.log_matrix = log_matrix
        self.batch_matrix = batch_matrix
        self.reduction: Reduction = reduction
        self.transform: Transform = transform
        self.ablation: Ablation = ablation

    def forward(self, pred: Tensor, target: Tensor, matrix: Tensor | None = None) -> Tensor:
        """See :func:`focal_frequency_loss`."""
        return focal_frequency_loss(
            pred,
            target,
            matrix,
            loss_weight=self.loss_weight,
            alpha=self.alpha,
            patch_factor=self.patch_factor,
            ave_spectrum=self.ave_spectrum,
            log_matrix=self.log_matrix,
            batch_matrix=self.batch_matrix,
            reduction=self.reduction,
            transform=self.transform,
            ablation=self.ablation,
        )

    def extra_repr(self) -> str:
        return (
            f"loss_weight={self.loss_weight}, alpha={self.alpha}, patch_factor={self.patch_factor}, "
            f"ave_spectrum={self.ave_spectrum}, log_matrix={self.log_matrix}, "
            f"batch_matrix={self.batch_matrix}, reduction={self.reduction!r}, "
            f"transform={self.transform!r}, ablation={self.ablation!r}"
        )


class _FocalMean(torch.autograd.Function):
    """Eq. 10 for each image of a difference F_f - F_r, with the weight held constant in every derivative.

    Returns the value (N,) and, for the backward pass alone, w and w (F_f - F_r).
    """

    @staticmethod
    def forward(
        difference: Tensor,
        weight: Tensor | None,
        basis: Basis,
        alpha: float,
        log_matrix: bool,
        batch_matrix: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        spectrum = _transform(difference, basis)
        distance = _squared_magnitude(spectrum)
        if weight is None:
            weight = spectrum_weight_matrix(distance, alpha, log_matrix, batch_matrix)
        else:
            weight = weight.view_as(weight)  # torch does not let an input be an output as well
        value = _mean(distance.mul_(weight), difference.shape[-1])
        return value, weight, spectrum.mul_(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        difference, _, ctx.basis, *_ = inputs
        _, weight, weighted = output
        ctx.mark_non_differentiable(weight, weighted)
        ctx.set_materialize_grads(False)  # zeros for those two would be made for nothing
        ctx.save_for_backward(difference, weight, weighted)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        difference, weight, weighted = ctx.saved_tensors
        filtered = _Filter.apply(difference, weight, weighted, ctx.basis)
        factor = grad * (2 / difference[0].numel())
        return filtered * factor.view(-1, 1, 1, 1, 1), None, None, None, None, None


class _Filter(torch.autograd.Function):
    """Multiplies the spectrum of real images by a real, symmetric weight: linear, and its own adjoint.

    ``weighted`` is the spectrum after the multiplication where that is known already, else None.
    """

    @staticmethod
    def forward(images: Tensor, weight: Tensor, weighted: Tensor | None, basis: Basis) -> Tensor:
        if weighted is None:
            weighted = _transform(images, basis).mul_(weight)
        return _inverse_transform(weighted, basis, images.shape[-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, _, ctx.basis = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Filter.apply(grad, *ctx.saved_tensors, None, ctx.basis), None, None, None


def _transform(images: Tensor, basis: Basis) -> Tensor:
    """Coefficients of (..., H, W) in an orthonormal basis; (..., H, W // 2 + 1) for "dft"; always a new tensor."""
    if basis == "dft":
        return torch.fft.rfft2(images, norm="ortho")
    return dct2(images) if basis == "dct" else images.clone()


def _inverse_transform(spectrum: Tensor, basis: Basis, width: int) -> Tensor:
    if basis == "dft":
        return torch.fft.irfft2(spectrum, s=(spectrum.shape[-2], width), norm="ortho")
    return idct2(spectrum) if basis == "dct" else spectrum


def _squared_magnitude(spectrum: Tensor) -> Tensor:
    if spectrum.is_complex():  # abs() would take a square root, at several times the cost
        return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return spectrum.square()


def _mean(values: Tensor, width: int) -> Tensor:
    """Mean of (N, patches, C, H, W) over all but N. Overwrites ``values``.

    Where half a spectrum is stored, the columns whose mirror images are missing count twice.
    """
    count = values[0, ..., 0].numel() * width
    if values.shape[-1] != width:
        values[..., 1 : (width + 1) // 2].mul_(2)
    return values.flatten(1).sum(1) / count


def _patches(images: Tensor, patch_factor: int) -> Tensor:
    """(N, C, H, W) -> (N, patches, C, H / patch_factor, W / patch_factor), patches in reading order."""
    if patch_factor == 1:
        return images.unsqueeze(1)
    split = images.unflatten(2, (patch_factor, -1)).unflatten(4, (patch_factor, -1))
    return split.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def _partial_distance(fake: Tensor, real: Tensor, ablation: Ablation) -> Tensor:
    """Squared distance of amplitudes alone or of phases alone, on half a spectrum."""
    spectra = (_transform(images, "dft") for images in (fake, real))
    if ablation == "no_phase":
        fake_amplitude, real_amplitude = (spectrum.abs() for spectrum in spectra)
        return (fake_amplitude - real_amplitude).square()
    fake_phasor, real_phasor = (
        spectrum * torch.rsqrt(_squared_magnitude(spectrum) + _PHASE_FLOOR**2) for spectrum in spectra
    )
    return _squared_magnitude(fake_phasor - real_phasor)


def _predefined_weight(matrix: Tensor, difference: Tensor, basis: Basis) -> Tensor:
    """A predefined spectrum weight matrix in the shape that weighs the spectrum of ``difference``.

    An axis that ``matrix`` has and ``difference`` lacks is averaged away, which is what a mean over their
    broadcast product comes to. Of a DFT half is stored; since |F(u, v)| = |F(-u, -v)|, the two weights are
    averaged.
    """
    if matrix.is_complex():
        raise TypeError(f"matrix must be real, got {matrix.dtype}")
    shape = difference.shape
    try:
        fits = matrix.ndim <= 5 and torch.broadcast_shapes(matrix.shape, shape)[-3:] == shape[-3:]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"matrix must broadcast to (N, patches, C, H, W) = {tuple(shape)}, got {tuple(matrix.shape)}")
    weight = matrix.detach().to(difference.dtype)
    weight = weight.expand(torch.broadcast_shapes(weight.shape, shape[-2:]))
    weight = weight.reshape((1,) * (5 - weight.ndim) + weight.shape)
    extra = [axis for axis in (0, 1) if shape[axis] == 1 != weight.shape[axis]]
    if extra:
        weight = weight.mean(extra, keepdim=True)
    if basis == "dft":
        opposite = weight.flip(-2, -1).roll((1, 1), (-2, -1))
        weight = (weight + opposite)[..., : shape[-1] // 2 + 1] / 2
    return weight


def _check_options(
    alpha: float, patch_factor: int, ave_spectrum: bool, reduction: str, transform: str, ablation: str
) -> None:
    for name, value, allowed in (
        ("reduction", reduction, get_args(Reduction)),
        ("transform", transform, get_args(Transform)),
        ("ablation", ablation, get_args(Ablation)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and at least 0, got {alpha!r}")
    if not isinstance(patch_factor, int) or patch_factor < 1:
        raise ValueError(f"patch_factor must be a whole number, 1 or more, got {patch_factor!r}")
    if ave_spectrum and reduction != "mean":
        raise ValueError(
            f'ave_spectrum=True compares one spectrum per batch and needs reduction="mean", got {reduction!r}'
        )
    if transform == "dct" and ablation in ("no_phase", "no_ampli"):
        raise ValueError(f'ablation={ablation!r} needs transform="dft": DCT coefficients are real')


def _check_images(pred: Tensor, target: Tensor, patch_factor: int) -> None:
    for name, images in (("pred", pred), ("target", target)):
        if not images.is_floating_point():
            raise TypeError(f"{name} must be a floating tensor, got {images.dtype}")
    if pred.ndim != 4 or pred.shape != target.shape:
        raise ValueError(
            f"pred and target must have the same shape (N, C, H, W), got {tuple(pred.shape)} and {tuple(target.shape)}"
        )
    if pred.numel() == 0:
        raise ValueError(f"pred and target must not be empty, got shape {tuple(pred.shape)}")
    height, width = pred.shape[-2:]
    if height % patch_factor or width % patch_factor:
        raise ValueError(f"patch_factor must divide H and W, got patch_factor={patch_factor} for {height}x{width}")
