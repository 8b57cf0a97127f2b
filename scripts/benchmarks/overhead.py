"""What the focal frequency loss adds to a training step of each model at the paper's size (Appendix B.2)."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from scripts.benchmarks.rows import at_most
from scripts.benchmarks.steps import step_on_random_images
from scripts.benchmarks.timing import Conditions, alternate, peak_memory

# Model: data set that its options are taken from, image size, batch size (Appendix B.1), largest share of a step.
PAPER_STEPS = {"ae": ("celeba", 64, 128, 0.10), "vae": ("celeba", 64, 128, 0.03), "pix2pix": ("facades", 256, 1, 0.01)}
ROUNDS = 20


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per model."""
    device = conditions.device
    for model, (dataset, size, batch_size, most) in PAPER_STEPS.items():
        if model not in conditions.models:
            continue
        if conditions.small:
            size, batch_size = min(size, 64), min(batch_size, 2)

        # Two models of equal weights, so that the loss is all that differs between the steps.
        steps = {}
        for name, ffl in (("without", "false"), ("with", "true")):
            overrides = [f"model={model}", f"dataset={dataset}", f"loss.ffl={ffl}"]
            step, _ = step_on_random_images(overrides, size, batch_size, device)
            steps[name] = partial(step, 0)
        times = alternate(steps, conditions.rounds or ROUNDS, device)
        memory = {name: peak_memory(step, device) for name, step in steps.items()}

        ratio = times.ratio("with", "without")
        yield {
            "model": model,
            **times.medians(),
            "ratio": ratio,
            "without_bytes": memory["without"],
            "with_bytes": memory["with"],
            "targets": [at_most("added time", ratio - 1, most)],
        }
