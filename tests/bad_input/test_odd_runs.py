"""Run directories that are odd and still usable: older, moved, cut at any moment."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bad_input.place import TINY_DATA, Place, change_config
from bad_input.programs import run_here
from ffl.training.run_directory import RunDirectory
from scripts.reproduction.records import known_records

LONGER = (*TINY_DATA, "trainer.batch_size=2", "trainer.log_every=1", "trainer.checkpoint_every=1", "name=run")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path)


def log(content: bytes) -> Callable[[Path], Any]:
    return lambda run: (run / "log.jsonl").write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "run.json").unlink(),
        lambda run: (run / "run.json").write_text('{"seed": NaN'),
        lambda run: (run / "log.jsonl").unlink(),
        log(b""),
        log(b'{"step": 1, "los'),
        log(b'{"step": 1, "losses": {"generator/mse": 0.5}'),  # ends like a whole line
        log(b'{"step": NaN}\n{"step": "1"}\n[{}]\n{}\nnull}\n'),
        log(b"\xff\xfe}\n"),
        lambda run: (run / "samples").rename(run / "pictures"),
        lambda run: (run / "checkpoints/.last.pt.abc").write_bytes(b"half"),
        lambda run: change_config(run, "trainer.accumulate", ...),  # as of a version without that key
        lambda run: change_config(run, "trainer.device", "cpu"),  # as of a version that called it so
        lambda run: change_config(run, "data_root", "/elsewhere"),
    ],
    ids=[
        "no-run-json",
        "damaged-run-json",
        "no-log",
        "empty-log",
        "half-a-line",
        "half-a-line-that-closes",
        "strange-lines",
        "binary-log",
        "no-samples",
        "left-over",
        "older-config",
        "renamed-key",
        "moved-data",
    ],
)
def test_training_goes_on(change: Callable[[Path], Any], place: Place) -> None:
    """A finished run whose checkpoint says that two of three steps are left."""
    run = place.run()
    change_config(run, "trainer.steps", 3)
    change_config(run, "trainer.log_every", 1)
    change_config(run, "trainer.checkpoint_every", 1)
    change(run)
    done = run_here("train.py", [*LONGER, "trainer.steps=3", "resume=outputs/run"])
    assert done.code == 0, done.stderr
    assert "resuming outputs/run at step 1 of 3" in done.stdout
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines][-2:] == [2, 3]
    assert all(isinstance(line["step"], int) and set(line) >= {"losses"} for line in lines)
    assert not list((run / "checkpoints").glob(".*"))
    measured = run_here("evaluate.py", ["run=outputs/run", "metrics=[mse]", "data_root=."])
    assert measured.code == 0, measured.stderr
    assert json.loads((run / "metrics.json").read_text())["mse"] > 0


def test_unknown_sections_do_not_keep_a_run_from_being_measured(place: Place) -> None:
    """A later version may store more beside what evaluation builds from."""
    change_config(place.run(), "wandb.project", "faces")
    done = run_here("evaluate.py", ["run=outputs/run", "metrics=[mse]"])
    assert done.code == 0, done.stderr
    assert done.messages() == []


STRANGE_LINES = (
    b'{"metric": "mse", "val',
    b'{"metric": "mse"}\n',
    b'{"metric": "mse", "value": "much", "num_images": 2, "protocol": {}}\n',
    b"[1, 2]\nnull\n\xff\xfe\n",
)


@pytest.mark.parametrize("strange", STRANGE_LINES)
def test_records_are_found_among_strange_lines(strange: bytes, place: Place) -> None:
    """A table asks what has been measured already; what was cut off while it was written is measured again."""
    run = RunDirectory.open(place.run())
    assert run_here("evaluate.py", [f"run={run.path}", "metrics=[mse]"]).code == 0
    whole = run.records.read_bytes()
    for content in (whole + strange, strange + (b"" if strange.endswith(b"\n") else b"\n") + whole):
        run.records.write_bytes(content)
        assert set(known_records(run, "reconstruction", run.config())) == {"mse"}


def test_the_loss_curve_of_a_run_whose_log_was_cut(place: Place) -> None:
    run = place.run()
    (run / "log.jsonl").write_bytes((run / "log.jsonl").read_bytes() + b'{"step": 2, "los')
    done = run_here("scripts/figure.py", ["14", f"runs={run},{run}", f"out={place / 'curve.png'}"])
    assert done.code == 0, done.stderr
    assert (place / "curve.png").stat().st_size > 1000
