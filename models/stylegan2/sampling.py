"""Pictures from a trained generator: by seed, on a grid, with mixed styles."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.stylegan2.generator import Generator, Noise


def latents_from_seeds(seeds: Sequence[int], latent_dim: int) -> Tensor:
    """One latent per seed, those of the official programs: float32 (len(seeds), latent_dim)."""
    # In float64 from numpy's legacy generator, whose stream is frozen, as officially.
    rows = [np.random.RandomState(seed).standard_normal(latent_dim) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).float()


@torch.no_grad()
def sample(
    generator: Generator, seeds: Sequence[int], psi: float = 1.0, noise: Noise = "const", batch_size: int = 16
) -> Tensor:
    """Images of seeds: float (len(seeds), 3, H, W) in [-1, 1], on the CPU.

    Args:
        generator: in whatever mode.
        seeds: from 0 up.
        psi: truncation; 1 for none.
        noise: see ``SynthesisNetwork.forward``; the same for every image unless random.
        batch_size: images at a time.
    """
    z = latents_from_seeds(seeds, generator.latent_dim).to(generator.mapping.w_avg.device)
    images = [generator(part, psi, noise).clamp(-1, 1).cpu() for part in z.split(batch_size)]
    return torch.cat(images)


@torch.no_grad()
def style_mixing(
    generator: Generator,
    coarse_seeds: Sequence[int],
    fine_seeds: Sequence[int],
    layers: Sequence[int] = range(7),
    psi: float = 1.0,
) -> Tensor:
    """Every pair of seeds: the given layers follow the fine seed, the others the coarse one (StyleGAN, Figure 3).

    Args:
        generator: in whatever mode.
        coarse_seeds: one row of the table each.
        fine_seeds: one column each.
        layers: indices of the styles that the columns replace.
        psi: truncation; 1 for none.
    Returns:
        float (rows, columns, 3, H, W) in [-1, 1], on the CPU; noise is fixed.
    """
    mapping, synthesis = generator.mapping, generator.synthesis
    device = mapping.w_avg.device
    rows, columns = (
        mapping.truncate(mapping(latents_from_seeds(seeds, generator.latent_dim).to(device)), psi, synthesis.num_ws)
        for seeds in (coarse_seeds, fine_seeds)
    )
    chosen = torch.zeros(synthesis.num_ws, 1, dtype=torch.bool, device=device)
    chosen[[layer for layer in layers if layer < synthesis.num_ws]] = True
    table = [synthesis(torch.where(chosen, columns, row)).clamp(-1, 1).cpu() for row in rows]
    return torch.stack(table)


def image_grid(images: Tensor, columns: int) -> Tensor:
    """Images side by side, row by row: (N, 3, H, W) to (3, rows H, columns W); the last row is filled with black (-1).

    Args:
        images: float in [-1, 1].
        columns: images in a row.
    """
    missing = -len(images) % columns
    if missing:
        images = torch.cat([images, images.new_full((missing, *images.shape[1:]), -1.0)])
    rows = images.unflatten(0, (-1, columns))
    return rows.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
