"""The vanilla autoencoder against the authors' network and training."""

import numpy as np
import pytest
import torch
from oracles import Case, names

from ffl.errors import UserError
from ffl.training.objective import Objective
from models.ae import VanillaAutoencoder
from models.official import load_official


@pytest.mark.parametrize("name", names("c_mlp"))
def test_network_equals_the_official_one(name: str) -> None:
    case = Case(name)
    network = load_official("vanilla_ae", case.state_dict(), **case.args)
    assert not network.training
    case.check("recon", network(case.tensors()["x"]))


@pytest.mark.parametrize("name", names("c_train"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_equals_the_official_one(name: str, dtype: torch.dtype) -> None:
    case = Case(name)
    batches = case.tensors(dtype)
    weight = case.args["ffl_w"]
    model = VanillaAutoencoder((64, 64), Objective(ffl=weight > 0, weight=weight), case.args["nz"], case.args["nblk"])
    model.network.load_state_dict(case.state_dict())
    model.to(dtype)
    (phase,) = model.phases()
    optimizer = torch.optim.Adam(phase.parameters, phase.lr, phase.betas, phase.eps, fused=True)
    pixel, frequency = [], []
    for step in range(case.args["steps"]):
        losses = model.losses(model.prepare({"image": batches[f"x{step}"]}), phase.name)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        pixel.append(losses["mse"].item())
        frequency.append(losses["ffl"].item() if "ffl" in losses else 0.0)
    double = dtype == torch.float64
    case.check("pixel", np.array(pixel), float64=double)
    case.check("frequency", np.array(frequency), float64=double)
    case.check("recon_after", model.generate({"image": batches["x0"]}, "reconstruction", 0), float64=double)
    sums = torch.stack([p.detach().double().abs().sum() for p in model.network.parameters()])
    case.check("param_abs_sum_after", sums, float64=double)


def test_initial_weights_follow_the_appendix_and_do_not_depend_on_the_objective() -> None:
    models = []
    for ffl in (False, True):
        torch.manual_seed(3)
        models.append(VanillaAutoencoder((32, 32), Objective(ffl=ffl)))
    first, second = (model.network.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)
    weight = first["model.0.fc.weight"]
    assert weight.mean().abs() < 1e-3
    assert weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert not first["model.0.fc.bias"].any()


def test_one_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.num_layers=1"):
        VanillaAutoencoder((8, 8), Objective(), num_layers=1)
