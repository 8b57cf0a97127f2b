"""The losses that papers compare with the focal frequency loss: their formulas, one interface, what they refuse."""

import io
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ffl.losses import FFTL1Loss, FourierSpaceLoss, HaarLoss, JPEGFrequencyLoss, WaveletLoss
from ffl.losses.fft_l1 import fft_l1_formula
from ffl.losses.haar import haar_formula
from ffl.losses.jpeg_frequency import jpeg_weights
from ffl.losses.pair_loss import PairLoss
from ffl.losses.wavelet import stationary_bands, wavelet_filters

LOSSES: list[tuple[type[PairLoss], dict[str, Any]]] = [
    (FFTL1Loss, {}),
    (WaveletLoss, {}),
    (WaveletLoss, {"level": 2, "dilated": True}),
    (JPEGFrequencyLoss, {}),
    (FourierSpaceLoss, {}),
    (FourierSpaceLoss, {"half": "centred"}),
    (HaarLoss, {}),
    (HaarLoss, {"levels": 2, "dims": 3}),
]
IDS = [f"{loss.__name__}{options or ''}" for loss, options in LOSSES]
every_loss = pytest.mark.parametrize(("kind", "options"), LOSSES, ids=IDS)
COMPUTES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def images(*shape: int, dtype: torch.dtype = torch.float64, device: str = "cpu") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    fake, real = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return fake.to(device, dtype).requires_grad_(), real.to(device, dtype)


# Formulas


def test_fft_l1_is_its_formula() -> None:
    for size in ((7, 6), (6, 7), (1, 1)):
        fake, real = images(2, 3, *size)
        want = fft_l1_formula(real, fake)
        got = FFTL1Loss()(fake, real)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
        gradients = [torch.autograd.grad(value, fake)[0] for value in (got, want)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-13)


def test_filters_of_sym7_are_those_of_its_library_and_orthonormal() -> None:
    low, high = (np.array(taps) for taps in wavelet_filters("sym7"))
    assert low.sum() == pytest.approx(math.sqrt(2), abs=1e-9)
    for shift in range(7):
        rolled = {name: np.concatenate([np.zeros(2 * shift), taps])[:14] for name, taps in (("l", low), ("h", high))}
        assert low @ rolled["l"] == pytest.approx(float(shift == 0), abs=1e-9)
        assert high @ rolled["h"] == pytest.approx(float(shift == 0), abs=1e-9)
        assert high @ rolled["l"] == pytest.approx(0, abs=1e-9)
    pywt = pytest.importorskip("pywt")
    assert low.tolist() == pywt.Wavelet("sym7").dec_lo
    assert high.tolist() == pywt.Wavelet("sym7").dec_hi


def test_dilated_bands_are_the_stationary_wavelet_transform() -> None:
    pywt = pytest.importorskip("pywt")
    image = images(16, 24)[1]
    got = stationary_bands(image, "db2", level=2, dilated=True)
    # The library's low-pass filter sums to sqrt(2), ours to 1; both pass it along each axis of each level.
    for level, (low, (vertical, horizontal, diagonal)) in zip(
        (2, 1), pywt.swt2(image.numpy(), "db2", level=2), strict=True
    ):
        factors = [2**level, 2 ** (level - 0.5), 2 ** (level - 0.5), 2 ** (level - 1)]
        for band, want, factor in zip(got[level - 1], (low, vertical, horizontal, diagonal), factors, strict=True):
            torch.testing.assert_close(factor * band, torch.from_numpy(want))


@pytest.mark.parametrize("quality", [10, 50, 85, 100])
def test_jpeg_weights_are_the_inverse_of_the_tables_that_a_jpeg_file_holds(quality: int) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "jpeg", quality=quality)
    tables = Image.open(file).quantization
    for weights, table in zip(jpeg_weights(quality, gamma=0.5), (tables[0], tables[1], tables[1]), strict=True):
        want = np.array(table, dtype=float).reshape(8, 8) ** -0.5
        np.testing.assert_allclose(weights, want / want.mean(), rtol=1e-12)


