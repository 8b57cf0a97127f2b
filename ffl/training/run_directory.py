"""A run's directory: everything needed to trust, resume and evaluate it, here or on another machine.

config.yaml       resolved configuration
run.json          command, commit, seed, software, hardware
log.jsonl         losses, gradient shares, speed
status.json       step of the last checkpoint, and whether it is the end
metrics.jsonl     evaluation records; metrics.json and eval_results.yaml have those of the last evaluation
samples/          image grids
tensorboard/
checkpoints/last.pt, previous.pt (the one before, should last.pt be damaged), best.pt

A folder that scripts/export.py made has config.yaml and, in place of checkpoints, model.safetensors. It is opened like
a run to generate images, and evaluations write their records into it.
"""

import dataclasses
import fcntl
import itertools
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import yaml

from ffl.errors import UserError
from ffl.files import report_failed_writes, write_text
from ffl.training.config import FREE_KEYS, Config, difference
from ffl.training.provenance import code_version, environment


@dataclass(frozen=True)
class Status:
    """The progress of a run, which readers learn here without opening its checkpoint or composing its config.

    Attributes:
        step: of the last checkpoint.
        total: steps of the whole run.
        finished: whether the last checkpoint is that of the last step.
        images: training images that the run has seen, each as often as it was seen.
        seconds: wall time of training, over all sessions of the run.
        shards: parts of a batch, which are the processes times ``trainer.accumulate``.
    """

    step: int
    total: int
    finished: bool
    images: int
    seconds: float
    shards: int


class RunDirectory:
    """Paths and small files of one run.

    Args:
        path: the directory, which must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log.jsonl"
        self.status_file = path / "status.json"
        self.records = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.tensorboard = path / "tensorboard"
        self.last = path / "checkpoints" / "last.pt"
        self.previous = path / "checkpoints" / "previous.pt"
        self.best = path / "checkpoints" / "best.pt"
        self.exported = path / "model.safetensors"

    @classmethod
    def create(cls, root: Path, name: str, config: Config) -> "RunDirectory":
        """Make a new directory ``root/name``, or ``name-2``, ``name-3``, … where the name is taken.

        Raises:
            UserError: if it cannot be made.
        """
        # What a reader of the run's numbers must know and the config does not say.
        about = {
            "command": ["python", *sys.argv],
            "seed": config["seed"],
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **code_version(),
            "environment": environment(),
        }
        with report_failed_writes(root, "make room, or set output_root=DIR"):
            # Let the file system decide between two processes that want the same name.
            root.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                path = root / (name if number == 1 else f"{name}-{number}")
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    continue
            write_text(path / "config.yaml", config_text(config))
            write_text(path / "run.json", json.dumps(about, indent=2) + "\n")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run.

        Raises:
            UserError: if ``path`` is not a run directory.
        """
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path}: not a run directory (no config.yaml in it)")
        return cls(path)

    def config(self) -> Config:
        """The resolved configuration it was started with."""
        # A stored config is somebody else's text: plain values are read and nothing is executed.
        try:
            config = yaml.load((self.path / "config.yaml").read_text(), _PlainLoader)
        except (yaml.YAMLError, ValueError, RecursionError):
            config = None
        if not isinstance(config, dict):
            raise UserError(
                f"{self.path / 'config.yaml'}: not a readable configuration; copy it anew from where the run was made"
            )
        return config

    def weights(self, checkpoint: Literal["last", "best"] = "last") -> list[Path]:
        """Files that the weights may be read from, each where the ones before it are damaged.

        Args:
            checkpoint: whose weights. An exported folder holds those of one, and does not take "best".
        Raises:
            UserError: for the best weights of an exported folder.
        """
        if self.exported.is_file():
            if checkpoint == "best":
                raise UserError(f"checkpoint=best: {self.exported} is all the weights there are; leave checkpoint out")
            return [self.exported]
        return [self.last, self.previous] if checkpoint == "last" else [self.best]

    def lock(self) -> None:
        """Keep others from training into this directory until ``unlock``, or until this process ends in whatever way.

        Raises:
            UserError: if one already does.
        """
        # The kernel drops the lock with the process, so that a killed run leaves no stale one.
        with report_failed_writes(self.path, "give it to yourself, or start a new run without resume"):
            self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{self.path}: another process is training into it; wait for it or leave resume out"
            ) from None
        # Nobody else writes now, so that half-written files are those of processes that were killed.
        for left_over in self.last.parent.glob(".*.pt.*"):
            left_over.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Let others train into this directory."""
        self._lock.close()

    def wait_for_training(self, wait: bool = True) -> bool:
        """Wait until no process trains into the directory, and return True.

        Args:
            wait: False returns at once, and False where a process is training.
        """
        # A shared lock excludes the trainer's alone: any number of readers may wait for it.
        try:
            with (self.path / ".lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except BlockingIOError:
            return False
        return True

    def write_status(self, status: Status) -> None:
        """Write the progress that the newest checkpoint holds; call it right after that was written."""
        write_text(self.status_file, json.dumps(dataclasses.asdict(status)) + "\n")

    def status(self) -> Status | None:
        """The progress of the run; None where it is not known.

        That is so before the first checkpoint, where the checkpoints or the file are gone or damaged, and in runs of
        older versions. The same command with ``resume=auto`` then finds out and writes it. A run that was killed
        between writing a checkpoint and its status is one checkpoint further than it says.
        """
        # Without its checkpoint a status promises what cannot be resumed or evaluated.
        if not (self.last.is_file() or self.previous.is_file()):
            return None
        try:
            values = json.loads(self.status_file.read_text())
            status = Status(**{field.name: values[field.name] for field in dataclasses.fields(Status)})
        except (OSError, ValueError, RecursionError, TypeError, KeyError):
            return None
        # A file of plausible JSON may still hold other types, which readers would trip over much later.
        counts = (status.step, status.total, status.images, status.shards)
        fits = all(type(count) is int and count >= 0 for count in counts) and type(status.finished) is bool
        fits = fits and type(status.seconds) in (int, float) and math.isfinite(status.seconds)
        return status if fits else None

    def append_log(self, line: dict[str, Any]) -> None:
        """Add one line to the log."""
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def log_lines(self) -> list[dict[str, Any]]:
        """The lines of the log, without those that are cut off or damaged."""
        if not self.log.is_file():
            return []
        lines = []
        for text in self.log.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            # A process that was killed while it wrote leaves half a line.
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines

    def logged_seconds(self) -> float:
        """Seconds of training over all sessions by the log: the images of each interval divided by its speed."""
        seconds, before = 0.0, 0
        for line in self.log_lines():
            if line["images_per_second"]:
                seconds += (line["images"] - before) / line["images_per_second"]
            before = line["images"]
        return seconds

    def rewind_log(self, step: int) -> None:
        """Drop the lines after ``step``, which the resumed run writes again."""
        if self.log.is_file():
            kept = [line for line in self.log_lines() if line["step"] <= step]
            write_text(self.log, "".join(json.dumps(line) + "\n" for line in kept))


class _PlainLoader(yaml.SafeLoader):
    """Reads plain values and refuses references, since nine lines of them can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a reference")
        return super().compose_node(parent, index)


