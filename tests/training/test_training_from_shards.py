"""A run from shards is the run from the folder, bit for bit: killed, in two processes, and after a shard was lost."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from processes import Program, evaluate_program, ranks, train_program, wait_until, write_images
from tiny_runs import state_hash

from datasets import DATASETS, shards
from ffl.training.checkpoint import load_checkpoint

STEPS = 40
SETTINGS = [
    f"trainer.steps={STEPS}",
    "trainer.batch_size=8",
    "trainer.checkpoint_every=2",
    "trainer.log_every=1",
    "trainer.image_every=1000",
    "model.hidden_dim=16",
    "dataset.image_size=8",
    "dataset.val_images=4",
    "dataset.horizontal_flip=true",
    "resume=auto",
    "name=run",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, and several shards of them."""
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "images")
    kind: Any = DATASETS["folder"]
    options = {"folder": str(folder / "images")}
    listing = kind.find_files(folder, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", 8000)
        chosen, files = kind.listing_options(**options), kind.source_files(listing)
        assert shards.write_shards(folder / "shards", "folder", chosen, listing, files, 1) >= 4
    return folder


def from_folder(folder: Path) -> list[str]:
    words = ["dataset=folder", f"dataset.folder={folder / 'images'}", f"cache_dir={folder / 'cache'}"]
    return [*words, *SETTINGS]


def from_shards(path: Path) -> list[str]:
    return ["dataset=folder", f"dataset.shards={path}", "cache_dir=unused", *SETTINGS]


def outcome(cwd: Path) -> tuple[str, list[dict[str, float]]]:
    """All that the last checkpoint holds, and the losses of every step."""
    run = cwd / "outputs/run"
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [{key: value for key, value in line.items() if "second" not in key} for line in lines]
    return state_hash(load_checkpoint(run / "checkpoints/last.pt")), losses


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[str, list[dict[str, float]]]:
    """The outcome of the run from the folder, to which nothing happens."""
    cwd = tmp_path_factory.mktemp("unbroken")
    program = Program(train_program, from_folder(folder), cwd=cwd)
    assert program.wait() == 0, program.err
    return outcome(cwd)


def test_a_killed_run_from_shards_ends_as_one_from_the_folder(tmp_path: Path, folder: Path, expected: Any) -> None:
    words, last = from_shards(folder / "shards"), tmp_path / "outputs/run/checkpoints/last.pt"
    program = Program(train_program, words, cwd=tmp_path)
    wait_until(last.exists, program)
    assert program.send(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    assert 0 < load_checkpoint(last)["step"] < STEPS
    again = Program(train_program, words, cwd=tmp_path)
    assert again.wait() == 0, again.err
    assert "resuming outputs/run" in again.out
    assert outcome(tmp_path) == expected
    assert not (tmp_path / "unused").exists()


def test_two_processes_from_shards_are_two_from_the_folder(tmp_path: Path, folder: Path) -> None:
    found = []
    for name, words in (("a", from_folder(folder)), ("b", from_shards(folder / "shards"))):
        (tmp_path / name).mkdir()
        programs = ranks(train_program, words, cwd=tmp_path / name)
        assert [program.wait() for program in programs] == [0, 0], programs[0].err
        found.append(outcome(tmp_path / name))
    assert found[0] == found[1]


def test_a_run_that_lost_a_shard_goes_on_when_it_is_back(tmp_path: Path, folder: Path, expected: Any) -> None:
    (tmp_path / "shards").symlink_to(folder / "shards")
    words, last = from_shards(tmp_path / "shards"), tmp_path / "outputs/run/checkpoints/last.pt"
    program = Program(train_program, words, cwd=tmp_path)
    wait_until(last.exists, program)
    (tmp_path / "shards").rename(tmp_path / "away")  # as a network drive that is gone
    assert program.wait() == 2
    (line,) = program.err.strip().splitlines()
    assert ".bin: this shard is missing or damaged (No such file or directory); copy it again" in line
    # Without it the run does not start, and nothing of it is lost.
    again = Program(train_program, words, cwd=tmp_path)
    assert again.wait() == 2
    assert "no such folder" in again.err
    (tmp_path / "away").rename(tmp_path / "shards")
    again = Program(train_program, words, cwd=tmp_path)
    assert again.wait() == 0, again.err
    assert outcome(tmp_path) == expected


def test_a_run_may_change_to_shards_and_is_evaluated_from_them(tmp_path: Path, folder: Path, expected: Any) -> None:
    """Where the files lie is no part of a run, so that ``resume=auto`` takes either."""
    half = [word for word in from_folder(folder) if not word.startswith("trainer.checkpoint_every")]
    program = Program(train_program, [*half, "trainer.checkpoint_every=7"], cwd=tmp_path)
    wait_until((tmp_path / "outputs/run/checkpoints/last.pt").exists, program)
    program.send(signal.SIGKILL)
    program.wait()
    words = [*from_shards(folder / "shards"), f"dataset.folder={folder / 'images'}"]
    again = Program(train_program, words, cwd=tmp_path)
    assert again.wait() == 0, again.err
    assert outcome(tmp_path)[0] == expected[0]
    values = []
    for options in ("{}", f"{{shards: {folder / 'shards'}}}"):
        measured = ["run=outputs/run", "metrics=[psnr,lfd]", f"dataset_options={options}", f"out={tmp_path / 'out'}"]
        program = Program(evaluate_program, [*measured, f"cache_dir={folder / 'cache'}"], cwd=tmp_path)
        assert program.wait() == 0, program.err
        content = json.loads((tmp_path / "out/metrics.json").read_text())
        values.append((content["psnr"], content["lfd"], content["records"][0]["protocol"]["reference_fingerprint"]))
    assert values[0] == values[1]
