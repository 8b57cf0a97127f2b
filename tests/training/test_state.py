"""Randomness, loading order, checkpoints and files: what exact resuming stands on."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ffl.errors import UserError
from ffl.files import atomic_write, write_text
from ffl.training.checkpoint import load_checkpoint, load_model_state, model_state, save_checkpoint
from ffl.training.loader import Loader
from ffl.training.randomness import derive_seed, epoch_order, seed_step


class Numbers:
    """Ten items whose image is their index."""

    def __len__(self) -> int:
        return 10

    def batch(self, indices: np.ndarray, seed: int | None) -> dict:
        return {"index": torch.from_numpy(indices), "seed": seed}


def test_every_epoch_visits_every_image_once_in_another_order() -> None:
    loader = Loader(Numbers(), batch_size=5, seed=3)
    steps = [loader.batch(step)[0]["index"].tolist() for step in range(4)]
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == list(range(10))
    assert steps[:2] != steps[2:]


def test_batches_ahead_equal_batches_by_step_from_any_start() -> None:
    loader = Loader(Numbers(), batch_size=3, seed=0)
    for start in (0, 4):
        got = {step: shards[0]["index"].tolist() for step, shards in loader.batches(start, 9)}
        assert got == {step: loader.batch(step)[0]["index"].tolist() for step in range(start, 9)}


def test_shards_deal_out_the_batch_whoever_takes_them() -> None:
    whole = Loader(Numbers(), batch_size=6, seed=0).batch(0)[0]["index"].tolist()
    dealt = Loader(Numbers(), batch_size=6, seed=0, num_shards=3).batch(0)
    assert {shard: items["index"].tolist() for shard, items in dealt.items()} == {i: whole[i::3] for i in range(3)}
    mine = Loader(Numbers(), batch_size=6, seed=0, num_shards=3, shards=[1]).batch(0)
    assert list(mine) == [1]
    assert mine[1]["index"].tolist() == whole[1::3]


def test_augmentation_seed_changes_with_the_epoch_only() -> None:
    loader = Loader(Numbers(), batch_size=5, seed=0)
    seeds = [loader.batch(step)[0]["seed"] for step in range(4)]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


def test_loader_errors_surface_in_the_loop() -> None:
    class Broken(Numbers):
        def batch(self, indices: np.ndarray, seed: int | None) -> dict:
            raise UserError("broken.jpg: not an image")

    with pytest.raises(UserError, match=r"broken\.jpg"):
        list(Loader(Broken(), 5, 0).batches(0, 2))


def test_batch_larger_than_the_data_set_is_refused() -> None:
    with pytest.raises(UserError, match=r"trainer\.batch_size=11: the training split has only 10 images"):
        Loader(Numbers(), 11, 0)


def test_seeds_differ_by_purpose_and_counter_and_are_stable() -> None:
    seeds = {derive_seed(seed, purpose, count) for seed in (0, 1) for purpose in range(4) for count in range(50)}
    assert len(seeds) == 2 * 4 * 50
    assert derive_seed(1112, 2, 7) == derive_seed(1112, 2, 7)
    assert not np.array_equal(epoch_order(0, 0, 100), epoch_order(0, 1, 100))


def test_step_seed_makes_a_step_repeatable() -> None:
    seed_step(5, 17, 0, 1)
    first = torch.randn(4)
    torch.randn(100)
    seed_step(5, 17, 0, 1)
    assert torch.equal(torch.randn(4), first)


def test_checkpoint_round_trip_holds_tensors_and_plain_values(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(
        tmp_path / "c" / "last.pt",
        {"step": 7, "model": network.state_dict(), "optimizer": optimizer.state_dict()},
    )
    state = load_checkpoint(tmp_path / "c" / "last.pt")
    assert state["step"] == 7
    assert torch.equal(state["model"]["weight"], network.weight)
    assert torch.equal(state["optimizer"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def test_unreadable_checkpoints_are_one_line_errors(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    save_checkpoint(good, {"weights": torch.randn(1000)})
    content = good.read_bytes()
    (tmp_path / "short.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"something": 1}, tmp_path / "other.pt")
    torch.save({"format": 1, "code": os.path.join}, tmp_path / "code.pt")
    for name in ("absent.pt", "short.pt", "text.pt", "other.pt", "code.pt"):
        with pytest.raises(UserError, match=name) as error:
            load_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)


def test_model_state_leaves_the_objective_out_and_names_what_does_not_fit(tmp_path: Path) -> None:
    model = nn.ModuleDict({"network": nn.Linear(2, 2), "objective": nn.Linear(9, 9)})
    state = model_state(model)
    assert list(state) == ["network.weight", "network.bias"]
    load_model_state(model, state, tmp_path)
    with pytest.raises(UserError, match=r"missing \['network.bias'\], unexpected \['other'\]"):
        load_model_state(model, {"network.weight": torch.zeros(2, 2), "other": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match=r"other shape \['network.weight'\]"):
        load_model_state(model, {"network.weight": torch.zeros(3, 2), "network.bias": torch.zeros(2)}, tmp_path)


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail_half_way() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
