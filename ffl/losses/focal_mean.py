"""The fast way to Eq. 10 and its gradient; ``focal_frequency.focal_frequency_formula`` is the plain one.

Four properties of the loss make it fast. In all, it takes a quarter to a third of the time of the formula under
autograd (one thread, batches of (128, 3, 64, 64) to (1, 3, 256, 256)):

- The transform is linear, so the difference image is transformed, not the two images.
- Images are real, so half a spectrum suffices: each interior column stands for itself and for its mirror image.
- The weight is locked (Section 3.3), so the gradient is the inverse transform of 2 w (F_f - F_r) / (M N): one
  transform each way in all. The gradient is computed together with the value, and nothing else is kept for the
  backward pass.
- Each spectrum is independent of the others, so a CPU processes a few at a time, and its caches hold the
  intermediate results.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ffl.spectrum import dct2, idct2

Basis = Literal["dft", "dct", "pixels"]

# Pixels that each thread of a CPU processes at a time: half a megabyte, so that a level-2 cache holds a few steps.
# One thread gains a factor of 1.2 to 1.9 over the whole batch at once on a machine that other programs use as well,
# and nothing on an idle one; the peak memory falls to a third.
_CHUNK_PIXELS = 1 << 17


class Focus(NamedTuple):
    """Which coefficients are compared, and how they are weighted; see ``FocalFrequencyLoss``."""

    basis: Basis
    patch_factor: int
    alpha: float
    log_matrix: bool
    batch_matrix: bool


def focal_mean(
    fake: Tensor, real: Tensor, predefined: Tensor | None, focus: Focus, scale: float, add_up: bool
) -> Tensor:
    """Mean of w |F_f - F_r|^2 over each image, with w constant in every derivative.

    Args:
        fake: (N, C, H, W), float32 or float64.
        real: same shape and type.
        predefined: weight in the place of Eq. 9, as ``predefined_weight`` returns it; None for Eq. 9.
        focus: the transform, the patches and the options of Eq. 9.
        scale: factor on the result.
        add_up: return the sum over images instead of one value for each.
    Returns:
        (N,), or a scalar.
    """
    if torch.is_grad_enabled() and (fake.requires_grad or real.requires_grad):
        return _FocalMean.apply(fake, real, predefined, focus, scale, add_up)[0]
    return _value_and_gradient(fake, real, predefined, focus, scale, add_up, with_gradient=False)[0]


def _value_and_gradient(
    fake: Tensor,
    real: Tensor,
    predefined: Tensor | None,
    focus: Focus,
    scale: float,
    add_up: bool,
    with_gradient: bool,
) -> tuple[Tensor, Tensor | None]:
    """The value of ``focal_mean`` and, where asked for, the gradient of its sum with respect to ``fake``."""
    # With one chunk the inverse transform becomes the gradient; several chunks write their parts of one tensor.
    fakes, reals = split_patches(fake, focus.patch_factor), split_patches(real, focus.patch_factor)
    chunks = _chunks(fakes)
    slope = 2 * scale / fake[0].numel()
    gradient = fake.new_empty(fake.shape) if with_gradient and len(chunks) > 1 else None
    planes = None if gradient is None else split_patches(gradient, focus.patch_factor)
    sums, peaks = [], []
    for chunk in chunks:
        # The spectrum of the difference; contiguous, since the transform would copy it otherwise.
        difference = torch.sub(fakes[chunk], reals[chunk], out=fakes.new_empty(fakes[chunk].shape))
        spectrum = _transform(difference, focus.basis)
        # Its weighted power, summed over each patch: w |F_f - F_r|^2.
        distance = squared_magnitude(spectrum)
        if predefined is None:
            weight, peak = weights_and_peaks(distance, focus.alpha, focus.log_matrix)
            peaks.append(peak)
        else:
            weight = predefined if len(predefined) == 1 else predefined[chunk]
        sums.append(spectrum_sums(distance.mul_(weight), fakes.shape[-1]))
        # The gradient: the inverse transform of 2 w (F_f - F_r) / (M N).
        if with_gradient:
            spectrum.mul_(weight)
            del distance, weight  # the inverse transform is the peak of memory and does not need them
            filtered = _inverse_transform(spectrum, focus.basis, fakes.shape[-2:])
            if planes is None:
                gradient = join_patches(filtered.mul_(slope), fake.shape)
            else:
                torch.mul(filtered, slope, out=planes[chunk])
    total = torch.cat(sums)
    # The maximum over the batch is known only now; each spectrum has been divided by its own.
    if focus.batch_matrix and peaks:
        share = normalise_by_max(torch.cat(peaks))
        total = total * share.view_as(total)
        if gradient is not None:
            gradient = join_patches(split_patches(gradient, focus.patch_factor) * share, fake.shape)
    value = image_means(total, fake) * scale
    return value.sum() if add_up else value, gradient


class _FocalMean(torch.autograd.Function):
    """``focal_mean`` with the weight held constant in every derivative.

    The second output is the gradient, which callers drop. The first backward pass returns it. Later ones, and those
    that are differentiated themselves, compute it again from the images, as a linear function of them.
    """

    @staticmethod
    def forward(
        fake: Tensor, real: Tensor, predefined: Tensor | None, focus: Focus, scale: float, add_up: bool
    ) -> tuple[Tensor, Tensor | None]:
        return _value_and_gradient(fake, real, predefined, focus, scale, add_up, with_gradient=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        fake, real, predefined, ctx.focus, ctx.scale, _ = inputs
        _, ctx.gradient = output
        ctx.mark_non_differentiable(ctx.gradient)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(fake, real, predefined)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():
            fake, real, predefined = ctx.saved_tensors
            gradient = _gradient(fake, real, predefined, ctx.focus, ctx.scale)
        # A sum of losses passes on 1: leaving that product out saves 6 % of the time. Reading it would stall a GPU.
        known = grad.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.is_grad_enabled()
        if grad.ndim or not known or grad.item() != 1:
            gradient = gradient * (grad.view(-1, 1, 1, 1) if grad.ndim else grad)
        return gradient, -gradient if ctx.needs_input_grad[1] else None, None, None, None, None


def _gradient(fake: Tensor, real: Tensor, weight: Tensor | None, focus: Focus, scale: float) -> Tensor:
    """The gradient with respect to ``fake``, which can be differentiated again."""
    # The weight is computed from a constant copy of the difference: it is locked in every derivative.
    difference = split_patches(fake - real, focus.patch_factor)
    if weight is None:
        distance = squared_magnitude(_transform(difference.detach(), focus.basis))
        weight, peaks = weights_and_peaks(distance, focus.alpha, focus.log_matrix)
        weight = weight * normalise_by_max(peaks) if focus.batch_matrix else weight
    return join_patches(_Filter.apply(difference, weight, focus.basis), fake.shape) * (2 * scale / fake[0].numel())


class _Filter(torch.autograd.Function):
    """Multiplies the spectra of real images by a real, symmetric weight: a linear map that is its own adjoint."""

    @staticmethod
    def forward(images: Tensor, weight: Tensor, basis: Basis) -> Tensor:
        return _inverse_transform(_transform(images, basis).mul_(weight), basis, images.shape[-2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, ctx.basis = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Filter.apply(grad, *ctx.saved_tensors, ctx.basis), None, None


def _chunks(planes: Tensor) -> list[slice]:
    """The parts of the first axis to process in turn; compilers and GPUs do better on all of it at once."""
    if planes.device.type != "cpu" or torch.compiler.is_compiling():
        return [slice(None)]
    parts = max(1, planes.numel() // (_CHUNK_PIXELS * torch.get_num_threads()))
    step = -(-len(planes) // parts)
    return [slice(start, start + step) for start in range(0, len(planes), step)]


def _transform(images: Tensor, basis: Basis) -> Tensor:
    """Orthonormal coefficients of images (..., H, W), half a spectrum (..., H, W // 2 + 1) for "dft"; a new tensor."""
    if basis == "dft":
        return torch.fft.rfft2(images, norm="ortho")
    return dct2(images) if basis == "dct" else images.clone()


def _inverse_transform(spectrum: Tensor, basis: Basis, size: torch.Size) -> Tensor:
    """Images of ``size`` from their coefficients; the result may be ``spectrum`` itself."""
    if basis == "dft":
        return torch.fft.irfft2(spectrum, s=size, norm="ortho")
    return idct2(spectrum) if basis == "dct" else spectrum


def weights_and_peaks(distance: Tensor, alpha: float, log_matrix: bool) -> tuple[Tensor, Tensor]:
    """Eq. 9 for squared differences (..., H, W), divided by the maximum of each spectrum; and these maxima."""
    weight = distance.pow(alpha / 2)
    if log_matrix:
        weight.log1p_()
    peaks = weight.amax((-2, -1), keepdim=True)
    return weight.div_(peaks.clamp_min(torch.finfo(peaks.dtype).tiny)), peaks


def normalise_by_max(peaks: Tensor) -> Tensor:
    """The maxima of all spectra divided by the largest of them; zero where that is zero."""
    return peaks / peaks.amax().clamp_min(torch.finfo(peaks.dtype).tiny)


def squared_magnitude(spectrum: Tensor) -> Tensor:
    """|F|^2 of real or complex coefficients."""
    if spectrum.is_complex():  # abs() takes a square root: the whole loss would take 1.25 to 1.36 times as long
        squares = torch.view_as_real(spectrum).square()
        return squares[..., 0] + squares[..., 1]
    return spectrum.square()


def spectrum_sums(values: Tensor, width: int) -> Tensor:
    """Sums over whole spectra (..., H, width), or over stored halves, whose mirrored columns then count twice."""
    sums = values.sum((-2, -1))
    if values.shape[-1] == width:
        return sums
    # The first column is its own mirror image, and so is the last one of an even width.
    once = values[..., 0].sum(-1)
    if width % 2 == 0:
        once = once + values[..., -1].sum(-1)
    return 2 * sums - once


def image_means(sums: Tensor, images: Tensor) -> Tensor:
    """The mean over each of N images, from the sums over their patches: (N C, ...) to (N,)."""
    return sums.view(len(images), -1).sum(1) / images[0].numel()


def split_patches(images: Tensor, patch_factor: int) -> Tensor:
    """(N, C, H, W) to (N C, patch_factor, patch_factor, H / patch_factor, W / patch_factor), a view where possible."""
    return images.flatten(0, 1).unflatten(1, (patch_factor, -1)).unflatten(3, (patch_factor, -1)).transpose(2, 3)


def join_patches(planes: Tensor, shape: torch.Size) -> Tensor:
    """Images of ``shape`` from their patches, the inverse of ``split_patches``."""
    return planes.transpose(2, 3).reshape(shape)


def predefined_weight(matrix: Tensor, images: Tensor, patch_factor: int, basis: Basis) -> Tensor:
    """A predefined spectrum weight matrix for ``split_patches(images)``, of length 1 where all patches share it.

    The loss is a mean over the broadcast product of matrix and spectra, so an axis that only the matrix has is
    averaged. Half of a DFT is stored, and |F(u, v)| = |F(-u, -v)|, so the weights of the two are averaged as well.

    Raises:
        TypeError: the matrix is complex.
        ValueError: it does not broadcast to the spectra.
    """
    if matrix.is_complex():
        raise TypeError(f"matrix must be real, got {matrix.dtype}")
    num_images, channels, height, width = images.shape
    shape = (num_images, patch_factor**2, channels, height // patch_factor, width // patch_factor)
    try:
        fits = matrix.ndim <= 5 and torch.broadcast_shapes(matrix.shape, shape)[-3:] == shape[-3:]
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"matrix must broadcast to (N, patches, C, H, W) = {shape}, got {tuple(matrix.shape)}")
    # The matrix gets five axes, of which those that only it has are averaged.
    weight = matrix.detach().to(images.dtype)
    weight = weight.expand(torch.broadcast_shapes(weight.shape, shape[-2:]))
    weight = weight.reshape((1,) * (5 - weight.ndim) + weight.shape)
    extra = [axis for axis in (0, 1) if shape[axis] == 1 != weight.shape[axis]]
    if extra:
        weight = weight.mean(extra, keepdim=True)
    if basis == "dft":
        opposite = weight.flip(-2, -1).roll((1, 1), (-2, -1))
        weight = (weight + opposite)[..., : shape[-1] // 2 + 1] / 2
    if weight.shape[:3] == (1, 1, 1):
        return weight
    weight = weight.expand(*shape[:3], *weight.shape[3:]).transpose(1, 2)
    return weight.flatten(0, 1).unflatten(1, (patch_factor, patch_factor))
