"""Steps beside public implementations: what is compared is the same, and a checkout that is not there is named."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ffl.errors import UserError
from models.ae import MLP
from scripts.benchmarks import peers
from scripts.benchmarks.peers import Peer, import_from, measure
from scripts.benchmarks.steps import step_on_random_images
from scripts.benchmarks.timing import Conditions, Times

CPU = torch.device("cpu")


def conditions(folder: Path | None, *models: str) -> Conditions:
    return Conditions(CPU, models, 1, Path("data"), True, folder)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("ae", 2 * 3 * 64 * 64 * 256 + 256 + 3 * 64 * 64),  # two layers with their biases
        ("pix2pix", 54_413_955 + 2_768_705),  # which the official program prints as 54.414 M and 2.769 M
    ],
)
def test_ours_has_as_many_parameters_as_the_published_networks(model: str, parameters: int) -> None:
    (case,) = [case for case in peers.CASES if case[0] == model]
    _, phases = step_on_random_images([f"model={model}", *case[3]], case[4], 1, CPU)
    own = {id(parameter): parameter.numel() for phase in phases for parameter in phase.parameters}
    assert sum(own.values()) == parameters


def own_autoencoder(hidden_dim: int, folder: Path, size: int, batch_size: int) -> Peer:
    """Stands for a checkout: our autoencoder with the mean squared error alone."""
    network, images = MLP((3, size, size), hidden_dim), torch.rand(batch_size, 3, size, size)
    taken: list[torch.optim.Adam] = []

    def step(number: int, optimizers: list[torch.optim.Adam]) -> None:
        taken.extend(optimizers)
        optimizers[0].zero_grad()
        nn.functional.mse_loss(network(images), images).backward()
        optimizers[0].step()

    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.9))
    official = MLPWithOfficialKeys(network)
    return Peer([network], step, [optimizer], "vanilla_ae", official, [images], {})


class MLPWithOfficialKeys(nn.Module):
    """Ours under the keys of the official checkpoint."""

    def __init__(self, network: MLP) -> None:
        super().__init__()
        self.model = network.model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images.flatten(1)).view_as(images)


def stand_in(monkeypatch: pytest.MonkeyPatch, hidden_dim: int) -> None:
    case = ("ae", "SPADE", partial(own_autoencoder, hidden_dim), ("dataset=celeba",), 64, 2, 1)
    monkeypatch.setattr(peers, "CASES", (case,))


def test_a_row_compares_parameters_outputs_and_operations_before_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, 256)
    (tmp_path / "SPADE").mkdir()
    (row,) = measure(conditions(tmp_path, "ae"))
    values = 3 * 32 * 32
    assert row["parameters"] == 2 * values * 256 + 256 + values
    assert row["output_difference"] == 0
    # A layer costs 2 N I O forward and as much for each gradient; the images need none.
    assert row["flops"]["ours"] == row["flops"]["theirs"] == 2 * 2 * values * 256 * 5
    assert row["ratio"] == pytest.approx(row["theirs_s"] / row["ours_s"])
    assert row["fused_ratio"] == pytest.approx(row["theirs_fused_s"] / row["ours_s"])
    assert row["ratio_range"] == [row["ratio"], row["ratio"]]


def test_other_networks_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 8)
    (tmp_path / "SPADE").mkdir()
    with pytest.raises(UserError, match=r"ae: ours trains 1576192 parameters and SPADE 52232: not the same networks"):
        list(measure(conditions(tmp_path, "ae")))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, r"peers: say where the public implementations are, peers=DIR with focal-frequency-loss, pytorch-Cyc"),
        ((), r"SPADE is missing; git clone https://github\.com/NVlabs/SPADE .*/SPADE$"),
        (("SPADE",), r"/SPADE: is not as https://github\.com/NVlabs/SPADE is: "),
    ],
)
def test_a_checkout_that_is_not_there_is_named(found: tuple[str, ...] | None, message: str, tmp_path: Path) -> None:
    for name in found or ():
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=message) as error:
        list(measure(conditions(None if found is None else tmp_path, "spade")))
    assert "\n" not in str(error.value)


def test_modules_of_a_checkout_take_the_names_of_ours_for_a_while(tmp_path: Path) -> None:
    import models

    (tmp_path / "models.py").write_text("import helper_of_peer\nname = helper_of_peer.name\n")
    helper: Any = type(sys)("helper_of_peer")
    helper.name = "theirs"
    paths = list(sys.path)
    with import_from(tmp_path, helper_of_peer=helper):
        import models as theirs

        assert theirs.name == "theirs"
    assert sys.modules["models"] is models
    assert "helper_of_peer" not in sys.modules
    assert sys.path == paths


def test_kinds_of_steps_count_by_their_share() -> None:
    times = Times({"a 0": [4.0, 8.0], "a 1": [1.0, 2.0], "b 0": [1.0, 1.0], "b 1": [3.0, 5.0]})
    mean = times.weighted(["a", "b"], {0: 0.25, 1: 0.75})
    assert mean.rounds == {"a": [1.75, 3.5], "b": [2.5, 4.0]}
    assert mean.ratio_range("a", "b") == [1.75 / 2.5, 3.5 / 4.0]
