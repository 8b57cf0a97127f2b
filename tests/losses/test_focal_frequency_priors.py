"""Priors on the spectrum and masks on the images, by closed forms and by definition."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ffl import FocalFrequencyLoss, focal_frequency_loss
from ffl.losses import band, high_pass, low_pass, radial
from ffl.losses.spectral_priors import prior_by_name
from ffl.spectrum import idct, radii

SHAPES = [((2, 3, 12), 1), ((2, 3, 8, 12), 2), ((2, 2, 7, 6), 2), ((1, 2, 4, 6, 8), 3), ((2, 2, 3, 5, 6), 2)]


def pair(shape: tuple[int, ...], seed: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fake, real = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return fake.requires_grad_(), real


def wave(*periods: int, sizes: tuple[int, ...]) -> Tensor:
    """(1, 1, sizes): a cosine of that many periods along each axis."""
    grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in sizes), indexing="ij")
    return torch.cos(2 * math.pi * sum(k * x for k, x in zip(periods, grid, strict=True)))[None, None]


@pytest.mark.parametrize("sizes", [(8,), (7,), (6, 8), (5, 4), (4, 6, 5)])
def test_radii_count_in_nyquist_frequencies(sizes: tuple[int, ...]) -> None:
    whole = radii(sizes, "fft", torch.float64, torch.device("cpu"))
    want = np.sqrt(sum(np.square(f) for f in np.meshgrid(*(2 * np.fft.fftfreq(n) for n in sizes), indexing="ij")))
    np.testing.assert_allclose(whole.numpy(), want)
    half = radii(sizes, "rfft", torch.float64, torch.device("cpu"))
    np.testing.assert_allclose(half.numpy(), want[..., : sizes[-1] // 2 + 1])
    cosines = radii(sizes, "dct", torch.float32, torch.device("cpu"))
    want = np.sqrt(sum(np.square(f) for f in np.meshgrid(*(np.arange(n) / n for n in sizes), indexing="ij")))
    np.testing.assert_allclose(cosines.numpy(), want, rtol=1e-6)


def test_priors_at_their_limits() -> None:
    r = torch.tensor([0.0, 0.25, 0.5, 1.0, math.sqrt(2)])
    assert high_pass(0.5)(r).tolist() == [0, 0, 1, 1, 1]
    assert low_pass(0.5)(r).tolist() == [1, 1, 0, 0, 0]
    assert band(0.25, 1)(r).tolist() == [0, 1, 1, 0, 0]
    torch.testing.assert_close(radial(2)(r), torch.tensor([0, 0.0625, 0.25, 1, 2]))
    assert radial(0)(r).tolist() == [1] * 5
    for prior in (high_pass(0.5), band(0.25, 1), radial(1.5)):
        assert pickle.loads(pickle.dumps(prior)) == prior
    assert prior_by_name(" band(0.25,1) ") == band(0.25, 1)
    assert prior_by_name("radial(1.5)") == radial(1.5)
    assert prior_by_name("low_pass(0.5)") == low_pass(0.5)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [(high_pass, (-1,)), (low_pass, (0,)), (band, (1, 1)), (band, (math.nan, 1)), (radial, (-1,))],
)
def test_impossible_priors(make: Any, arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs 0 <= low < high, got|must be finite and at least 0, got"):
        make(*arguments)


@pytest.mark.parametrize("prior", ["high_pass(0.5)", "low_pass(0.5)", "band(0.2, 0.7)", "radial(1.5)"])
@pytest.mark.parametrize("patch_factor", [1, 2])
@pytest.mark.parametrize(("shape", "dims"), SHAPES)
def test_a_prior_multiplies_the_focal_weight(shape: tuple[int, ...], dims: int, patch_factor: int, prior: str) -> None:
    shape = (*shape[:-dims], *(patch_factor * size for size in shape[-dims:]))
    fake, real = pair(shape)
    axes = tuple(range(-dims, 0))
    difference = fake - real
    for axis in axes:  # patches to the front
        difference = torch.stack(difference.chunk(patch_factor, axis))
    power = torch.fft.fftn(difference, dim=axes, norm="ortho").abs().square()
    weight = power.detach().sqrt()
    factor = prior_by_name(prior)(radii(tuple(power.shape[-dims:]), "fft", torch.float64, torch.device("cpu")))
    want = (factor * weight / weight.amax(axes, keepdim=True) * power).mean()
    got = FocalFrequencyLoss(dims=dims, patch_factor=patch_factor, prior=prior)(fake, real)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    (gradient,), (exact,) = (torch.autograd.grad(loss, fake, create_graph=True) for loss in (got, want))
    torch.testing.assert_close(gradient, exact, rtol=1e-10, atol=1e-14)
    seconds = (torch.autograd.grad(first.square().sum(), fake)[0] for first in (gradient, exact))
    torch.testing.assert_close(*seconds, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("shape", "dims"), SHAPES)
@pytest.mark.parametrize("options", [{}, {"transform": "dct"}, {"ablation": "no_focal"}, {"ablation": "no_phase"}])
def test_complementary_priors_add_up(shape: tuple[int, ...], dims: int, options: dict[str, Any]) -> None:
    fake, real = pair(shape)
    parts = [
        focal_frequency_loss(fake, real, dims=dims, prior=prior, **options) for prior in (low_pass(0.6), high_pass(0.6))
    ]
    torch.testing.assert_close(sum(parts), focal_frequency_loss(fake, real, dims=dims, **options), rtol=1e-12, atol=0)
    assert min(parts) > 0


def test_a_prior_sees_the_frequency_of_a_wave_in_any_number_of_axes() -> None:
    # One wave has one pair of frequencies of weight 1, so the loss is the prior times its mean square, 1 / 2.
    for periods, sizes in (((3,), (12,)), ((3, 2), (12, 16)), ((2, 1, 3), (8, 6, 12))):
        radius = math.sqrt(sum((2 * k / n) ** 2 for k, n in zip(periods, sizes, strict=True)))
        image = wave(*periods, sizes=sizes)
        for power in (0.5, 1.0, 2.0):
            loss = focal_frequency_loss(image, 0 * image, prior=radial(power), dims=len(sizes))
            assert loss.item() == pytest.approx(radius**power / 2)
        inside = focal_frequency_loss(image, 0 * image, prior=band(radius - 0.01, radius + 0.01), dims=len(sizes))
        assert inside.item() == pytest.approx(0.5)


def test_priors_as_functions_and_tensors() -> None:
    fake, real = pair((2, 3, 6, 8))
    want = focal_frequency_loss(fake, real, prior="radial(2)")
    whole = radii((6, 8), "fft", torch.float64, torch.device("cpu")).square()
    for prior in (lambda r: r**2, radial(2), whole, whole.expand(2, 1, 3, 6, 8)):
        torch.testing.assert_close(focal_frequency_loss(fake, real, prior=prior), want, rtol=1e-12, atol=0)
    module = FocalFrequencyLoss(prior=whole)
    assert not module.state_dict()
    assert module.half().prior.dtype == torch.float16  # it goes with the module
    assert "prior=tensor of shape (6, 8)" in repr(module)
    assert "prior=Band(low=0.5, high=inf)" in repr(FocalFrequencyLoss(prior="high_pass(0.5)"))
    with pytest.raises(ValueError, match=r"prior must broadcast to \(N, patches, C, H, W\) = \(2, 1, 3, 6, 8\), got"):
        FocalFrequencyLoss(prior=torch.ones(6, 7))(fake, real)


def test_a_prior_and_a_matrix_multiply() -> None:
    fake, real = pair((2, 3, 6, 8))
    matrix = torch.rand(2, 1, 3, 6, 8, dtype=torch.float64)
    got = focal_frequency_loss(fake, real, matrix, prior=radial(2))
    product = matrix * radii((6, 8), "fft", torch.float64, torch.device("cpu")).square()
    torch.testing.assert_close(got, focal_frequency_loss(fake, real, product), rtol=1e-12, atol=0)


# Masks.

OPTIONS: list[dict[str, Any]] = [{}, {"patch_factor": 2, "alpha": 0.5}, {"transform": "dct"}, {"batch_matrix": True}]


def some(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(9)) > 0.4


@pytest.mark.parametrize("options", [*OPTIONS, {"ave_spectrum": True}, {"ablation": "no_phase"}], ids=str)
def test_masked_pixels_take_the_targets_value(options: dict[str, Any]) -> None:
    fake, real = pair((3, 2, 6, 8))
    mask = some(3, 1, 6, 8)
    got = focal_frequency_loss(fake, real, mask=mask, **options)
    whole = focal_frequency_loss(torch.where(mask, fake, real), real, **options)
    torch.testing.assert_close(got, whole * mask.numel() / mask.sum(), rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(got, fake)
    assert torch.equal(gradient.masked_select(~mask), torch.zeros_like(gradient.masked_select(~mask)))
    assert gradient.masked_select(mask).abs().min() > 0


@pytest.mark.parametrize("ablation", ["no_focal", "no_freq"])
@pytest.mark.parametrize("reduction", ["mean", "none", "sum"])
def test_the_mean_is_over_what_counts(ablation: str, reduction: str) -> None:
    fake, real = pair((3, 2, 5, 6))
    mask = some(3, 1, 5, 6).expand(fake.shape)
    got = focal_frequency_loss(fake, real, mask=mask, alpha=0.0, ablation=ablation, reduction=reduction)
    each = torch.stack([F.mse_loss(f[m], r[m]) for f, r, m in zip(fake, real, mask, strict=True)])
    want = {"mean": F.mse_loss(fake[mask], real[mask]), "none": each, "sum": each.sum()}[reduction]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("shape", "dims"), SHAPES)
def test_a_mask_that_lets_everything_count_changes_nothing(shape: tuple[int, ...], dims: int) -> None:
    fake, real = pair(shape)
    for mask in (torch.ones(()), torch.ones(shape[-1], dtype=torch.int64), torch.ones(shape, dtype=torch.bool)):
        got = focal_frequency_loss(fake, real, mask=mask, dims=dims)
        torch.testing.assert_close(got, focal_frequency_loss(fake, real, dims=dims), rtol=1e-12, atol=0)
    single = focal_frequency_loss(fake[0, 0], real[0, 0], mask=torch.ones(shape[2:]), dims=dims, reduction="none")
    torch.testing.assert_close(single, focal_frequency_loss(fake[:1, :1], real[:1, :1], dims=dims))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_masked_pixels_may_be_missing_and_images_empty(options: dict[str, Any]) -> None:
    fake, real = pair((3, 2, 6, 8))
    mask = some(3, 1, 6, 8)
    mask[1] = False
    hole = torch.where(mask, fake.detach(), torch.nan).requires_grad_()
    missing = torch.where(mask, real, torch.nan)
    each = focal_frequency_loss(hole, missing, mask=mask, reduction="none", **options)
    # A large factor would make a division by next to nothing show in the gradient.
    (gradient,) = torch.autograd.grad((1e30 * each).sum(), hole)
    assert each[1] == 0
    assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))
    assert gradient.isfinite().all()
    assert focal_frequency_loss(hole, missing, mask=torch.zeros(8), **options) == 0
    want = focal_frequency_loss(fake, real, mask=mask, reduction="none", **options)
    torch.testing.assert_close(each, want)


def test_a_land_mask_over_the_frames_of_a_clip() -> None:
    fake, real = pair((2, 3, 4, 6, 8))
    land = some(6, 8)
    got = focal_frequency_loss(fake, real, mask=land, dims=3)
    want = focal_frequency_loss(torch.where(land, fake, real), real, dims=3) * 48 / land.sum()
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(7,), (3, 2, 6, 8), (1, 2, 1, 6, 8)])
def test_masks_that_do_not_fit(shape: tuple[int, ...]) -> None:
    fake, real = pair((2, 2, 6, 8))
    with pytest.raises(ValueError, match=r"mask must broadcast to \(2, 2, 6, 8\), got"):
        focal_frequency_loss(fake, real, mask=torch.ones(shape))


def test_a_dct_prior_counts_half_periods() -> None:
    # The k-th cosine of a DCT of length L has k / L of the Nyquist frequency.
    spectrum = torch.zeros(1, 1, 10, dtype=torch.float64)
    spectrum[..., 4] = 1.0
    image = idct(spectrum, 1)
    loss = focal_frequency_loss(image, 0 * image, prior=radial(1), transform="dct", dims=1)
    assert loss.item() == pytest.approx(0.4 / 10)
