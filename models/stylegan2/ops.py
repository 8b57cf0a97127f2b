"""The operators of StyleGAN2: FIR resampling, bias with activation, modulated convolution.

Written from the papers (Karras et al., 2019, 2020) in plain PyTorch operators, differentiable to any order.

What a comment says of speed was measured on one CPU thread in float32, forward and backward, as the ratio of medians
of alternating runs: 16 images of 32 channels at 64x64 or of 64 at 32x32 where it says nothing else.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
LEAKY_SLOPE = 0.2
LEAKY_GAIN = math.sqrt(2)  # keeps the variance of a leaky ReLU's output near that of its input
DEMODULATION_EPS = 1e-8
MANY_CHANNELS = 256

Padding = tuple[int, int]  # zeros before and after; negative ones crop
Activation = Literal["linear", "lrelu"]


def fir_kernel(taps: tuple[float, ...] = FIR_TAPS) -> Tensor:
    """Separable low-pass filter as a matrix: float32 (len(taps), len(taps)), sum 1."""
    line = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def upfirdn2d(
    x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, padding: Padding = (0, 0), gain: float = 1.0
) -> Tensor:
    """Insert zeros between samples, pad, filter, and keep one of ``down`` samples; the same along both axes.

    The operator is linear and its adjoint is another one of its kind, so that a derivative of any order costs as
    much as the operator itself. A second derivative is 3 times as fast as autograd's of a depthwise convolution, a
    first one 0.9 times.

    Args:
        x: float (N, C, H, W).
        kernel: float (K, K), the filter of a true convolution; no gradient flows into it.
        up: each sample is followed by ``up - 1`` zeros.
        down: every ``down``-th sample is kept.
        padding: zeros before and after each axis, at the upsampled resolution; negative ones crop.
        gain: factor on the result; ``up ** 2`` keeps the level of the signal.
    Returns:
        (N, C, h, w) with h = (up H + sum(padding) - K) // down + 1, likewise w.
    Raises:
        ValueError: if the padded image is smaller than the filter.
    """
    padded, taps = min(x.shape[-2:]) * up + sum(padding), kernel.shape[-1]
    if padded < taps:
        raise ValueError(f"upfirdn2d: images {tuple(x.shape)} with padding {padding} are smaller than {taps} taps")
    kernel = kernel.detach().to(x.dtype) * gain
    return _UpFirDn.apply(x, kernel, kernel.flip((0, 1)), up, down, padding, padding)


class _UpFirDn(torch.autograd.Function):
    """``upfirdn2d`` with one padding for rows and one for columns, which the adjoint needs.

    ``flipped`` is the kernel turned by 180 degrees, that of the adjoint.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Tensor, flipped: Tensor, up: int, down: int, rows: Padding, columns: Padding
    ) -> Tensor:
        ctx.save_for_backward(kernel, flipped)
        ctx.geometry = (x.shape[-2:], up, down, (rows, columns))
        return _filter(x, kernel, flipped, up, down, rows, columns)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (kernel, flipped) = gradients, ctx.saved_tensors
        sizes, up, down, paddings = ctx.geometry
        adjoint = [
            (kernel.shape[-1] - 1 - padding[0], size * up - out * down + padding[0] - up + 1)
            for size, out, padding in zip(sizes, gradient.shape[-2:], paddings, strict=True)
        ]
        return _UpFirDn.apply(gradient, flipped, kernel, down, up, *adjoint), None, None, None, None, None, None


def _filter(x: Tensor, kernel: Tensor, flipped: Tensor, up: int, down: int, rows: Padding, columns: Padding) -> Tensor:
    channels, reach = x.shape[1], kernel.shape[-1] - 1
    x = x.contiguous(memory_format=torch.channels_last)  # 1.5 times as fast as the other layout (CPU)
    # Padding that is the same on all sides is left to the convolution, which is 1.7 times as fast as padding first.
    if up == 1:
        weight = flipped.expand(channels, 1, -1, -1)  # torch's convolution is a correlation
        if rows == columns == (rows[0], rows[0]) and rows[0] >= 0:
            return F.conv2d(x, weight, stride=down, padding=rows[0], groups=channels)
        return F.conv2d(F.pad(x, (*columns, *rows)), weight, stride=down, groups=channels)

    # A transposed convolution never touches the inserted zeros, which are three of four values where ``up`` is 2. It
    # reaches ``reach`` samples beyond the image; cropping them in the convolution is 1.7 times as fast as afterwards.
    weight = kernel.expand(channels, 1, -1, -1)
    rows, columns = ((before - reach, after - reach + up - 1) for before, after in (rows, columns))
    if rows == columns == (rows[0], rows[0]) and rows[0] <= 0:
        y = F.conv_transpose2d(x, weight, stride=up, padding=-rows[0], groups=channels)
    else:
        y = F.pad(F.conv_transpose2d(x, weight, stride=up, groups=channels), (*columns, *rows))
    return y[:, :, ::down, ::down] if down > 1 else y


def upsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Twice the size: (N, C, H, W) to (N, C, 2H, 2W), samples centred as in bilinear interpolation."""
    taps = kernel.shape[-1]
    return upfirdn2d(x, kernel, up=2, padding=((taps + 1) // 2, (taps - 2) // 2), gain=4.0)


def downsample2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Half the size: (N, C, 2H, 2W) to (N, C, H, W)."""
    taps = kernel.shape[-1]
    return upfirdn2d(x, kernel, down=2, padding=((taps - 1) // 2, (taps - 2) // 2))


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """A dense convolution in the layout that suits it: (N, I, H, W), (O, I, k, k) to (N, O, h, w)."""
    return F.conv2d(_dense_layout(x), weight, bias, stride, padding)


def _dense_layout(x: Tensor) -> Tensor:
    """Leave channels last on a CPU where there are many channels.

    The kernel for channels last adds up all products in one chain: with 512 channels its rounding error is ten times
    that of the other, and it takes 1.1 to 1.2 times as long. With 32 to 128 channels it is 1.0 to 1.2 times as fast.
    """
    return x.contiguous() if x.device.type == "cpu" and x.shape[1] >= MANY_CHANNELS else x


def bias_act(
    x: Tensor,
    bias: Tensor | None,
    activation: Activation = "lrelu",
    gain: float | None = None,
    clamp: float | None = None,
    inplace: bool = False,
) -> Tensor:
    """Add a bias per channel, apply the activation, scale, clamp.

    Both activations commute with a positive gain, so that a caller may put it into what made ``x`` and ``bias`` and
    pass 1 here. Then nothing but passes in place is left: 2.3 times as fast as torch's operators one after the other,
    where new memory and a gain of its own leave 1.8 times.

    Args:
        x: float (N, C, ...).
        bias: (C,), cast to the type of ``x``; None adds nothing.
        activation: "lrelu" has slope 0.2.
        gain: factor on the activation's output, positive; None is sqrt(2) for "lrelu", 1 for "linear".
        clamp: limit of the result's magnitude; None leaves it free.
        inplace: whether ``x`` may be overwritten: nothing else needs it, not even the derivative of what made it.
    Returns:
        Same shape and type as ``x``.
    """
    if gain is None:
        gain = LEAKY_GAIN if activation == "lrelu" else 1.0
    if bias is not None:
        bias = (bias * gain).to(x.dtype).reshape((1, -1) + (1,) * (x.dim() - 2))
    if gain != 1:
        x = x * gain if bias is None else torch.add(bias, x, alpha=gain)
    elif bias is not None:
        x = x.add_(bias) if inplace else x + bias
    elif not inplace:
        x = x.clone()
    if activation == "linear" and clamp is None:
        return x
    return _Activation.apply(x, LEAKY_SLOPE if activation == "lrelu" else 1.0, clamp)


class _Activation(torch.autograd.Function):
    """Leaky ReLU and clamp in place. The derivative needs the result alone and is piecewise constant.

    torch's own in-place functions cannot follow each other, since each keeps its result for the derivative; and their
    second derivatives add up tensors of zeros, which takes 1.1 times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, clamp: float | None) -> Tensor:
        ctx.mark_dirty(x)
        if slope != 1:
            F.leaky_relu_(x, slope)
        # Values nearly never reach the clamp. To look, and then not to clamp here and in the gradient, is 1.2 times as
        # fast. Norms of rows bound every magnitude and take a single pass; only where they do not settle it are the
        # extremes looked for.
        if clamp is not None and ctx.needs_input_grad[0] and x.device.type == "cpu":
            norms = torch.linalg.vector_norm(x, dim=(1, -1) if x.dim() > 2 else 1)
            if norms.amax() < clamp or (x.amax() < clamp and x.amin() > -clamp):
                clamp = None
        if clamp is not None:
            x.clamp_(-clamp, clamp)
        ctx.slope, ctx.clamp = slope, clamp
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _ActivationGradient.apply(gradients[0], *ctx.saved_tensors, ctx.slope, ctx.clamp), None, None


class _ActivationGradient(torch.autograd.Function):
    """A gradient times the derivative of ``_Activation`` at the point that gave ``result``: its own adjoint."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, result: Tensor, slope: float, clamp: float | None) -> Tensor:
        ctx.save_for_backward(result)
        ctx.slope, ctx.clamp = slope, clamp
        if slope != 1:
            gradient = torch.ops.aten.leaky_relu_backward(gradient, result, slope, True)
        if clamp is not None:
            gradient = torch.ops.aten.hardtanh_backward(gradient, result, -clamp, clamp)
        return gradient

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _ActivationGradient.apply(gradients[0], *ctx.saved_tensors, ctx.slope, ctx.clamp), None, None, None


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    *,
    up: int = 1,
    demodulate: bool = True,
    kernel: Tensor | None = None,
    gain: float = 1.0,
    noise: Tensor | None = None,
) -> Tensor:
    """Convolution whose input channels each image scales by its style (StyleGAN2, Section 2.2, Eqs. 1 and 3).

    There are two equal ways: with the same weights for all images, scaling the features before (Eq. 1) and after (Eq.
    3); or with the weights of each image, which is 1.3 times as fast for 1x1, a product of matrices then, and 1.1 times
    for a single image whose feature map holds more values than the weights.

    Args:
        x: float (N, I, H, W).
        weight: (O, I, k, k), k odd; 1 goes with ``up=1``.
        styles: (N, I).
        up: 1, or 2 to double the size: a transposed convolution, then the low-pass filter ``kernel``.
        demodulate: scale each output channel to unit expected variance. Needed in float16, where weights and
            styles are first brought near 1, which demodulation undoes.
        kernel: (K, K), where ``up`` is 2.
        gain: factor on the convolution.
        noise: broadcastable to the output, added to it.
    Returns:
        (N, O, up H, up W), of the type of ``x``.
    """
    # Demodulation (Eq. 3) undoes any factor on weights and styles, which keeps float16 within its range.
    if demodulate and x.dtype == torch.float16:
        weight = weight / weight.abs().amax((1, 2, 3), keepdim=True) / math.sqrt(weight[0].numel())
        styles = styles / styles.abs().amax(1, keepdim=True)
    # What demodulation divides by is the norm of each image's scaled weights, which need not be formed for it.
    scale = None
    if demodulate:
        energy = styles.square() @ weight.square().sum((2, 3)).t()
        scale = ((energy + DEMODULATION_EPS).rsqrt() * gain).to(x.dtype)
    else:
        weight = weight * gain

    if weight.shape[-1] == 1 or (x.shape[0] == 1 and x.numel() > weight.numel()):
        weights = weight * styles[:, None, :, None, None]
        if scale is not None:
            weights = weights * scale[:, :, None, None, None]
            scale = None
        weights = weights.to(x.dtype)
        if x.shape[0] == 1:
            y = _convolve(x, weights[0], up)
        else:  # 1x1: twice as fast as a grouped convolution; the pixels are a view where channels are last
            pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
            y = torch.bmm(pixels, weights.flatten(2).transpose(1, 2)).unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    else:
        y = _convolve(x * styles.to(x.dtype)[:, :, None, None], weight.to(x.dtype), up)

    # The transposed convolution leaves a pattern of the inserted zeros, which the low-pass filter removes.
    if up > 1:
        assert kernel is not None
        surplus = kernel.shape[-1] - weight.shape[-1] + 1  # of the transposed convolution over twice the input
        y = upfirdn2d(y, kernel, padding=((surplus + 1) // 2, surplus // 2), gain=up**2)
    # With gradients, y is needed again for the derivative by its scale; without, it may be overwritten.
    if scale is not None:
        scale = scale[:, :, None, None]
        y = y * scale if torch.is_grad_enabled() else y.mul_(scale)
        return y if noise is None else y.add_(noise.to(x.dtype))
    return y if noise is None else y + noise.to(x.dtype)


def _convolve(x: Tensor, weight: Tensor, up: int) -> Tensor:
    """(N, I, H, W) and (O, I, k, k) to the same size for ``up=1``, else to up (H - 1) + k."""
    if up == 1:
        return conv2d(x, weight, padding=weight.shape[-1] // 2)
    return F.conv_transpose2d(_dense_layout(x), weight.transpose(0, 1), stride=up)
