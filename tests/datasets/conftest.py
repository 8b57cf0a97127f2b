"""Data sets made for tests, and the script that looks after them."""

from pathlib import Path

import numpy as np
import pytest
from image_files import fill, noise
from PIL import Image
from prepare_script import Doctor


@pytest.fixture(scope="module")
def doctor() -> Doctor:
    return Doctor()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images, pairs, and photographs with label maps."""
    fill(tmp_path / "images", 12)
    fill(tmp_path / "facades" / "train", 6, size=(12, 24))
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        for split in ("training", "validation"):
            (tmp_path / "ade20k" / kind / split).mkdir(parents=True)
            for number in range(6):
                picture = noise(12, 12, seed=number)
                picture = picture if kind == "images" else Image.fromarray(np.asarray(picture)[..., 0] % 151)
                picture.save(tmp_path / "ade20k" / kind / split / f"{number}.{suffix}")
    return tmp_path
