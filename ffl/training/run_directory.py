"""A run's directory: everything needed to trust, resume and evaluate it, here or on another machine.

config.yaml       resolved configuration
run.json          command, commit, seed, software, hardware
log.jsonl         losses, gradient shares, speed
metrics.jsonl     evaluation records
samples/          image grids
tensorboard/
checkpoints/last.pt, best.pt
"""

import fcntl
import json
import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from ffl.errors import UserError
from ffl.files import write_text
from ffl.provenance import code_version, environment
from ffl.training.config import FREE_KEYS, difference

Config = dict[str, Any]


class RunDirectory:
    """Paths and small files of one run.

    Args:
        path: the directory, which must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log.jsonl"
        self.records = path / "metrics.jsonl"
        self.samples = path / "samples"
        self.tensorboard = path / "tensorboard"
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"

    @classmethod
    def create(cls, root: Path, name: str, config: Config) -> "RunDirectory":
        """Make a new directory ``root/name``, or ``name-2``, ``name-3``, … where the name is taken."""
        root.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()  # the file system decides between two processes that want the same name
                break
            except FileExistsError:
                number += 1
        run = cls(path)
        write_text(path / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        about = {
            "command": ["python", *sys.argv],
            "seed": config["seed"],
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **code_version(),
            "environment": environment(),
        }
        write_text(path / "run.json", json.dumps(about, indent=2) + "\n")
        return run

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
        try:
            config = yaml.safe_load((self.path / "config.yaml").read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            config = None
        if not isinstance(config, dict):
            raise UserError(f"{self.path / 'config.yaml'}: not a readable configuration")
        return config

    def lock(self) -> None:
        """Keep other processes from training into this directory until this one ends, however it ends.

        Raises:
            UserError: if one already does.
        """
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{self.path}: another process is training into it; wait for it or leave resume out"
            ) from None

    def append_log(self, line: dict[str, Any]) -> None:
        """Add one line to the log."""
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def rewind_log(self, step: int) -> None:
        """Drop lines after ``step``: the resumed run writes them again."""
        if self.log.is_file():
            lines = [line for line in self.log.read_text().splitlines() if line.endswith("}")]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            write_text(self.log, "".join(line + "\n" for line in kept))


def run_name(config: Config, overrides: list[str]) -> str:
    """``model-dataset[-ffl]`` and the values that the command line changed, such as ``ae-photos-ffl-alpha0.5``."""
    if config["name"] is not None:
        return str(config["name"])
    parts = [config["model"]["name"], config["dataset"]["name"]]
    if config["loss"]["ffl"]:
        parts.append("ffl")
    for override in sorted(overrides):
        key, _, value = override.lstrip("+~").partition("=")
        if key not in FREE_KEYS | {"model", "dataset", "loss.ffl"}:
            parts.append(key.rsplit(".", 1)[-1].replace("_", "") + value)
    return re.sub(r"[^\w.+-]+", "", "-".join(parts))[:120]


def find_run(config: Config, overrides: list[str]) -> RunDirectory | None:
    """The run that ``resume`` names, or None for a new one.

    ``resume=DIR`` is that run; ``resume=auto`` the newest one that this command's name stands for, if any.

    Raises:
        UserError: if the run was started with another configuration; the message shows the difference.
    """
    resume = config["resume"]
    if resume is None:
        return None
    if resume != "auto":
        run = RunDirectory.open(Path(resume))
        _require_same(run, config)
        return run
    name = run_name(config, overrides)
    numbered = re.compile(re.escape(name) + r"(?:-(\d+))?")
    found = [
        (match, path) for path in Path(config["output_root"]).glob("*") if (match := numbered.fullmatch(path.name))
    ]
    in_order = sorted(found, key=lambda item: int(item[0][1] or 1))
    runs = [RunDirectory(path) for _, path in in_order if (path / "config.yaml").is_file()]
    same = [run for run in runs if not difference(run.config(), config)]
    if same:
        return same[-1]
    if runs:
        _require_same(runs[-1], config)
    return None


def _require_same(run: RunDirectory, config: Config) -> None:
    if changes := difference(run.config(), config):
        raise UserError(
            f"{run.path} was started with another configuration: {'; '.join(changes)}. "
            "Use its values, or leave resume out to start a new run"
        )
