"""Run directories: unique, found again by the same command, and refused to another configuration."""

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from ffl.errors import UserError
from ffl.training.run_directory import RunDirectory, Status, find_run, run_name


def _config(root: Path, **changes: object) -> dict:
    config = {
        "seed": 0,
        "name": None,
        "resume": None,
        "output_root": str(root),
        "model": {"name": "ae"},
        "dataset": {"name": "photos"},
        "loss": {"ffl": False, "alpha": 1.0},
    }
    return {**config, **changes}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, "run", _config(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "ffl", "name"),
    [
        ([], False, "ae-photos"),
        (["loss.ffl=true"], True, "ae-photos-ffl"),
        (["loss=ffl"], True, "ae-photos-ffl"),
        (["loss=wavelet", "seed=1"], False, "ae-photos-wavelet-seed1"),
        (["loss.ffl=true", "loss.alpha=0.5", "seed=3"], True, "ae-photos-ffl-alpha0.5-seed3"),
        (["data_root=/somewhere/else", "trainer.accelerator=cpu"], False, "ae-photos"),
        (["trainer.steps=20"], False, "ae-photos-steps20"),
    ],
)
def test_names_say_what_differs(tmp_path: Path, overrides: list[str], ffl: bool, name: str) -> None:
    config = _config(tmp_path, loss={"ffl": ffl, "alpha": 1.0})
    assert run_name(config, overrides) == name


def _create(root: Path) -> str:
    return RunDirectory.create(root, "run", _config(root)).path.name


def test_directories_are_unique_even_when_made_at_the_same_time(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        names = pool.map(_create, [tmp_path] * 8)
    assert sorted(names) == sorted(["run", *(f"run-{i}" for i in range(2, 9))])


def test_resume_auto_finds_the_newest_run_of_the_same_configuration(tmp_path: Path) -> None:
    config = _config(tmp_path, resume="auto")
    assert find_run(config, []) is None
    for _ in range(11):
        newest = RunDirectory.create(tmp_path, "ae-photos", config)
    found = find_run({**config, "data_root": "elsewhere"}, [])
    assert found is not None
    assert found.path == newest.path
    assert newest.path.name == "ae-photos-11"


def test_resume_refuses_a_changed_configuration_and_shows_the_difference(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "ae-photos", _config(tmp_path))
    for resume in ("auto", str(run.path)):
        with pytest.raises(UserError, match=r"another configuration: model.channels: absent -> 8; seed: 0 -> 1"):
            find_run(_config(tmp_path, resume=resume, seed=1, model={"name": "ae", "channels": 8}), [])


def test_resume_from_what_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        find_run(_config(tmp_path, resume=str(tmp_path)), [])


def test_two_processes_cannot_train_into_one_directory(run: RunDirectory) -> None:
    run.lock()
    with pytest.raises(UserError, match="another process is training"):
        RunDirectory(run.path).lock()


def test_a_configuration_is_plain_values(tmp_path: Path) -> None:
    shared = [0.5, 0.9]
    run = RunDirectory.create(tmp_path, "run", _config(tmp_path, model={"a": shared, "b": shared}))
    assert run.config()["model"] == {"a": shared, "b": shared}
    path = run.path / "config.yaml"
    hostile = ["!!python/object/apply:os.system ['touch made']", "&a [1]\nb: *a", "[" * 5000, "\xff", "- 1"]
    for text in hostile:
        path.write_bytes(f"a: {text}\n".encode("latin-1") if text != "- 1" else b"- 1")
        with pytest.raises(UserError, match=r"config\.yaml: not a readable configuration") as error:
            run.config()
        assert "\n" not in str(error.value)
    assert not Path("made").exists()


def test_what_a_killed_process_left_half_written_goes_with_the_next_lock(run: RunDirectory) -> None:
    run.last.parent.mkdir()
    (run.last.parent / ".last.pt.ab12").touch()
    run.last.touch()
    run.lock()
    assert list(run.last.parent.iterdir()) == [run.last]


def test_rewinding_the_log_drops_later_and_broken_lines(run: RunDirectory) -> None:
    for step in (10, 20, 30):
        run.append_log({"step": step})
    with run.log.open("ab") as file:
        file.write(b'{"step": 1, "losses": {"a": 1}\n[{}]\n{"step": "1"}\n"\xff"\n{"step": 4')
    run.rewind_log(20)
    assert [json.loads(line)["step"] for line in run.log.read_text().splitlines()] == [10, 20]


STATUS = Status(step=6, total=10, finished=False, images=48, seconds=1.5, shards=2)


def test_a_status_says_what_was_written_while_its_checkpoint_is_there(run: RunDirectory) -> None:
    assert run.status() is None
    run.write_status(STATUS)
    assert run.status() is None  # it says how far a checkpoint is that is gone
    run.last.parent.mkdir()
    run.last.touch()
    assert RunDirectory.open(run.path).status() == STATUS
    run.status_file.write_text(json.dumps({**json.loads(run.status_file.read_text()), "later": "version"}))
    assert run.status() == STATUS


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-3],
        lambda text: "[" * 5000,
        lambda text: "[1]",
        lambda text: text.replace("6", '"6"'),
        lambda text: text.replace("6", "true"),
        lambda text: text.replace("6", "-6"),
        lambda text: text.replace("false", "0"),
        lambda text: text.replace("1.5", "NaN"),
        lambda text: text.replace("shards", "chards"),
        lambda text: text.replace("1.5", "\udcff"),
    ],
)
def test_a_damaged_status_is_none(run: RunDirectory, damage: Callable[[str], str]) -> None:
    run.write_status(STATUS)
    run.last.parent.mkdir()
    run.last.touch()
    run.status_file.write_bytes(damage(run.status_file.read_text()).encode(errors="surrogateescape"))
    assert run.status() is None


def test_seconds_of_an_older_run_are_those_of_its_log(run: RunDirectory) -> None:
    assert run.logged_seconds() == 0
    for images, speed in ((40, 4.0), (60, 10.0), (80, None), (100, 5.0)):
        run.append_log({"step": images, "images": images, "images_per_second": speed})
    assert run.logged_seconds() == 10 + 2 + 4
