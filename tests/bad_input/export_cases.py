"""What scripts/export.py refuses, and exported folders that are neither measured nor resumed."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bad_input.case import Case
from bad_input.place import RUN, TINY, Place
from bad_input.programs import run_here
from ffl.training.checkpoint import load_checkpoint, save_weights

EXPORT, FOLDER = "scripts/export.py", "outputs/export/run"
WEIGHTS = r"outputs/export/run/model\.safetensors"
ELSEWHERE = "put another copy|train anew"


def refused(
    id: str, words: str, cause: str, fix: str, why: str, change: Callable[[Path], Any] = lambda run: None
) -> Case:
    """A finished run, changed, that cannot be exported."""
    return Case(f"export-{id}", EXPORT, tuple(words.split()), cause, fix, why, lambda place: change(place.run()))


def exported(place: Place) -> Path:
    """The folder of a finished run."""
    place.run()
    assert run_here(EXPORT, [f"run={RUN}"]).code == 0
    return place / FOLDER


def measured(
    id: str, cause: str, fix: str, why: str, change: Callable[[Path], Any] = lambda folder: None, *words: str
) -> Case:
    """An exported folder, changed, that cannot be evaluated."""
    arguments = (f"run={FOLDER}", "metrics=[mse]", *words)
    return Case(f"exported-{id}", "evaluate.py", arguments, cause, fix, why, lambda place: change(exported(place)))


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def alter(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def write(content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def reduced(change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Callable[[Path], Any]:
    """Written anew, with a checksum that fits, from other tensors."""

    def rewrite(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = load_checkpoint(path, whole=False)
        save_weights(path, change(state["model"]), state["networks"], state["step"])

    return rewrite


def of_another_program(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({"network.weight": torch.zeros(2)}, folder / "model.safetensors")


CASES = [
    refused("nothing", "", "run is missing", "expected run=", "no argument at all"),
    refused("no-run", "run=outputs/nowhere", "outputs/nowhere: not a run directory", "no config.yaml", "moved away"),
    refused("no-such-checkpoint", f"run={RUN} checkpoint=first", "checkpoint=first", "one of last, best", "unknown"),
    refused("no-checkpoint", f"run={RUN}", r"last\.pt: no such checkpoint", ELSEWHERE, "killed before the first",
            lambda run: shutil.rmtree(run / "checkpoints")),
    refused("no-best", f"run={RUN} checkpoint=best", r"best\.pt: no such checkpoint", ELSEWHERE, "an imported run",
            lambda run: (run / "checkpoints/best.pt").unlink()),
    refused("out-exists", f"run={RUN} out=x", "out=x: exists already", "give a new directory", "the folder of images"),
    refused("out-below-file", f"run={RUN} out=x/000000.png/folder", "x/000000.png/folder: cannot be written",
            "set out=DIR", "a file has that name"),
    refused("no-origin", f"run={RUN}", r"run\.json: does not tell where the run comes from", "copy it again|train anew",
            "a card without origin is none", lambda run: (run / "run.json").unlink()),
    refused("little-origin", f"run={RUN}", r"run\.json: does not tell where the run comes from", "copy it again",
            "another program's file", lambda run: (run / "run.json").write_text(json.dumps({"command": ["python"]}))),
    Case("export-twice", EXPORT, (f"run={FOLDER}",), "outputs/export/run: was exported already", "copy the folder",
         "a copy of a copy", exported),
    Case("exported-resume", "train.py", (*TINY, "name=run", f"resume={FOLDER}"), f"{WEIGHTS}: an exported checkpoint",
         "leave resume out", "neither optimiser nor discriminator", exported, leaves=(f"{FOLDER}/.lock",)),
    measured("best", f"checkpoint=best: {WEIGHTS}", "leave checkpoint out", "it holds one set of weights",
             lambda folder: None, "checkpoint=best"),
    measured("cut", f"{WEIGHTS}.*cut short", ELSEWHERE, "a download that was cut", cut),
    measured("altered", f"{WEIGHTS}: damaged", ELSEWHERE, "a bad disk", alter),
    measured("zero-bytes", f"{WEIGHTS}.*cut short", ELSEWHERE, "a full disk", write(b"")),
    measured("text", f"{WEIGHTS}.*not a safetensors file", ELSEWHERE, "an error page", write(b"<html>not found")),
    measured("no-header", f"{WEIGHTS}: not written by scripts/export.py", ELSEWHERE, "another program's file",
             of_another_program),
    measured("lacks-keys", f"{WEIGHTS} does not fit the model: missing .'network", "use that one|train anew",
             "a part of the weights", reduced(lambda weights: dict(list(weights.items())[1:]))),
    measured("other-shape", f"{WEIGHTS} does not fit the model.*other shape", "use that one|train anew",
             "the configuration of another folder", reduced(lambda weights: {k: v[:1] for k, v in weights.items()})),
    measured("no-weights", r"outputs/export/run/checkpoints/last\.pt: no such checkpoint", ELSEWHERE,
             "the large file was not fetched", lambda folder: (folder / "model.safetensors").unlink()),
]  # fmt: skip
