"""The share of a loss in the gradient at the output, and the weight that holds it."""

import copy
import math

import pytest
import torch
from torch import Tensor

import ffl
from ffl import FocalFrequencyLoss, GradientShare, gradient_share


def losses(seed: int, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """A generator's output, its pixel loss and its frequency loss."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.rand(2, 3, size, size, generator=generator)
    fake = torch.rand(2, 3, size, size, generator=generator).requires_grad_()
    return fake, (fake - real).square().mean(), FocalFrequencyLoss()(fake, real)


def test_shares_are_norms_over_their_sum() -> None:
    fake = torch.zeros(2, 3, 4, 4, requires_grad=True)
    terms = {"a": 3 * fake.sum(), "b": -fake.sum(), "kl": torch.ones((), requires_grad=True) * 2}
    assert gradient_share(terms, fake) == pytest.approx({"a": 0.75, "b": 0.25, "kl": 0.0})


def test_measuring_leaves_the_gradients_of_the_step_alone() -> None:
    weight = torch.ones(4, requires_grad=True)
    fake = weight * 2
    loss = fake.square().sum()
    gradient_share({"loss": loss}, fake)
    loss.backward()
    assert torch.equal(weight.grad, torch.full((4,), 8.0))


@pytest.mark.parametrize("detached", [True, False])
def test_no_share_where_no_term_reaches_the_output(detached: bool) -> None:
    fake = torch.zeros(1, 1, 2, 2, requires_grad=not detached)
    assert gradient_share({"d": (fake if detached else fake.detach()).sum()}, fake) == {}


@pytest.mark.parametrize("target", [0.02, 0.5, 0.9])
def test_the_first_reading_gives_the_target(target: float) -> None:
    fake, pixel, frequency = losses(0)
    weighted = GradientShare(target)(frequency, [0.25 * pixel, 0.75 * pixel], fake)
    assert gradient_share({"pixel": pixel, "ffl": weighted}, fake)["ffl"] == pytest.approx(target, rel=1e-6)


def test_readings_are_averaged_as_logarithms() -> None:
    share, readings = GradientShare(every=2, momentum=0.75), []
    for seed in range(5):
        fake, pixel, frequency = losses(seed)
        share(frequency, [pixel], fake)
        if seed % 2 == 0:
            alone = GradientShare()
            alone(frequency, [pixel], fake)
            readings.append(math.log(alone.weight.item()))
    first, second, third = readings
    expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
    assert math.log(share.weight.item()) == pytest.approx(expected, rel=1e-6)


def test_the_weight_is_a_constant_of_the_graph() -> None:
    fake, pixel, frequency = losses(1)
    share = GradientShare()
    weighted = share(frequency, [pixel], fake)
    (gradient,) = torch.autograd.grad(weighted, fake, retain_graph=True)
    (plain,) = torch.autograd.grad(frequency, fake)
    torch.testing.assert_close(gradient, share.weight.float() * plain)


def test_evaluation_neither_reads_nor_counts() -> None:
    fake, pixel, frequency = losses(2)
    share = GradientShare().eval()
    assert share(frequency, [pixel], fake).item() == frequency.item()
    assert not share.calls
    assert not share.readings


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_reading_without_a_value_leaves_the_weight(value: float) -> None:
    fake, pixel, frequency = losses(3)
    share = GradientShare(every=1)
    share(frequency, [pixel], fake)
    before = share.weight.item()
    share(value * frequency, [pixel], fake)
    assert share.weight.item() == before
    assert share.calls == 2
    assert share.readings == 1


def test_a_restored_state_goes_on_as_if_nothing_had_happened() -> None:
    unbroken = GradientShare(every=3)
    for seed in range(4):
        fake, pixel, frequency = losses(seed)
        unbroken(frequency, [pixel], fake)
    resumed = GradientShare(every=3)
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))
    for seed in range(4, 9):
        fake, pixel, frequency = losses(seed)
        values = [share(frequency, [pixel], fake).item() for share in (unbroken, resumed)]
        assert values[0] == values[1]
    assert unbroken.readings == 3


def test_gradients_that_float16_would_lose_are_read() -> None:
    fake = torch.full((4, 3, 64, 64), 0.5, dtype=torch.float16, requires_grad=True)
    term, other = fake.mean(), (fake * 2).mean()
    share = GradientShare()
    share(1e-4 * term, [1e-4 * other], fake)
    assert share.weight.item() == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 0.0}, "target must be above 0 and below 1, got 0.0"),
        ({"target": 1.0}, "target must be above 0 and below 1, got 1.0"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GradientShare(**arguments)


def test_a_share_needs_another_loss() -> None:
    fake, _, frequency = losses(4)
    with pytest.raises(ValueError, match="others is empty: a loss holds a share beside other losses"):
        GradientShare()(frequency, [], fake)


def test_the_package_offers_both() -> None:
    assert {"gradient_share", "GradientShare"} <= set(ffl.__all__)
