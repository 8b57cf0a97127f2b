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


def log(content: bytes) -> Callable[[Path], Any]:
    return lambda run: (run / "log.jsonl").write_bytes(content)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "no-run-json": lambda run: (run / "run.json").unlink(),
    "damaged-run-json": lambda run: (run / "run.json").write_text('{"seed": NaN'),
    "no-log": lambda run: (run / "log.jsonl").unlink(),
    "empty-log": log(b""),
    "half-a-line": log(b'{"step": 1, "los'),
    "half-a-line-that-closes": log(b'{"step": 1, "losses": {"generator/mse": 0.5}'),
    "strange-lines": log(b'{"step": NaN}\n{"step": "1"}\n[{}]\n{}\nnull}\n'),
    "binary-log": log(b"\xff\xfe}\n"),
    "no-samples": lambda run: (run / "samples").rename(run / "pictures"),
    "left-over": lambda run: (run / "checkpoints/.last.pt.abc").write_bytes(b"half"),
    "older-config": lambda run: change_config(run, "trainer.accumulate", ...),  # of a version without that key
    "renamed-key": lambda run: change_config(run, "trainer.device", "cpu"),  # of a version that called it so
    "moved-data": lambda run: change_config(run, "data_root", "/elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
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
