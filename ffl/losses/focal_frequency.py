"""Focal frequency loss (Jiang et al., ICCV 2021, Section 3), its DCT variant and ablations (Tables 7 and 8).

:func:`focal_frequency_formula` is the loss as the paper prints it. The module and function that are for use compute
the same in a quarter to a third of the time, through ``focal_mean``, and add the options.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ffl.losses.focal_mean import (
    Basis,
    Focus,
    focal_mean,
    image_means,
    normalise_by_max,
    predefined_weight,
    spectrum_sums,
    split_patches,
    squared_magnitude,
    weights_and_peaks,
)

Reduction = Literal["mean", "sum", "none"]
Transform = Literal["dft", "dct"]
Ablation = Literal["none", "no_freq", "no_phase", "no_ampli", "no_focal"]

# Amplitudes well below this carry no phase in the "no_ampli" ablation. Rounding [-1, 1] to 8 bits puts noise
# of amplitude 2.3e-3 into each coefficient of an orthonormal spectrum, so phases down there mean nothing.
_PHASE_FLOOR = 1e-3


def focal_frequency_formula(f_r: Tensor, f_f: Tensor, alpha: float = 1.0) -> Tensor:
    """Eqs. 9 and 10 as the paper prints them; the tests compare everything faster with it.

    Args:
        f_r: real images, (..., M, N), floating.
        f_f: generated images, same shape.
        alpha: exponent of the weight.
    Returns:
        Scalar, the mean over frequencies and all leading axes.
    """
    F_r, F_f = torch.fft.fft2(f_r, norm="ortho"), torch.fft.fft2(f_f, norm="ortho")
    w = (F_r - F_f).abs().detach() ** alpha  # Eq. 9; locked: no gradient flows through it
    w = (w / w.amax((-2, -1), keepdim=True)).nan_to_num(0.0)  # into [0, 1], and 0 where the spectra are equal
    return (w * (F_r - F_f).abs() ** 2).mean()  # Eq. 10


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
        if ave_spectrum and len(pred) > 1:
            # The average spectrum is the spectrum of the average image. The gradient of a sum is one image, expanded
            # to all of them without a copy; that of a mean would be written once for each.
            pred, target = (images.sum(0, keepdim=True, dtype=dtype) / len(images) for images in (pred, target))
        fake, real = pred.to(dtype), target.to(dtype)
        exponent = 0.0 if ablation == "no_focal" else alpha
        add_up = reduction != "none"
        scale = loss_weight / len(fake) if reduction == "mean" else loss_weight
        if ablation in ("no_phase", "no_ampli"):
            distance = _partial_distance(split_patches(fake, patch_factor), split_patches(real, patch_factor), ablation)
            weight = spectrum_weight_matrix(distance, exponent, log_matrix, batch_matrix)
            per_image = image_means(spectrum_sums(weight * distance, fake.shape[-1] // patch_factor), fake) * scale
            return per_image.sum() if add_up else per_image
        basis: Basis = "pixels" if ablation == "no_freq" else transform
        predefined = None if matrix is None else predefined_weight(matrix, fake, patch_factor, basis)
        return focal_mean(
            fake, real, predefined, Focus(basis, patch_factor, exponent, log_matrix, batch_matrix), scale, add_up
        )


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
    weight, peaks = weights_and_peaks(distance.detach(), alpha, log_matrix)
    return weight.mul_(normalise_by_max(peaks)) if batch_matrix else weight


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


def _partial_distance(fake: Tensor, real: Tensor, ablation: Ablation) -> Tensor:
    """Squared distance of amplitudes alone or of phases alone, on half a spectrum."""
    spectra = (torch.fft.rfft2(images, norm="ortho") for images in (fake, real))
    if ablation == "no_phase":
        fake_amplitude, real_amplitude = (spectrum.abs() for spectrum in spectra)
        return (fake_amplitude - real_amplitude).square()
    fake_phasor, real_phasor = (
        spectrum * torch.rsqrt(squared_magnitude(spectrum) + _PHASE_FLOOR**2) for spectrum in spectra
    )
    return squared_magnitude(fake_phasor - real_phasor)


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
