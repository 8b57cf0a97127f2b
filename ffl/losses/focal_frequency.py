"""Focal frequency loss (Jiang et al., ICCV 2021, Section 3), its DCT variant and ablations (Tables 7 and 8).

The paper has images; here signals, volumes, clips and complex fields have the same loss over 1 to 3 axes.
``focal_frequency_formula`` is the loss as the paper prints it. The module and function that are for use compute
the same in a quarter to a third of the time, through ``focal_mean``, and add the options.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ffl.losses.focal_mean import (
    AXES,
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
from ffl.losses.spectral_priors import SpectralPrior, prior_by_name
from ffl.spectrum import radii

Reduction = Literal["mean", "sum", "none"]
Transform = Literal["dft", "dct"]
Ablation = Literal["none", "no_freq", "no_phase", "no_ampli", "no_focal"]
Prior = str | Tensor | SpectralPrior
# Found once and here: torch.compile of older versions does not see through get_args.
CHOICES = {
    "reduction": get_args(Reduction),
    "transform": get_args(Transform),
    "ablation": get_args(Ablation),
    "dims": tuple(AXES),
}

# Amplitudes well below this carry no phase in the "no_ampli" ablation. Rounding [-1, 1] to 8 bits puts noise
# of amplitude 2.3e-3 into each coefficient of an orthonormal spectrum, so phases down there mean nothing.
_PHASE_FLOOR = 1e-3


def focal_frequency_formula(f_r: Tensor, f_f: Tensor, alpha: float = 1.0, dims: int = 2) -> Tensor:
    """Eqs. 9 and 10 as the paper prints them; the tests compare everything faster with it.

    Args:
        f_r: real images, (..., M, N) for two transformed axes, floating or complex.
        f_f: generated images, same shape.
        alpha: exponent of the weight.
        dims: number of transformed axes, at the end; the paper has two.
    Returns:
        Scalar, the mean over frequencies and all leading axes.
    """
    axes = tuple(range(-dims, 0))
    F_r, F_f = (torch.fft.fftn(f, dim=axes, norm="ortho") for f in (f_r, f_f))
    w = (F_r - F_f).abs().detach() ** alpha  # Eq. 9; locked: no gradient flows through it
    w = (w / w.amax(axes, keepdim=True)).nan_to_num(0.0)  # into [0, 1], and 0 where the spectra are equal
    return (w * (F_r - F_f).abs() ** 2).mean()  # Eq. 10


def focal_frequency_loss(
    pred: Tensor,
    target: Tensor,
    matrix: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    loss_weight: float = 1.0,
    alpha: float = 1.0,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    reduction: Reduction = "mean",
    transform: Transform = "dft",
    ablation: Ablation = "none",
    dims: int = 2,
    prior: Prior | None = None,
) -> Tensor:
    """Focal frequency loss between two batches; see ``FocalFrequencyLoss`` for the options.

    Args:
        pred: generated images, (N, C, H, W) or any shape of the class, floating or complex, any range.
        target: real images, same shape. Receives a gradient too where it requires one.
        matrix: spectrum weight matrix that replaces Eq. 9, values in [0, 1] (not checked, since that would
            wait for the device), broadcastable to (N, patches, C, H / patch_factor, W / patch_factor), with
            the zero frequency at index (0, 0).
        mask: broadcastable to ``pred``; pixels where it is 0 or False do not count.
    Returns:
        Scalar, or (N,) with ``reduction="none"``; float64 if an input has double precision, else float32.
    Raises:
        TypeError: an image is neither floating nor complex, or a weight is complex.
        ValueError: shapes or options are impossible; the message names the value and what is allowed.
    """
    _check_options(alpha, patch_factor, ave_spectrum, reduction, transform, ablation, dims, prior)
    _check_images(pred, target, patch_factor, dims, transform)
    if matrix is not None and ablation != "none":
        raise ValueError(f'matrix replaces the focal weight and needs ablation="none", got ablation={ablation!r}')
    if mask is not None:
        _check_broadcast("mask", mask, pred.shape)
    partial = ablation in ("no_phase", "no_ampli")

    single = pred.ndim < dims + 2
    pred, target = _with_batch(pred, dims), _with_batch(target, dims)

    # What does not count is made equal. Where the difference alone matters, zeros are, and they hide NaN in both.
    if mask is not None:
        mask = mask.bool()[(None,) * (pred.ndim - mask.ndim)]
        filling: Tensor | float = target if partial else 0.0
        pred, target = torch.where(mask, pred, filling), torch.where(mask, target, filling)

    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    with torch.autocast(pred.device.type, enabled=False):
        if ave_spectrum and len(pred) > 1:
            # The average spectrum is the spectrum of the average image. The gradient of a sum is one image, expanded
            # to all of them without a copy; that of a mean would be written once for each.
            pred, target = (images.sum(0, keepdim=True, dtype=dtype) / len(images) for images in (pred, target))
        fake, real = pred.to(dtype), target.to(dtype)
        dft: Basis = "fft" if dtype.is_complex else "rfft"
        basis: Basis = "pixels" if ablation == "no_freq" else "dct" if transform == "dct" else dft

        # The weights that do not depend on the images.
        predefined = None
        if matrix is not None:
            predefined = predefined_weight("matrix", matrix, fake, patch_factor, dims, basis)
        if prior is not None:
            factor = _prior_weight(prior, fake, patch_factor, dims, basis)
            predefined = factor if predefined is None else predefined * factor

        # The mean over each image, or their sum at once where nothing else is asked for.
        exponent = 0.0 if ablation == "no_focal" else alpha
        add_up = reduction == "mean" or (reduction == "sum" and mask is None)
        scale = loss_weight / len(fake) if reduction == "mean" else loss_weight
        if partial:
            fakes, reals = (split_patches(images, patch_factor, dims) for images in (fake, real))
            distance = _partial_distance(fakes, reals, ablation, dims)
            weight = spectrum_weight_matrix(distance, exponent, log_matrix, batch_matrix, dims)
            weight = weight if predefined is None else weight * predefined
            value = image_means(spectrum_sums(weight * distance, fakes.shape[-dims:]), fake) * scale
            value = value.sum() if add_up else value
        else:
            dynamic = matrix is None
            focus = Focus(basis, dims, patch_factor, exponent, log_matrix, batch_matrix, dynamic)
            value = focal_mean(fake, real, predefined, focus, scale, add_up)

        # The mean over what counts in place of that over everything; where nothing counts both are zero.
        if mask is not None:
            share = mask.flatten(1).to(value.dtype).mean(1)
            share = share.mean() if reduction == "mean" else share
            value = value / share.clamp_min(1 / pred.numel())
            value = value.sum() if reduction == "sum" else value
    return value[0] if single and reduction == "none" else value


def focal_spectrum_loss(
    fake_spectrum: Tensor,
    real_spectrum: Tensor,
    *,
    half: int | None = None,
    mask: Tensor | None = None,
    prior: Tensor | None = None,
    loss_weight: float = 1.0,
    alpha: float = 1.0,
    log_matrix: bool = False,
    batch_matrix: bool = False,
    reduction: Reduction = "mean",
    dims: int = 2,
) -> Tensor:
    r"""Focal frequency loss between spectra that are there already: of a weather model on a sphere, of an MRI scan.

    Eqs. 9 and 10 for coefficients as they are. With the orthonormal transforms of images it equals
    ``focal_frequency_loss``; other transforms need their own normalisation. Any order of the frequencies does.

    Args:
        fake_spectrum: generated coefficients (N, ..., M, N) for two axes of frequencies, complex or floating, with
            the same leading axes as images may have.
        real_spectrum: same shape.
        half: length of the last axis of the whole spectrum, where the last axis here holds only its first
            ``half // 2 + 1`` columns, as ``torch.fft.rfftn`` leaves them. All others then count twice, as the mirror
            images that were left out are equal to them, but not the first and, for an even length, the last. For
            spherical harmonics of order 0 to M - 1, of a real field, it is 2 M - 1.
        mask: broadcastable to the spectra; coefficients where it is 0 or False do not count, for k-space that was
            sampled in part or the orders above the degree of spherical harmonics. The mean is over those that count.
        prior: broadcastable to the spectra, a factor on the focal weight.
        loss_weight, alpha, log_matrix, batch_matrix, reduction, dims: see ``FocalFrequencyLoss``.
    Returns:
        Scalar, or (N,) with ``reduction="none"``; float64 if an input has double precision, else float32.
    Raises:
        TypeError: a spectrum is neither floating nor complex, or the prior is complex.
        ValueError: shapes or options are impossible; the message names the value and what is allowed.

    Examples:
        >>> import torch
        >>> from ffl import FocalFrequencyLoss, focal_spectrum_loss
        >>> fake, real = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
        >>> spectra = (torch.fft.rfft2(images, norm="ortho") for images in (fake, real))
        >>> bool(torch.isclose(focal_spectrum_loss(*spectra, half=8), FocalFrequencyLoss()(fake, real)))
        True
    """
    _check_options(alpha, 1, False, reduction, "dft", "none", dims, prior)
    _check_pair("fake_spectrum", fake_spectrum, "real_spectrum", real_spectrum, dims)
    sizes = [*fake_spectrum.shape[-dims:]]
    if half is not None:
        if isinstance(half, bool) or half // 2 + 1 != sizes[-1]:
            raise ValueError(
                f"half must be the length of the whole last axis, of which half // 2 + 1 = {sizes[-1]} are here: "
                f"{2 * sizes[-1] - 2} or {2 * sizes[-1] - 1}, got {half!r}"
            )
        sizes[-1] = half
    for name, factor in (("mask", mask), ("prior", prior)):
        if factor is not None:
            _check_broadcast(name, factor, fake_spectrum.shape)

    dtype = torch.promote_types(torch.promote_types(fake_spectrum.dtype, real_spectrum.dtype), torch.float32)
    with torch.autocast(fake_spectrum.device.type, enabled=False):
        difference = fake_spectrum.to(dtype) - real_spectrum.to(dtype)
        difference = _with_batch(difference, dims)
        if mask is not None:
            difference = torch.where(mask.bool(), difference, 0.0)
        distance = squared_magnitude(difference)
        weight = spectrum_weight_matrix(distance, alpha, log_matrix, batch_matrix, dims)
        if prior is not None:
            weight = weight * prior.detach().to(weight.dtype)
        counts = torch.ones_like(distance) if mask is None else mask.bool().expand(distance.shape).to(distance.dtype)
        values, numbers = (spectrum_sums(x, sizes).flatten(1).sum(1) for x in (weight * distance, counts))
        if reduction == "mean":
            return loss_weight * values.sum() / numbers.sum().clamp_min(1)
        values = loss_weight * values / numbers.clamp_min(1)
        if reduction == "sum":
            return values.sum()
    return values[0] if fake_spectrum.ndim < dims + 2 else values


def spectrum_weight_matrix(
    distance: Tensor, alpha: float = 1.0, log_matrix: bool = False, batch_matrix: bool = False, dims: int = 2
) -> Tensor:
    """Dynamic spectrum weighting: w = |F_r - F_f|^alpha (Eq. 9), normalised into [0, 1] (Section 3.3).

    Args:
        distance: (..., H, W) for two axes, squared differences |F_r - F_f|^2, of a whole or a half spectrum.
        alpha: exponent, at least 0.
        log_matrix: take log(w + 1) before the normalisation.
        batch_matrix: divide by the largest weight of the whole batch instead of that of each spectrum.
        dims: number of axes of a spectrum.
    Returns:
        Same shape and dtype, no gradient; zero where the largest weight is zero.
    """
    weight, peaks = weights_and_peaks(distance.detach(), alpha, log_matrix, dims)
    return weight.mul_(normalise_by_max(peaks)) if batch_matrix else weight


class FocalFrequencyLoss(nn.Module):
    r"""Focal frequency loss, a drop-in for the module that the authors published.

    For one channel of one image or patch of M x N pixels, with orthonormal spectra F_r (real) and F_f (fake):

    $$
    w(u, v) = |F_r(u, v) - F_f(u, v)|^\alpha, \qquad
    \mathrm{FFL} = \frac{1}{MN} \sum_{u=0}^{M-1} \sum_{v=0}^{N-1}
        \frac{w(u, v)}{\max w} |F_r(u, v) - F_f(u, v)|^2
    $$

    (Eqs. 9 and 10), averaged over images, patches and channels. No gradient flows through w, in any order of
    differentiation. Half-precision inputs are transformed in float32 and autocast is off inside.

    **Shapes.** The last ``dims`` axes are transformed together, and one spectrum with its largest weight extends over
    all of them: (N, C, L) with dims=1, (N, C, H, W) with dims=2, (N, C, D, H, W) with dims=3, and a clip
    (N, C, T, H, W) with dims=2 frame by frame or dims=3 as a whole. The axes before them are averaged; the first is
    that of the samples. An input of dims + 1 axes, (C, H, W) for an image, or fewer is a single sample. Complex
    inputs have their whole spectrum compared, in which opposite frequencies differ.

    **Mask.** With ``loss(fake, real, mask=mask)`` a pixel where the mask is 0 or False takes the target's value: it has
    no error and gets no gradient, and for losses of the difference may be NaN in both. The sum over frequencies is
    divided by the number of pixels that count, so that w = 1 gives their mean squared error. "mean" is over all
    pixels that count in the batch, "none" over those of each image; an image without any has the value 0. The edge of
    a mask is an edge in the difference, whose spectrum spreads accordingly.

    Args:
        loss_weight: factor on the result.
        alpha: exponent of the weight, at least 0.
        patch_factor: number of patches along each transformed axis, each with its own spectrum; must divide the sizes.
        ave_spectrum: compare the average spectra of the two minibatches, as the paper does for StyleGAN2, where fake
            and real images do not belong together. There is then no value per image, so only ``reduction="mean"`` is
            possible. **Keep it off for paired data** (reconstruction, super-resolution, translation): every image of
            the batch then gets the same gradient, whatever its own error is. For 16 pairs of random images its cosine
            with that error is 0.23 in the mean, against 0.94 with the option off.
        log_matrix: log(w + 1) in place of w before the normalisation.
        batch_matrix: normalise by the maximum over the batch instead of per image, patch and channel.
        reduction: "none" gives the mean over each sample, shape (N,), or a scalar for a single sample; "mean" and
            "sum" are the mean and the sum of those N values.
        transform: "dft", or "dct" for the orthonormal DCT-II (Table 7). The DCT is one matrix product for each axis,
            whose precision ``torch.set_float32_matmul_precision`` governs.
        ablation: a row of Table 8. The paper does not print these losses; here all of them are Eqs. 9 and 10
            with another error E in the place of F_f - F_r, both in the distance and in the weight:

            - "none": the full loss, E = F_f - F_r.
            - "no_freq": hard pixels, E is the difference of the images themselves; ``transform`` is unused.
            - "no_phase": amplitude alone (Eq. 5), E = \|F_f\| - \|F_r\|.
            - "no_ampli": phase alone (Eq. 6), E = F_f / \|F_f\| - F_r / \|F_r\|, so that \|E\|^2 =
              2 - 2 cos of the angle between the two: Eq. 7 on the unit circle, smooth where a difference of
              angles would wrap around. \|F\| stands for sqrt(\|F\|^2 + 1e-6) here, which bounds the gradient.
            - "no_focal": w = 1, which is Eq. 8. By Parseval's theorem it is the mean squared error again, so it adds
              nothing to an L2 loss but its weight, as Bart Wronski remarked on squared Fourier losses at large. All
              that is new is in w.
        dims: number of transformed axes, 1, 2 or 3, at the end of the shape.
        prior: which frequencies matter, as a factor on w / max w: "high_pass(0.5)", "low_pass(0.5)", "band(0.5, 1)" or
            "radial(2)", where 1 is the Nyquist frequency; a function of that radius (``ffl.losses.spectral_priors``);
            or a tensor with the shape of a ``matrix``. It multiplies a ``matrix`` too.

    A predefined ``matrix`` replaces w / max w and makes alpha, log_matrix and batch_matrix irrelevant. Where it has an
    axis that the spectra lack, the result is the average over that axis: a matrix (N, C, H, W) meets the patch axis
    with its first one, so that with one patch every image is weighted by every matrix, as in the authors' code. For
    other shapes than (N, C, H, W) the patch axis follows that of the samples likewise.

    Examples:
        >>> import torch
        >>> from ffl import FocalFrequencyLoss
        >>> pred, target = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
        >>> FocalFrequencyLoss()(pred, target)  # one frequency differs, by 8; 8^2 / 64 pixels
        tensor(1.)
        >>> FocalFrequencyLoss(loss_weight=100.0, reduction="none")(pred, target)
        tensor([100., 100.])
        >>> FocalFrequencyLoss(dims=3)(torch.zeros(1, 1, 4, 8, 8), torch.ones(1, 1, 4, 8, 8))  # a volume
        tensor(1.)
        >>> FocalFrequencyLoss(prior="high_pass(0.5)")(pred, target)  # the mean is not counted
        tensor(0.)
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
        dims: int = 2,
        prior: Prior | None = None,
    ) -> None:
        super().__init__()
        _check_options(alpha, patch_factor, ave_spectrum, reduction, transform, ablation, dims, prior)
        self.loss_weight = loss_weight
        self.alpha = alpha
        self.patch_factor = patch_factor
        self.ave_spectrum = ave_spectrum
        self.log_matrix = log_matrix
        self.batch_matrix = batch_matrix
        self.reduction: Reduction = reduction
        self.transform: Transform = transform
        self.ablation: Ablation = ablation
        self.dims = dims
        self.prior: Tensor | SpectralPrior | None
        if isinstance(prior, Tensor):  # moves with the module, and is no part of a checkpoint
            self.register_buffer("prior", prior, persistent=False)
        else:
            self.prior = prior_by_name(prior) if isinstance(prior, str) else prior

    def forward(
        self, pred: Tensor, target: Tensor, matrix: Tensor | None = None, *, mask: Tensor | None = None
    ) -> Tensor:
        """See ``focal_frequency_loss``."""
        return focal_frequency_loss(
            pred,
            target,
            matrix,
            mask=mask,
            loss_weight=self.loss_weight,
            alpha=self.alpha,
            patch_factor=self.patch_factor,
            ave_spectrum=self.ave_spectrum,
            log_matrix=self.log_matrix,
            batch_matrix=self.batch_matrix,
            reduction=self.reduction,
            transform=self.transform,
            ablation=self.ablation,
            dims=self.dims,
            prior=self.prior,
        )

    def extra_repr(self) -> str:
        prior = f"tensor of shape {tuple(self.prior.shape)}" if isinstance(self.prior, Tensor) else repr(self.prior)
        return (
            f"loss_weight={self.loss_weight}, alpha={self.alpha}, patch_factor={self.patch_factor}, "
            f"ave_spectrum={self.ave_spectrum}, log_matrix={self.log_matrix}, "
            f"batch_matrix={self.batch_matrix}, reduction={self.reduction!r}, "
            f"transform={self.transform!r}, ablation={self.ablation!r}, dims={self.dims}, prior={prior}"
        )


