"""Operators of StyleGAN2 against SciPy, explicit loops and closed forms, and their derivatives of second order."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.signal import convolve2d
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from models.stylegan2.discriminator import minibatch_stddev
from models.stylegan2.layers import EqualizedConv2d
from models.stylegan2.ops import (
    bias_act,
    downsample2d,
    fir_kernel,
    modulated_conv2d,
    upfirdn2d,
    upsample2d,
)

GEOMETRIES = [
    (1, 1, (0, 0)),
    (1, 1, (2, 2)),
    (1, 1, (1, 3)),
    (1, 1, (2, -1)),
    (2, 1, (2, 1)),
    (2, 1, (0, 3)),
    (2, 1, (5, 4)),
    (1, 2, (1, 1)),
    (1, 2, (2, 0)),
    (2, 3, (3, 2)),
    (3, 2, (4, 1)),
]


def lopsided_kernel() -> Tensor:
    """A filter without any symmetry, which tells convolution from correlation and rows from columns."""
    return torch.linspace(-0.5, 1.0, 16, dtype=torch.float64).reshape(4, 4).sin()


def reference_upfirdn(image: np.ndarray, kernel: np.ndarray, up: int, down: int, padding: tuple[int, int]):
    sparse = np.zeros((image.shape[0] * up, image.shape[1] * up))
    sparse[::up, ::up] = image
    sparse = np.pad(sparse, [tuple(max(p, 0) for p in padding)] * 2)
    first, last = max(-padding[0], 0), max(-padding[1], 0)
    sparse = sparse[first : sparse.shape[0] - last, first : sparse.shape[1] - last]
    return convolve2d(sparse, kernel, mode="valid")[::down, ::down]


@pytest.mark.parametrize(("up", "down", "padding"), GEOMETRIES)
def test_upfirdn2d_equals_scipy(up: int, down: int, padding: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 9, 6, dtype=torch.float64)
    kernel = lopsided_kernel()
    got = upfirdn2d(x, kernel, up, down, padding, gain=1.7)
    for n in range(2):
        for c in range(3):
            want = 1.7 * reference_upfirdn(x[n, c].numpy(), kernel.numpy(), up, down, padding)
            assert got[n, c].shape == want.shape
            np.testing.assert_allclose(got[n, c], want, atol=1e-12)


@pytest.mark.parametrize(("up", "down", "padding"), GEOMETRIES)
def test_upfirdn2d_has_derivatives_of_second_order(up: int, down: int, padding: tuple[int, int]) -> None:
    x = torch.randn(1, 2, 7, 6, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return upfirdn2d(x, lopsided_kernel(), up, down, padding).square()

    assert gradcheck(function, x)
    assert gradgradcheck(function, x)


def test_upfirdn2d_refuses_an_image_smaller_than_the_filter() -> None:
    with pytest.raises(ValueError, match="smaller than 4 taps"):
        upfirdn2d(torch.zeros(1, 1, 2, 8), fir_kernel())


def test_upsampling_is_bilinear_interpolation_away_from_the_edge() -> None:
    x = torch.randn(2, 3, 8, 8)
    want = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    got = upsample2d(x, fir_kernel())
    assert got.shape == want.shape
    torch.testing.assert_close(got[..., 1:-1, 1:-1], want[..., 1:-1, 1:-1])


def test_downsampling_is_the_adjoint_of_upsampling() -> None:
    small, large = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    up = (upsample2d(small, fir_kernel()) * large).sum()
    down = (small * downsample2d(large, fir_kernel())).sum()
    torch.testing.assert_close(up, 4 * down)  # the gain of upsampling


@pytest.mark.parametrize("activation", ["linear", "lrelu"])
@pytest.mark.parametrize("gain", [None, 0.5])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_bias_act_follows_its_definition(activation: str, gain: float | None, clamp: float | None) -> None:
    x, bias = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    want = x + bias.reshape(1, 3, 1, 1)
    if activation == "lrelu":
        want = torch.where(want > 0, want, 0.2 * want) * (math.sqrt(2) if gain is None else gain)
    else:
        want = want * (1 if gain is None else gain)
    want = want if clamp is None else want.clip(-clamp, clamp)
    torch.testing.assert_close(bias_act(x, bias, activation, gain, clamp), want)
    torch.testing.assert_close(bias_act(x, None, activation, gain), bias_act(x, 0 * bias, activation, gain))


@pytest.mark.parametrize("bias", [None, torch.tensor([0.3, -0.2, 0.1]).double()])
def test_bias_act_in_place_is_the_same_in_the_memory_of_its_input(bias: Tensor | None) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    results = []
    for inplace in (False, True):
        leaf = x.clone().requires_grad_()
        made = leaf * 2
        y = bias_act(made, bias, gain=1.0, clamp=1.5, inplace=inplace)
        assert (y.data_ptr() == made.data_ptr()) == inplace
        y.pow(3).sum().backward()
        results.append((y.detach(), leaf.grad))
    assert results[0][0].abs().max() == 1.5
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize(
    "values", [[0.1, -0.2, 0.1], [0.9, -0.9, 0.8], [0.9, 2.0, -0.1], [0.1, 0.2, -3.0], [1.0, 0.0, 0.5]]
)
def test_clamped_values_pass_no_gradient(values: list[float]) -> None:
    # Rows whose norm is below the limit, above it with no value at it, and with a value beyond or at it.
    x = torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1).requires_grad_()
    y = bias_act(x, None, "linear", clamp=1.0)
    y.sum().backward()
    assert torch.equal(y.detach(), x.detach().clip(-1, 1))
    assert torch.equal(x.grad, (x.detach().abs() < 1).double())


def test_one_value_that_is_no_number_leaves_the_others_clamped() -> None:
    x = torch.tensor([[math.nan, 5.0]], requires_grad=True)
    assert bias_act(x, None, "linear", clamp=1.0)[0, 1] == 1


def test_bias_act_has_derivatives_of_second_order() -> None:
    # A grid of values away from the kink at 0 and the limits at 1, where finite differences mean nothing.
    x = (torch.arange(24, dtype=torch.float64).reshape(2, 3, 4) / 10 - 1.15).requires_grad_()
    bias = torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, bias: Tensor) -> Tensor:
        return bias_act(x, bias, clamp=1.0).pow(3)

    assert gradcheck(function, (x, bias))
    assert gradgradcheck(function, (x, bias))


def modulated_reference(x: Tensor, weight: Tensor, styles: Tensor, up: int, demodulate: bool, noise: Tensor) -> Tensor:
    """Eqs. 1 and 3 of StyleGAN2, image by image."""
    images = []
    for image, style in zip(x, styles, strict=True):
        modulated = weight * style[None, :, None, None]
        if demodulate:
            modulated = modulated / (modulated.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up == 1:
            y = F.conv2d(image[None], modulated, padding=weight.shape[-1] // 2)
        else:
            y = F.conv_transpose2d(image[None], modulated.transpose(0, 1), stride=2)
            taps = fir_kernel().to(y) * 4
            y = F.conv2d(y.transpose(0, 1), taps[None, None], padding=1).transpose(0, 1)
        images.append(y)
    return torch.cat(images) + noise


@pytest.mark.parametrize(("num_images", "side"), [(1, 4), (1, 9), (3, 6)])  # the second with weights of its own
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize(("up", "size"), [(1, 3), (1, 1), (2, 3)])
def test_modulated_convolution_equals_one_convolution_per_image(
    up: int, size: int, demodulate: bool, num_images: int, side: int
) -> None:
    x = torch.randn(num_images, 4, side, side, dtype=torch.float64)
    weight, styles = torch.randn(5, 4, size, size).double(), torch.randn(num_images, 4).double()
    noise = torch.randn(side * up, side * up).double()
    got = modulated_conv2d(x, weight, styles, up=up, demodulate=demodulate, kernel=fir_kernel(), noise=noise)
    torch.testing.assert_close(got, modulated_reference(x, weight, styles, up, demodulate, noise))


def test_gain_of_a_modulated_convolution_spares_the_noise() -> None:
    x, weight, styles = torch.randn(2, 4, 5, 5), torch.randn(3, 4, 3, 3), torch.randn(2, 4)
    noise = torch.randn(2, 1, 5, 5)
    for demodulate in (False, True):
        plain = modulated_conv2d(x, weight, styles, demodulate=demodulate)
        got = modulated_conv2d(x, weight, styles, demodulate=demodulate, gain=1.7, noise=noise)
        torch.testing.assert_close(got, 1.7 * plain + noise)
        with torch.no_grad():
            got = modulated_conv2d(x, weight, styles, demodulate=demodulate, gain=1.7, noise=noise)
        torch.testing.assert_close(got, 1.7 * plain + noise)


@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("activation", ["linear", "lrelu"])
def test_gain_of_an_equalised_convolution_is_on_all_of_it(activation: str, down: int) -> None:
    layer = EqualizedConv2d(3, 4, 3, activation, down=down, clamp=0.5)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 8, 8)
    plain = layer(x)
    assert plain.abs().max() == 0.5
    torch.testing.assert_close(layer(x, 0.7), 0.7 * plain)


@pytest.mark.parametrize("num_images", [1, 2])
@pytest.mark.parametrize(("up", "size"), [(1, 1), (1, 3), (2, 3)])
def test_modulated_convolution_has_derivatives_of_second_order(up: int, size: int, num_images: int) -> None:
    side = 5 if num_images == 1 else 3  # a single image with weights of its own
    shapes = [(num_images, 2, side, side), (2, 2, size, size), (num_images, 2)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    def function(x: Tensor, weight: Tensor, styles: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, styles, up=up, kernel=fir_kernel())

    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs)


def test_modulated_convolution_in_float16_survives_large_styles() -> None:
    x, weight, styles = torch.randn(2, 16, 8, 8), torch.randn(16, 16, 3, 3), 1e4 * torch.randn(2, 16)
    want = modulated_conv2d(x, weight, styles)
    got = modulated_conv2d(x.half(), weight, styles)
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), want, atol=1e-2, rtol=1e-2)


def test_minibatch_stddev_groups_are_strided() -> None:
    x = torch.randn(8, 3, 2, 2, dtype=torch.float64)
    got = minibatch_stddev(x, group_size=4)
    assert torch.equal(got[:, :3], x)
    for i in range(8):
        group = x[i % 2 :: 2].numpy()  # images i, i + 2, i + 4, i + 6
        np.testing.assert_allclose(got[i, 3], np.sqrt(group.var(0) + 1e-8).mean(), rtol=1e-12)


def test_minibatch_stddev_takes_the_largest_group_that_divides_the_batch() -> None:
    x = torch.randn(6, 3, 2, 2)
    torch.testing.assert_close(minibatch_stddev(x, group_size=4), minibatch_stddev(x, group_size=3))
    assert minibatch_stddev(x[:1], group_size=4)[0, 3].allclose(torch.tensor(1e-4))