def test_jpeg_frequency_without_weights_is_the_squared_error_of_ycbcr() -> None:
    fake, real = images(2, 3, 16, 24)
    matrix = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]).double()
    want = torch.einsum("ij,njhw->nihw", matrix, fake - real).square().mean()
    for options in ({"quality": 100}, {"gamma": 0.0}):
        torch.testing.assert_close(JPEGFrequencyLoss(**options)(fake, real), want, rtol=1e-6, atol=0)
    assert JPEGFrequencyLoss(mode="inv", gamma=3.0)(fake, real) == JPEGFrequencyLoss(gamma=1.0)(fake, real)


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 1)])
@pytest.mark.parametrize("half", ["paper", "centred"])
def test_fourier_space_is_its_formula(half: str, size: tuple[int, int]) -> None:
    fake, real = images(2, 3, *size)
    height = size[0]
    # A periodic Hann window of one sample is 1.
    rows, columns = (np.sin(np.pi * np.arange(n) / n) ** 2 if n > 1 else np.ones(1) for n in size)
    spectra = [np.fft.fft2(x.detach().numpy() * rows[:, None] * columns) for x in (fake, real)]
    if half == "paper":
        kept = np.arange(height // 2)
    else:
        kept = np.fft.fftshift(np.arange(height))[: height // 2]
    fake_rows, real_rows = (spectrum[..., kept, :] for spectrum in spectra)
    amplitude = np.abs(np.abs(fake_rows) - np.abs(real_rows)).mean()
    phase = np.abs(np.angle(fake_rows * real_rows.conj())).mean()
    loss = FourierSpaceLoss(half)
    assert [value.item() for value in loss.terms(fake, real)] == pytest.approx([phase, amplitude], rel=1e-9)
    assert loss(fake, real).item() == pytest.approx((phase + amplitude) / 2, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("fake_level", "real_level"), [(0.5, None), (None, 0.5), (0.5, 0.25), (0.0, None), (0.5, 0.0)])
def test_phases_of_constant_images_have_bounded_gradients(
    fake_level: float | None, real_level: float | None, dtype: torch.dtype
) -> None:
    fake, real = images(2, 3, 32, 32, dtype=dtype)
    fake = fake.detach() if fake_level is None else torch.full_like(fake, fake_level)
    real = real if real_level is None else torch.full_like(real, real_level)
    fake.requires_grad_()
    phase, amplitude = FourierSpaceLoss().terms(fake, real)
    (gradient,) = torch.autograd.grad(phase + amplitude, fake)
    assert 0 <= phase <= math.pi
    assert gradient.abs().max() < 1


@pytest.mark.parametrize(
    ("dims", "levels", "size"), [(2, 1, (2, 4)), (2, 3, (16, 24)), (3, 1, (2, 4, 6)), (3, 2, (4, 8, 12))]
)
def test_haar_is_its_formula(dims: int, levels: int, size: tuple[int, ...]) -> None:
    fake, real = images(2, 3, *size)
    values = [HaarLoss(levels, dims=dims)(fake, real), haar_formula(real, fake, levels, dims)]
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(value, fake)[0] for value in values), rtol=1e-10, atol=1e-14)


def test_haar_details_vanish_on_constants_and_energy_is_kept() -> None:
    flat, zero = torch.full((1, 1, 16, 16), 0.5), torch.zeros(1, 1, 16, 16)
    # A constant c becomes c 2^level in the low band.
    assert HaarLoss(3)(flat, zero).item() == pytest.approx(0.5 * 0.5 * 2**3)
    clip, none = torch.full((1, 1, 4, 4, 4), 0.5), torch.zeros(1, 1, 4, 4, 4)
    assert HaarLoss(2, dims=3)(clip, none).item() == pytest.approx(0.5 * (8**0.5 + 8) / 2)
    # One pixel of 1 makes one coefficient of 1/2 in each band of a level, a quarter of the values of one.
    pixel = zero.clone()
    pixel[..., 5, 9] = 1
    levels = [0.5**j / (16 / 2**j) ** 2 for j in (1, 2)]
    assert HaarLoss(2)(pixel, zero).item() == pytest.approx((sum(levels) + levels[-1]) / 2)


# One interface


