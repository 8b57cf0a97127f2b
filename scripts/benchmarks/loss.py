"""The loss, forward and backward, beside the authors' package and one pair of transforms."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ffl import FocalFrequencyLoss
from ffl.losses.focal_mean import split_patches
from scripts.benchmarks.settings import Settings
from scripts.benchmarks.targets import at_least, at_most, shown
from scripts.benchmarks.timing import alternate, peak_memory

SHAPES = ((128, 3, 64, 64), (8, 3, 256, 256), (1, 3, 256, 256), (2, 3, 1024, 1024))
SMALL_SHAPES = ((2, 3, 16, 16),)
PATCH_FACTORS = (1, 4)
ROUNDS = 15

SPEEDUP = 4.0
SPEEDUP_OF_AVERAGES = 12.0  # with ave_spectrum, from a batch of MANY up
MANY = 8
PAIRS = 1.5
MEMORY_SHARE = 1 / 3


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row per shape, patch factor and ave_spectrum; prints each."""
    rows = []
    shapes = SMALL_SHAPES if settings.small else SHAPES
    for shape, patch_factor, average in itertools.product(shapes, PATCH_FACTORS, (False, True)):
        options: dict[str, Any] = {"patch_factor": patch_factor, "ave_spectrum": average}
        row = {"shape": list(shape), **options, **compare(options, shape, settings, settings.rounds_or(ROUNDS))}
        many = average and shape[0] >= MANY
        row["targets"] = [
            at_least("speed-up", row["speedup"], SPEEDUP_OF_AVERAGES if many else SPEEDUP),
            at_most("transform pairs", row["pairs"], PAIRS),
            at_most("memory share", row["ours_bytes"] / row["authors_bytes"], MEMORY_SHARE),
        ]
        rows.append(row)
        targets = "  ".join(shown(target) for target in row["targets"])
        print(
            f"{'x'.join(map(str, shape)):<14} patches {patch_factor}  {'average' if average else 'each':<7} "
            f"{1e3 * row['ours_s']:9.3f} ms  authors {1e3 * row['authors_s']:9.3f} ms  {targets}",
            flush=True,
        )
    return rows


def compare(options: dict[str, Any], shape: tuple[int, ...], settings: Settings, rounds: int) -> dict[str, Any]:
    """Our loss and the authors' with the same options, on images of ``shape``.

    Returns:
        Seconds and bytes of a forward and backward pass of "ours" and "authors", seconds of one "pair" of transforms of
        as many patches, and the ratios.
    """
    from focal_frequency_loss import FocalFrequencyLoss as AuthorsLoss

    losses = {"ours": FocalFrequencyLoss(**options), "authors": AuthorsLoss(**options)}
    generator = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(shape, generator=generator).to(settings.device) * 2 - 1 for _ in range(2))
    image = split_patches(fake, options.get("patch_factor", 1)).clone(memory_format=torch.contiguous_format)
    fake.requires_grad_()
    actions: dict[str, Callable[[], object]] = {name: _step(loss, fake, real) for name, loss in losses.items()}
    memory = {}
    for name, action in actions.items():
        action()  # what is made once and kept is not the step's
        memory[name] = peak_memory(action, settings.device)
    actions["pair"] = lambda: torch.fft.irfft2(torch.fft.rfft2(image), s=image.shape[-2:])
    times = alternate(actions, rounds, settings.device)
    return {
        **{f"{name}_s": times.seconds(name) for name in actions},
        "speedup": times.ratio("authors", "ours"),
        "pairs": times.ratio("ours", "pair"),
        **{f"{name}_bytes": size for name, size in memory.items()},
    }


def _step(loss: nn.Module, fake: Tensor, real: Tensor) -> Callable[[], None]:
    def step() -> None:
        # Not backward(): generated images are no leaf of the graph, and nothing keeps their gradient.
        torch.autograd.grad(loss(fake, real), fake)

    return step
