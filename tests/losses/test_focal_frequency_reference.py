"""The loss against Eqs. 1 and 7 to 10 of the paper: the plain formula, and matrix products over the options."""

import itertools
import math

import numpy as np
import pytest
import torch

from ffl import FocalFrequencyLoss
from ffl.losses.focal_frequency import focal_frequency_formula, focal_frequency_loss

# Even and odd sizes, not square; every patch factor divides its size.
SIZES = [((2, 2, 6, 4), 1), ((3, 1, 5, 7), 1), ((2, 2, 6, 4), 2), ((2, 1, 9, 3), 3), ((1, 1, 1, 4), 1)]
OPTIONS = [
    {"alpha": alpha, "ave_spectrum": ave, "log_matrix": log, "batch_matrix": batch}
    for alpha, ave, log, batch in itertools.product((0.5, 1.0, 2.0), (False, True), (False, True), (False, True))
]


def transform_matrix(size: int, transform: str) -> np.ndarray:
    """Orthonormal: column x of row u is the basis function u at the pixel x."""
    u, x = np.mgrid[:size, :size]
    if transform == "dft":
        return np.exp(-2j * np.pi * u * x / size) / math.sqrt(size)
    return np.cos(np.pi * u * (2 * x + 1) / (2 * size)) * np.where(u == 0, math.sqrt(1 / size), math.sqrt(2 / size))


def spectra(images: np.ndarray, patch_factor: int, ave_spectrum: bool, transform: str) -> np.ndarray:
    """(N, C, H, W) -> (N or 1, patches, C, h, w)."""
    height, width = (size // patch_factor for size in images.shape[2:])
    vertical, horizontal = transform_matrix(height, transform), transform_matrix(width, transform)
    patches = []
    for i, j in itertools.product(range(patch_factor), repeat=2):
        patch = images[:, :, i * height : (i + 1) * height, j * width : (j + 1) * width]
        patches.append(vertical @ patch @ horizontal.T)
    stacked = np.stack(patches, 1)
    return stacked.mean(0, keepdims=True) if ave_spectrum else stacked


def weights(distance: np.ndarray, alpha: float, log_matrix: bool, batch_matrix: bool) -> np.ndarray:
    weight = np.sqrt(distance) ** alpha
    if log_matrix:
        weight = np.log(weight + 1)
    return weight / (weight.max() if batch_matrix else weight.max((-2, -1), keepdims=True))


@pytest.mark.parametrize("transform", ["dft", "dct"])
@pytest.mark.parametrize(("shape", "patch_factor"), SIZES)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(str(v) for v in o.values()))
def test_value_and_gradient(options: dict, shape: tuple[int, ...], patch_factor: int, transform: str) -> None:
    rng = np.random.default_rng(0)
    fake, real = rng.standard_normal(shape), rng.standard_normal(shape)
    ave_spectrum = options["ave_spectrum"]

    def distance(images: np.ndarray) -> np.ndarray:
        difference = spectra(images, patch_factor, ave_spectrum, transform) - spectra(
            real, patch_factor, ave_spectrum, transform
        )
        return np.abs(difference) ** 2

    locked = weights(distance(fake), options["alpha"], options["log_matrix"], options["batch_matrix"])
    pred = torch.tensor(fake, requires_grad=True)
    loss = FocalFrequencyLoss(loss_weight=3.0, patch_factor=patch_factor, transform=transform, **options)(
        pred, torch.tensor(real)
    )
    loss.backward()
    np.testing.assert_allclose(loss.item(), 3 * np.mean(locked * distance(fake)), rtol=1e-12)

    # With the weight locked the loss is quadratic, so central differences are exact but for rounding.
    step = 1e-2
    gradient = np.zeros(shape)
    for index in np.ndindex(shape):
        shift = np.zeros(shape)
        shift[index] = step
        change = np.mean(locked * distance(fake + shift)) - np.mean(locked * distance(fake - shift))
        gradient[index] = 3 * change / (2 * step)
    np.testing.assert_allclose(pred.grad.numpy(), gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 6, 4), (1, 1, 5, 7), (3, 1, 1, 9), (1, 2, 16, 16)])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_the_fast_way_equals_the_formula_in_value_and_gradient(shape: tuple[int, ...], alpha: float) -> None:
    generator = torch.Generator().manual_seed(11)
    real = torch.randn(shape, generator=generator, dtype=torch.float64)
    fake = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    want, got = focal_frequency_formula(real, fake, alpha), focal_frequency_loss(fake, real, alpha=alpha)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    (want_gradient,), (got_gradient,) = torch.autograd.grad(want, fake), torch.autograd.grad(got, fake)
    torch.testing.assert_close(got_gradient, want_gradient, rtol=1e-10, atol=1e-14)
    assert focal_frequency_formula(real, real, alpha) == 0


def test_constant_difference_puts_everything_into_one_frequency() -> None:
    # |F(0, 0)| = c sqrt(MN), weight 1, divided by MN: c^2, whatever alpha is.
    for alpha in (0.0, 0.1, 1.0, 3.0):
        loss = FocalFrequencyLoss(alpha=alpha)(torch.full((2, 3, 8, 10), 0.3), torch.zeros(2, 3, 8, 10))
        assert loss.item() == pytest.approx(0.09, rel=1e-6)


def test_two_waves_by_hand() -> None:
    # a cos + b cos of whole periods: two pairs of frequencies, of squared magnitude a^2 MN / 4 and b^2 MN / 4 each.
    # With a > b, alpha = 1: (2 a^2 / 4 + (b / a) 2 b^2 / 4).
    a, b = 0.8, 0.2
    x = torch.arange(16, dtype=torch.float64) * 2 * math.pi / 16
    image = (a * torch.cos(3 * x) + b * torch.cos(5 * x)).expand(1, 1, 16, 16)
    loss = FocalFrequencyLoss()(image, torch.zeros_like(image))
    assert loss.item() == pytest.approx(a**2 / 2 + b**3 / (2 * a), rel=1e-12)
