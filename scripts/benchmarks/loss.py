"""The loss, forward and backward, beside the authors' package and one pair of transforms.

The pair is the floor: no loss of a spectrum does with fewer. What the loss does beside it is passes over memory, which
count the more the faster a processor transforms. The row therefore says how many copies of the images a pair takes.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from ffl import FocalFrequencyLoss
from ffl.losses.focal_mean import split_patches
from scripts.benchmarks.rows import at_least, at_most
from scripts.benchmarks.timing import Action, Conditions, alternate, differentiate, peak_memory

SHAPES = ((128, 3, 64, 64), (8, 3, 256, 256), (1, 3, 256, 256), (2, 3, 1024, 1024))
# Volumes, and clips frame by frame and as a whole: the shape and the number of transformed axes.
VOLUMES_AND_CLIPS = (((2, 1, 64, 64, 64), 3), ((1, 3, 16, 128, 128), 2), ((1, 3, 16, 128, 128), 3))
SMALL_SHAPES = ((2, 3, 16, 16),)
SMALL_VOLUMES = (((1, 1, 8, 8, 8), 3),)
PATCH_FACTORS = (1, 4)
ROUNDS = 15

SPEEDUP = 4.0
SPEEDUP_OF_AVERAGES = 12.0  # with ave_spectrum, from a batch of MANY up
MANY = 8
FAST_PAIR = 8  # copies of the images, below which a pair of transforms is fast for the memory it works on
PAIRS, PAIRS_IF_FAST, PAIRS_OF_VOLUMES = 1.2, 1.6, 1.5
MEMORY_SHARE = 1 / 3


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per shape, patch factor and ave_spectrum; one per shape of volumes and clips, which the authors lack."""
    shapes = SMALL_SHAPES if conditions.small else SHAPES
    for shape, patch_factor, average in itertools.product(shapes, PATCH_FACTORS, (False, True)):
        options: dict[str, Any] = {"patch_factor": patch_factor, "ave_spectrum": average}
        row = {"shape": list(shape), **options, **compare(shape, conditions, ROUNDS, **options)}
        many = average and shape[0] >= MANY
        row["targets"] = [
            at_least("speed-up", row["speedup"], SPEEDUP_OF_AVERAGES if many else SPEEDUP),
            at_most("transform pairs", row["pairs"], PAIRS if row["copies_of_pair"] >= FAST_PAIR else PAIRS_IF_FAST),
            at_most("memory share", row["ours_bytes"] / row["authors_bytes"], MEMORY_SHARE),
        ]
        yield row
    for volume, dims in SMALL_VOLUMES if conditions.small else VOLUMES_AND_CLIPS:
        row = {"shape": list(volume), "dims": dims, **compare(volume, conditions, ROUNDS, dims=dims)}
        row["targets"] = [at_most("transform pairs", row["pairs"], PAIRS_OF_VOLUMES)]
        yield row


def compare(
    shape: tuple[int, ...],
    conditions: Conditions,
    rounds: int,
    *,
    patch_factor: int = 1,
    ave_spectrum: bool = False,
    dims: int = 2,
) -> dict[str, Any]:
    """Our loss and, for images, the authors' with the same options.

    Args:
        shape: (N, C, H, W), or that of volumes or clips.
        conditions: to measure under.
        rounds: the usual number.
        patch_factor, ave_spectrum: options of both losses.
        dims: number of transformed axes.
    Returns:
        Seconds and bytes of a forward and backward pass of "ours" and "authors", seconds of one "pair" of transforms of
        as many patches and of one "copy" of the images, and the ratios.
    """
    kinds: dict[str, torch.nn.Module] = {
        "ours": FocalFrequencyLoss(patch_factor=patch_factor, ave_spectrum=ave_spectrum, dims=dims)
    }
    if len(shape) == 4:
        from focal_frequency_loss import FocalFrequencyLoss as AuthorsLoss

        kinds["authors"] = AuthorsLoss(patch_factor=patch_factor, ave_spectrum=ave_spectrum)

    device = conditions.device
    generator = torch.Generator().manual_seed(0)
    fake, real = (torch.rand(shape, generator=generator).to(device) * 2 - 1 for _ in range(2))
    planes = split_patches(fake, patch_factor, dims).clone(memory_format=torch.contiguous_format)
    axes, sizes, room = tuple(range(-dims, 0)), planes.shape[-dims:], torch.empty_like(planes)
    fake.requires_grad_()

    actions: dict[str, Action] = {}
    memory = {}
    for name, loss in kinds.items():
        action = partial(differentiate, loss, fake, real)
        action()  # what is made once and kept is not the step's
        actions[name], memory[name] = action, peak_memory(action, device)
    actions["pair"] = lambda: torch.fft.irfftn(torch.fft.rfftn(planes, dim=axes), s=sizes, dim=axes)
    actions["copy"] = lambda: room.copy_(planes)
    times = alternate(actions, conditions.rounds or rounds, device)
    return {
        **times.medians(),
        **({"speedup": times.ratio("authors", "ours")} if "authors" in kinds else {}),
        "pairs": times.ratio("ours", "pair"),
        "copies_of_pair": times.ratio("pair", "copy"),
        **{f"{name}_bytes": size for name, size in memory.items()},
    }
