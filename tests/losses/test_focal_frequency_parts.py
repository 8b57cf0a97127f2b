"""The loss as a CPU computes it, a few spectra at a time, and the gradient that is made together with its value."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from ffl import FocalFrequencyLoss
from ffl.losses import focal_mean

OPTIONS = [
    {},
    {"patch_factor": 2},
    {"patch_factor": 2, "batch_matrix": True, "alpha": 0.5},
    {"log_matrix": True, "batch_matrix": True},
    {"reduction": "none"},
    {"reduction": "sum", "transform": "dct"},
    {"ablation": "no_freq"},
    {"ablation": "no_focal"},
]
MATRICES = [None, (8, 8), (3, 1, 8, 8), (5, 1, 3, 8, 8)]


def images(count: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    fake, real = torch.randn(2, count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return fake.requires_grad_(), real


def derivatives(options: dict[str, Any], matrix: Tensor | None) -> list[Tensor]:
    """Value, gradient, and the gradient of the gradient's product with something fixed."""
    fake, real = images()
    value = FocalFrequencyLoss(**options)(fake, real, matrix)
    along = torch.linspace(-1, 2, fake.numel(), dtype=torch.float64).view_as(fake)
    (gradient,) = torch.autograd.grad(value.sum(), fake, create_graph=True)
    (second,) = torch.autograd.grad((gradient * along).sum(), fake)
    (alone,) = torch.autograd.grad(FocalFrequencyLoss(**options)(fake, real, matrix).sum(), fake)
    torch.testing.assert_close(alone, gradient)
    return [value, gradient, second]


@pytest.mark.parametrize("planes", [1, 2, 4, 100])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parts_make_no_difference(options: dict[str, Any], planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focal_mean, "_chunks", lambda planes, dims: [()])
    whole = derivatives(options, None)
    monkeypatch.undo()
    monkeypatch.setattr(focal_mean, "_CHUNK_PIXELS", planes * 64)
    for got, want in zip(derivatives(options, None), whole, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", MATRICES)
def test_parts_meet_their_matrices(shape: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = None if shape is None else torch.rand(shape, dtype=torch.float64)
    whole = derivatives({}, matrix)
    monkeypatch.setattr(focal_mean, "_CHUNK_PIXELS", 4 * 64)
    assert len(focal_mean._chunks(torch.zeros(5, 3, 1, 1, 8, 8), 2)) == 5
    for got, want in zip(derivatives({}, matrix), whole, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_factors_on_the_loss_reach_the_gradient(reduction: str) -> None:
    fake, real = images()
    loss = FocalFrequencyLoss(reduction=reduction)
    (gradient,) = torch.autograd.grad(loss(fake, real).sum(), fake)
    factor = torch.tensor(-2.5) if reduction == "mean" else torch.linspace(0, 3, len(fake))
    (got,) = torch.autograd.grad((loss(fake, real) * factor).sum(), fake)
    torch.testing.assert_close(got, gradient * factor.view(-1, 1, 1, 1))


def test_images_may_be_overwritten_before_the_backward_pass() -> None:
    leaf, real = images()
    (want,) = torch.autograd.grad(FocalFrequencyLoss()(leaf * 2, real), leaf)
    fake = leaf * 2
    loss = FocalFrequencyLoss()(fake, real)
    with torch.no_grad():
        fake.zero_()
        real.zero_()
    loss.backward()
    torch.testing.assert_close(leaf.grad, want)


@pytest.mark.parametrize("again", [{"retain_graph": True}, {"create_graph": True}], ids=str)
def test_what_is_made_again_from_overwritten_images_is_refused(again: dict[str, bool]) -> None:
    leaf, real = images()
    fake = leaf * 2
    loss = FocalFrequencyLoss()(fake, real)
    if "retain_graph" in again:  # the first pass takes what was made with the value
        torch.autograd.grad(loss, leaf, retain_graph=True)
    with torch.no_grad():
        fake.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, leaf, **again)


def test_the_gradient_goes_with_the_loss() -> None:
    fake, real = images()
    loss = FocalFrequencyLoss(reduction="none")(fake, real)
    assert loss.grad_fn is not None
    kept = weakref.ref(loss.grad_fn.gradient)
    assert kept() is not None
    del loss
    assert kept() is None  # at once: nothing refers to itself


def test_the_kept_gradient_is_not_the_users() -> None:
    fake, real = images()
    loss = FocalFrequencyLoss()(fake, real)
    loss.backward(retain_graph=True)
    want = fake.grad.clone()
    for _ in range(3):  # accumulates in place
        loss.backward(retain_graph=True)
    torch.testing.assert_close(fake.grad, 4 * want)
    fake.grad.zero_()
    loss.backward()
    torch.testing.assert_close(fake.grad, want)
    assert not fake.grad.requires_grad


def test_without_gradients_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real = images()
    want = FocalFrequencyLoss()(fake, real)
    monkeypatch.setattr(focal_mean, "_inverse_transform", None)
    with torch.no_grad():
        assert torch.equal(FocalFrequencyLoss()(fake, real), want)
    assert torch.equal(FocalFrequencyLoss()(fake.detach(), real), want)


def test_average_spectra_write_no_gradient_for_each_image() -> None:
    fake, real = images()
    (gradient,) = torch.autograd.grad(FocalFrequencyLoss(ave_spectrum=True)(fake, real), fake)
    assert gradient.stride(0) == 0
    mean_fake, mean_real = (tensor.mean(0, keepdim=True) for tensor in (fake, real))
    (of_mean,) = torch.autograd.grad(FocalFrequencyLoss()(mean_fake, mean_real), mean_fake)
    torch.testing.assert_close(gradient[0], of_mean[0] / len(fake))