def _partial_distance(fake: Tensor, real: Tensor, ablation: Ablation, dims: int) -> Tensor:
    """Squared distance of amplitudes alone or of phases alone; of real images, on half a spectrum."""
    transform = torch.fft.fftn if fake.is_complex() else torch.fft.rfftn
    # Contiguous, since the FFT of torch 2.8 takes no expanded images.
    spectra = (transform(images.contiguous(), dim=tuple(range(-dims, 0)), norm="ortho") for images in (fake, real))
    if ablation == "no_phase":
        fake_amplitude, real_amplitude = (spectrum.abs() for spectrum in spectra)
        return (fake_amplitude - real_amplitude).square()
    fake_phasor, real_phasor = (
        spectrum * torch.rsqrt(squared_magnitude(spectrum) + _PHASE_FLOOR**2) for spectrum in spectra
    )
    return squared_magnitude(fake_phasor - real_phasor)


def _prior_weight(prior: Prior, images: Tensor, patch_factor: int, dims: int, basis: Basis) -> Tensor:
    """The factor on the weights of the spectra of ``images`` (N, ..., sizes), or of their patches."""
    if isinstance(prior, Tensor):
        return predefined_weight("prior", prior, images, patch_factor, dims, basis)
    prior = prior_by_name(prior) if isinstance(prior, str) else prior
    assert basis != "pixels"  # refused with the options
    sizes = tuple(size // patch_factor for size in images.shape[-dims:])
    radius = radii(sizes, basis, images.real.dtype, images.device)
    return prior(radius).detach().expand(*images.shape[:-dims], *(patch_factor,) * dims, *radius.shape)


def _with_batch(images: Tensor, dims: int) -> Tensor:
    """A single sample with axes of length 1 for the batch and, where it has none, the channels."""
    return images[(None,) * max(0, dims + 2 - images.ndim)]


def _check_options(
    alpha: float,
    patch_factor: int,
    ave_spectrum: bool,
    reduction: str,
    transform: str,
    ablation: str,
    dims: int,
    prior: Prior | None,
) -> None:
    given: dict[str, object] = {"reduction": reduction, "transform": transform, "ablation": ablation, "dims": dims}
    for name, value in given.items():
        if value not in CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, CHOICES[name]))}, got {value!r}")
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
    if prior is not None and ablation == "no_freq":
        raise ValueError('prior weights frequencies, which ablation="no_freq" does without')
    if isinstance(prior, str):
        prior_by_name(prior)


