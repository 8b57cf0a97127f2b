"""Derivatives, number types, compilation."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ffl import FocalFrequencyLoss
from ffl.losses.focal_frequency import focal_frequency_loss, spectrum_weight_matrix

ALL = [
    {},
    {"patch_factor": 2},
    {"ave_spectrum": True},
    {"log_matrix": True, "batch_matrix": True, "alpha": 0.5},
    {"transform": "dct"},
    {"ablation": "no_freq"},
    {"ablation": "no_focal"},
    {"ablation": "no_phase"},
    {"ablation": "no_ampli"},
    {"prior": "high_pass(0.5)"},
]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def images(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    fake, real = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return fake.to(device, dtype).requires_grad_(), real.to(device, dtype)


@pytest.mark.parametrize("size", [(2, 4), (4, 3)])
@pytest.mark.parametrize("transform", ["dft", "dct"])
def test_first_and_second_derivatives_with_a_constant_weight(size: tuple[int, int], transform: str) -> None:
    fake, real = images(2, 1, *size, dtype=torch.float64)
    real.requires_grad_()
    matrix = torch.rand(2, 1, 1, *size, dtype=torch.float64)

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        return focal_frequency_loss(pred, target, matrix, reduction="none", transform=transform)

    assert torch.autograd.gradcheck(loss, (fake, real))
    assert torch.autograd.gradgradcheck(loss, (fake, real))


@pytest.mark.parametrize("options", ALL, ids=str)
def test_second_derivative_holds_the_weight_constant(options: dict[str, Any]) -> None:
    if options.get("ablation") in ("no_phase", "no_ampli"):
        pytest.skip("not quadratic in the image: no such identity")
    fake, real = images(2, 2, 4, 6, dtype=torch.float64)
    loss = focal_frequency_loss(fake, real, **options)
    (gradient,) = torch.autograd.grad(loss, fake, create_graph=True)
    # The gradient of a quadratic form x A x is linear: half its derivative along x is itself, 2 A x.
    (along,) = torch.autograd.grad((gradient * (fake - real).detach()).sum(), fake)
    torch.testing.assert_close(along, gradient.detach(), rtol=1e-10, atol=1e-14)


def test_second_derivative_equals_the_package() -> None:
    peer = pytest.importorskip("focal_frequency_loss")
    fake, real = images(2, 3, 8, 8, dtype=torch.float64)
    second = []
    for loss in (FocalFrequencyLoss(patch_factor=2), peer.FocalFrequencyLoss(patch_factor=2)):
        (gradient,) = torch.autograd.grad(loss(fake, real), fake, create_graph=True)
        second.append(torch.autograd.grad(gradient.square().sum(), fake)[0])
    torch.testing.assert_close(second[0], second[1], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("options", ALL, ids=str)
def test_target_gets_the_gradient_it_asks_for(options: dict[str, Any]) -> None:
    fake, real = images(2, 3, 8, 8, dtype=torch.float64)
    real.requires_grad_()
    by_fake, by_real = torch.autograd.grad(focal_frequency_loss(fake, real, **options), (fake, real))
    # Every distance is symmetric, so target's gradient is pred's with the two exchanged.
    (exchanged,) = torch.autograd.grad(focal_frequency_loss(real, fake, **options), real)
    torch.testing.assert_close(by_real, exchanged)
    assert by_fake.abs().max() > 0


@pytest.mark.parametrize("options", ALL, ids=str)
@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_derivatives_stay_finite_where_the_spectrum_vanishes(options: dict[str, Any], constant: float) -> None:
    fake = torch.full((2, 3, 8, 8), constant, requires_grad=True)
    real = torch.zeros(2, 3, 8, 8)
    (gradient,) = torch.autograd.grad(focal_frequency_loss(fake, real, **options), fake, create_graph=True)
    assert gradient.isfinite().all()
    if options.get("ablation") != "no_phase":  # a modulus has no second derivative at 0
        (second,) = torch.autograd.grad(gradient.square().sum(), fake)
        assert second.isfinite().all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("options", ALL, ids=str)
def test_number_types(options: dict[str, Any], dtype: torch.dtype, device: str) -> None:
    # 12 pixels: half-precision FFTs take powers of two only, so this also shows that none is used.
    fake, real = images(2, 3, 12, 12, dtype=dtype, device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = focal_frequency_loss(fake, real, **options)
    loss.backward()
    exact = focal_frequency_loss(fake.detach().double(), real.double(), **options)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert fake.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), exact, rtol=1e-12 if dtype == torch.float64 else 1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bool])
def test_matrix_of_another_type(dtype: torch.dtype) -> None:
    fake, real = images(2, 3, 8, 8)
    matrix = (torch.rand(8, 8) > 0.5).to(dtype)
    loss = focal_frequency_loss(fake, real, matrix)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, focal_frequency_loss(fake, real, matrix.float()))


@pytest.mark.parametrize("options", ALL, ids=str)
def test_compiles_without_a_graph_break(options: dict[str, Any]) -> None:
    torch.compiler.reset()
    loss = FocalFrequencyLoss(**options)
    fake, real = images(2, 3, 8, 8)
    want = loss(fake, real)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(fake, real)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, fake)[0], torch.autograd.grad(want, fake)[0])


def test_gradient_by_torch_func() -> None:
    fake, real = images(2, 3, 8, 8)
    (want,) = torch.autograd.grad(focal_frequency_loss(fake, real), fake)
    got = torch.func.grad(lambda pred: focal_frequency_loss(pred, real))(fake.detach())
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("options", [*ALL, {"reduction": "none"}], ids=str)
def test_vmap_is_a_loop(options: dict[str, Any]) -> None:
    fake, real = images(4, 2, 3, 8, 8, dtype=torch.float64)  # four batches of two
    fakes = (fake.detach() * torch.arange(1, 9).view(4, 2, 1, 1, 1)).requires_grad_()  # of unlike maxima
    loss = FocalFrequencyLoss(**options)

    def total(pred: Tensor, target: Tensor) -> Tensor:
        return loss(pred, target).sum()

    want = torch.stack([loss(pred, target) for pred, target in zip(fakes, real, strict=True)])
    (gradient,) = torch.autograd.grad(want.sum(), fakes)
    torch.testing.assert_close(torch.func.vmap(loss)(fakes.detach(), real), want)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(total))(fakes.detach(), real), gradient)
    mapped = torch.func.vmap(loss)(fakes, real)
    torch.testing.assert_close(torch.autograd.grad(mapped.sum(), fakes)[0], gradient)
    shared = torch.func.vmap(loss, in_dims=(1, None))(fakes.transpose(0, 1), real[0])
    torch.testing.assert_close(shared, torch.stack([loss(pred, real[0]) for pred in fakes]))


def test_vmap_over_matrices() -> None:
    fake, real = images(2, 3, 8, 8)
    matrices = torch.rand(5, 8, 8)
    got = torch.func.vmap(lambda matrix: focal_frequency_loss(fake, real, matrix))(matrices)
    torch.testing.assert_close(got, torch.stack([focal_frequency_loss(fake, real, matrix) for matrix in matrices]))


@pytest.mark.parametrize(
    ("shape", "dims"), [((2, 3, 16), 1), ((3, 8, 8), 2), ((1, 2, 4, 8, 6), 2), ((1, 2, 4, 8, 6), 3)]
)
def test_other_shapes_and_masks_compile_as_well(shape: tuple[int, ...], dims: int) -> None:
    torch.compiler.reset()
    loss = FocalFrequencyLoss(dims=dims, prior="radial(1)")
    fake, real = images(*shape)
    mask = torch.rand(shape) > 0.5
    want = loss(fake, real, mask=mask)
    got = torch.compile(loss, fullgraph=True, backend="aot_eager")(fake, real, mask=mask)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(torch.autograd.grad(got, fake)[0], torch.autograd.grad(want, fake)[0])


def test_backward_twice_and_memory_formats() -> None:
    fake, real = images(2, 3, 8, 8)
    loss = focal_frequency_loss(fake, real)
    first, again = (torch.autograd.grad(loss, fake, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, again)
    last = fake.detach().to(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(focal_frequency_loss(last, real), last)
    torch.testing.assert_close(gradient, first)


def test_inputs_and_matrix_are_left_alone() -> None:
    fake, real = images(2, 3, 8, 8)
    matrix = torch.rand(2, 1, 3, 8, 8)
    copies = [t.detach().clone() for t in (fake, real, matrix)]
    for options in ALL:
        focal_frequency_loss(
            fake, real, matrix if "ablation" not in options and "patch_factor" not in options else None, **options
        ).backward()
    for tensor, copy in zip((fake, real, matrix), copies, strict=True):
        assert torch.equal(tensor.detach(), copy)


def test_cached_basis_survives_inference_mode() -> None:
    from ffl.spectrum import _dct_matrix

    _dct_matrix.cache_clear()
    fake, real = images(1, 1, 8, 8)
    with torch.inference_mode():
        focal_frequency_loss(fake.detach(), real, transform="dct")
    focal_frequency_loss(fake, real, transform="dct").backward()
    assert fake.grad.abs().max() > 0


def test_spectrum_weight_matrix() -> None:
    distance = torch.tensor([[[4.0, 1.0], [0.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]], requires_grad=True)
    weight = spectrum_weight_matrix(distance)
    assert not weight.requires_grad
    assert weight.tolist() == [[[1.0, 0.5], [0.0, 0.25]], [[0.0, 0.0], [0.0, 0.0]]]
    assert spectrum_weight_matrix(distance, alpha=2.0)[0].tolist() == [[1.0, 0.25], [0.0, 0.0625]]
    logged = spectrum_weight_matrix(distance, log_matrix=True)[0, 0, 1]
    torch.testing.assert_close(logged, torch.tensor(2.0).log() / torch.tensor(3.0).log())


def test_no_focal_gradient_is_that_of_the_mean_squared_error() -> None:
    fake, real = images(2, 3, 9, 6)
    (got,) = torch.autograd.grad(focal_frequency_loss(fake, real, ablation="no_focal", patch_factor=3), fake)
    (want,) = torch.autograd.grad(F.mse_loss(fake, real), fake)
    torch.testing.assert_close(got, want)
