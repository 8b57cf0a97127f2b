"""Adversarial losses against the official implementations of pix2pix and SPADE, and closed forms."""

import pytest
import torch
from oracles import Case

from ffl.losses.gan import GanMode, discriminator_loss, feature_matching_loss, generator_loss

PIX2PIX_MODES: dict[str, GanMode] = {"vanilla": "vanilla", "lsgan": "lsgan", "wgangp": "wasserstein"}
SPADE_MODES: dict[str, GanMode] = {"hinge": "hinge", "ls": "lsgan", "original": "vanilla", "w": "wasserstein"}


@pytest.mark.parametrize("official", PIX2PIX_MODES)
@pytest.mark.parametrize("target", ["real", "fake"])
def test_equals_pix2pix(official: str, target: str) -> None:
    case = Case("d_ganloss_30x30")
    logits = case.tensors()["prediction"].requires_grad_()
    loss = discriminator_loss(logits, target == "real", PIX2PIX_MODES[official])
    loss.backward()
    case.check(f"{official}_{target}", loss)
    case.check(f"{official}_{target}_grad", logits.grad)


@pytest.mark.parametrize("official", SPADE_MODES)
def test_equals_spade_over_two_scales(official: str) -> None:
    case = Case("e_spade_ganloss")
    inputs, mode = case.tensors(), SPADE_MODES[official]
    logits = [inputs["prediction0"], inputs["prediction1"]]
    case.check(f"{official}_D_real", discriminator_loss(logits, True, mode).reshape(1))
    case.check(f"{official}_D_fake", discriminator_loss(logits, False, mode).reshape(1))
    case.check(f"{official}_G", generator_loss(logits, mode).reshape(1))


@pytest.mark.parametrize("mode", ["vanilla", "lsgan", "wasserstein"])
def test_generator_wants_the_verdict_real(mode: GanMode) -> None:
    logits = torch.randn(3, 1, 4, 4)
    assert generator_loss(logits, mode) == discriminator_loss(logits, True, mode)


def test_hinge_leaves_confident_verdicts_alone() -> None:
    logits = torch.tensor([-1.5, 1.0, 2.5], requires_grad=True)
    loss = discriminator_loss(logits, True, "hinge")
    loss.backward()
    assert loss.item() == pytest.approx(2.5 / 3)  # only -1.5 is below the margin: 1 + 1.5
    assert logits.grad.tolist() == pytest.approx([-1 / 3, 0, 0])


def test_vanilla_is_finite_for_large_logits() -> None:
    assert discriminator_loss(torch.tensor([-1e4]), True, "vanilla").item() == pytest.approx(1e4)


def test_feature_matching_sums_layers_and_averages_scales() -> None:
    fake = [[torch.full((1, 2, 4, 4), 1.0, requires_grad=True), torch.full((1, 3, 2, 2), 2.0)], [torch.zeros(1, 1)]]
    real = [[torch.zeros(1, 2, 4, 4), torch.full((1, 3, 2, 2), -1.0)], [torch.full((1, 1), 5.0, requires_grad=True)]]
    loss = feature_matching_loss(fake, real)
    loss.backward()
    assert loss.item() == pytest.approx(((1 + 3) + 5) / 2)
    assert real[1][0].grad is None
    assert torch.allclose(fake[0][0].grad, torch.full((1, 2, 4, 4), 0.5 / 32))


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="one of vanilla, lsgan, hinge, wasserstein, got 'wgan'"):
        discriminator_loss(torch.zeros(1), True, "wgan")
    with pytest.raises(ValueError, match="one of vanilla"):
        generator_loss(torch.zeros(1), "wgan")
    with pytest.raises(ValueError, match="at least one"):
        discriminator_loss([], True, "hinge")
    with pytest.raises(ValueError, match="longer"):
        feature_matching_loss([[torch.zeros(1)]], [[torch.zeros(1)], [torch.zeros(1)]])
