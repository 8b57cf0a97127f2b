"""The radial spectrum distance sees what PSNR and LFD cannot."""

import math

import numpy as np
import pytest
import torch
from tiny_networks import random_images
from torch import Tensor

from ffl.errors import UserError
from ffl.metrics.spectrum_distance import POWER_FLOOR, SpectrumDistance, SpectrumDistanceTop, spectrum_distance


def profile(images: np.ndarray) -> np.ndarray:
    """Mean power per rounded radius, by loops over frequencies."""
    height, width = images.shape[-2:]
    power = np.abs(np.fft.fft2(images / 255.0)) ** 2 / (height * width)
    bins: dict[int, list[float]] = {}
    for row in range(height):
        for column in range(width):
            y, x = min(row, height - row), min(column, width - column)
            bins.setdefault(round(math.hypot(y, x)), []).append(power[:, :, row, column].mean())
    return np.array([np.mean(bins[radius]) for radius in range(min(height, width) // 2 + 1)])


def distance(metric: SpectrumDistance, real: Tensor, fake: Tensor) -> float:
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric.compute().item()


@pytest.mark.parametrize("size", [16, 15])
def test_equals_an_explicit_computation(size: int) -> None:
    real, fake = random_images(0, 6, size), random_images(1, 4, size, 40, 120)
    logs = [np.log(profile(images.numpy())) for images in (real, fake)]
    difference = np.abs(logs[0] - logs[1])
    radius = size // 2
    for metric, first in ((SpectrumDistance(), 1), (SpectrumDistanceTop(), radius // 2 + 1)):
        assert distance(metric, real, fake) == pytest.approx(difference[first:].mean(), rel=1e-5)


def test_contrast_shifts_every_radius_alike() -> None:
    """Halving all values quarters the power: ln 4 at each radius, whatever the content."""
    real = random_images(2, 3, 32) // 2 * 2
    for metric in (SpectrumDistance(), SpectrumDistanceTop()):
        assert distance(metric, real, real // 2) == pytest.approx(math.log(4), rel=1e-4)


def test_same_images_in_another_order_are_at_distance_zero() -> None:
    """A set metric: pairs do not matter, while PSNR of these pairs is poor."""
    images = random_images(3, 8)
    metric = SpectrumDistance()
    metric.update(images, real=True)
    for batch in images.flip(0).split(3):
        metric.update(batch, real=False)
    assert metric.compute().item() < 1e-6


def test_blur_shows_in_the_top_octave() -> None:
    real = random_images(4, 4, 32)
    blurred = torch.nn.functional.avg_pool2d(real.float(), 3, 1, 1).round().to(torch.uint8)
    values = {}
    for metric in (SpectrumDistance(), SpectrumDistanceTop()):
        values[metric.name] = distance(metric, real, blurred)
    assert values["spectrum_distance_top"] > values["spectrum_distance"] > 1


def test_flat_images_are_finite() -> None:
    flat = torch.full((2, 3, 16, 16), 90, dtype=torch.uint8)
    assert distance(SpectrumDistance(), flat, flat + 20) == 0
    ones = torch.ones(5)
    assert spectrum_distance(ones, torch.zeros(5)).item() == pytest.approx(-math.log(POWER_FLOOR))


def test_errors() -> None:
    metric = SpectrumDistance()
    metric.update(random_images(7, 1), real=True)
    with pytest.raises(UserError, match="spectrum_distance: needs at least 1 generated images, got 0"):
        metric.compute()
    with pytest.raises(ValueError, match=r"one size, got \(24, 24\) after images of 8 radii"):
        metric.update(random_images(8, 1, 24), real=False)
    with pytest.raises(ValueError, match=r"alike, got \(3,\) and \(4,\)"):
        spectrum_distance(torch.ones(3), torch.ones(4))
