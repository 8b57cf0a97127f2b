"""Randomness, loading order, checkpoints and files: what exact resuming stands on."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import NumberedImages
from torch import nn

from ffl.errors import UserError
from ffl.files import atomic_write, write_text
from ffl.training.checkpoint import load_checkpoint, load_model_state, load_newest, model_state, save_checkpoint
from ffl.training.loader import Loader
from ffl.training.randomness import augmentation_seed, derive_seed, epoch_order, seed_step

TEN = NumberedImages(10)


def test_every_epoch_visits_every_image_once_in_another_order() -> None:
    loader = Loader(TEN, batch_size=5, seed=3)
    steps = [loader.batch(step)[0]["index"].tolist() for step in range(4)]
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == list(range(10))
    assert steps[:2] != steps[2:]


def test_batches_ahead_equal_batches_by_step_from_any_start() -> None:
    loader = Loader(TEN, batch_size=3, seed=0)
    for start in (0, 4):
        got = {step: shards[0]["index"].tolist() for step, shards in loader.batches(start, 9)}
        assert got == {step: loader.batch(step)[0]["index"].tolist() for step in range(start, 9)}


def test_shards_deal_out_the_batch_whoever_takes_them() -> None:
    whole = Loader(TEN, batch_size=6, seed=0).batch(0)[0]["index"].tolist()
    dealt = Loader(TEN, batch_size=6, seed=0, num_shards=3).batch(0)
    assert {shard: items["index"].tolist() for shard, items in dealt.items()} == {i: whole[i::3] for i in range(3)}
    mine = Loader(TEN, batch_size=6, seed=0, num_shards=3, shards=[1]).batch(0)
    assert list(mine) == [1]
    assert mine[1]["index"].tolist() == whole[1::3]


def test_augmentation_seed_changes_with_the_epoch_only() -> None:
    loader = Loader(TEN, batch_size=5, seed=0)
    seeds = [loader.batch(step)[0]["seed"] for step in range(4)]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]


def test_loader_errors_surface_in_the_loop() -> None:
    class Broken(NumberedImages):
        def batch(self, indices: np.ndarray, seed: int | None) -> dict:
            raise UserError("broken.jpg: not an image")

    with pytest.raises(UserError, match=r"broken\.jpg"):
        list(Loader(Broken(10), 5, 0).batches(0, 2))


@pytest.mark.parametrize(
    ("batch_size", "num_shards", "message"),
    [(11, 1, "=11: the training split has only 10 images"), (5, 2, "=5: must be a multiple of 2")],
)
def test_a_batch_that_cannot_be_made_is_refused(batch_size: int, num_shards: int, message: str) -> None:
    with pytest.raises(UserError, match=f"trainer.batch_size{message}"):
        Loader(TEN, batch_size, 0, num_shards)


def test_seeds_differ_by_purpose_and_counter_and_are_stable() -> None:
    seeds = {derive_seed(seed, purpose, count) for seed in (0, 1) for purpose in range(4) for count in range(50)}
    assert len(seeds) == 2 * 4 * 50
    # Numbers that runs were made with: another rule would change every result.
    assert derive_seed(0, 0) == 7896617691693857887
    assert derive_seed(1112, 2, 7) == 6446497937707636846
    assert derive_seed(1112, 2, 7, 1, 3) == 2676518803840298094
    assert augmentation_seed(1112, 3) == 658572664250147206
    assert epoch_order(1112, 0, 8).tolist() == [3, 7, 0, 5, 2, 1, 6, 4]
    assert epoch_order(1112, 1, 8).tolist() == [5, 2, 6, 4, 3, 0, 1, 7]
    assert sorted(epoch_order(0, 0, 100)) == list(range(100))


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
        {"step": 7, "model": network.state_dict(), "optimizers": {"a": optimizer.state_dict()}, "best_error": None},
    )
    state = load_checkpoint(tmp_path / "c" / "last.pt")
    assert state["step"] == 7
    assert torch.equal(state["model"]["weight"], network.weight)
    assert torch.equal(state["optimizers"]["a"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])


def _state(step: int) -> dict:
    weights = torch.arange(3000.0) + step
    return {"step": step, "best_error": None, "model": {"weight": weights}, "optimizers": {}, "scalers": {}}


def test_unreadable_checkpoints_are_one_line_errors(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    save_checkpoint(good, _state(1))
    content = good.read_bytes()
    (tmp_path / "short.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder.pt").mkdir()
    torch.save({"something": 1}, tmp_path / "other.pt")
    torch.save({"format": 1, "code": os.path.join}, tmp_path / "code.pt")
    torch.save({"format": 2, **_state(1)}, tmp_path / "newer.pt")
    for missing in ("step", "model", "optimizers"):
        torch.save({"format": 1, **_state(1), missing: "x"}, tmp_path / f"wrong_{missing}.pt")
    for path in sorted(tmp_path.iterdir()):
        if path != good:
            with pytest.raises(UserError, match=path.name) as error:
                load_checkpoint(path)
            assert "\n" not in str(error.value)
            assert "weights_only" not in str(error.value)  # torch's own advice, which would execute what is in the file
    with pytest.raises(UserError, match=r"absent\.pt: no such checkpoint"):
        load_checkpoint(tmp_path / "absent.pt")


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, _state(1))
    content, noticed = path.read_bytes(), 0
    for position in np.random.default_rng(0).integers(0, len(content), 150).tolist():
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        try:
            state = load_checkpoint(path)
        except UserError:
            noticed += 1
            continue
        assert state["step"] == 1  # a bit of the padding, or of a time
        assert torch.equal(state["model"]["weight"], _state(1)["model"]["weight"])
    assert noticed >= 120  # 12,000 of the file's 14,000 bytes are the tensor's


@pytest.mark.parametrize("how", ["truncated", "flipped", "gone", "empty"])
def test_the_checkpoint_before_takes_the_place_of_a_damaged_one(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for step in (1, 2, 3):
        save_checkpoint(last, _state(step), previous)
        assert load_checkpoint(last)["step"] == step
        assert not previous.exists() if step == 1 else load_checkpoint(previous)["step"] == step - 1
    assert sorted(os.listdir(tmp_path)) == ["last.pt", "previous.pt"]
    assert load_newest([last, previous])[0] == last
    content = bytearray(last.read_bytes())
    if how == "gone":
        last.unlink()
    else:
        content[len(content) // 2] ^= 4
        last.write_bytes({"truncated": content[:-100], "flipped": content, "empty": b""}[how])
    path, state = load_newest([last, previous])
    assert (path, state["step"]) == (previous, 2)
    assert ("last.pt: " in caplog.text and "going on from previous.pt, step 2" in caplog.text) == (how != "gone")
    previous.write_bytes(b"")
    with pytest.raises(UserError, match=r"put another copy of it there, or train anew"):
        load_newest([last, previous])


def test_without_hard_links_the_old_file_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    last, previous = tmp_path / "last.pt", tmp_path / "previous.pt"
    for step in (1, 2):
        save_checkpoint(last, _state(step), previous)
    assert (load_checkpoint(last)["step"], load_checkpoint(previous)["step"]) == (2, 1)


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
