"""Time and memory, measured so that what is compared is compared fairly.

Everything that is compared runs in one process, in turn, in an order that is reversed from round to round, so that
neither always meets warm caches, a busy neighbour or a lowered clock. Times are medians; a ratio is the median of the
ratios within a round, which a machine that slows down between rounds does not change.
"""

import contextlib
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Action = Callable[[], object]

# What is measured at once lasts at least this long: a timer and a function call take a few microseconds.
SAMPLE_SECONDS = 0.003
WARM_UP = 2


@dataclass(frozen=True)
class Conditions:
    """Where and how to measure: what every subset is told.

    Attributes:
        device: to measure on.
        models: to measure, of those that a subset has.
        rounds: repetitions, each of which measures everything that is compared; None for the subset's own number.
        data_root: folder that holds one folder per data set.
        small: tiny sizes, to see that everything runs.
        peers: folder that holds checkouts of public implementations.
    """

    device: torch.device
    models: tuple[str, ...]
    rounds: int | None
    data_root: Path
    small: bool
    peers: Path | None = None


@dataclass(frozen=True)
class Times:
    """Seconds of each round, by name."""

    rounds: Mapping[str, list[float]]

    def medians(self) -> dict[str, float]:
        """All medians, with "_s" after each name."""
        return {f"{name}_s": self.seconds(name) for name in self.rounds}

    def seconds(self, name: str) -> float:
        """Median."""
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, over: str) -> float:
        """Median over the rounds of the time of ``name`` over that of ``over``."""
        return statistics.median(self._ratios(name, over))

    def ratio_range(self, name: str, over: str) -> list[float]:
        """Smallest and largest of what ``ratio`` is the median of."""
        ratios = self._ratios(name, over)
        return [min(ratios), max(ratios)]

    def weighted(self, names: Sequence[str], kinds: Mapping[int, float]) -> "Times":
        """Means over kinds of steps: seconds of "NAME KIND" for each name and kind become seconds of "NAME".

        Args:
            names: of what is compared.
            kinds: the share of steps that are of a kind.
        """
        return Times(
            {
                name: [
                    sum(share * seconds for share, seconds in zip(kinds.values(), of_round, strict=True))
                    for of_round in zip(*(self.rounds[f"{name} {kind}"] for kind in kinds), strict=True)
                ]
                for name in names
            }
        )

    def _ratios(self, name: str, over: str) -> list[float]:
        return [a / b for a, b in zip(self.rounds[name], self.rounds[over], strict=True)]


def alternate(actions: Mapping[str, Action], rounds: int, device: torch.device) -> Times:
    """Time each action once per round.

    Args:
        actions: by name.
        rounds: that count, after ``WARM_UP`` others. Shorter actions than ``SAMPLE_SECONDS`` are repeated within one.
        device: that is waited for before and after each action.
    """
    repeats = dict.fromkeys(actions, 1)
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(-WARM_UP, rounds):
        for name in round_order(actions, number):
            synchronise(device)
            began = time.perf_counter()
            for _ in range(repeats[name]):
                actions[name]()
            synchronise(device)
            spent = (time.perf_counter() - began) / repeats[name]
            if number < 0:
                repeats[name] = max(repeats[name], math.ceil(SAMPLE_SECONDS / spent))
            else:
                seconds[name].append(spent)
    return Times(seconds)


def differentiate(loss: Callable[[Tensor, Tensor], Tensor], fake: Tensor, real: Tensor) -> None:
    """A call of a loss, forward and backward to the generated images."""
    # Not backward(): generated images are no leaf of the graph, and nothing keeps their gradient.
    torch.autograd.grad(loss(fake, real), fake)


def round_order(names: Mapping[str, object], number: int) -> list[str]:
    """The order of a round: as given in odd ones, reversed in even ones."""
    return list(names) if number % 2 else list(names)[::-1]


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, so that a timer measures what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(action: Action, device: torch.device) -> int:
    """Bytes of tensors that an action needs at its height, beyond those that were there before it.

    What the action allocated in an earlier call and still holds does not count, so it should start from nothing.
    """
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before

    # On the CPU only the profiler sees allocations, and only its trace tells them in order.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    held = peak = 0
    for event in sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


@contextlib.contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Let operations of torch use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
