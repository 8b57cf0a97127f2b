"""Properties that hold for any images and options."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ffl import FocalFrequencyLoss

OPTIONS = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]),
        "patch_factor": st.integers(1, 3),
        "log_matrix": st.booleans(),
        "batch_matrix": st.booleans(),
        "transform": st.sampled_from(["dft", "dct"]),
        "ablation": st.sampled_from(["none", "no_freq", "no_focal"]),
    }
)
PARTIAL = st.sampled_from([{"ablation": "no_phase"}, {"ablation": "no_ampli"}])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Two batches whose height and width 1, 2 and 3 patches divide."""
    n, c = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    height, width = 6 * draw(st.integers(1, 3)), 6 * draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    fake, real = torch.randn(2, n, c, height, width, generator=generator, dtype=torch.float64)
    return fake, real


@settings(max_examples=60, deadline=None)
@given(pairs(), st.one_of(OPTIONS, PARTIAL), st.booleans())
def test_positive_and_zero_at_equality(pair: tuple[Tensor, Tensor], options: dict[str, Any], average: bool) -> None:
    fake, real = pair
    loss = FocalFrequencyLoss(ave_spectrum=average, **options)
    assert loss(fake, real) > 0
    same = real.clone().requires_grad_()
    value = loss(same, real)
    value.backward()
    assert value == 0
    assert torch.equal(same.grad, torch.zeros_like(real))


@settings(max_examples=40, deadline=None)
@given(pairs(), OPTIONS)
def test_depends_on_the_difference_alone(pair: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    fake, real = pair
    loss = FocalFrequencyLoss(**options)
    torch.testing.assert_close(loss(fake + 0.7 * real, real + 0.7 * real), loss(fake, real), rtol=1e-9, atol=0)


@settings(max_examples=40, deadline=None)
@given(pairs(), OPTIONS, st.floats(0.01, 100))
def test_scales_with_the_square(pair: tuple[Tensor, Tensor], options: dict[str, Any], factor: float) -> None:
    fake, real = pair
    options = options | {"log_matrix": False}  # log(w + 1) is the one weight that is not a ratio of powers
    loss = FocalFrequencyLoss(**options)
    torch.testing.assert_close(loss(factor * fake, factor * real), factor**2 * loss(fake, real), rtol=1e-9, atol=0)


@settings(max_examples=40, deadline=None)
@given(pairs(), OPTIONS, st.integers(0, 20), st.integers(0, 20))
def test_circular_shifts_do_not_matter(
    pair: tuple[Tensor, Tensor], options: dict[str, Any], down: int, right: int
) -> None:
    options = options | {"patch_factor": 1, "transform": "dft"}
    loss = FocalFrequencyLoss(**options)
    shifted = [images.roll((down, right), (-2, -1)) for images in pair]
    torch.testing.assert_close(loss(*shifted), loss(*pair), rtol=1e-9, atol=0)


@settings(max_examples=40, deadline=None)
@given(pairs(), st.one_of(OPTIONS, PARTIAL))
def test_reductions_agree(pair: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    mean, total, each = (FocalFrequencyLoss(**options, reduction=r)(*pair) for r in ("mean", "sum", "none"))
    assert each.shape == pair[0].shape[:1]
    torch.testing.assert_close(each.mean(), mean)
    torch.testing.assert_close(each.sum(), total)


@settings(max_examples=20, deadline=None)
@given(pairs(), st.one_of(OPTIONS, PARTIAL))
def test_each_image_has_its_own_value(pair: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    options = options | {"batch_matrix": False}
    loss = FocalFrequencyLoss(**options, reduction="none")
    alone = [loss(fake[None], real[None]) for fake, real in zip(*pair, strict=True)]
    torch.testing.assert_close(loss(*pair), torch.cat(alone))


@settings(max_examples=40, deadline=None)
@given(pairs(), OPTIONS)
def test_without_focus_it_is_the_mean_squared_error(pair: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    fake, real = pair
    loss = FocalFrequencyLoss(**options | {"ablation": "no_focal"})
    torch.testing.assert_close(loss(fake, real), torch.nn.functional.mse_loss(fake, real), rtol=1e-12, atol=0)


@settings(max_examples=40, deadline=None)
@given(pairs(), OPTIONS)
def test_focus_only_takes_away(pair: tuple[Tensor, Tensor], options: dict[str, Any]) -> None:
    assert FocalFrequencyLoss(**options)(*pair) <= torch.nn.functional.mse_loss(*pair) * (1 + 1e-12)
