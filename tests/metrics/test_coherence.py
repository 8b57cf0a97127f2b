"""Coherence: the definition by complex sums, closed forms, and what power and error do not tell."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_networks import random_images
from torch import Tensor

from ffl.errors import UserError
from ffl.metrics.bands import BandPower, coherence, octave_edges
from ffl.metrics.coherence import CoherenceTop


def by_definition(real: Tensor, fake: Tensor) -> list[complex]:
    """Complex quotient in each band, from whole spectra."""
    spectra = [np.fft.fft2(images.numpy().astype(float)) for images in (real, fake)]
    frequencies = [np.fft.fftfreq(size, 1 / size) for size in real.shape[-2:]]
    radii = np.hypot(frequencies[0][:, None], frequencies[1])
    values = []
    for low, high in pairwise([0, *octave_edges(*real.shape[-2:]), math.inf]):
        r, f = (spectrum[..., (radii >= low) & (radii < high)] for spectrum in spectra)
        values.append((r * f.conj()).sum() / math.sqrt((np.abs(r) ** 2).sum() * (np.abs(f) ** 2).sum()))
    return values


def measured(real: Tensor, fake: Tensor) -> tuple[float, list[float]]:
    """The metric, and the coherence of each band of a record that does not hold it."""
    metric, power = CoherenceTop(), BandPower(*real.shape[-2:], paired=True)
    for chunk in (slice(0, 3), slice(3, None)):
        metric.update(fake[chunk], real[chunk])
        power.update(real[chunk], fake[chunk])
    bands = power.compute()
    recorded = bands.pop("coherence")
    assert coherence(bands) == recorded
    return metric.compute().item(), recorded


@pytest.mark.parametrize("size", [(32, 32), (15, 15), (24, 40), (9, 12), (13, 8)])
def test_equals_the_modulus_of_complex_sums(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 200, (7, 3, *size), generator=generator, dtype=torch.uint8)
    fake = real // 2 + torch.randint(0, 50, real.shape, generator=generator, dtype=torch.uint8)
    want = by_definition(real, fake)
    top, bands = measured(real, fake)
    assert np.abs(np.imag(want)).max() < 1e-12
    assert bands == pytest.approx(np.abs(want), rel=1e-5)
    assert top == pytest.approx(abs(want[-2]), rel=1e-6)


def test_closed_forms() -> None:
    real = random_images(0, 40, 32) // 4 * 2
    noise = random_images(1, 40, 32) // 4 * 2
    for fake, want in (
        (real, 1),
        (real // 2, 1),  # contrast does not matter
        (255 - real, -1),  # every wave inverted
        (noise, 0),
        (real + noise, math.sqrt(0.5)),  # half of the power is real
    ):
        top, bands = measured(real, fake)
        # Chance leaves 1 / sqrt(waves) of two noises; the fewest are in the lowest band, the mean aside.
        assert top == pytest.approx(want, abs=1e-6 if abs(want) == 1 else 0.02)
        assert bands[1:] == pytest.approx([want] * 5, abs=1e-5 if abs(want) == 1 else 0.12)


def test_only_waves_of_the_top_octave_count() -> None:
    x = torch.arange(64)
    waves = {k: 40 * torch.cos(2 * torch.pi * k * x / 64) for k in (8, 16, 31)}
    real = 128 + waves[8] + waves[16] + waves[31]
    flipped = {k: real - 2 * wave for k, wave in waves.items()}
    pairs = {k: [image.round().byte().expand(1, 3, 64, 64) for image in (real, fake)] for k, fake in flipped.items()}
    assert measured(*pairs[8])[0] == pytest.approx(1, abs=1e-3)  # an octave below
    assert measured(*pairs[16])[0] == pytest.approx(0, abs=1e-3)  # one of two equal waves
    assert measured(*pairs[31])[0] == pytest.approx(0, abs=1e-3)
    assert measured(*pairs[8])[1][-3] == pytest.approx(-1, abs=1e-3)


def test_tells_right_detail_from_noise_of_the_same_power_and_error() -> None:
    """Faint detail and a mixture of detail and noise may have one error; the error is least at the power c²."""
    real, noise = random_images(0, 40, 32) // 4, random_images(1, 40, 32) // 4
    power = BandPower(32, 32, paired=True)
    power.update(real, (real + noise) // 2)
    bands = power.compute()
    for r, f, e, c in zip(*(bands[kind][1:] for kind in ("real", "fake", "error", "coherence")), strict=True):
        assert e / r == pytest.approx(1 + f / r - 2 * c * math.sqrt(f / r), rel=1e-6)
    assert bands["fake"][-2] / bands["real"][-2] == pytest.approx(bands["coherence"][-2] ** 2, abs=0.02)
    assert bands["error"][-2] / bands["real"][-2] == pytest.approx(1 - bands["coherence"][-2] ** 2, abs=0.02)


def test_images_of_several_sizes_add_up() -> None:
    small, large = random_images(0, 2, 16), random_images(1, 3, 24)
    metric = CoherenceTop()
    metric.update(small, small)
    metric.update(255 - large, large)
    powers = []
    for images in (small, large):
        power = BandPower(*images.shape[-2:], paired=False)
        power.update(images, images)
        powers.append(power.compute()["real"][-2] * images.numel())
    assert metric.compute().item() == pytest.approx((powers[0] - powers[1]) / sum(powers), rel=1e-5)


def test_what_has_no_coherence() -> None:
    flat = torch.full((1, 3, 16, 16), 9, dtype=torch.uint8)
    assert measured(random_images(0, 1, 16), flat)[0] == 0
    assert measured(flat, flat)[1] == [1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="these have no error"):
        coherence({"real": [1.0], "fake": [1.0], "error": None})
    with pytest.raises(ValueError, match="coherence_top takes images of at least 8x8 pixels, got 16x7"):
        CoherenceTop().update(flat[..., :7, :], flat[..., :7, :])
    with pytest.raises(ValueError, match="pairs of one shape"):
        CoherenceTop().update(flat[..., :8], flat)
    metric = CoherenceTop()
    metric.update(flat[:0], flat[:0])
    with pytest.raises(UserError, match="coherence_top: needs at least 1 images, got 0"):
        metric.compute()