@every_loss
def test_first_derivatives(kind: type[PairLoss], options: dict[str, Any]) -> None:
    fake, real = images(2, 2, 4, 5, 6) if options.get("dims") == 3 else images(2, 3, 14, 15)
    real.requires_grad_()
    loss = kind(**options, reduction="none")
    assert torch.autograd.gradcheck(loss, (fake, real), eps=1e-7, atol=1e-6, fast_mode=True)


@every_loss
def test_samples_reductions_and_leading_axes(kind: type[PairLoss], options: dict[str, Any]) -> None:
    dims = options.get("dims", 2)
    fake, real = images(4, 2, 3, *(16,) * dims)
    each = kind(**options, reduction="none")(fake, real)
    assert each.shape == (4,)
    alone = torch.stack([kind(**options)(f[None], r[None]) for f, r in zip(fake, real, strict=True)])
    torch.testing.assert_close(each, alone)
    torch.testing.assert_close(kind(**options)(fake, real), each.mean())
    torch.testing.assert_close(kind(**options, reduction="sum")(fake, real), each.sum())
    # An image without a batch axis is one sample; all leading axes are averaged.
    single = torch.stack([kind(**options, reduction="none")(fake[0, i], real[0, i]) for i in range(2)])
    assert single.shape == (2,)
    torch.testing.assert_close(single.mean(), each[0])
    if kind.channels is None:
        plane = kind(**options, reduction="none")(fake[0, 0, 0], real[0, 0, 0])
        torch.testing.assert_close(plane, kind(**options)(fake[:1, :1, :1], real[:1, :1, :1]))


@every_loss
@pytest.mark.parametrize("device", COMPUTES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_number_types(kind: type[PairLoss], options: dict[str, Any], dtype: torch.dtype, device: str) -> None:
    # 24 pixels: half-precision transforms take powers of two only, so this also shows that none is used.
    fake, real = images(2, 3, *(24,) * options.get("dims", 2), dtype=dtype, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = kind(**options)(fake, real)
    loss.backward()
    exact = kind(**options)(fake.detach().double(), real.double())
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert fake.grad is not None
    assert fake.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), exact, rtol=1e-12 if dtype == torch.float64 else 1e-5, atol=0)


@every_loss
def test_equal_images_have_neither_loss_nor_gradient(kind: type[PairLoss], options: dict[str, Any]) -> None:
    fake, _ = images(2, 3, *(16,) * options.get("dims", 2))
    loss = kind(**options)(fake, fake.detach().clone())
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, fake)[0], torch.zeros_like(fake))


@every_loss
def test_memory_formats_compilers_and_transforms(kind: type[PairLoss], options: dict[str, Any]) -> None:
    dims = options.get("dims", 2)
    fake, real = images(2, 3, *(16,) * dims, dtype=torch.float32)
    loss = kind(**options)
    value = loss(fake, real)
    (want,) = torch.autograd.grad(value, fake)
    last = fake.detach().to(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d).requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(loss(last, real), last)[0], want)
    torch.testing.assert_close(torch.func.grad(loss)(fake.detach(), real), want)
    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(fake, real)
    torch.testing.assert_close(compiled, value)
    torch.testing.assert_close(torch.autograd.grad(compiled, fake)[0], want)


@every_loss
def test_module_shows_its_options_and_has_no_state(kind: type[PairLoss], options: dict[str, Any]) -> None:
    loss = kind(**options, reduction="sum")
    for name, value in {**options, "reduction": "sum"}.items():
        assert f"{name}={value!r}" in repr(loss)
    assert not loss.state_dict()


def test_caches_survive_inference_mode() -> None:
    fake, real = images(1, 3, 16, 18)
    with torch.inference_mode():
        WaveletLoss()(fake.detach(), real)
    WaveletLoss()(fake, real).backward()
    assert fake.grad is not None


