"""How the benchmarks measure."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch


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


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
