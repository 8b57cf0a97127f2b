"""Power by frequency band: Parseval's theorem, closed forms, and other ways to the same numbers."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ffl.metrics.bands import BandPower, band_labels, octave_edges, power_ratio
from ffl.metrics.pixel import mse
from ffl.spectrum import band_filter


def random_images(count: int, height: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (9, 12), (13, 8)])
def test_bands_are_those_of_each_image_and_add_up_to_the_mean_square(size: tuple[int, int]) -> None:
    """The power of a band is the mean square of an image of which a filter has left that band alone."""
    real, fake = random_images(7, *size, seed=3), random_images(7, *size, seed=4)
    power = BandPower(*size, paired=True)
    for count in (slice(0, 5), slice(5, 7)):
        power.update(real[count], fake[count])
    bands = power.compute()
    for kind, images in {"real": real, "fake": fake, "error": fake.double() - real.double()}.items():
        rings = pairwise([0, *octave_edges(*size), math.inf])
        want = [band_filter(images.double(), *ring).square().mean().item() for ring in rings]
        assert bands[kind] == pytest.approx(want, rel=1e-5)
        assert sum(bands[kind]) == pytest.approx(float(images.double().square().mean()), rel=1e-6)
    assert sum(bands["error"]) == pytest.approx(float(mse(fake, real).mean()), rel=1e-6)


def test_a_wave_lies_in_its_band() -> None:
    x = torch.arange(64)
    wave = (128 + 100 * torch.cos(2 * torch.pi * 20 * x / 64)).round().to(torch.uint8).expand(1, 3, 64, 64)
    power = BandPower(64, 64, paired=True)
    power.update(wave, torch.full((1, 3, 64, 64), 128, dtype=torch.uint8))
    bands = power.compute()
    labels = band_labels(bands["edges"])
    assert labels == ["mean", "1 to 2", "2 to 4", "4 to 8", "8 to 16", "16 to 32", "32 and more"]
    assert bands["error"][labels.index("16 to 32")] == pytest.approx(sum(bands["error"]), rel=1e-3)
    assert power_ratio(bands)[labels.index("16 to 32")] == pytest.approx(0, abs=1e-6)


def test_sets_of_several_lengths_have_means_of_their_own_counts_and_no_error() -> None:
    power = BandPower(16, 16, paired=False)
    real, fake = torch.full((3, 3, 16, 16), 10, dtype=torch.uint8), torch.full((1, 3, 16, 16), 20, dtype=torch.uint8)
    for generated in (fake, fake[:0]):
        power.update(real, generated)
    power.update(real[:0], fake)
    bands = power.compute()
    assert bands["error"] is None
    assert power_ratio(bands)[0] == pytest.approx(4)


def test_what_has_no_bands() -> None:
    with pytest.raises(ValueError, match="at least 8x8 images, got 4x64"):
        octave_edges(4, 64)
    assert math.isnan(power_ratio({"real": [0.0], "fake": [0.0]})[0])
