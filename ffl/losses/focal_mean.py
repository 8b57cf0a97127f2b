"""Eq. 10 for batches of images, and its gradient: the arithmetic of the focal frequency loss.

Four properties of the loss shape it:

- Every transform is linear, so the difference image is transformed, not the two images.
- Images are real, so half a spectrum tells all of it: an interior column stands for itself and for its mirror
  image.
- The weight is locked (Section 3.3), so the gradient is the inverse transform of 2 w (F_f - F_r) / (M N): one
  transform each way in all. The gradient is made together with the value and is all that is kept for the backward
  pass.
- Every spectrum stands alone, so a CPU takes a few at a time from the images to their gradient. Its caches hold the
  steps between, and they need no memory of the size of the batch.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from ffl.spectrum import dct2, idct2

Basis = Literal["dft", "dct", "pixels"]
T = TypeVar("T")

# Pixels that each thread of a CPU works on at a time: half a megabyte, so that a level-2 cache holds a few steps.
_PIXELS_AT_A_TIME = 1 << 17


class Focus(NamedTuple):
    """What the difference of two images is weighed by; see ``FocalFrequencyLoss``."""

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
        predefined: weight in the place of Eq. 9, as ``predefined_weight`` gives it.
        focus: the weight of Eq. 9, and what is transformed.
        scale: factor on the result.
        add_up: give the sum over images instead of one value for each.
    Returns:
        (N,), or a scalar.
    """
    if torch.is_grad_enabled() and (fake.requires_grad or real.requires_grad):
        return _FocalMean.apply(fake, real, predefined, focus, scale, add_up)[0]
    return _value_and_gradient(fake, real, predefined, focus, scale, add_up, learns=False)[0]


def _value_and_gradient(
    fake: Tensor,
    real: Tensor,
    predefined: Tensor | None,
    focus: Focus,
    scale: float,
    add_up: bool,
    learns: bool,
) -> tuple[Tensor, Tensor | None]:
    """What ``focal_mean`` returns and, where it ``learns``, the gradient of its sum with respect to ``fake``."""
    fakes, reals = patches(fake, focus.patch_factor), patches(real, focus.patch_factor)
    spans = _spans(fakes)
    slope = 2 * scale / fake[0].numel()
    gradient = fake.new_empty(fake.shape) if learns and len(spans) > 1 else None
    planes = None if gradient is None else patches(gradient, focus.patch_factor)
    sums, peaks = [], []
    for span in spans:
        spectrum = _transform(_difference(fakes[span], reals[span]), focus.basis)
        distance = squared_magnitude(spectrum)
        if predefined is None:
            weight, peak = weights_and_peaks(distance, focus.alpha, focus.log_matrix)
            peaks.append(peak)
        else:
            weight = predefined if len(predefined) == 1 else predefined[span]
        sums.append(spectrum_sums(distance.mul_(weight), fakes.shape[-1]))
        if not learns:
            continue
        spectrum.mul_(weight)
        del distance, weight  # the inverse transform holds most, and does without them
        filtered = _inverse_transform(spectrum, focus.basis, fakes.shape[-2:])
        if planes is None:
            gradient = joined(filtered.mul_(slope), fake.shape)
        else:
            torch.mul(filtered, slope, out=planes[span])
    total = torch.cat(sums)
    if focus.batch_matrix and peaks:
        share = over_largest(torch.cat(peaks))
        total = total * share.view_as(total)
        if gradient is not None:
            gradient = joined(patches(gradient, focus.patch_factor) * share, fake.shape)
    value = image_means(total, fake) * scale
    return value.sum() if add_up else value, gradient


def _inspected_once(forward: Callable[..., T]) -> Callable[..., T]:
    """Keep the signature that ``Function.apply`` would work out anew in each call, which takes as long as an FFT."""
    setattr(forward, "__signature__", inspect.signature(forward))  # noqa: B010
    return forward


class _FocalMean(torch.autograd.Function):
    """``focal_mean`` with the weight held constant in every derivative; also returns the gradient, for itself alone.

    The first backward pass takes that gradient, as numbers. Others, and derivatives of the gradient, make it again from
    the images, as a linear function of them.
    """

    @staticmethod
    @_inspected_once
    def forward(
        fake: Tensor, real: Tensor, predefined: Tensor | None, focus: Focus, scale: float, add_up: bool
    ) -> tuple[Tensor, Tensor | None]:
        return _value_and_gradient(fake, real, predefined, focus, scale, add_up, learns=True)

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
        # A loss that is added to others receives one. A GPU would have to be waited for to know.
        if grad.ndim or torch.is_grad_enabled() or not _on_cpu(grad) or grad.item() != 1:
            gradient = gradient * (grad.view(-1, 1, 1, 1) if grad.ndim else grad)
        return gradient, -gradient if ctx.needs_input_grad[1] else None, None, None, None, None


