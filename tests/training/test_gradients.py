"""Gradient shares against closed forms."""

import pytest
import torch

from ffl.training.gradients import gradient_shares


def test_shares_are_norms_over_their_sum() -> None:
    fake = torch.zeros(2, 3, 4, 4, requires_grad=True)
    terms = {"a": 3 * fake.sum(), "b": -fake.sum(), "kl": torch.ones((), requires_grad=True) * 2}
    shares = gradient_shares(terms, fake)
    assert shares == pytest.approx({"a": 0.75, "b": 0.25, "kl": 0.0})


def test_measuring_does_not_change_the_gradient_of_the_step() -> None:
    weight = torch.ones(4, requires_grad=True)
    fake = weight * 2
    loss = fake.square().sum()
    gradient_shares({"loss": loss}, fake)
    loss.backward()
    assert torch.equal(weight.grad, torch.full((4,), 8.0))


def test_no_share_where_no_term_reaches_the_output() -> None:
    fake = torch.zeros(1, 1, 2, 2, requires_grad=True)
    assert gradient_shares({"d": fake.detach().sum()}, fake) == {}
    assert gradient_shares({"d": fake.sum()}, None) == {}
