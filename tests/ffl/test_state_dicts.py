"""State dicts of other programs: what is read from their shapes, and the one strict way into a network."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.state_dicts import StateDict, load_strict


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def weights() -> dict[str, Tensor]:
    return {key: value + 1 for key, value in network().state_dict().items()}


def test_every_value_arrives() -> None:
    given, taken = weights(), load_strict(network(), weights(), "tiny")
    loaded = load_strict(network(), given, "tiny").state_dict()
    assert taken.training
    assert all(torch.equal(value, given[key]) for key, value in loaded.items())


def test_names_endings_and_axes_of_length_one_may_differ() -> None:
    given = {f"theirs.{key}": value[None] for key, value in weights().items() if "num_batches" not in key}
    given = {key: value for key, value in given.items() if not key.endswith("running_var")} | {
        "x.kernel": torch.ones(4)
    }
    names = {f"theirs.{key}": key for key in network().state_dict()}
    loaded = load_strict(network(), given, "tiny", names, optional=("running_var",), ignored=("kernel",)).state_dict()
    assert torch.equal(loaded["0.weight"], given["theirs.0.weight"][0])
    assert loaded["1.running_var"].tolist() == [1, 1]
    assert loaded["1.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.bias": None}, "no complete tiny checkpoint: missing: 0.bias"),
        ({"extra": torch.ones(1)}, "no complete tiny checkpoint: unexpected: extra"),
        ({"0.bias": None, "extra": torch.ones(1)}, "missing: 0.bias; unexpected: extra"),
        ({"0.weight": torch.ones(3, 2)}, "wrong shape: 0.weight (3, 2) for (2, 3)"),
        ({f"key{i}": torch.ones(1) for i in range(7)}, "key0, key1, key2, key3, key4 and 2 more"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change: dict[str, Any], message: str) -> None:
    given = {key: value for key, value in (weights() | change).items() if value is not None}
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_strict(network(), given, "tiny")
    assert "\n" not in str(caught.value)


def test_shapes_and_counts() -> None:
    state = StateDict("tiny", {f"module.{i}.weight": torch.ones(2, 3) for i in (0, 2, 90)})
    assert state.shape("2.weight", (2,)) == (2, 3)
    assert state.count("{}.weight") == 3  # no complete network of three tensors has a ninety-first layer
    with pytest.raises(UserError, match=r"missing: 1\.weight; found: 0\.weight, 2\.weight, 90\.weight"):
        state.shape("1.weight")
    with pytest.raises(UserError, match=r"0.weight has the shape \(2, 3\)"):
        state.shape("0.weight")
    with pytest.raises(UserError, match="tiny: w claims more values than the file holds"):
        StateDict("tiny", {"w": torch.zeros(1).expand(10**6, 10**6)})
    with pytest.raises(UserError, match="tiny: epoch is a int, expected a state dict of tensors"):
        StateDict("tiny", {"epoch": 3})
