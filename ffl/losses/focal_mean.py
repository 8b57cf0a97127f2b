"""The fast way to Eq. 10 and its gradient; ``focal_frequency.focal_frequency_formula`` is the plain one.

Four properties of the loss make it fast. In all, it takes a quarter to a third of the time of the formula under
autograd (one thread, batches of (128, 3, 64, 64) to (1, 3, 256, 256)):

- The transform is linear, so the difference image is transformed, not the two images.
- Images are real, so half a spectrum suffices: each interior column stands for itself and for its mirror image.
  Complex images have no such symmetry and keep the whole spectrum.
- The weight is locked (Section 3.3), so the gradient is the inverse transform of 2 w (F_f - F_r) / (M N): one
  transform each way in all. The gradient is computed together with the value, and nothing else is kept for the
  backward pass.
- Each spectrum is independent of the others, so a CPU processes a few at a time, and its caches hold the
  intermediate results.

Images are (N, ..., sizes) here: samples first, then any number of axes, and at the end the 1 to 3 axes of the
transform. Their patches are (N, ..., patches along each of these axes, sizes of a patch).
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ffl.spectrum import dct, idct

# "rfft" stores half of the spectrum of real images, "fft" the whole one of complex images.
Basis = Literal["rfft", "fft", "dct", "pixels"]

# Transformed axes, for messages.
AXES = {1: "L", 2: "H, W", 3: "D, H, W"}

# Pixels that each thread of a CPU processes at a time: a megabyte, so that its caches hold a few steps. One thread
# gains a factor of 1.2 to 1.9 over the whole batch at once on a machine that other programs use as well, and nothing on
# an idle one; the peak memory falls to a third. Parts of half the size take 1.05 to 1.15 times the time, since each
# costs some thirty calls and the plans of two transforms.
_CHUNK_PIXELS = 1 << 18


class Focus(NamedTuple):
    """Which coefficients are compared, and how they are weighted; see ``FocalFrequencyLoss``.

    With ``dynamic`` the weight is Eq. 9, times a predefined one where there is one; without, the predefined one alone.
    Each entry of the first ``mapped`` axes is a batch of its own: ``torch.func.vmap`` puts its axes there.
    """

    basis: Basis
    dims: int
    patch_factor: int
    alpha: float
    log_matrix: bool
    batch_matrix: bool
    dynamic: bool
    mapped: int = 0


def focal_mean(
    fake: Tensor, real: Tensor, predefined: Tensor | None, focus: Focus, scale: float, add_up: bool
) -> Tensor:
    """Mean of w |F_f - F_r|^2 over each image, with w constant in every derivative.

    Args:
        fake: (N, ..., sizes), float32, float64, complex64 or complex128.
        real: same shape and type.
        predefined: weight in the place of Eq. 9 or a factor on it, as ``predefined_weight`` returns it, or None.
        focus: the transform, the patches and the options of Eq. 9.
        scale: factor on the result.
        add_up: return the sum over images instead of one value for each.
    Returns:
        (N,), or a scalar.
    """
    with_gradient = torch.is_grad_enabled() and (fake.requires_grad or real.requires_grad)
    return _FocalMean.apply(fake, real, predefined, focus, scale, add_up, with_gradient)[0]


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
    # With one chunk the inverse transform becomes the gradient; several chunks write their parts of one tensor, which
    # has the memory format of the images.
    fakes, reals = (split_patches(images, focus.patch_factor, focus.dims) for images in (fake, real))
    spectra, sizes = fakes.shape[: -focus.dims], fakes.shape[-focus.dims :]
    chunks = _chunks(fakes, focus.dims)
    slope = 2 * scale / fake.shape[focus.mapped + 1 :].numel()
    planes = None
    if with_gradient and len(chunks) > 1:
        planes = split_patches(torch.empty_like(fake), focus.patch_factor, focus.dims)
    sums, peaks = [], []
    for chunk in chunks:
        # The spectrum of the difference; contiguous, since the transform would copy it otherwise.
        difference = torch.sub(fakes[chunk], reals[chunk], out=fakes.new_empty(fakes[chunk].shape))
        spectrum = _transform(difference, focus.basis, focus.dims)
        # Its weighted power, summed over each patch: w |F_f - F_r|^2.
        distance = squared_magnitude(spectrum)
        weight, peak = _weight(distance, None if predefined is None else predefined[chunk], focus)
        sums.append(spectrum_sums(distance.mul_(weight), sizes).flatten())
        if peak is not None:
            peaks.append(peak.flatten())
        # The gradient: the inverse transform of 2 w (F_f - F_r) / (M N).
        if with_gradient:
            spectrum.mul_(weight)
            del distance, weight  # the inverse transform is the peak of memory and does not need them
            filtered = _inverse_transform(spectrum, focus.basis, sizes)
            if planes is None:
                planes = filtered.mul_(slope)
            else:
                torch.mul(filtered, slope, out=planes[chunk])
    total = torch.cat(sums).view(spectra)
    # The maximum over the batch is known only now; each spectrum has been divided by its own.
    if focus.batch_matrix and peaks:
        share = normalise_by_max(torch.cat(peaks).view(spectra), focus.mapped)
        total = total * share
        if planes is not None:
            planes.mul_(share[(..., *[None] * focus.dims)])
    value = image_means(total, fake, focus.mapped) * scale
    gradient = None if planes is None else join_patches(planes, fake.shape, focus.dims)
    return value.sum(-1) if add_up else value, gradient


class _FocalMean(torch.autograd.Function):
    """``focal_mean`` with the weight held constant in every derivative.

    The second output is the gradient, which callers drop. The first backward pass returns it. Later ones, and those
    that are differentiated themselves, compute it again from the images, as a linear function of them.
    """

    @staticmethod
    def forward(
        fake: Tensor,
        real: Tensor,
        predefined: Tensor | None,
        focus: Focus,
        scale: float,
        add_up: bool,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor | None]:
        return _value_and_gradient(fake, real, predefined, focus, scale, add_up, with_gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor | None]) -> None:
        fake, real, predefined, ctx.focus, ctx.scale, *_ = inputs
        _, ctx.gradient = output
        if ctx.gradient is not None:
            ctx.mark_non_differentiable(ctx.gradient)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(fake, real, predefined)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 7
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None or torch.is_grad_enabled():
            fake, real, predefined = ctx.saved_tensors
            gradient = _gradient(fake, real, predefined, ctx.focus, ctx.scale)
        # A sum of losses passes on 1: leaving that product out saves 6 % of the time. Reading it would stall a GPU.
        known = grad.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.is_grad_enabled()
        if grad.ndim or not known or grad.item() != 1:
            gradient = gradient * grad[(..., *[None] * (gradient.ndim - grad.ndim))]
        return gradient, -gradient if ctx.needs_input_grad[1] else None, *(None,) * 5

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[tuple[Tensor, Tensor | None], Any]:
        # One more axis of images, in front; what is not mapped over is the same for all of them.
        tensors = (
            tensor
            if tensor is None
            else tensor.expand(info.batch_size, *tensor.shape)
            if axis is None
            else tensor.movedim(axis, 0)
            for tensor, axis in zip(inputs[:3], in_dims[:3], strict=True)
        )
        focus, *options = inputs[3:]
        value, gradient = _FocalMean.apply(*tensors, focus._replace(mapped=focus.mapped + 1), *options)
        return (value, gradient), (0, None if gradient is None else 0)


def _gradient(fake: Tensor, real: Tensor, predefined: Tensor | None, focus: Focus, scale: float) -> Tensor:
    """The gradient with respect to ``fake``, which can be differentiated again."""
    # The weight is computed from a constant copy of the difference: it is locked in every derivative.
    difference = split_patches(fake - real, focus.patch_factor, focus.dims)
    spectrum = _transform(difference, focus.basis, focus.dims)
    weight, peaks = _weight(squared_magnitude(spectrum.detach()), predefined, focus)
    if focus.batch_matrix and peaks is not None:
        weight = weight * normalise_by_max(peaks, focus.mapped)
    filtered = _inverse_transform(spectrum * weight, focus.basis, difference.shape[-focus.dims :])
    return join_patches(filtered, fake.shape, focus.dims) * (2 * scale / fake.shape[focus.mapped + 1 :].numel())


def _weight(distance: Tensor, predefined: Tensor | None, focus: Focus) -> tuple[Tensor, Tensor | None]:
    """The weight of squared differences, Eq. 9 divided by the maximum of each spectrum; and these maxima."""
    if not focus.dynamic:
        assert predefined is not None
        return predefined, None
    weight, peaks = weights_and_peaks(distance, focus.alpha, focus.log_matrix, focus.dims)
    return weight if predefined is None else weight.mul_(predefined), peaks


def _chunks(planes: Tensor, dims: int) -> list[tuple[slice, ...]]:
    """Indices of the parts to process in turn; compilers and GPUs do better on all of it at once."""
    if planes.device.type != "cpu" or torch.compiler.is_compiling():
        return [()]
    # Runs along the first axis; where one entry of it is too large already, its parts along the next one.
    budget = _CHUNK_PIXELS * torch.get_num_threads()
    chunks: list[tuple[slice, ...]] = [()]
    pixels = planes.numel()
    for length in planes.shape[:-dims]:
        if pixels < 2 * budget:
            break
        pixels //= length
        runs = -(-length // max(1, budget // pixels))
        step = -(-length // runs)
        chunks = [(*chunk, slice(start, start + step)) for chunk in chunks for start in range(0, length, step)]
        pixels *= step
    return chunks


def _transform(images: Tensor, basis: Basis, dims: int) -> Tensor:
    """Orthonormal coefficients over the last ``dims`` axes, the last one cut to half for "rfft"; a new tensor."""
    axes = tuple(range(-dims, 0))
    if basis == "rfft":
        return torch.fft.rfftn(images, dim=axes, norm="ortho")
    if basis == "fft":
        return torch.fft.fftn(images, dim=axes, norm="ortho")
    return dct(images, dims) if basis == "dct" else images.clone()


def _inverse_transform(spectrum: Tensor, basis: Basis, sizes: torch.Size) -> Tensor:
    """Images from their coefficients over the last axes, of ``sizes``; the result may be ``spectrum`` itself."""
    axes = tuple(range(-len(sizes), 0))
    if basis == "rfft":
        return torch.fft.irfftn(spectrum, s=sizes, dim=axes, norm="ortho")
    if basis == "fft":
        return torch.fft.ifftn(spectrum, dim=axes, norm="ortho")
    return idct(spectrum, len(sizes)) if basis == "dct" else spectrum


def weights_and_peaks(distance: Tensor, alpha: float, log_matrix: bool, dims: int) -> tuple[Tensor, Tensor]:
    """Eq. 9 for squared differences (..., sizes), divided by the maximum of each spectrum; and these maxima."""
    weight = distance.pow(alpha / 2)
    if log_matrix:
        weight.log1p_()
    peaks = weight.amax(tuple(range(-dims, 0)), keepdim=True)
    return weight.div_(peaks.clamp_min(torch.finfo(peaks.dtype).tiny)), peaks


def normalise_by_max(peaks: Tensor, mapped: int = 0) -> Tensor:
    """The maxima of all spectra divided by the largest of them; zero where that is zero."""
    largest = peaks.amax(tuple(range(mapped, peaks.ndim)), keepdim=True)
    return peaks / largest.clamp_min(torch.finfo(peaks.dtype).tiny)


def squared_magnitude(spectrum: Tensor) -> Tensor:
    """|F|^2 of real or complex coefficients."""
    if spectrum.is_complex():  # abs() takes a square root: the whole loss would take 1.25 to 1.36 times as long
        squares = torch.view_as_real(spectrum).square()
        return squares[..., 0] + squares[..., 1]
    return spectrum.square()


def spectrum_sums(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sums over whole spectra of ``sizes``, or over stored halves, whose mirrored columns then count twice.

    A half holds the columns 0 to W // 2 of the last axis, of length W, whatever the number of axes: the frequency
    opposite to (u, v) is (-u, -v), in another column and, where there are more axes, in another row.
    """
    axes = tuple(range(-len(sizes), 0))
    sums = values.sum(axes)
    if values.shape[-1] == sizes[-1]:
        return sums
    # The first column is its own mirror image, and so is the last one of an even width.
    once = values[..., :1].sum(axes)
    if sizes[-1] % 2 == 0:
        once = once + values[..., -1:].sum(axes)
    return 2 * sums - once


