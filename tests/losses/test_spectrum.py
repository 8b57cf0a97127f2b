"""Transforms, radial profiles and band filters against SciPy, NumPy and closed forms."""

import math

import numpy as np
import pytest
import scipy.fft
import torch
from oracles import Case, names

from ffl.spectrum import band_filter, dct, dct2, idct, idct2, log_spectrum, radial_power, radial_profile


def wave(frequency_y: int, frequency_x: int, height: int = 16, width: int = 16) -> torch.Tensor:
    """(1, 1, H, W): a cosine of that many periods along each axis."""
    y = torch.arange(height, dtype=torch.float64)[:, None] / height
    x = torch.arange(width, dtype=torch.float64) / width
    return torch.cos(2 * math.pi * (frequency_y * y + frequency_x * x))[None, None]


@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 7), (9,), (4, 3, 5)])
def test_dct_equals_scipy_and_inverts(size: tuple[int, ...]) -> None:
    dims = len(size)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    want = scipy.fft.dctn(images.numpy(), axes=tuple(range(-dims, 0)), norm="ortho")
    np.testing.assert_allclose(dct(images, dims).numpy(), want, rtol=0, atol=1e-13)
    torch.testing.assert_close(idct(dct(images, dims), dims), images)
    if dims == 2:
        assert torch.equal(dct2(images), dct(images))
        assert torch.equal(idct2(images), idct(images))


@pytest.mark.parametrize("size", [(16, 16), (9, 12)])
def test_log_spectrum_equals_numpy(size: tuple[int, int]) -> None:
    images = torch.rand(3, 2, *size, dtype=torch.float64) * 2 - 1
    spectra = np.fft.fftshift(np.fft.fft2(images.numpy()), axes=(-2, -1))
    want = np.log(1 + np.abs(spectra)).mean((0, 1))
    np.testing.assert_allclose(log_spectrum(images).numpy(), want, rtol=1e-12, atol=1e-12)
    assert log_spectrum(images.half()).dtype == torch.float32


def test_log_spectrum_has_the_zero_frequency_in_the_middle() -> None:
    spectrum = log_spectrum(torch.ones(1, 1, 6, 7))
    assert spectrum[3, 3].item() == pytest.approx(math.log(43))
    spectrum[3, 3] = 0
    torch.testing.assert_close(spectrum, torch.zeros(6, 7), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", names("g_azimuthal"))
def test_radial_profile_equals_the_published_code(name: str) -> None:
    case = Case(name)
    case.check("profile", radial_profile(torch.from_numpy(case.inputs()["image"]).double()))


@pytest.mark.parametrize(("side", "bins"), [(64, 43), (128, 88), (256, 179)])
def test_radial_profile_has_the_published_number_of_bins(side: int, bins: int) -> None:
    assert radial_profile(torch.ones(side, side)).tolist() == [1.0] * bins


def test_radial_profile_gradient() -> None:
    values = torch.rand(2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(radial_profile, values)


def test_radial_profile_refuses_tiny_arrays() -> None:
    with pytest.raises(ValueError, match="at least 4x4 values, got 3x8"):
        radial_profile(torch.ones(3, 8))


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_radial_power_equals_a_loop(size: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    height, width = size
    power = (np.abs(np.fft.fft2(images.numpy(), norm="ortho")) ** 2).mean(1)
    bins: dict[int, list[np.ndarray]] = {}
    for i in range(height):
        for j in range(width):
            radius = math.hypot(min(i, height - i), min(j, width - j))
            bins.setdefault(round(radius), []).append(power[:, i, j])
    want = np.stack([np.mean(bins[r], axis=0) for r in range(min(size) // 2 + 1)], 1)
    np.testing.assert_allclose(radial_power(images).numpy(), want, rtol=1e-12)


def test_radial_power_of_one_wave() -> None:
    # A cosine of amplitude 1 has squared magnitude H W / 4 at two frequencies; 32 of 16 x 16 have a radius near 5.
    radii = np.hypot(*np.meshgrid(np.fft.fftfreq(16, 1 / 16), np.fft.fftfreq(16, 1 / 16)))
    power = radial_power(wave(3, 4))
    assert power[0, 5].item() == pytest.approx(2 * 64 / np.sum(np.rint(radii) == 5))
    power[0, 5] = 0
    torch.testing.assert_close(power, torch.zeros(1, 9, dtype=torch.float64), rtol=0, atol=1e-20)


@pytest.mark.parametrize("size", [(16, 16), (15, 12)])
def test_band_filter_keeps_or_removes_a_ring(size: tuple[int, int]) -> None:
    inside, outside = wave(3, -4, *size), wave(1, 2, *size) + wave(0, 0, *size)
    torch.testing.assert_close(band_filter(inside + outside, 5, 6), inside)
    torch.testing.assert_close(band_filter(inside + outside, 5, 6, stop=True), outside)


def test_band_limits_are_closed_below_and_open_above() -> None:
    image = wave(0, 5)
    torch.testing.assert_close(band_filter(image, 5, 7), image)
    torch.testing.assert_close(band_filter(image, 4, 5), torch.zeros_like(image))
    torch.testing.assert_close(band_filter(image, 0, math.inf), image)
    with pytest.raises(ValueError, match="low must not be above high, got low=3 and high=2"):
        band_filter(image, 3, 2)


def test_both_sides_of_a_band_add_up() -> None:
    images = torch.randn(2, 3, 11, 8)
    torch.testing.assert_close(band_filter(images, 2, 4) + band_filter(images, 2, 4, stop=True), images)


@pytest.mark.parametrize("function", [log_spectrum, radial_power])
def test_what_is_not_a_batch_of_images(function) -> None:
    with pytest.raises(TypeError, match=r"images must be a floating tensor, got torch\.uint8"):
        function(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"images must be \(N, C, H, W\) and not empty, got shape \(3, 8, 8\)"):
        function(torch.zeros(3, 8, 8))
