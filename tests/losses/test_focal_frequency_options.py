"""Ablations by their definitions, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ffl import FocalFrequencyLoss
from ffl.losses.focal_frequency import focal_frequency_loss
from ffl.losses.spectral_priors import band


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    fake, real = torch.randn(2, 2, 3, 6, 7, generator=generator, dtype=torch.float64)
    return fake, real


def focal_mean(error: Tensor, alpha: float) -> Tensor:
    """Eqs. 9 and 10 for the magnitude of an error over the whole of (N, C, H, W)."""
    weight = error.abs() ** alpha
    return (weight / weight.amax((-2, -1), keepdim=True) * error.abs() ** 2).mean()


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_errors_of_the_ablations(alpha: float) -> None:
    fake, real = images()
    fake_spectrum, real_spectrum = torch.fft.fft2(fake, norm="ortho"), torch.fft.fft2(real, norm="ortho")
    errors = {
        "none": fake_spectrum - real_spectrum,
        "no_freq": fake - real,
        "no_phase": fake_spectrum.abs() - real_spectrum.abs(),
        # |e^ia - e^ib| = 2 |sin((a - b) / 2)|
        "no_ampli": 2 * torch.sin((fake_spectrum.angle() - real_spectrum.angle()) / 2),
    }
    for ablation, error in errors.items():
        loss = focal_frequency_loss(fake, real, alpha=alpha, ablation=ablation)
        # The floor of 1e-3 under the amplitudes of "no_ampli" moves phases of amplitude 0.1 by 5e-5.
        torch.testing.assert_close(
            loss, focal_mean(error, alpha), rtol=1e-3 if ablation == "no_ampli" else 1e-12, atol=0
        )


def test_amplitude_ignores_shifts_and_phase_ignores_contrast() -> None:
    fake, _ = images()
    moved = fake.roll((2, 3), (-2, -1))
    assert focal_frequency_loss(moved, fake, ablation="no_phase").item() == pytest.approx(0, abs=1e-20)
    assert focal_frequency_loss(moved, fake, ablation="no_ampli") > 0.1
    # Phases turned by half a circle are 2 apart. The floor under amplitudes tells on the few below 0.02.
    assert focal_frequency_loss(3 * fake, fake, ablation="no_ampli") < 1e-3
    assert focal_frequency_loss(3 * fake, fake, ablation="no_phase") > 0.1
    assert focal_frequency_loss(-fake, fake, ablation="no_ampli").item() == pytest.approx(4, rel=1e-2)


def test_phase_gradient_does_not_jump_where_angles_wrap() -> None:
    x = torch.arange(16, dtype=torch.float64) * 2 * math.pi / 16
    target = torch.cos(x).expand(1, 1, 16, 16)
    values = []
    for angle in (math.pi - 1e-4, math.pi + 1e-4):
        values.append(focal_frequency_loss(torch.cos(x + angle).expand(1, 1, 16, 16), target, ablation="no_ampli"))
    torch.testing.assert_close(values[0], values[1], rtol=1e-6, atol=0)


def test_module_and_function_agree_and_the_module_shows_its_options() -> None:
    fake, real = images()
    options: dict[str, Any] = {
        "loss_weight": 2.0,
        "alpha": 0.5,
        "patch_factor": 1,
        "ave_spectrum": True,
        "log_matrix": True,
        "batch_matrix": True,
        "reduction": "mean",
        "transform": "dct",
        "ablation": "none",
        "dims": 2,
        "prior": band(0.25, 1),
    }
    module = FocalFrequencyLoss(**options)
    assert torch.equal(module(fake, real), focal_frequency_loss(fake, real, **options))
    for name, value in options.items():
        assert f"{name}={value!r}" in repr(module)
    assert not module.state_dict()


def test_zero_weight_is_a_weight() -> None:
    fake, real = images()
    assert FocalFrequencyLoss(loss_weight=0.0)(fake, real) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "avg"}, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
        ({"transform": "dwt"}, "transform must be one of 'dft', 'dct', got 'dwt'"),
        ({"ablation": "no_such"}, "ablation must be one of .*'no_focal', got 'no_such'"),
        ({"alpha": -1.0}, "alpha must be finite and at least 0, got -1.0"),
        ({"alpha": math.nan}, "alpha must be finite and at least 0, got nan"),
        ({"patch_factor": 0}, "patch_factor must be a whole number, 1 or more, got 0"),
        ({"patch_factor": 2.0}, "patch_factor must be a whole number, 1 or more, got 2.0"),
        ({"ave_spectrum": True, "reduction": "none"}, "ave_spectrum=True .* reduction=\"mean\", got 'none'"),
        ({"ave_spectrum": True, "reduction": "sum"}, "ave_spectrum=True .* reduction=\"mean\", got 'sum'"),
        ({"transform": "dct", "ablation": "no_phase"}, "ablation='no_phase' needs transform=\"dft\""),
        ({"dims": 4}, "dims must be one of 1, 2, 3, got 4"),
        ({"dims": 0}, "dims must be one of 1, 2, 3, got 0"),
        ({"prior": "notch(0.5)"}, r"prior must be one of high_pass\(cutoff\), .*, got 'notch\(0.5\)'"),
        ({"prior": "high_pass 0.5"}, "prior must be one of .*, got 'high_pass 0.5'"),
        ({"prior": "band(0.5)"}, r"prior 'band\(0.5\)': .* missing 1 required positional argument"),
        ({"prior": "band(1, 0.5)"}, r"prior 'band\(1, 0.5\)': .* 0 <= low < high, got low=1.0 and high=0.5"),
        ({"prior": "radial(-1)"}, r"prior 'radial\(-1\)': .* finite and at least 0, got -1.0"),
        ({"prior": "radial(two)"}, r"prior 'radial\(two\)': could not convert"),
        ({"prior": "radial(1)", "ablation": "no_freq"}, 'prior weights frequencies, which ablation="no_freq"'),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FocalFrequencyLoss(**options)
    with pytest.raises(ValueError, match=message):
        focal_frequency_loss(*images(), **options)


def test_misspelt_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword"):
        FocalFrequencyLoss()(*images(), weight=None)


@pytest.mark.parametrize(
    ("pred", "target", "error", "message"),
    [
        ((8,), (8,), ValueError, r"pred and target need the axes \(H, W\) for dims=2, got shape \(8,\)"),
        ((2, 3, 8, 8), (1, 3, 8, 8), ValueError, r"got \(2, 3, 8, 8\) and \(1, 3, 8, 8\)"),
        ((0, 3, 8, 8), (0, 3, 8, 8), ValueError, r"must not be empty, got shape \(0, 3, 8, 8\)"),
    ],
)
def test_impossible_shapes(pred: tuple[int, ...], target: tuple[int, ...], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        focal_frequency_loss(torch.zeros(pred), torch.zeros(target))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_types_that_are_not_images(dtype: torch.dtype) -> None:
    whole, real = torch.zeros(1, 1, 4, 4, dtype=dtype), torch.zeros(1, 1, 4, 4)
    with pytest.raises(TypeError, match=f"pred must be a floating or complex tensor, got {dtype}"):
        focal_frequency_loss(whole, real)
    with pytest.raises(TypeError, match=f"target must be a floating or complex tensor, got {dtype}"):
        focal_frequency_loss(real, whole)


@pytest.mark.parametrize("shape", [(5, 5), (3, 2, 6, 7), (1, 1, 1, 1, 6, 7), (1, 1, 2, 6, 7), (6, 4)])
def test_matrices_that_do_not_fit(shape: tuple[int, ...]) -> None:
    if shape == (3, 2, 6, 7):
        shape = (3, 4, 6, 7)
    with pytest.raises(ValueError, match=r"matrix must broadcast to \(N, patches, C, H, W\) = \(2, 1, 3, 6, 7\)"):
        focal_frequency_loss(*images(), torch.ones(shape))


@pytest.mark.parametrize("name", ["matrix", "prior", "mask"])
def test_complex_weights(name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name} must be real, got torch\.complex64"):
        focal_frequency_loss(*images(), **{name: torch.ones(6, 7, dtype=torch.complex64)})


def test_matrix_goes_with_the_full_loss_only() -> None:
    with pytest.raises(ValueError, match="needs ablation=\"none\", got ablation='no_focal'"):
        focal_frequency_loss(*images(), torch.ones(6, 7), ablation="no_focal")


def test_per_image_values_under_a_predefined_matrix() -> None:
    fake, real = images()
    matrix = torch.rand(2, 3, 6, 7, dtype=torch.float64)  # one per image in form, all of them averaged in effect
    each = focal_frequency_loss(fake, real, matrix, reduction="none")
    for n in range(2):
        alone = focal_frequency_loss(fake[n : n + 1], real[n : n + 1], matrix)
        torch.testing.assert_close(each[n], alone)
