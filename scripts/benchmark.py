"""Measure speed: what the focal frequency loss adds to a training step.

    python scripts/benchmark.py overhead [models=ae,vae,pix2pix] [rounds=10] [threads=2] [device=cpu] [json=FILE]

overhead: one full training step of each model at the paper's size (Appendix B.2), without and with the loss, in turn in
one process. Printed are medians over the rounds, their ratio, and the machine.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from ffl.errors import UserError
from ffl.files import write_text
from ffl.model import Batch, Model
from ffl.objective import Objective
from ffl.provenance import code_version, environment
from ffl.training.program import compose, user_errors
from ffl.training.randomness import seed_weights
from ffl.training.trainer import choose_device, make_optimizers, update
from models import build_model

# Model: data set that its sizes are taken from, image size, batch size (Appendix B.1).
PAPER_STEPS = {"ae": ("celeba", 64, 128), "vae": ("celeba", 64, 128), "pix2pix": ("facades", 256, 1)}


def training_step(name: str, ffl: bool, device: torch.device) -> Callable[[], None]:
    """A function that does one training step of a model of the paper's size on random images."""
    dataset, size, batch_size = PAPER_STEPS[name]
    config = compose("train", [f"model={name}", f"dataset={dataset}", f"loss.ffl={str(ffl).lower()}"])
    seed_weights(config["seed"])
    model: Model = build_model(**config["model"], image_size=(size, size), objective=Objective(**config["loss"]))
    model.to(device).train()
    phases = model.phases()
    optimizers = make_optimizers(phases)
    images = torch.rand(batch_size, 3, size, size, device=device) * 2 - 1
    batch: Batch = {"image": images, "source": images.flip(3)}

    def step() -> None:
        update(model, phases, optimizers, {0: batch}, config["seed"], 0)

    return step


def overhead(models: list[str], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Median seconds per step without and with the loss, by model."""
    rows = []
    for name in models:
        steps = {ffl: training_step(name, ffl, device) for ffl in (False, True)}
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(rounds + 2):
            for ffl in (False, True) if number % 2 else (True, False):  # neither always profits from warm caches
                synchronise(device)
                began = time.perf_counter()
                steps[ffl]()
                synchronise(device)
                if number >= 2:  # the first two rounds warm up
                    seconds[ffl].append(time.perf_counter() - began)
        without, with_ffl = (statistics.median(seconds[ffl]) for ffl in (False, True))
        paired = statistics.median(b / a for a, b in zip(seconds[False], seconds[True], strict=True))
        rows.append({"model": name, "without_s": without, "with_s": with_ffl, "ratio": paired, "rounds": rounds})
        print(f"{name:<10} {without:10.4f} s without  {with_ffl:10.4f} s with  ratio {paired:.3f}", flush=True)
    return rows


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, so that a timer measures what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: list[str]) -> None:
    """The program; ``arguments`` are its words."""
    subsets = [item for item in arguments if "=" not in item]
    settings = dict(item.split("=", 1) for item in arguments if "=" in item)
    if subsets != ["overhead"]:
        raise UserError(f"benchmark {' '.join(subsets)}: expected the name of a measurement: overhead")
    if unknown := settings.keys() - {"models", "rounds", "threads", "device", "json"}:
        raise UserError(f"unknown key {min(unknown)}; allowed: models, rounds, threads, device, json")
    models = settings.get("models", ",".join(PAPER_STEPS)).split(",")
    if unknown := set(models) - PAPER_STEPS.keys():
        raise UserError(f"models={settings['models']}: no {min(unknown)}; expected some of {', '.join(PAPER_STEPS)}")
    try:
        rounds, threads = int(settings.get("rounds", 10)), int(settings.get("threads", torch.get_num_threads()))
    except ValueError:
        raise UserError("rounds and threads: expected whole numbers") from None
    if rounds < 1 or threads < 1:
        raise UserError("rounds and threads: must be at least 1")
    torch.set_num_threads(threads)
    device = choose_device(settings.get("device", "auto"))
    machine = environment()
    print(f"{machine['cpu']}, {threads} threads, gpu {machine['gpu']}, torch {machine['torch']}, on {device}")
    rows = overhead(models, rounds, device)
    if "json" in settings:
        content = {"overhead": rows, "device": str(device), **code_version(), "environment": machine}
        write_text(Path(settings["json"]), json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
    else:
        with user_errors():
            main(sys.argv[1:])
