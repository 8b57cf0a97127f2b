"""The loop's parts against closed forms."""

import pytest
import torch
from torch import nn

from ffl.errors import UserError
from ffl.training.model import Phase
from ffl.training.objective import Objective
from ffl.training.step import TrainingStep, make_optimizers, train_only
from ffl.training.trainer import choose_device, learning_rate_factor, to_device
from models.ae import VanillaAutoencoder


def test_learning_rate_is_constant_without_decay_however_long_the_run() -> None:
    assert {learning_rate_factor(epoch, 300, 40, 0) for epoch in range(300)} == {1.0}
    assert {learning_rate_factor(epoch, 2, 40, 20) for epoch in range(2)} == {1.0}


def test_learning_rate_decays_as_in_pix2pix() -> None:
    factors = [learning_rate_factor(epoch, 200, 200, 100) for epoch in range(200)]
    # The official rule: 1 - max(0, epoch + 1 - 100) / 101
    assert factors == [1 - max(0, epoch + 1 - 100) / 101 for epoch in range(200)]
    assert factors[-1] == pytest.approx(1 / 101)
    assert min(learning_rate_factor(epoch, 250, 200, 100) for epoch in range(250)) == pytest.approx(1 / 101)


def test_phases_that_share_an_optimiser_share_its_state() -> None:
    network = nn.Linear(2, 2)
    phases = [
        Phase("g", network.parameters(), 1e-3, (0.0, 0.9)),
        Phase("reg", network.parameters(), 9.0, (0.5, 0.5), interval=4, optimizer="g"),
    ]
    optimizers = make_optimizers(phases)
    assert list(optimizers) == ["g"]
    assert optimizers["g"].param_groups[0]["lr"] == 1e-3


def test_other_phases_parameters_are_constants_meanwhile() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    model["b"].bias.requires_grad_(False)
    optimizer = torch.optim.Adam(model["a"].parameters())
    with train_only(model, optimizer):
        assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    assert [p.requires_grad for p in model.parameters()] == [True, True, True, False]


def test_bytes_become_floats_and_the_rest_stays() -> None:
    batch = {"image": torch.tensor([0, 255], dtype=torch.uint8), "label": torch.tensor([3]), "name": "x"}
    moved = to_device(batch, torch.device("cpu"))
    assert moved["image"].tolist() == [-1.0, 1.0]
    assert moved["label"].dtype == torch.int64
    assert moved["name"] == "x"


def test_all_losses_off_is_refused() -> None:
    model = VanillaAutoencoder((4, 4), Objective(), hidden_dim=2, mse_weight=0.0)
    with pytest.raises(UserError, match="generator: every loss is off"):
        TrainingStep(model, seed=0).run(0, {0: {"image": torch.zeros(1, 3, 4, 4)}})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_missing_device_is_named() -> None:
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="cuda: this machine has no usable CUDA device; choose cpu or auto"):
        choose_device("cuda")