def _gradient(fake: Tensor, real: Tensor, weight: Tensor | None, focus: Focus, scale: float) -> Tensor:
    """The gradient with respect to ``fake``, differentiable."""
    difference = patches(fake - real, focus.patch_factor)
    if weight is None:
        distance = squared_magnitude(_transform(difference.detach(), focus.basis))
        weight, peaks = weights_and_peaks(distance, focus.alpha, focus.log_matrix)
        weight = weight * over_largest(peaks) if focus.batch_matrix else weight
    return joined(_Filter.apply(difference, weight, focus.basis), fake.shape) * (2 * scale / fake[0].numel())


class _Filter(torch.autograd.Function):
    """Multiplies the spectra of real images by a real, symmetric weight: linear, and its own adjoint."""

    @staticmethod
    @_inspected_once
    def forward(images: Tensor, weight: Tensor, basis: Basis) -> Tensor:
        return _inverse_transform(_transform(images, basis).mul_(weight), basis, images.shape[-2:])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, weight, ctx.basis = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Filter.apply(grad, *ctx.saved_tensors, ctx.basis), None, None


def _difference(fakes: Tensor, reals: Tensor) -> Tensor:
    """Contiguous, as transforms like it, in one pass."""
    return torch.sub(fakes, reals, out=fakes.new_empty(fakes.shape))


def _on_cpu(tensor: Tensor) -> bool:
    """Whether what suits a CPU is worth it; compilers do better by themselves."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _spans(planes: Tensor) -> list[slice]:
    """The parts of the first axis to work on in turn."""
    if not _on_cpu(planes):
        return [slice(None)]
    parts = max(1, planes.numel() // (_PIXELS_AT_A_TIME * torch.get_num_threads()))
    step = -(-len(planes) // parts)
    return [slice(start, start + step) for start in range(0, len(planes), step)]


def _transform(images: Tensor, basis: Basis) -> Tensor:
    """Coefficients of (..., H, W) in an orthonormal basis; (..., H, W // 2 + 1) for "dft"; always a new tensor."""
    if basis == "dft":
        return torch.fft.rfft2(images, norm="ortho")
    return dct2(images) if basis == "dct" else images.clone()


def _inverse_transform(spectrum: Tensor, basis: Basis, size: torch.Size) -> Tensor:
    """Images of ``size`` from their coefficients; may be ``spectrum`` itself."""
    if basis == "dft":
        return torch.fft.irfft2(spectrum, s=size, norm="ortho")
    return idct2(spectrum) if basis == "dct" else spectrum


def weights_and_peaks(distance: Tensor, alpha: float, log_matrix: bool) -> tuple[Tensor, Tensor]:
    """Eq. 9 for squared differences (..., H, W), over the largest of each spectrum; and these largest, (..., 1, 1)."""
    weight = distance.pow(alpha / 2)
    if log_matrix:
        weight.log1p_()
    peaks = weight.amax((-2, -1), keepdim=True)
    return weight.div_(peaks.clamp_min(torch.finfo(peaks.dtype).tiny)), peaks


def over_largest(peaks: Tensor) -> Tensor:
    """Peaks over the largest of them all; zero where that is zero."""
    return peaks / peaks.amax().clamp_min(torch.finfo(peaks.dtype).tiny)


def squared_magnitude(spectrum: Tensor) -> Tensor:
    """|F|^2 of real or complex coefficients."""
    if spectrum.is_complex():  # abs() would take a square root, at several times the cost
        squares = torch.view_as_real(spectrum).square()
        return squares[..., 0] + squares[..., 1]
    return spectrum.square()


def spectrum_sums(values: Tensor, width: int) -> Tensor:
    """Sums over spectra (..., H, width), or over the stored halves of them: mirrored columns count twice."""
    sums = values.sum((-2, -1))
    if values.shape[-1] == width:
        return sums
    once = values[..., 0].sum(-1)
    if width % 2 == 0:
        once = once + values[..., -1].sum(-1)
    return 2 * sums - once


def image_means(sums: Tensor, images: Tensor) -> Tensor:
    """Means over each of N images from sums over their patches: (N C, ...) to (N,)."""
    return sums.view(len(images), -1).sum(1) / images[0].numel()


def patches(images: Tensor, patch_factor: int) -> Tensor:
    """(N, C, H, W) to (N C, patch_factor, patch_factor, H / patch_factor, W / patch_factor), a view where possible."""
    return images.flatten(0, 1).unflatten(1, (patch_factor, -1)).unflatten(3, (patch_factor, -1)).transpose(2, 3)


def joined(planes: Tensor, shape: torch.Size) -> Tensor:
    """Images of ``shape`` from their ``patches``."""
    return planes.transpose(2, 3).reshape(shape)


def predefined_weight(matrix: Tensor, images: Tensor, patch_factor: int, basis: Basis) -> Tensor:
    """A predefined spectrum weight matrix for ``patches(images)``; of length 1 where it is the same for all of them.

    An axis that ``matrix`` has and the spectra lack is averaged away, which is what a mean over their broadcast
    product comes to. Of a DFT half is stored; since |F(u, v)| = |F(-u, -v)|, the two weights are averaged.

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