class _PlainDumper(yaml.SafeDumper):
    """Writes a value that occurs twice twice, instead of a reference that the loader would refuse."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def config_text(config: Config) -> str:
    """The content of config.yaml, which ``RunDirectory.config`` reads."""
    text: str = yaml.dump(config, Dumper=_PlainDumper, sort_keys=False)
    return text


def run_name(config: Config, overrides: list[str]) -> str:
    """``model-dataset[-ffl]`` and the values that the command line changed, such as ``ae-photos-ffl-alpha0.5``."""
    if config["name"] is not None:
        return str(config["name"])
    parts = [config["model"]["name"], config["dataset"]["name"]]
    if config["loss"]["ffl"]:
        parts.append("ffl")
    # Sorted, so that the same settings in another order have the same name.
    for override in sorted(overrides):
        key, _, value = override.lstrip("+~").partition("=")
        if key == "loss":
            parts += [value] if value not in ("default", "ffl") else []
        elif key not in FREE_KEYS | {"model", "dataset", "loss.ffl"}:
            parts.append(key.rsplit(".", 1)[-1].replace("_", "") + value)
    return re.sub(r"[^\w.+-]+", "", "-".join(parts))[:120]


def find_run(config: Config, overrides: list[str], defaults: Mapping[str, Any] | None = None) -> RunDirectory | None:
    """The run that ``resume`` names, or None for a new one.

    ``resume=DIR`` is that run; ``resume=auto`` the newest one that this command's name stands for, if any.

    Args:
        config: of the run that is wanted.
        overrides: the command line it came from.
        defaults: what keys stand for that an older run's config lacks, see ``difference``.
    Raises:
        UserError: if the run was started with another configuration; the message shows the difference.
    """
    resume = config["resume"]
    if resume is None:
        return None
    if not resume:
        raise UserError("resume=: give a run directory, or auto for the one that this command started")
    if resume != "auto":
        runs = [RunDirectory.open(Path(resume))]
    else:
        # Directories of this command's name, the newest and therefore the highest number first.
        numbered = re.compile(re.escape(run_name(config, overrides)) + r"(?:-(\d+))?")
        found = [
            (int(match[1] or 1), path)
            for path in Path(config["output_root"]).glob("*")
            if (match := numbered.fullmatch(path.name)) and (path / "config.yaml").is_file()
        ]
        runs = [RunDirectory(path) for _, path in sorted(found, reverse=True)]
    # The run is the newest one with the same configuration. If there is none, the message shows how the newest differs.
    changes = [difference(run.config(), config, defaults) for run in runs]
    for run, changed in zip(runs, changes, strict=True):
        if not changed:
            return run
    if runs:
        raise UserError(
            f"{runs[0].path} was started with another configuration: {'; '.join(changes[0])}. "
            "Use its values, or leave resume out to start a new run"
        )
    return None
