"""What counts as the floor of a training step, and how steps of different phases add up."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.training.model import Phase
from models.stylegan2.ops import fir_kernel, upsample2d
from scripts.benchmark import main
from scripts.benchmarks.floor import Replay, operator_shares, step_kinds

CPU = torch.device("cpu")


def network(x: Tensor, weight: Tensor, matrix: Tensor) -> Tensor:
    x = F.conv2d(x, weight, padding=1)
    x = F.leaky_relu(upsample2d(x, fir_kernel()), 0.2)
    return F.linear(x.mean((2, 3)), matrix)


def test_learned_layers_are_replayed_and_filters_are_not() -> None:
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, matrix = torch.randn(4, 3, 3, 3, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    with Replay() as replay:
        network(x, weight, matrix).square().sum().backward()
    names = [str(operator).removeprefix("aten.") for operator, *_ in replay.calls]
    assert names == ["convolution.default", "mm.default", "mm.default", "mm.default", "convolution_backward.default"]
    forward, backward = replay.calls[0][1], replay.calls[-1][1]
    assert [tensor.shape for tensor in forward[:2]] == [(2, 3, 8, 8), (4, 3, 3, 3)]
    assert forward[0].is_contiguous(memory_format=torch.channels_last)
    assert forward[0].data_ptr() != x.data_ptr()
    assert backward[0].shape == (2, 4, 8, 8)
    assert backward[-1] == [True, True, False]
    calls = []
    replay.calls = [(lambda *a, f=f, **k: calls.append(f(*a, **k)), a, k) for f, a, k in replay.calls]
    replay()
    assert calls[0].shape == (2, 4, 8, 8)
    assert [gradient.shape for gradient in calls[-1][:2]] == [x.shape, weight.shape]


def test_second_derivatives_count() -> None:
    x, weight = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(4, 3, 3, 3, requires_grad=True)

    with Replay() as replay:
        (gradient,) = torch.autograd.grad(F.conv2d(x, weight).square().sum(), x, create_graph=True)
        gradient.square().sum().backward()
    assert len(replay.calls) > 3  # forward, backward, and their derivatives


def test_steps_with_different_phases_and_how_many_there_are() -> None:
    phases = [
        Phase(name, [nn.Parameter(torch.zeros(1))], 0.1, (0.0, 0.9), interval=interval)
        for name, interval in (("generator", 1), ("path_length", 4), ("discriminator", 1), ("r1", 16))
    ]
    assert step_kinds(phases) == {0: 1 / 16, 1: 12 / 16, 4: 3 / 16}


def test_shares_of_operators() -> None:
    x, weight, matrix = torch.randn(8, 16, 32, 32), torch.randn(16, 16, 3, 3), torch.randn(5, 16)

    def action() -> None:
        for _ in range(20):  # one call alone is at the mercy of whatever else the machine does
            network(x, weight, matrix)

    action()
    shares = {entry["operator"]: entry["share"] for entry in operator_shares(action, CPU)}
    assert shares["convolutions and products of learned layers"] > 0.01
    assert shares["low-pass filters"] > 0.01
    assert sum(shares.values()) <= 1 + 1e-9


@pytest.mark.parametrize("name", ["stylegan2", "spade"])
def test_steps_are_measured_beside_their_floor(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    main("floor", models=[name], small=True, rounds=1, threads=[1], accelerator="cpu", json=path)
    for row in json.loads(path.read_text())["floor"]:
        assert row["model"] == name
        assert 0 < row["floor_s"] < row["step_s"]
        assert row["ratio"] == pytest.approx(row["step_s"] / row["floor_s"])
        assert sum(kind["share_of_steps"] for kind in row["kinds"]) == pytest.approx(1)
        assert row["step_s"] == pytest.approx(sum(kind["share_of_steps"] * kind["step_s"] for kind in row["kinds"]))
        assert {"generator", "discriminator"} <= set(row["kinds"][0]["phases"])
