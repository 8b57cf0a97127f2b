"""Side-by-side pairs: halves, direction, the official resize, crop and mirroring."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from image_files import encoded, noise
from oracles import SHARED
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from datasets import build_dataset
from datasets.base import ImageDataset, NoSplit, gather_crops
from datasets.paired import Edges2Shoes, Facades, PairDecoder, PairedImages
from ffl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
REAL = SHARED / "data"


def make_pairs(root: Path, counts: dict[str, int], size: tuple[int, int] = (20, 40)) -> None:
    for split, count in counts.items():
        (root / split).mkdir(parents=True)
        for number in range(count):
            noise(*size, seed=1000 * len(split) + number).save(root / split / f"{number}.png")


def open_pairs(
    tmp_path: Path, split: str = "train", kind: type[PairedImages] = Facades, **options: Any
) -> ImageDataset:
    options = {"image_size": 16, "load_size": 20, "direction": "AtoB", **options}
    return build_dataset(kind.name, split, data_root=tmp_path, cache_dir=tmp_path / "cache", **options)


def official_half(path: Path, half: str, size: int) -> np.ndarray:
    """One half as the official transforms prepare it, before crop and flip: uint8 (3, size, size)."""
    pair = Image.open(path).convert("RGB")
    box = (0, 0, pair.width // 2, pair.height) if half == "A" else (pair.width // 2, 0, pair.width, pair.height)
    resized = tv.resize(pair.crop(box), [size, size], InterpolationMode.BICUBIC)
    return np.asarray(resized).transpose(2, 0, 1)


@pytest.mark.parametrize(("direction", "source", "image"), [("AtoB", "A", "B"), ("BtoA", "B", "A")])
def test_evaluation_resizes_both_halves_as_officially(tmp_path: Path, direction: str, source: str, image: str) -> None:
    make_pairs(tmp_path / "facades", {"train": 1, "test": 3})
    batch = open_pairs(tmp_path, "test", direction=direction).batch(np.array([2, 0]), None)
    assert batch.keys() == {"index", "source", "image"}
    for position, number in enumerate((2, 0)):
        path = tmp_path / "facades" / "test" / f"{number}.png"
        assert np.array_equal(batch["source"][position], official_half(path, source, 16))
        assert np.array_equal(batch["image"][position], official_half(path, image, 16))


def test_training_crops_and_mirrors_both_halves_alike(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 4})
    dataset = open_pairs(tmp_path)
    halves = {
        name: [official_half(tmp_path / "facades" / "train" / f"{n}.png", half, 20) for n in range(4)]
        for name, half in (("source", "A"), ("image", "B"))
    }
    seen = set()
    for seed in range(60):
        batch = dataset.batch(np.arange(4), seed)
        for number in range(4):
            placed = [
                (top, left, flip)
                for top in range(5)
                for left in range(5)
                for flip in (False, True)
                if all(
                    np.array_equal(
                        batch[name][number],
                        halves[name][number][:, top : top + 16, left : left + 16][..., :: -1 if flip else 1],
                    )
                    for name in halves
                )
            ]
            assert len(placed) == 1
            seen.add(placed[0])
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
    assert {flip for _, _, flip in seen} == {False, True}
    assert len(seen) > 45, "all 50 combinations are about equally likely"


def test_augmentation_depends_on_seed_and_item_alone(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 6})
    dataset = open_pairs(tmp_path)
    whole = dataset.batch(np.arange(6), 7)
    for indices in ([3], [5, 3, 0], [3, 3]):
        part = dataset.batch(np.array(indices), 7)
        for name in ("source", "image"):
            assert torch.equal(part[name], whole[name][indices])
    assert not torch.equal(dataset.batch(np.arange(6), 8)["image"], whole["image"])


def test_without_a_seed_the_centre_is_cropped(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 1})
    batch = open_pairs(tmp_path).batch(np.array([0]), None)
    whole = official_half(tmp_path / "facades" / "train" / "0.png", "A", 20)
    assert np.array_equal(batch["source"][0], whole[:, 2:18, 2:18])


def test_options_turn_augmentation_off(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 5})
    dataset = open_pairs(tmp_path, load_size=None, horizontal_flip=False)
    assert torch.equal(dataset.batch(np.arange(5), 1)["image"], dataset.batch(np.arange(5), None)["image"])


def test_gather_crops_by_hand() -> None:
    maps = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    crops = gather_crops(maps, np.array([1, 0]), (2, 3), np.array([[1, 0], [0, 1]]))
    assert crops.tolist() == [[[16, 17, 18], [20, 21, 22]], [[1, 2, 3], [5, 6, 7]]]


def test_splits(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 3, "val": 2, "test": 1})
    assert [len(open_pairs(tmp_path, split)) for split in ("train", "val", "test")] == [3, 2, 1]
    make_pairs(tmp_path / "edges2shoes", {"train": 5, "val": 2})
    assert [len(open_pairs(tmp_path, split, Edges2Shoes)) for split in ("train", "test")] == [5, 2]
    with pytest.raises(NoSplit, match=r"no val split \(splits from sub-folders; val is the test split\).*val_images"):
        open_pairs(tmp_path, "val", Edges2Shoes)
    train = open_pairs(tmp_path, "train", Edges2Shoes, val_images=2)
    val = open_pairs(tmp_path, "val", Edges2Shoes, val_images=2)
    assert (len(train), len(val)) == (3, 2)
    assert not set(train.names) & set(val.names)
    assert val.image_size == (16, 16)
    assert (train.found, train.expected) == (7, 50_025)


def test_fingerprint_tells_files_and_options(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 2})
    first = open_pairs(tmp_path).fingerprint
    assert open_pairs(tmp_path).fingerprint == first
    assert open_pairs(tmp_path, direction="BtoA").fingerprint != first
    assert open_pairs(tmp_path, image_size=12).fingerprint != first
    noise(20, 40, seed=99).save(tmp_path / "facades" / "train" / "1.png")
    assert open_pairs(tmp_path).fingerprint != first


def test_a_file_that_is_no_pair_is_named(tmp_path: Path) -> None:
    make_pairs(tmp_path / "facades", {"train": 2})
    noise(20, 20).save(tmp_path / "facades" / "train" / "square.png")
    with pytest.raises(UserError, match=r"square\.png: cannot be decoded \(20 x 20 pixels are not two pictures"):
        open_pairs(tmp_path)
    assert len(open_pairs(tmp_path, on_error="skip")) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "up"}, "dataset.direction=up: expected one of AtoB, BtoA"),
        ({"load_size": 12}, "load_size=12 must not be less than image_size=16"),
        ({"image_size": 0}, "dataset.image_size=0: expected an integer at least 1"),
        ({"val_images": -1}, "dataset.val_images=-1: expected an integer at least 0"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    make_pairs(tmp_path / "facades", {"train": 1})
    with pytest.raises(UserError, match=message):
        open_pairs(tmp_path, **options)


def test_missing_data_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*facades is missing; pix2pix facades\.tar\.gz"):
        open_pairs(tmp_path)
    (tmp_path / "facades").mkdir()
    with pytest.raises(UserError, match="has no sub-folder train"):
        open_pairs(tmp_path)
    (tmp_path / "facades" / "train").mkdir()
    with pytest.raises(UserError, match="no images under"):
        open_pairs(tmp_path)


@pytest.mark.parametrize(("kind", "direction"), [(Facades, "BtoA"), (Edges2Shoes, "AtoB")])
def test_real_pairs(tmp_path: Path, kind: type[PairedImages], direction: str) -> None:
    if not (REAL / kind.name).is_dir():
        pytest.skip(f"no real pairs at {REAL}")
    config = yaml.safe_load((ROOT / "configs" / "dataset" / f"{kind.name}.yaml").read_text())
    assert config.pop("name") == kind.name
    assert kind.paper_direction == direction
    dataset = build_dataset(kind.name, "test", data_root=REAL, cache_dir=tmp_path, **config)
    batch = dataset.batch(np.arange(8), None)
    assert batch["image"].shape == batch["source"].shape == (8, 3, 256, 256)
    # Photographs have fine texture everywhere, label maps and edge maps large flat areas.
    flat = {name: (batch[name].float().diff(dim=-1).abs() < 2).float().mean() for name in ("source", "image")}
    assert flat["source"] > flat["image"]


def test_decoder_keeps_the_odd_column_on_the_right() -> None:
    # int(w / 2) columns left, as in the official code.
    data = np.zeros((4, 9, 3), np.uint8)
    data[:, 4:] = 200
    decoded = PairDecoder(4, "AtoB")(encoded(Image.fromarray(data)))
    assert (decoded["source"] == 0).all()
    assert (decoded["image"] == 200).all()