def _check_images(pred: Tensor, target: Tensor, patch_factor: int, dims: int, transform: str) -> None:
    _check_pair("pred", pred, "target", target, dims)
    if transform == "dct" and (pred.is_complex() or target.is_complex()):
        raise TypeError(f'transform="dct" needs real images, got {pred.dtype} and {target.dtype}')
    sizes = pred.shape[-dims:]
    if any(size % patch_factor for size in sizes):
        axes = " and ".join(AXES[dims].rsplit(", ", 1))
        got = "x".join(map(str, sizes))
        raise ValueError(f"patch_factor must divide {axes}, got patch_factor={patch_factor} for {got}")


def _check_pair(fake_name: str, fake: Tensor, real_name: str, real: Tensor, dims: int) -> None:
    for name, tensor in ((fake_name, fake), (real_name, real)):
        if not tensor.is_floating_point() and not tensor.is_complex():
            raise TypeError(f"{name} must be a floating or complex tensor, got {tensor.dtype}")
    both = f"{fake_name} and {real_name}"
    if fake.shape != real.shape:
        axes = f"(N, C, {AXES[dims]})"
        raise ValueError(f"{both} must have the same shape {axes}, got {tuple(fake.shape)} and {tuple(real.shape)}")
    if fake.ndim < dims:
        raise ValueError(f"{both} need the axes ({AXES[dims]}) for dims={dims}, got shape {tuple(fake.shape)}")
    if fake.numel() == 0:
        raise ValueError(f"{both} must not be empty, got shape {tuple(fake.shape)}")


def _check_broadcast(name: str, factor: Tensor, shape: torch.Size) -> None:
    try:
        fits = torch.broadcast_shapes(factor.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to {tuple(shape)}, got {tuple(factor.shape)}")
    if factor.is_complex():
        raise TypeError(f"{name} must be real, got {factor.dtype}")
