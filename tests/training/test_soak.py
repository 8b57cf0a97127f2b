"""Does a process that trains, evaluates and reports again and again hold on to anything?

    pytest tests/training/test_soak.py --soak-minutes 60 -s

prints the resident memory after each round and goes on for an hour; without the option there are a few rounds.
"""

import ctypes
import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import evaluate
import train
from ffl.training.program import compose
from scripts.report import report

FEW = 4
ROUND = [
    "model=vae",
    "model.channels=16",
    "loss.ffl=true",
    "dataset.image_size=32",
    "dataset.train_images=512",
    "dataset.val_images=32",
    "dataset.test_images=64",
    "trainer.batch_size=16",
    "trainer.steps=20",
    "trainer.log_every=5",
    "trainer.image_every=10",
    "trainer.checkpoint_every=5",
]
METRICS = "metrics=[psnr,ssim,lfd,spectrum_distance]"
# Twenty-two rounds grew by 0.4 MiB in all.
MOST_GROWTH = 5.0


def resident_mib() -> float:
    """Memory of this process that is in RAM, in MiB, once what it has freed is given back to the system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def held() -> dict[str, int]:
    """What a round must not leave behind: tensors, open files and threads."""
    gc.collect()
    # By type, since isinstance asks objects for their class, which some answer by doing work.
    tensors = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
    return {"tensors": tensors, "files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


def growth_of_later_half(seconds: list[float], values: list[float]) -> float:
    """Growth of a series over the later half of its time, by least squares; caches have found their size by then."""
    times, heights = np.array([item for item in zip(seconds, values, strict=True) if item[0] >= seconds[-1] / 2]).T
    return float(np.polyfit(times, heights, 1)[0] * (times[-1] - times[0])) if len(times) > 1 else 0.0


def test_growth_is_that_of_the_later_half() -> None:
    seconds = [float(second) for second in range(0, 7201, 600)]
    steep_then_flat = [900.0 + min(second, 3000) for second in seconds]
    assert growth_of_later_half(seconds, steep_then_flat) == pytest.approx(0, abs=1e-6)
    assert growth_of_later_half(seconds, [100 + 12 * second / 3600 for second in seconds]) == pytest.approx(12)
    assert growth_of_later_half([5.0], [1.0]) == 0


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc, which is Linux's")
def test_rounds_of_training_evaluation_and_report_leave_nothing_behind(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    minutes = request.config.getoption("soak_minutes")
    seconds: list[float] = []
    memory: list[float] = []
    left: list[dict[str, int]] = []
    began = time.monotonic()
    while len(seconds) < FEW or seconds[-1] < 60 * minutes:
        words = [*ROUND, "trainer.accelerator=cpu", f"name=round{len(seconds)}"]
        run = train.train(compose("train", words), words)
        evaluate.evaluate(compose("evaluate", [f"run={run.path}", METRICS, "accelerator=cpu"]))
        report(run=run.path)
        left.append(held())
        seconds.append(time.monotonic() - began)
        memory.append(resident_mib())
        print(f"round {len(seconds)}: {seconds[-1] / 60:.1f} min, {memory[-1]:.1f} MiB, {left[-1]}")
    # The first round imports, opens and caches what the later ones use. Less may be left than then: tests that ran
    # before in this process leave tensors in bounded caches, where those of a round take their place.
    assert all(left[-1][kind] <= held_then for kind, held_then in left[1].items()), left
    growth = growth_of_later_half(seconds, memory)
    print(f"{memory[0]:.1f} MiB after the first round, {memory[-1]:.1f} at the end, {growth:+.1f} in the later half")
    assert growth < MOST_GROWTH