# What is refused


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FFTL1Loss, {"reduction": "avg"}, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        (WaveletLoss, {"level": 0}, "level must be a whole number, 1 or more, got 0"),
        (WaveletLoss, {"weights": (1, 1, 1)}, r"weights must be four numbers, 0 or more, .* got \(1, 1, 1\)"),
        (WaveletLoss, {"weights": (1, 1, -1, 1)}, r"weights must be four numbers, 0 or more, .* got \(1, 1, -1, 1\)"),
        (JPEGFrequencyLoss, {"quality": 0}, "quality must be a whole number from 1 to 100, got 0"),
        (JPEGFrequencyLoss, {"quality": 101}, "quality must be a whole number from 1 to 100, got 101"),
        (JPEGFrequencyLoss, {"mode": "linear"}, "mode must be one of 'inv', 'inv_gamma', got 'linear'"),
        (JPEGFrequencyLoss, {"gamma": math.inf}, "gamma must be finite and at least 0, got inf"),
        (FourierSpaceLoss, {"half": "left"}, "half must be one of 'paper', 'centred', got 'left'"),
        (HaarLoss, {"levels": 0}, "levels must be a whole number, 1 or more, got 0"),
        (HaarLoss, {"dims": 1}, "dims must be 2 or 3, got 1"),
    ],
)
def test_impossible_options(kind: type[PairLoss], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_wavelets_that_are_not() -> None:
    pytest.importorskip("pywt")
    with pytest.raises(ValueError, match=r"wavelet must be one of .*sym7.*, got 'sym99'"):
        WaveletLoss("sym99")


def test_a_missing_wavelet_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(ImportError, match=r"run: pip install 'focal-frequency\[wavelets\]'"):
        WaveletLoss("coif17")


@pytest.mark.parametrize(
    ("kind", "options", "shapes", "message"),
    [
        (FFTL1Loss, {}, [(2, 3, 8, 8), (1, 3, 8, 8)], r"\(..., H, W\) .*, got \(2, 3, 8, 8\) and \(1, 3, 8, 8\)"),
        (FFTL1Loss, {}, [(0, 3, 8, 8)], r"not be empty, got \(0, 3, 8, 8\)"),
        (FFTL1Loss, {}, [(8,)], r"shape \(..., H, W\) and not be empty, got \(8,\)"),
        (WaveletLoss, {}, [(2, 1, 8, 8)], r"shape \(..., 3, H, W\), RGB, and not be empty, got \(2, 1, 8, 8\)"),
        (WaveletLoss, {}, [(3, 8)], r"shape \(..., 3, H, W\), RGB, and not be empty, got \(3, 8\)"),
        (WaveletLoss, {}, [(2, 3, 6, 32)], "H and W must be at least 7, got 6x32; choose a shorter wavelet"),
        (WaveletLoss, {"level": 3, "dilated": True}, [(3, 24, 32)], "H and W must be at least 28, got 24x32"),
        (JPEGFrequencyLoss, {}, [(2, 4, 8, 8)], r"shape \(..., 3, H, W\), RGB, .* got \(2, 4, 8, 8\)"),
        (JPEGFrequencyLoss, {}, [(2, 3, 8, 4)], "H and W must be at least 5, .* got 8x4"),
        (FourierSpaceLoss, {}, [(2, 3, 1, 8)], "H must be at least 2 for half a spectrum, got 1x8"),
        (HaarLoss, {}, [(2, 3, 8, 32)], "levels=4 is too deep for 8x32: sides halve to 1 after 3"),
        (HaarLoss, {"levels": 2, "dims": 3}, [(3, 2, 8, 8)], "levels=2 is too deep for 2x8x8: .* after 1"),
        (HaarLoss, {"dims": 3}, [(16, 16)], r"shape \(..., D, H, W\) and not be empty, got \(16, 16\)"),
    ],
)
def test_impossible_shapes(
    kind: type[PairLoss], options: dict[str, Any], shapes: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)(torch.zeros(shapes[0]), torch.zeros(shapes[-1]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.complex64])
def test_types_that_are_not_images(dtype: torch.dtype) -> None:
    whole, real = torch.zeros(1, 3, 16, 16, dtype=dtype), torch.zeros(1, 3, 16, 16)
    for kind, name, pair in ((FFTL1Loss, "fake", (whole, real)), (WaveletLoss, "real", (real, whole))):
        with pytest.raises(TypeError, match=f"{name} must be a floating tensor, got {dtype}"):
            kind()(*pair)
