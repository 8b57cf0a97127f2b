"""Signals, volumes, clips and complex fields: the loss over 1 to 3 axes, against the plain formula and NumPy."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ffl import FocalFrequencyLoss, focal_spectrum_loss
from ffl.losses.focal_frequency import focal_frequency_formula, focal_frequency_loss

# Even and odd sizes, length 1 and 2, one sample without a batch or channels, several axes before those transformed.
SHAPES = [
    ((3, 2, 8), 1),
    ((2, 1, 7), 1),
    ((2, 3, 1), 1),
    ((2, 9), 1),
    ((6,), 1),
    ((2, 3, 4, 5, 2), 1),
    ((2, 3, 6, 5), 2),
    ((3, 5, 8), 2),
    ((7, 4), 2),
    ((2, 3, 4, 6, 5), 2),
    ((1, 2, 2, 3, 4, 2), 2),
    ((2, 2, 4, 3, 6), 3),
    ((1, 3, 5, 4, 7), 3),
    ((2, 4, 4, 4), 3),
    ((3, 2, 5), 3),
    ((2, 2, 3, 3, 4, 5), 3),
]
DTYPES = [torch.float64, torch.complex128]


def pair(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fake, real = torch.randn(2, *shape, generator=generator, dtype=dtype)
    return fake.requires_grad_(), real


def by_definition(
    fake: np.ndarray, real: np.ndarray, dims: int, patch_factor: int = 1, alpha: float = 1.0, batch: bool = False
) -> float:
    """Eqs. 9 and 10, one spectrum at a time."""
    sizes = [size // patch_factor for size in fake.shape[-dims:]]
    difference = (fake - real).reshape(-1, *fake.shape[-dims:])
    magnitudes = []
    for item in difference:
        for corner in itertools.product(range(patch_factor), repeat=dims):
            place = tuple(slice(i * size, (i + 1) * size) for i, size in zip(corner, sizes, strict=True))
            magnitudes.append(np.abs(np.fft.fftn(item[place], norm="ortho")))
    weights = [magnitude**alpha for magnitude in magnitudes]
    largest = [np.max(weights) if batch else weight.max() for weight in weights]
    return float(np.mean([w / top * m**2 for w, top, m in zip(weights, largest, magnitudes, strict=True)]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dims"), SHAPES)
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_value_and_gradient_are_the_formulas(
    shape: tuple[int, ...], dims: int, dtype: torch.dtype, alpha: float
) -> None:
    fake, real = pair(shape, dtype)
    want, got = (
        focal_frequency_formula(real, fake, alpha, dims),
        focal_frequency_loss(fake, real, alpha=alpha, dims=dims),
    )
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    np.testing.assert_allclose(got.item(), by_definition(fake.detach().numpy(), real.numpy(), dims, alpha=alpha))
    (want_gradient,), (got_gradient,) = torch.autograd.grad(want, fake), torch.autograd.grad(got, fake)
    torch.testing.assert_close(got_gradient, want_gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dims"), [((2, 2, 6), 1), ((2, 5), 1), ((2, 1, 3, 4), 2), ((2, 1, 2, 3, 4), 3)])
@pytest.mark.parametrize("patch_factor", [1, 2])
def test_first_and_second_derivatives(shape: tuple[int, ...], dims: int, dtype: torch.dtype, patch_factor: int) -> None:
    shape = (*shape[:-dims], *(patch_factor * size for size in shape[-dims:]))
    fake, real = pair(shape, dtype)
    real.requires_grad_()
    matrix = torch.rand(shape[-1] // patch_factor, dtype=torch.float64)

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        return focal_frequency_loss(pred, target, matrix, reduction="none", dims=dims, patch_factor=patch_factor)

    assert torch.autograd.gradcheck(loss, (fake, real))
    assert torch.autograd.gradgradcheck(loss, (fake, real))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("shape", "dims", "patch_factor"),
    [((2, 3, 12), 1, 3), ((2, 3, 4, 6), 2, 2), ((2, 2, 3, 4, 8), 2, 4), ((1, 2, 4, 6, 2), 3, 2), ((6, 9, 3), 3, 3)],
)
def test_patches_lie_along_every_transformed_axis(
    shape: tuple[int, ...], dims: int, patch_factor: int, batch: bool, dtype: torch.dtype
) -> None:
    if any(size % patch_factor for size in shape[-dims:]):
        shape = (*shape[:-dims], *(patch_factor for _ in range(dims)))
    fake, real = pair(shape, dtype)
    got = focal_frequency_loss(fake, real, dims=dims, patch_factor=patch_factor, batch_matrix=batch)
    want = by_definition(fake.detach().numpy(), real.numpy(), dims, patch_factor, batch=batch)
    np.testing.assert_allclose(got.item(), want, rtol=1e-12)


@pytest.mark.parametrize(("shape", "dims"), SHAPES)
def test_one_value_a_sample(shape: tuple[int, ...], dims: int) -> None:
    fake, real = pair(shape)
    each, mean, total = (focal_frequency_loss(fake, real, dims=dims, reduction=r) for r in ("none", "mean", "sum"))
    if len(shape) >= dims + 2:
        alone = [focal_frequency_loss(f, r, dims=dims) for f, r in zip(fake, real, strict=True)]
        torch.testing.assert_close(each, torch.stack(alone))
    else:
        assert each.shape == ()
        torch.testing.assert_close(each, mean)
    torch.testing.assert_close(each.mean(), mean)
    torch.testing.assert_close(each.sum(), total)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.5, "log_matrix": True, "batch_matrix": True},
        {"ave_spectrum": True},
        {"patch_factor": 2},
        {"transform": "dct"},
        {"ablation": "no_freq"},
        {"ablation": "no_phase"},
        {"ablation": "no_ampli"},
        {"ablation": "no_focal"},
        {"prior": "high_pass(0.3)"},
    ],
    ids=str,
)
def test_frames_of_a_clip_are_images(options: dict[str, Any]) -> None:
    fake, real = pair((2, 3, 4, 6, 8))
    loss = FocalFrequencyLoss(**options)
    frames = [video.flatten(1, 2) for video in (fake, real)]  # (N, C T, H, W)
    torch.testing.assert_close(loss(fake, real), loss(*frames), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("transform", ["dft", "dct"])
def test_without_focus_it_is_the_mean_squared_error(dims: int, transform: str) -> None:
    fake, real = pair((2, 3, 4, 5, 6))
    loss = focal_frequency_loss(fake, real, dims=dims, ablation="no_focal", transform=transform)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(fake, real), rtol=1e-12, atol=0)


@pytest.mark.parametrize("ablation", ["none", "no_phase", "no_ampli"])
def test_a_real_field_may_be_given_as_complex(ablation: str) -> None:
    fake, real = pair((2, 3, 6, 5))
    want = focal_frequency_loss(fake, real, ablation=ablation)
    for pred, target in itertools.product((fake, fake + 0j), (real, real + 0j)):
        got = focal_frequency_loss(pred, target, ablation=ablation)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
        (gradient,), (exact,) = (torch.autograd.grad(loss, fake, retain_graph=True) for loss in (got, want))
        torch.testing.assert_close(gradient, exact, rtol=1e-10, atol=1e-14)


def test_opposite_frequencies_of_a_complex_field_differ() -> None:
    # One wave e^(2 pi i 3 x / L), of squared magnitude L at the frequency 3 and nothing at -3.
    wave = torch.exp(2j * torch.pi * 3 * torch.arange(16, dtype=torch.float64) / 16)[None]
    matrix = torch.zeros(16)
    matrix[3] = 1.0
    assert focal_frequency_loss(wave, 0 * wave, matrix, dims=1).item() == pytest.approx(1.0)
    assert focal_frequency_loss(wave, 0 * wave, matrix.flip(0).roll(1), dims=1).item() == pytest.approx(0.0, abs=1e-12)
    # In a real field they are one, and a matrix counts by the mean of the two.
    assert focal_frequency_loss(wave.real, 0 * wave.real, matrix, dims=1).item() == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_types(dtype: torch.dtype) -> None:
    fake, real = pair((2, 3, 4, 6), dtype)
    loss = focal_frequency_loss(fake, real)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.complex128 else torch.float32)
    assert fake.grad.dtype == dtype


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 4, 8, 6)])
def test_channels_last_is_read_and_written_as_it_lies(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from ffl.losses import focal_mean

    monkeypatch.setattr(focal_mean, "_CHUNK_PIXELS", 1)  # several parts, which write one gradient
    memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    fake, real = pair(shape)
    loss = FocalFrequencyLoss(dims=len(shape) - 2)
    (want,) = torch.autograd.grad(loss(fake, real), fake)
    last = [images.detach().to(memory_format=memory_format).requires_grad_() for images in (fake, real)]
    value = loss(*last)
    assert value.grad_fn.saved_tensors[0].data_ptr() == last[0].data_ptr()  # no copy was made
    (gradient,) = torch.autograd.grad(value, last[0])
    torch.testing.assert_close(gradient, want, rtol=1e-12, atol=1e-15)
    assert gradient.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize(
    ("shape", "dims", "patch_factor", "message"),
    [
        ((4, 4), 3, 1, r"pred and target need the axes \(D, H, W\) for dims=3, got shape \(4, 4\)"),
        ((), 1, 1, r"pred and target need the axes \(L\) for dims=1, got shape \(\)"),
        ((2, 3, 0, 4, 4), 3, 1, r"must not be empty, got shape \(2, 3, 0, 4, 4\)"),
        ((2, 3, 9), 1, 2, "patch_factor must divide L, got patch_factor=2 for 9"),
        ((2, 3, 4, 8, 9), 3, 4, "patch_factor must divide D, H and W, got patch_factor=4 for 4x8x9"),
    ],
)
def test_impossible_shapes(shape: tuple[int, ...], dims: int, patch_factor: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        focal_frequency_loss(torch.zeros(shape), torch.zeros(shape), dims=dims, patch_factor=patch_factor)


def test_impossible_pairs_and_matrices_of_other_shapes() -> None:
    volume = torch.zeros(1, 2, 4, 4, 4)
    with pytest.raises(ValueError, match=r"same shape \(N, C, D, H, W\), got \(1, 2, 4, 4, 4\) and \(2, 4, 4, 4\)"):
        focal_frequency_loss(volume, volume[0], dims=3)
    with pytest.raises(ValueError, match=r"matrix must broadcast to \(N, patches, C, D, H, W\) = \(1, 8, 2, 2, 2, 2\)"):
        focal_frequency_loss(volume, volume, torch.zeros(4, 4), dims=3, patch_factor=2)
    with pytest.raises(
        ValueError, match=r"matrix must broadcast to \(N, patches, \.\.\., H, W\) = \(1, 1, 2, 4, 4, 4\)"
    ):
        focal_frequency_loss(volume, volume, torch.zeros(3, 1, 1))
    with pytest.raises(TypeError, match=r'transform="dct" needs real images, got torch\.complex64 and torch\.float32'):
        focal_frequency_loss(volume + 0j, volume, transform="dct")


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_matrices_of_other_shapes(dims: int) -> None:
    fake, real = pair((2, 3, 4, 6, 8))
    shape = (2, 2**dims, *fake.shape[1:-dims], *(size // 2 for size in fake.shape[-dims:]))
    matrix = torch.rand(shape, dtype=torch.float64)
    got = focal_frequency_loss(fake, real, matrix, dims=dims, patch_factor=2)
    total = 0.0
    for number, corner in enumerate(itertools.product(range(2), repeat=dims)):
        place = (..., *(slice(i * size, (i + 1) * size) for i, size in zip(corner, shape[-dims:], strict=True)))
        power = torch.fft.fftn((fake - real)[place], dim=tuple(range(-dims, 0)), norm="ortho").abs().square()
        total = total + (matrix[:, number] * power).mean() / 2**dims
    torch.testing.assert_close(got, total, rtol=1e-12, atol=0)


# Spectra that are there already.


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("shape", "dims"), SHAPES)
def test_given_spectra(shape: tuple[int, ...], dims: int, reduction: str) -> None:
    options = {"alpha": 0.5, "loss_weight": 3.0, "log_matrix": True, "reduction": reduction, "dims": dims}
    axes = tuple(range(-dims, 0))
    fake, real = pair(shape)
    want = focal_frequency_loss(fake, real, **options)
    whole = (torch.fft.fftn(images, dim=axes, norm="ortho") for images in (fake, real))
    halves = (torch.fft.rfftn(images, dim=axes, norm="ortho") for images in (fake, real))
    for got in (focal_spectrum_loss(*whole, **options), focal_spectrum_loss(*halves, half=shape[-1], **options)):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
        (gradient,), (exact,) = (torch.autograd.grad(loss.sum(), fake, retain_graph=True) for loss in (got, want))
        torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-13)


def test_given_spectra_over_the_batch_and_real_ones() -> None:
    from ffl.spectrum import dct

    fake, real = pair((2, 3, 6, 5))
    for images, options in (((fake, real), {"batch_matrix": True}), ((fake[:1], real[:1]), {})):
        got = focal_spectrum_loss(dct(images[0]), dct(images[1]), **options)
        torch.testing.assert_close(got, focal_frequency_loss(*images, transform="dct", **options), rtol=1e-12, atol=0)


def test_sampled_k_space_counts_where_it_was_sampled() -> None:
    fake, real = pair((2, 1, 6, 8), torch.complex128)
    lines = torch.tensor([True, False, True, True, False, False])[:, None]
    real = torch.where(lines, real, torch.nan)
    loss = focal_spectrum_loss(fake, real, mask=lines)
    (gradient,) = torch.autograd.grad(loss, fake)
    sampled = focal_spectrum_loss(fake[..., [0, 2, 3], :], real[..., [0, 2, 3], :])
    torch.testing.assert_close(loss, sampled, rtol=1e-12, atol=0)
    assert torch.equal(gradient[..., [1, 4, 5], :], torch.zeros(2, 1, 3, 8, dtype=gradient.dtype))
    assert gradient[..., [0, 2, 3], :].abs().min() > 0


def test_spherical_harmonics() -> None:
    # Degrees 0 to 4, orders 0 to the degree: (L, M) of a real field, where each order above 0 stands for two.
    degrees = 5
    fake, real = pair((2, 3, degrees, degrees), torch.complex128)
    triangle = torch.ones(degrees, degrees).tril().bool()
    got = focal_spectrum_loss(fake, real, half=2 * degrees - 1, mask=triangle)
    power = (fake - real).abs().square() * triangle
    weight = power.sqrt() / power.sqrt().amax((-2, -1), keepdim=True)
    twice = torch.tensor([1.0] + [2.0] * (degrees - 1))
    want = (weight * power * twice).sum() / (6 * degrees**2)  # there are L^2 harmonics
    torch.testing.assert_close(got, want.detach(), rtol=1e-12, atol=0, check_dtype=False)


def test_prior_on_given_spectra() -> None:
    fake, real = pair((2, 3, 6, 8), torch.complex128)
    prior = torch.rand(6, 8, dtype=torch.float64)
    power = (fake - real).abs().square()
    weight = power.sqrt() / power.sqrt().amax((-2, -1), keepdim=True)
    got = focal_spectrum_loss(fake, real, prior=prior)
    torch.testing.assert_close(got, (prior * weight * power).mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half": 5}, r"half must be .* half // 2 \+ 1 = 4 are here: 6 or 7, got 5"),
        ({"half": True}, "half must be the length of the whole last axis, .* got True"),
        ({"mask": torch.ones(5, 1)}, r"mask must broadcast to \(2, 3, 6, 4\), got \(5, 1\)"),
        ({"prior": torch.ones(2, 2, 3, 6, 4)}, r"prior must broadcast to \(2, 3, 6, 4\), got \(2, 2, 3, 6, 4\)"),
        ({"reduction": "avg"}, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"alpha": -1}, "alpha must be finite and at least 0"),
        ({"dims": 5}, "dims must be one of 1, 2, 3, got 5"),
    ],
    ids=str,
)
def test_impossible_options_for_given_spectra(options: dict[str, Any], message: str) -> None:
    fake, real = pair((2, 3, 6, 4), torch.complex64)
    with pytest.raises(ValueError, match=message):
        focal_spectrum_loss(fake, real, **options)
    with pytest.raises(ValueError, match="fake_spectrum and real_spectrum must have the same shape"):
        focal_spectrum_loss(fake, real[..., :3])
    with pytest.raises(TypeError, match=r"real_spectrum must be a floating or complex tensor, got torch\.int64"):
        focal_spectrum_loss(fake, real.real.long())
