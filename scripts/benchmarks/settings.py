"""The command line of scripts/benchmark.py."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ffl.errors import UserError
from ffl.training.trainer import choose_device

SUBSETS = ("loss", "overhead", "throughput", "metrics", "floor", "growth")
BY_THREADS = ("loss", "metrics")  # short, and compared with code that has one thread
MODELS = ("ae", "vae", "pix2pix", "stylegan2", "spade")
MOST_THREADS = 1024  # far more end the process
KEYS = ("rounds", "threads", "accelerator", "models", "data_root", "small", "json")


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: to measure on.
        threads: of the CPU, for operations of torch.
        rounds: repetitions, each of which measures everything that is compared; None for the subset's own choice.
        models: to measure where a subset has models; empty for all of its own.
        data_root: folder that holds one folder per data set.
        small: tiny sizes, to see that everything runs.
    """

    device: torch.device
    threads: int
    rounds: int | None = None
    models: tuple[str, ...] = ()
    data_root: Path = Path("data")
    small: bool = False

    def rounds_or(self, usual: int) -> int:
        """The rounds asked for, else the subset's ``usual`` number."""
        return self.rounds if self.rounds is not None else usual

    def chosen(self, available: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the ``available`` models that are wanted."""
        return tuple(name for name in available if not self.models or name in self.models)


@dataclass(frozen=True)
class Request:
    """A command line: what to measure, on which devices and with how many threads.

    Attributes:
        subsets: names.
        all_subsets: none was named, so one that lacks data or packages is skipped.
        settings: of the first device and thread count.
        devices: to measure on in turn.
        threads: counts for the subsets ``BY_THREADS``, in turn; the others take the last.
        json: file to write, or None.
    """

    subsets: tuple[str, ...]
    all_subsets: bool
    settings: Settings
    devices: tuple[torch.device, ...]
    threads: tuple[int, ...]
    json: Path | None

    def points(self, subset: str) -> list[Settings]:
        """The settings to measure a subset with, in turn."""
        counts = self.threads if subset in BY_THREADS else self.threads[-1:]
        on_cpu = [replace(self.settings, threads=count) for count in counts]
        return [
            replace(settings, device=device)
            for device in self.devices
            for settings in (on_cpu if device.type == "cpu" else on_cpu[-1:])
        ]


def parse(arguments: list[str]) -> Request:
    """Read the words of the command line.

    Raises:
        UserError: naming the word that is wrong.
    """
    subsets = tuple(dict.fromkeys(item for item in arguments if "=" not in item))
    if unknown := set(subsets) - set(SUBSETS):
        raise UserError(f"{min(unknown)}: no such measurement; expected some of {', '.join(SUBSETS)}")
    values = dict(item.split("=", 1) for item in arguments if "=" in item)
    if unknown := values.keys() - set(KEYS):
        raise UserError(f"unknown key {min(unknown)}; allowed: {', '.join(KEYS)}")
    models = tuple(filter(None, values.get("models", "").split(",")))
    if unknown := set(models) - set(MODELS):
        raise UserError(f"models={values['models']}: no {min(unknown)}; expected some of {', '.join(MODELS)}")
    small = values.get("small", "false")
    if small not in ("true", "false"):
        raise UserError(f"small={small}: expected true or false")
    json = Path(values["json"]) if "json" in values else None
    if json is not None and (json.is_dir() or json.suffix != ".json"):
        raise UserError(f"json={json}: expected the name of a .json file to write")
    threads = _counts(values, "threads") or tuple(sorted({1, num_cores()}))
    if max(threads) > MOST_THREADS:
        raise UserError(f"threads={values['threads']}: expected at most {MOST_THREADS}")
    rounds = _counts(values, "rounds") or (None,)
    if len(rounds) != 1:
        raise UserError(f"rounds={values['rounds']}: expected one number")
    devices = _devices(values.get("accelerator", "auto"))
    settings = Settings(
        device=devices[0],
        threads=threads[-1],
        rounds=rounds[0],
        models=models,
        data_root=Path(values.get("data_root", "data")),
        small=small == "true",
    )
    return Request(subsets or SUBSETS, not subsets, settings, devices, threads, json)


def num_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counts(values: Mapping[str, str], key: str) -> tuple[int, ...]:
    """Whole numbers from 1 up, separated by commas; none where the key is absent."""
    if key not in values:
        return ()
    words = values[key].split(",")
    if not all(word.isdecimal() and int(word) for word in words):
        raise UserError(f"{key}={values[key]}: expected whole numbers from 1 up")
    return tuple(int(word) for word in words)


def _devices(name: str) -> tuple[torch.device, ...]:
    """The CPU and, where there is one, the GPU; or the one that is named."""
    chosen = choose_device(name)
    return (torch.device("cpu"), chosen) if name == "auto" and chosen.type == "cuda" else (chosen,)
