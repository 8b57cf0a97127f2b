"""Run directories that are neither resumed nor measured: damaged, hostile, of other versions."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bad_input.case import Case
from bad_input.place import (
    HOSTILE_ARCHIVE,
    HOSTILE_PICKLE,
    RUN,
    TINY,
    YAML_BOMB,
    Hostile,
    Place,
    change_checkpoints,
    change_config,
    replace_checkpoints,
)

Change = Callable[[Path], Any]
CHECKPOINT = r"last\.pt|best\.pt|previous\.pt"
TRAIN_ANEW = "leave resume out|start a new run|train|copy|version"
ELSEWHERE = "checkpoint=|train|resume|copy|version"


def resumed(id: str, cause: str, fix: str, why: str, change: Change, *words: str) -> Case:
    """A finished run, changed, is to be continued."""
    return _case(f"resume-{id}", "train.py", (*TINY, "name=run", f"resume={RUN}", *words), cause, fix, why, change)


def measured(id: str, cause: str, fix: str, why: str, change: Change, *words: str) -> Case:
    """A finished run, changed, is to be evaluated."""
    return _case(f"evaluate-{id}", "evaluate.py", (f"run={RUN}", "metrics=[mse]", *words), cause, fix, why, change)


def _case(id: str, program: str, words: tuple[str, ...], cause: str, fix: str, why: str, change: Change) -> Case:
    return Case(id, program, words, cause, fix, why, lambda place: change(place.run()))


def both(id: str, cause: str, why: str, change: Change) -> list[Case]:
    """A checkpoint that neither program takes."""
    return [
        resumed(id, f"({CHECKPOINT}).*({cause})", TRAIN_ANEW, why, change),
        measured(id, f"({CHECKPOINT}).*({cause})", ELSEWHERE, why, change),
    ]


def config(content: bytes) -> Change:
    return lambda run: (run / "config.yaml").write_bytes(content)


def configured(key: str, value: Any) -> Change:
    return lambda run: change_config(run, key, value)


def without(key: str) -> Change:
    return lambda run: change_checkpoints(run, lambda state: {name: state[name] for name in state if name != key})


def holding(**values: Any) -> Change:
    return lambda run: change_checkpoints(run, lambda state: state.update(values))


def shrink(state: dict[str, Any]) -> None:
    name = min(state["model"])
    state["model"][name] = state["model"][name][:1]


def as_imported(run: Path) -> None:
    change_checkpoints(run, lambda state: state.update(networks=["network"]))


UNREADABLE_CONFIG = r"outputs/run/config\.yaml: not a readable configuration"
ANEW = "copy|train|new run"

CASES = [
    # Checkpoints
    *both("hostile-pickle", "posix.system|cut short|plain values", "a pickle that runs a command",
          lambda run: replace_checkpoints(run, HOSTILE_PICKLE)),
    *both("hostile-pickle-4", "cut short|plain values", "Python's present protocol",
          lambda run: replace_checkpoints(run, pickle.dumps(Hostile()))),
    *both("hostile-archive", "posix.system|plain values", "as torch saves it, with an object that runs a command",
          lambda run: replace_checkpoints(run, HOSTILE_ARCHIVE)),
    *both("zero-bytes", "readable|cut short", "a full disk", lambda run: replace_checkpoints(run, b"")),
    *both("text", "readable|cut short", "an error page", lambda run: replace_checkpoints(run, b"<html>not found")),
    *both("truncated", "readable|cut short", "copied in part",
          lambda run: [path.write_bytes(path.read_bytes()[:2000]) for path in (run / "checkpoints").iterdir()]),
    *both("format-0", "format", "an older version", holding(format=0)),
    *both("format-2", "format", "a later version", holding(format=2)),
    *both("list", "format|checkpoint", "something else that torch saved",
          lambda run: change_checkpoints(run, lambda state: [1, 2])),
    *both("no-model", "parts missing|model", "another program's checkpoint", without("model")),
    *both("model-of-text", "of another kind|tensor", "another program's checkpoint", holding(model={"network": "big"})),
    *both("other-shape", "does not fit", "the code was changed", lambda run: change_checkpoints(run, shrink)),
    resumed("no-optimizers", CHECKPOINT, TRAIN_ANEW, "weights alone", without("optimizers")),
    resumed("other-optimizers", CHECKPOINT, TRAIN_ANEW, "another version of torch",
            holding(optimizers={"generator": {}})),
    resumed("no-step", CHECKPOINT, TRAIN_ANEW, "another program's checkpoint", without("step")),
    resumed("step-of-text", CHECKPOINT, TRAIN_ANEW, "another program's checkpoint", holding(step="last")),
    resumed("negative-step", CHECKPOINT, TRAIN_ANEW, "nothing that a run writes", holding(step=-5)),
    resumed("imported", "imported checkpoint", "leave resume out", "weights of an official program", as_imported),
    measured("no-checkpoint", r"last\.pt", ELSEWHERE, "killed before the first",
             lambda run: shutil.rmtree(run / "checkpoints")),
    measured(
        "not-finite",
        "finite|NaN",
        "train|checkpoint|learning rate",
        "a run that diverged",
        lambda run: change_checkpoints(
            run, lambda state: [weight.fill_(torch.nan) for weight in state["model"].values()] and None
        ),
    ),
    # Configurations
    *[
        make(f"config-{id}", UNREADABLE_CONFIG, ANEW, why, config(content))
        for make in (resumed, measured)
        for id, content, why in (
            ("python-tag", b"!!python/object/apply:os.system ['touch EXECUTED']\n", "YAML that runs a command"),
            ("binary", b"\xff\xfe\x00", "damaged"),
            ("empty", b"", "a full disk"),
            ("list", b"- model\n", "another file of that name"),
            ("nested", b"[" * 3_000, "the parser's stack"),
            ("bomb", YAML_BOMB.encode(), "gigabytes of nothing"),
        )
    ],
    resumed("changed", r"model\.lr: 0\.001 -> 0\.01", "leave resume out", "half a run with each", lambda run: None,
            "model.lr=0.01"),
    resumed("unknown-section", r"wandb\.project", "leave resume out", "another version",
            configured("wandb.project", "x")),
    resumed("unknown-key", r"model\.width", "leave resume out", "another version", configured("model.width", 2)),
    resumed("target", r"model\._target_: os\.system", "leave resume out", "Hydra's way to call anything",
            configured("model._target_", "os.system")),
    *[
        measured(f"stored-{id}", rf"config\.yaml.*{key}", r"allowed|expected|one of|train", why, configured(key, value))
        for id, key, value, why in (
            ("unknown-key", "model.width", 2, "another version"),
            ("target", "model._target_", "os.system", "Hydra's way to call anything"),
            ("dataset-target", "dataset._target_", "os.system", "Hydra's way to call anything"),
            ("no-model", "model", ..., "another program's file"),
            ("model-of-text", "model", "ae", "another program's file"),
            ("no-model-name", "model.name", ..., "edited by hand"),
            ("no-such-model", "model.name", "resnet", "another version"),
            ("no-such-dataset", "dataset.name", "imagenet", "another version"),
            ("dataset-null", "dataset", None, "edited by hand"),
            ("text-for-number", "model.hidden_dim", "big", "edited by hand"),
            ("no-seed", "seed", ..., "another program's file"),
        )
    ],
    measured("data-gone", "folder x is missing", "dataset.folder=DIR|data_root=", "evaluated on another machine",
             lambda run: (run.parents[1] / "x").rename(run.parents[1] / "moved")),
    measured("no-such-option", "dataset.*colour", "there are|allowed", "an option of another data set",
             lambda run: None, "dataset_options={colour:true}"),
    measured("more-than-there-are", "num_images=99", "has 2 images", "the split is smaller", lambda run: None,
             "num_images=99"),
    measured("other-task", "task=synthesis", "does reconstruction", "an autoencoder has no prior", lambda run: None,
             "task=synthesis"),
    measured("no-labels", "miou", "only for cityscapes and ade20k", "faces have no classes", lambda run: None,
             "metrics=[miou]"),
    # Other files of a run
    Case("resume-auto-damaged", "train.py", (*TINY, "name=run", "resume=auto"), UNREADABLE_CONFIG, ANEW,
         "the run that the command names is damaged", lambda place: config(b"a: [1")(place.run())),
    Case("resume-file", "train.py", (*TINY, "resume=x/000000.png"), "x/000000.png", "run directory",
         "the checkpoint in place of the run", Place.images),
]  # fmt: skip
