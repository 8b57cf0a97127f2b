"""The loss, forward and backward, beside the authors' package and one pair of transforms."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ffl import FocalFrequencyLoss
from ffl.losses.focal_mean import split_patches
from scripts.benchmarks.rows import at_least, at_most
from scripts.benchmarks.timing import Action, Conditions, alternate, peak_memory

SHAPES = ((128, 3, 64, 64), (8, 3, 256, 256), (1, 3, 256, 256), (2, 3, 1024, 1024))
SMALL_SHAPES = ((2, 3, 16, 16),)
PATCH_FACTORS = (1, 4)
ROUNDS = 15

SPEEDUP = 4.0
SPEEDUP_OF_AVERAGES = 12.0  # with ave_spectrum, from a batch of MANY up
MANY = 8
PAIRS = 1.5
MEMORY_SHARE = 1 / 3


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per shape, patch factor and ave_spectrum."""
    shapes = SMALL_SHAPES if conditions.small else SHAPES
    for shape, patch_factor, average in itertools.product(shapes, PATCH_FACTORS, (False, True)):
        options: dict[str, Any] = {"patch_factor": patch_factor, "ave_spectrum": average}
        row = {"shape": list(shape), **options, **compare(shape, conditions, ROUNDS, **options)}
        many = average and shape[0] >= MANY
        row["targets"] = [
            at_least("speed-up", row["speedup"], SPEEDUP_OF_AVERAGES if many else SPEEDUP),
            at_most("transform pairs", row["pairs"], PAIRS),
            at_most("memory share", row["ours_bytes"] / row["authors_bytes"], MEMORY_SHARE),
        ]
        yield row


def compare(
    shape: tuple[int, ...], conditions: Conditions, rounds: int, *, patch_factor: int = 1, ave_spectrum: bool = False
) -> dict[str, Any]:
    """Our loss and the authors' with the same options, on images of ``shape``.

    Args:
        shape: (N, C, H, W).
        conditions: to measure under.
        rounds: the usual number.
        patch_factor, ave_spectrum: options of both losses.
    Returns:
        Seconds and bytes of a forward and backward pass of "ours" and "authors", seconds of one "pair" of transforms of
        as many patches, and the ratios.
    """
    from focal_frequency_loss import FocalFrequencyLoss as AuthorsLoss

    device = conditions.device
    generator = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(shape, generator=generator).to(device) * 2 - 1 for _ in range(2))
    planes = split_patches(fake, patch_factor).clone(memory_format=torch.contiguous_format)
    fake.requires_grad_()

    def differentiate(loss: torch.nn.Module) -> None:
        # Not backward(): generated images are no leaf of the graph, and nothing keeps their gradient.
        torch.autograd.grad(loss(fake, real), fake)

    actions: dict[str, Action] = {}
    memory = {}
    for name, kind in (("ours", FocalFrequencyLoss), ("authors", AuthorsLoss)):
        action = partial(differentiate, kind(patch_factor=patch_factor, ave_spectrum=ave_spectrum))
        action()  # what is made once and kept is not the step's
        actions[name], memory[name] = action, peak_memory(action, device)
    actions["pair"] = lambda: torch.fft.irfft2(torch.fft.rfft2(planes), s=planes.shape[-2:])
    times = alternate(actions, conditions.rounds or rounds, device)
    return {
        **times.medians(),
        "speedup": times.ratio("authors", "ours"),
        "pairs": times.ratio("ours", "pair"),
        **{f"{name}_bytes": size for name, size in memory.items()},
    }
