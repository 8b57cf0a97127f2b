"""What the focal frequency loss adds to a training step of each model at the paper's size (Appendix B.2)."""

from collections.abc import Callable
from typing import Any

import torch

from ffl.training.model import Batch, Model
from ffl.training.objective import Objective
from ffl.training.program import compose
from ffl.training.randomness import seed_weights
from ffl.training.step import TrainingStep
from models import build_model
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.targets import at_most, shown
from scripts.benchmarks.timing import alternate, peak_memory

# Model: data set that its options are taken from, image size, batch size (Appendix B.1), largest share of a step.
PAPER_STEPS = {"ae": ("celeba", 64, 128, 0.10), "vae": ("celeba", 64, 128, 0.03), "pix2pix": ("facades", 256, 1, 0.01)}
ROUNDS = 20


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per model; prints each."""
    rows: list[dict[str, Any]] = []
    for name in settings.chosen(tuple(PAPER_STEPS)):
        steps = {word: make_step(name, word == "with", settings) for word in ("without", "with")}
        times = alternate(steps, settings.rounds_or(ROUNDS), settings.device)
        memory = {word: peak_memory(step, settings.device) for word, step in steps.items()}
        ratio = times.ratio("with", "without")
        row: dict[str, Any] = {
            "model": name,
            "without_s": times.seconds("without"),
            "with_s": times.seconds("with"),
            "ratio": ratio,
            "without_bytes": memory["without"],
            "with_bytes": memory["with"],
            "targets": [at_most("added time", ratio - 1, PAPER_STEPS[name][3])],
        }
        rows.append(row)
        print(
            f"{name:<8} {row['without_s']:.4f} s without, {row['with_s']:.4f} s with, memory of a step "
            f"{memory['without'] / 2**20:.0f} and {memory['with'] / 2**20:.0f} MiB  {shown(row['targets'][0])}",
            flush=True,
        )
    return rows


def make_step(name: str, ffl: bool, settings: Settings) -> Callable[[], None]:
    """A function that does one training step of a model on random images."""
    dataset, size, batch_size, _ = PAPER_STEPS[name]
    if settings.small:
        size, batch_size = min(size, 64), min(batch_size, 2)
    config = compose("train", [f"model={name}", f"dataset={dataset}", f"loss.ffl={str(ffl).lower()}"])
    seed_weights(config["seed"])
    model: Model = build_model(**config["model"], image_size=(size, size), objective=Objective(**config["loss"]))
    model.to(settings.device).train()
    training_step = TrainingStep(model, config["seed"])
    images = torch.rand(batch_size, 3, size, size, device=settings.device) * 2 - 1
    batch: Batch = {"image": images, "source": images.flip(3)}

    def step() -> None:
        training_step.run(0, {0: batch})

    return step
