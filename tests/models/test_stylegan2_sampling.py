"""Pictures by seed, mixed styles and grids."""

import numpy as np
import torch

from models.stylegan2 import Generator
from models.stylegan2.sampling import image_grid, latents_from_seeds, sample, style_mixing


def test_latents_are_those_of_the_official_programs() -> None:
    z = latents_from_seeds([5, 0, 7], 16)
    np.testing.assert_array_equal(z[1], np.random.RandomState(0).randn(1, 16)[0].astype(np.float32))
    assert torch.equal(z[2], latents_from_seeds([7], 16)[0])


def test_samples_depend_on_their_seeds_alone() -> None:
    generator = Generator(16, 8, 2, 128, 8)
    images = sample(generator, [3, 4, 5], psi=0.7, batch_size=2)
    assert images.shape == (3, 3, 16, 16)
    torch.testing.assert_close(images[1:2], sample(generator, [4], psi=0.7), atol=1e-5, rtol=1e-5)
    want = generator(latents_from_seeds([3, 4, 5], 8), 0.7).clamp(-1, 1)
    torch.testing.assert_close(images, want, atol=1e-5, rtol=1e-5)


def test_style_mixing_table() -> None:
    generator = Generator(16, 8, 2, 128, 8)
    all_layers, none = range(generator.synthesis.num_ws), []
    rows, columns = [1, 2], [3, 4, 5]
    table = style_mixing(generator, rows, columns, all_layers)
    assert table.shape == (2, 3, 3, 16, 16)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(table[0], sample(generator, columns), **close)
    torch.testing.assert_close(table[1], table[0], **close)
    table = style_mixing(generator, rows, columns, none, psi=0.5)
    torch.testing.assert_close(table[:, 0], sample(generator, rows, psi=0.5), **close)
    mixed = style_mixing(generator, rows, columns, [0, 1])
    assert not torch.allclose(mixed[0, 0], mixed[1, 0])
    assert not torch.allclose(mixed[0, 0], mixed[0, 1])


def test_grid_runs_row_by_row_and_fills_with_black() -> None:
    images = torch.stack([torch.full((3, 2, 2), float(i) / 8) for i in range(5)])
    grid = image_grid(images, columns=3)
    assert grid.shape == (3, 4, 6)
    assert grid[0, 0].tolist() == [0, 0, 0.125, 0.125, 0.25, 0.25]
    assert grid[2, 3].tolist() == [0.375, 0.375, 0.5, 0.5, -1, -1]
