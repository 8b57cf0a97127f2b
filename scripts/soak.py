"""Does memory stay flat? Trains and evaluates in one process, again and again, and measures what it holds.

    python scripts/soak.py [minutes=60] [out=results/benchmark/soak.json] [key=value ...]

Further key=value words are those of train.py; without them a small VAE trains on the embedded photographs. Each round
is a run of some steps with checkpoints, samples and validation, then an evaluation of it, in a folder that goes with
the program. Written are the resident memory after each round, its slope by least squares over the later half of the
time, when caches and allocators have found their size, and the machine.
"""

import gc
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import evaluate
import train
from ffl.errors import UserError
from ffl.files import failed_writes, write_text
from ffl.training.program import compose, run_script
from ffl.training.provenance import code_version, environment

ROUND = [
    "model=vae",
    "model.channels=16",
    "loss.ffl=true",
    "dataset.image_size=32",
    "dataset.train_images=512",
    "dataset.val_images=32",
    "dataset.test_images=64",
    "trainer.batch_size=16",
    "trainer.steps=100",
    "trainer.log_every=10",
    "trainer.image_every=50",
    "trainer.checkpoint_every=25",
]
METRICS = "metrics=[psnr,ssim,lfd,spectrum_distance]"


def resident_mib() -> float:
    """Memory of this process that is in RAM, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise UserError("/proc/self/status: names no resident memory; this needs Linux")


def one_round(folder: Path, number: int, overrides: list[str]) -> int:
    """Train a run and evaluate it, as their programs do.

    Returns:
        Steps that it trained.
    """
    words = [*ROUND, *overrides, f"output_root={folder}", f"name=round{number}"]
    config = compose("train", words)
    run = train.train(config, words)
    evaluate.evaluate(compose("evaluate", [f"run={run.path}", METRICS]))
    return int(run.log_lines()[-1]["step"])


def slope_per_hour(seconds: list[float], values: list[float]) -> float | None:
    """Least-squares slope of the later half of a series, per hour; None with fewer than two points there."""
    later = [(second, value) for second, value in zip(seconds, values, strict=True) if second >= seconds[-1] / 2]
    if len(later) < 2:
        return None
    times, heights = np.array(later).T
    return round(float(np.polyfit(times / 3600, heights, 1)[0]), 2)


def soak(minutes: float, overrides: list[str]) -> dict[str, Any]:
    """Rounds until the time is over; what was measured, as it is written."""
    seconds: list[float] = []
    memory: list[float] = []
    steps = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        while not seconds or seconds[-1] < 60 * minutes:
            steps += one_round(Path(folder), len(seconds), overrides)
            gc.collect()
            seconds.append(round(time.monotonic() - began, 1))
            memory.append(round(resident_mib(), 1))
            print(f"round {len(seconds)}: {seconds[-1] / 60:.1f} min, {memory[-1]:.1f} MiB", file=sys.stderr)
    return {
        "minutes": round(seconds[-1] / 60, 2),
        "rounds": len(seconds),
        "steps": steps,
        "overrides": overrides,
        "start_mib": memory[0],
        "end_mib": memory[-1],
        "most_mib": max(memory),
        "slope_mib_per_hour": slope_per_hour(seconds, memory),
        "seconds": seconds,
        "resident_mib": memory,
        **code_version(),
        "environment": environment(),
    }


def main(arguments: list[str]) -> None:
    """The program; ``arguments`` are its words."""
    if malformed := [item for item in arguments if "=" not in item]:
        raise UserError(f"{malformed[0]}: expected key=value, such as minutes=60")
    settings = dict(item.split("=", 1) for item in arguments if item.split("=", 1)[0] in ("minutes", "out"))
    overrides = [item for item in arguments if item.split("=", 1)[0] not in settings]
    try:
        minutes = float(settings.get("minutes", 60))
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UserError(f"minutes={settings['minutes']}: expected a number above 0")
    train.check(compose("train", [*ROUND, *overrides]))
    out = Path(settings.get("out", "results/benchmark/soak.json"))
    result = soak(minutes, overrides)
    with failed_writes(out, "choose another place with out=FILE.json"):
        write_text(out, json.dumps(result, indent=2) + "\n")
    print(
        f"{result['rounds']} rounds, {result['steps']} steps in {result['minutes']:.1f} minutes: "
        f"{result['start_mib']:.1f} MiB after the first, {result['end_mib']:.1f} MiB at the end, "
        f"slope {result['slope_mib_per_hour']} MiB per hour\nwritten to {out}"
    )


if __name__ == "__main__":
    run_script(main, __doc__)