def image_means(sums: Tensor, images: Tensor, mapped: int = 0) -> Tensor:
    """The mean over each of N images (N, ..., sizes), from the sums over their patches: (N, ...) to (N,)."""
    return sums.flatten(mapped + 1).sum(-1) / images.shape[mapped + 1 :].numel()


def split_patches(images: Tensor, patch_factor: int, dims: int = 2) -> Tensor:
    """Images (..., H, W) as a view (..., patch_factor, patch_factor, H / patch_factor, W / patch_factor)."""
    lead = images.ndim - dims
    for axis in range(dims):
        images = images.unflatten(lead + 2 * axis, (patch_factor, -1))
    return images.permute(*range(lead), *range(lead, lead + 2 * dims, 2), *range(lead + 1, lead + 2 * dims, 2))


def join_patches(planes: Tensor, shape: torch.Size, dims: int = 2) -> Tensor:
    """Images of ``shape`` from their patches, the inverse of ``split_patches``."""
    lead = len(shape) - dims
    pairs = (axis for first in range(lead, lead + dims) for axis in (first, first + dims))
    return planes.permute(*range(lead), *pairs).reshape(shape)


def predefined_weight(name: str, weight: Tensor, images: Tensor, patch_factor: int, dims: int, basis: Basis) -> Tensor:
    """A predefined spectrum weight for the spectra of ``split_patches(images)``, a view where it is the same for many.

    The loss is a mean over the broadcast product of weight and spectra, so an axis that only the weight has is
    averaged. Half of a DFT is stored, and |F(u, v)| = |F(-u, -v)|, so the weights of the two are averaged as well.

    Args:
        name: of the argument, for errors.
        weight: broadcastable to (N, patches, ..., sizes of a patch).
        images: (N, ..., sizes).
        patch_factor: number of patches along each transformed axis.
        dims: number of transformed axes.
        basis: of the spectra.
    Raises:
        TypeError: the weight is complex.
        ValueError: it does not broadcast to the spectra.
    """
    if weight.is_complex():
        raise TypeError(f"{name} must be real, got {weight.dtype}")
    sizes = tuple(size // patch_factor for size in images.shape[-dims:])
    shape = (len(images), patch_factor**dims, *images.shape[1:-dims], *sizes)
    try:
        fits = weight.ndim <= len(shape) and torch.broadcast_shapes(weight.shape, shape)[2:] == shape[2:]
    except RuntimeError:
        fits = False
    if not fits:
        inner = "C" if images.ndim == dims + 2 else "..."
        wanted = f"(N, patches, {inner}, {AXES[dims]}) = {shape}"
        raise ValueError(f"{name} must broadcast to {wanted}, got {tuple(weight.shape)}")
    # The weight gets all axes, of which those that only it has are averaged.
    weight = weight.detach().to(images.real.dtype)
    weight = weight.expand(torch.broadcast_shapes(weight.shape, sizes))
    weight = weight.reshape((1,) * (len(shape) - weight.ndim) + weight.shape)
    extra = [axis for axis in (0, 1) if shape[axis] == 1 != weight.shape[axis]]
    if extra:
        weight = weight.mean(extra, keepdim=True)
    if basis == "rfft":
        axes = tuple(range(-dims, 0))
        opposite = weight.flip(axes).roll((1,) * dims, axes)
        weight = (weight + opposite)[..., : sizes[-1] // 2 + 1] / 2
    weight = weight.expand(*shape[:-dims], *weight.shape[-dims:]).movedim(1, -dims - 1)
    return weight.unflatten(-dims - 1, (patch_factor,) * dims)
