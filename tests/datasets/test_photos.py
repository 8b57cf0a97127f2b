import hashlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torchvision.transforms.functional import InterpolationMode, resize

from datasets import build_dataset
from datasets.base import SPLITS
from datasets.photos import PHOTOGRAPHS, Photos
from ffl.errors import UserError

NOWHERE = {"data_root": Path("nowhere"), "cache_dir": Path("nowhere")}


@pytest.fixture(scope="module")
def splits() -> dict[str, Photos]:
    return {split: Photos(split, **NOWHERE) for split in SPLITS}


def place(name: str) -> tuple[str, int, int, int]:
    """(photograph, side, top, left) of a crop, from its name."""
    stem, *numbers = name.split("-")
    side, top, left = map(int, numbers)
    return stem, side, top, left


def photograph(stem: str) -> np.ndarray:
    if stem == "motorcycle_left":
        return skimage.data.stereo_motorcycle()[0]
    loaded = getattr(skimage.data, {"ihc": "immunohistochemistry"}.get(stem, stem))()
    return loaded if loaded.ndim == 3 else np.stack([loaded] * 3, axis=-1)


def test_default_sizes(splits: dict[str, Photos]) -> None:
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 4000, "val": 250, "test": 500}
    assert all(dataset.image_size == (64, 64) for dataset in splits.values())
    assert not Path("nowhere").exists()


@pytest.mark.parametrize("size", [64, 24, 200])
def test_no_pixel_is_in_two_splits(splits: dict[str, Photos], size: int) -> None:
    few = {"train_images": 100, "val_images": 60, "test_images": 60}
    made = splits if size == 64 else {s: Photos(s, image_size=size, **few, **NOWHERE) for s in SPLITS}
    covered: dict[str, dict[str, np.ndarray]] = {split: {} for split in SPLITS}
    for split, dataset in made.items():
        for name in dataset.names:
            stem, side, top, left = place(name)
            height, width = photograph_shape(stem)
            assert top + side <= height
            assert left + side <= width
            mask = covered[split].setdefault(stem, np.zeros((height, width), dtype=bool))
            mask[top : top + side, left : left + side] = True
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        for stem, mask in covered[one].items():
            assert not (mask & covered[other].get(stem, np.zeros_like(mask))).any(), (stem, one, other)


SHAPES: dict[str, tuple[int, int]] = {}


def photograph_shape(stem: str) -> tuple[int, int]:
    if stem not in SHAPES:
        SHAPES[stem] = photograph(stem).shape[:2]
    return SHAPES[stem]


def test_crops_are_what_scikit_image_shows(splits: dict[str, Photos]) -> None:
    dataset = splits["test"]
    seen = set()
    for index, name in enumerate(dataset.names[:120]):
        stem, side, top, left = place(name)
        source = photograph(stem)[top : top + side, left : left + side]
        want = source
        if side != 64:
            want = np.asarray(resize(Image.fromarray(source), [64, 64], InterpolationMode.BILINEAR, antialias=True))
        assert np.array_equal(dataset.batch(np.array([index]), None)["image"][0].permute(1, 2, 0).numpy(), want)
        seen.add(side)
    assert len(seen) >= 3


def test_every_photograph_takes_its_turn(splits: dict[str, Photos]) -> None:
    stems = {Path(file).stem for file in PHOTOGRAPHS}
    for dataset in splits.values():
        assert {place(name)[0] for name in dataset.names[:14]} == stems
        counts = np.unique([place(name)[0] for name in dataset.names], return_counts=True)[1]
        assert counts.max() <= 2 * len(dataset) / 14


def test_crops_show_something_and_differ(splits: dict[str, Photos]) -> None:
    for dataset in splits.values():
        pixels = dataset.batch(np.arange(len(dataset)), None)["image"].numpy()
        assert pixels.std(axis=(2, 3)).max(axis=1).min() >= 4
        assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_the_draw_never_changes(splits: dict[str, Photos]) -> None:
    # The names tell photograph, place and scale. Results on this data set are comparable only while they stay.
    digests = {
        split: hashlib.sha256("\n".join(dataset.names).encode()).hexdigest()[:16] for split, dataset in splits.items()
    }
    assert digests == {"train": "f8f57b4718f6b2c3", "val": "a04b48d830dbba18", "test": "59a41372d96fff28"}


def test_fingerprint_is_of_content_and_options(splits: dict[str, Photos]) -> None:
    again = Photos("val", **NOWHERE)
    assert again.fingerprint == splits["val"].fingerprint
    every = np.arange(len(again))
    assert torch.equal(again.batch(every, None)["image"], splits["val"].batch(every, None)["image"])
    fewer = Photos("val", val_images=100, **NOWHERE)
    assert fewer.names == splits["val"].names[:100]
    others = [fewer, Photos("val", image_size=32, **NOWHERE), splits["test"], splits["val"]]
    assert len({dataset.fingerprint for dataset in others}) == 4


def test_grey_photographs_have_three_equal_channels(splits: dict[str, Photos]) -> None:
    dataset = splits["val"]
    grey = [i for i, name in enumerate(dataset.names) if place(name)[0] in ("camera", "brick", "coins", "moon")]
    image = dataset.batch(np.array(grey), None)["image"]
    assert (image[:, :1] == image).all()


def test_largest_size() -> None:
    assert Photos("test", image_size=470, test_images=4, **NOWHERE).image_size == (470, 470)
    with pytest.raises(UserError, match="image_size=471 is more than any photograph can be split for; use 470"):
        Photos("test", image_size=471, test_images=4, **NOWHERE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_images": 100_000}, r"val_images=100000, but the photographs hold (\d+) crops.*val_images=\1 or less"),
        ({"val_images": 0}, "dataset.val_images=0: expected an integer at least 1"),
        ({"image_size": 0}, "dataset.image_size=0: expected an integer at least 1"),
    ],
)
def test_impossible_options_are_user_errors(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_dataset("photos", "val", **options, **NOWHERE)


def test_missing_photograph_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.photos.PHOTOGRAPHS", ("gone.png",))
    with pytest.raises(UserError, match=r"gone\.png is missing; it ships with scikit-image"):
        Photos("val", **NOWHERE)
