"""Training steps of each model on a processor in bfloat16 (``trainer.precision``), beside float32.

Of StyleGAN2, whose regularisation comes every few steps, a whole cycle of 16; it has a key of its own.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ffl.errors import UserError
from ffl.training.precision import lacks_bfloat16
from scripts.benchmarks.steps import step_on_random_images
from scripts.benchmarks.timing import Conditions, alternate

# Model: overrides of configs/train.yaml, image size, batch size.
STEPS: dict[str, tuple[tuple[str, ...], int, int]] = {
    "ae": (("dataset=celeba",), 64, 128),
    "vae": (("dataset=celeba",), 64, 128),
    "pix2pix": (("dataset=facades",), 256, 1),
    "spade": (("dataset=celeba_mask_hq", "model.ngf=32", "model.ndf=32", "model.vgg_weight=0"), 128, 2),
    "stylegan2": (("dataset=celeba_hq",), 64, 4),
}
CYCLE = {"stylegan2": 16}
OWN = {"stylegan2": "model.low_precision=bfloat16"}
ROUNDS = 9


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per model; without instructions for bfloat16 there is nothing to gain, and the row says so."""
    if conditions.device.type != "cpu":
        raise UserError("bf16 is measured of the CPU, gpu of a GPU; set accelerator=cpu")
    for model, (overrides, size, batch_size) in STEPS.items():
        if model not in conditions.models:
            continue
        if conditions.small:
            size, batch_size = 64, 2
        words = [f"model={model}", "loss.ffl=true", *overrides]
        steps = {}
        cycle = 1 if conditions.small else CYCLE.get(model, 1)
        for precision in ("fp32", "bf16"):
            own = OWN.get(model) if precision == "bf16" else None
            step, _ = step_on_random_images(
                [*words, own] if own else words,
                size,
                batch_size,
                conditions.device,
                precision="fp32" if own else precision,
            )
            steps[precision] = partial(_cycle, step, cycle)
        times = alternate(steps, conditions.rounds or ROUNDS, conditions.device)
        yield {
            "model": model,
            "shape": f"{size}x{size}, batch {batch_size}" + (f", {cycle} steps" if cycle > 1 else ""),
            **times.medians(),
            "ratio": times.ratio("bf16", "fp32"),
            "ratio_range": times.ratio_range("bf16", "fp32"),
            "has_instructions": not lacks_bfloat16(),
        }


def _cycle(step: Callable[[int], None], count: int) -> None:
    for number in range(count):
        step(number)
