"""Samples by seed: the same seed is the same picture, truncation moves towards the average, mistakes are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffl.errors import UserError
from ffl.training.command import read_words
from ffl.training.program import compose
from scripts.sample import read_numbers, sample_images
from train import train

SIZE = 32


def main(words: list[str]) -> None:
    """The program on the words of its command line."""
    sample_images(**read_words(sample_images, words)[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    overrides = ["model=stylegan2", "debug=smoke", "scale=cpu", f"dataset.image_size={SIZE}", "trainer.steps=1"]
    return train(compose("train", [*overrides, f"output_root={root}", f"cache_dir={root}/cache"]), overrides).path


def pictures(path: Path) -> np.ndarray:
    """A grid as (rows, columns, SIZE, SIZE, 3)."""
    grid = np.asarray(Image.open(path)).astype(float)
    return grid.reshape(grid.shape[0] // SIZE, SIZE, grid.shape[1] // SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4)


def test_a_seed_is_a_picture_wherever_it_stands(run: Path, tmp_path: Path) -> None:
    main([f"run={run}", "seeds=0-3", "columns=2", f"out={tmp_path / 'a.png'}"])
    main([f"run={run}", "seeds=3,0", "columns=2", f"out={tmp_path / 'b.png'}"])
    first, second = pictures(tmp_path / "a.png"), pictures(tmp_path / "b.png")
    assert first.shape[:2] == (2, 2)
    assert np.abs(first[1, 1] - second[0, 0]).max() <= 1  # batches of another size round differently
    assert np.abs(first[0, 0] - second[0, 1]).max() <= 1
    assert np.abs(first[0, 0] - first[1, 1]).max() > 1


def test_truncation_draws_samples_together(run: Path, tmp_path: Path) -> None:
    spread = []
    for psi in ("1", "0.5", "0"):
        main([f"run={run}", "seeds=0-3", f"psi={psi}", "columns=4", f"out={tmp_path / 'grid.png'}"])
        spread.append(pictures(tmp_path / "grid.png")[0].std(0).mean())
    assert spread[0] > spread[1] > spread[2] == 0


def test_mixing_no_layer_repeats_the_row_and_all_layers_the_column(run: Path, tmp_path: Path) -> None:
    main([f"run={run}", "mixing=0,1", "seeds=2-4", "layers=0-99", f"out={tmp_path / 'grid.png'}"])
    grid = pictures(tmp_path / "grid.png")
    assert grid.shape[:2] == (2, 3)
    assert np.array_equal(grid[0], grid[1])
    assert np.abs(grid[0, 0] - grid[0, 1]).max() > 1


def test_mistakes_are_named(run: Path) -> None:
    """Beside those in tests/bad_input."""
    with pytest.raises(UserError, match="accelerator=tpu: expected one of auto, cpu, cuda"):
        main([f"run={run}", "accelerator=tpu"])
    with pytest.raises(UserError, match="psi=half: expected a number"):
        main([f"run={run}", "psi=half"])


def test_numbers_and_ranges() -> None:
    assert read_numbers("seeds", "0-3,7,5-5") == [0, 1, 2, 3, 7, 5]
