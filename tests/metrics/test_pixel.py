"""MSE, PSNR, LFD and SSIM: the official values, closed forms, and the identities between them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Case, names
from tiny_networks import random_images
from torch import Tensor

from ffl.metrics.pixel import LFD, lfd, lfd_by_definition, mse, mse_by_definition, psnr
from ffl.metrics.ssim import SSIM, ssim, ssim_by_definition

PAIRS = [name for name in names("b_") if not str(name).startswith("b_lpips")]
FUNCTIONS = {"psnr": psnr, "ssim": ssim, "lfd": lfd, "mse": mse}
DEFINITIONS = {mse: mse_by_definition, lfd: lfd_by_definition, ssim: ssim_by_definition}


def nchw(array: np.ndarray, order: str) -> Tensor:
    """One image of the oracle, gray (H, W) or HWC or CHW, as (1, C, H, W)."""
    if array.ndim == 2:
        array = array[None]
    elif order == "HWC":
        array = array.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array))[None]


@pytest.mark.parametrize("name", PAIRS)
def test_equals_the_authors_code(name: str) -> None:
    case = Case(name)
    order = case.args.get("input_order", "HWC")
    fake, real = (nchw(array, order) for array in case.inputs().values())
    crop_border = case.args.get("crop_border", 0)
    for metric in case.args["metrics"]:
        if crop_border and metric in ("lfd", "ssim"):
            continue  # the authors' code is wrong there, see the next test
        case.check(metric, FUNCTIONS[metric](fake, real, crop_border)[0])


@pytest.mark.parametrize("name", [name for name in PAIRS if "crop" in str(name)])
def test_crop_border_does_what_the_authors_code_meant(name: str) -> None:
    case = Case(name)
    fake, real = (nchw(array, "HWC") for array in case.inputs().values())
    border = case.args["crop_border"]
    # The extra axis leaves the authors' SSIM only the first channel, and their LFD raises.
    case.check("ssim", ssim(fake[:, :1], real[:, :1], border)[0])
    assert case.arrays["lfd_raises"] == 1
    inside = (slice(None), slice(None), slice(border, -border), slice(border, -border))
    for function in FUNCTIONS.values():
        torch.testing.assert_close(function(fake, real, border), function(fake[inside], real[inside]), rtol=0, atol=0)


@pytest.mark.parametrize("function", DEFINITIONS)
@pytest.mark.parametrize("size", [(20, 13), (64, 64), (11, 30), (31, 11)])
def test_the_fast_way_equals_the_definition(function, size: tuple[int, int]) -> None:
    fake, real = (random_images(seed, 4, 64)[..., : size[0], : size[1]] for seed in (0, 1))
    expected = DEFINITIONS[function](fake, real)
    torch.testing.assert_close(function(fake, real), expected, rtol=0 if function is mse else 1e-12, atol=0)


def test_mse_is_exact_at_the_largest_errors() -> None:
    real = torch.zeros(1, 3, 257, 255, dtype=torch.uint8)
    assert mse(real + 255, real).item() == 255.0**2
    fake = real.clone()
    fake[0, 2, 256, 254] = 1
    assert mse(fake, real).item() * real.numel() == pytest.approx(1, rel=1e-15)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 255), st.integers(0, 1000))
def test_lfd_is_psnr_in_other_units(height: int, width: int, spread: int, seed: int) -> None:
    """LFD = ln(H·W·255²) - PSNR·ln(10)/10 for every image, up to the 1 under the logarithm."""
    rng = np.random.RandomState(seed)
    real = torch.from_numpy(rng.randint(0, 256, (3, 3, height, width), dtype=np.uint8))
    fake = torch.from_numpy(
        np.clip(real.numpy() + rng.randint(-spread, spread + 1, real.shape), 0, 255).astype(np.uint8)
    )
    decibels, distances = psnr(fake, real), lfd(fake, real)
    for p, d in zip(decibels.tolist(), distances.tolist(), strict=True):
        if math.isinf(p):
            assert d == 0
            continue
        identity = math.log(height * width * 255**2) - p * math.log(10) / 10
        assert d == pytest.approx(math.log(math.exp(identity) + 1), rel=1e-12, abs=1e-12)
        assert 0 < d - identity <= math.exp(-identity) * (1 + 1e-9) + 1e-12


def test_images_of_20_044_db_have_the_lfd_that_stands_beside_it_in_the_paper() -> None:
    """Table 1, CelebA without the focal frequency loss: 20.044 dB and an LFD of 14.785 at 64 x 64."""
    real = torch.full((1, 3, 64, 64), 100, dtype=torch.uint8)
    share = (255**2 / 10**2.0044 - 25**2) / (26**2 - 25**2)  # of the values that are off by 26 instead of 25
    off = torch.where(torch.arange(real.numel()) < share * real.numel(), 26, 25).to(torch.uint8)
    fake = real + off[torch.randperm(real.numel())].view_as(real)
    assert psnr(fake, real).item() == pytest.approx(20.044, abs=5e-4)
    assert lfd(fake, real).item() == pytest.approx(14.785, abs=5e-4)


def test_closed_forms() -> None:
    real = torch.full((2, 3, 12, 12), 100, dtype=torch.uint8)
    fake = real + torch.tensor([0, 5], dtype=torch.uint8).view(2, 1, 1, 1)
    assert mse(fake, real).tolist() == [0.0, 25.0]
    assert psnr(fake, real).tolist() == [math.inf, pytest.approx(20 * math.log10(51), rel=1e-14)]
    assert lfd(fake, real).tolist() == [0.0, pytest.approx(math.log(144 * 25 + 1), rel=1e-14)]
    # Flat images have no variance: only the luminance term is left.
    luminance = (2 * 100 * 105 + 6.5025) / (100**2 + 105**2 + 6.5025)
    assert ssim(fake, real).tolist() == pytest.approx([1.0, luminance], rel=1e-12)


@pytest.mark.parametrize(("shape", "count"), [((3, 64, 64), 9), ((1, 11, 30), 3)])
def test_ssim_equals_scipy(shape: tuple[int, int, int], count: int) -> None:
    from scipy.ndimage import correlate1d

    fake = random_images(2, count, 64)[:, : shape[0], : shape[1], : shape[2]]
    real = random_images(3, count, 64)[:, : shape[0], : shape[1], : shape[2]]
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def smooth(x: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(x, window, axis=-1), window, axis=-2)[..., 5:-5, 5:-5]

    x, y = fake.double().numpy(), real.double().numpy()
    mx, my = smooth(x), smooth(y)
    vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    c1, c2 = 6.5025, 58.5225
    want = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    np.testing.assert_allclose(ssim(fake, real).numpy(), want.mean((1, 2, 3)), rtol=1e-10)


def test_protocol_names_the_crop() -> None:
    assert LFD(crop_border=2).protocol()["crop_border"] == 2
    assert SSIM().protocol() == {
        "data_range": 255,
        "window": "Gaussian 11, sigma 1.5, valid region",
        "channels": "each, then averaged",
        "average": "over images",
        "crop_border": 0,
    }


@pytest.mark.parametrize("function", FUNCTIONS.values())
def test_wrong_images_are_refused(function) -> None:
    images = random_images(6, 2)
    with pytest.raises(TypeError, match=r"uint8 images, got torch\.float32"):
        function(images.float(), images)
    with pytest.raises(ValueError, match=r"\(2, 3, 16, 16\) and real \(1, 3, 16, 16\)"):
        function(images, images[:1])
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\), got \(3, 16, 16\)"):
        function(images[0], images[0])
    with pytest.raises(ValueError, match="crop_border 8 leaves nothing of 16x16"):
        function(images, images, 8)


def test_ssim_needs_a_window_of_pixels() -> None:
    images = random_images(7, 1, 10)
    with pytest.raises(ValueError, match="at least 11x11 pixels, got 10x10"):
        ssim(images, images)
