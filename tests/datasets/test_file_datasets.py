import inspect
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from image_files import fill, noise, touch
from oracles import SHARED

from datasets import DATASETS, ImageDataset, NoSplit, build_dataset, list_images
from datasets import celeba as celeba_module
from datasets.celeba import CelebA
from datasets.celeba_hq import CelebAHQ
from datasets.decoding import ResizeCrop
from datasets.dtd import DTD
from datasets.folder import DanbooruPortraits, Folder
from ffl.errors import UserError

DATA = SHARED / "data"
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "dataset"


def build(root: Path, name: str, split: str, **options: Any) -> ImageDataset:
    return build_dataset(name, split, data_root=root / "data", cache_dir=root / "cache", **options)


def sizes(listing: Any) -> dict[str, int]:
    return {split: len(paths) for split, paths in listing.splits.items()}


# Any folder


def test_folder_by_lists(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mine"
    names = fill(folder / "all", 10)
    (folder / "train.txt").write_text("".join(f"all/{name}\n" for name in names[:6]))
    (folder / "test.txt").write_text(f"all/{names[9]}\nall/{names[7]}\n")
    train = build(tmp_path, "folder", "train", folder="mine", image_size=8)
    assert train.names == [f"all_{number:06d}" for number in range(6)]
    test = build(tmp_path, "folder", "test", folder="mine", image_size=8)
    assert test.names == ["all_000007", "all_000009"]
    want = ResizeCrop(8)((folder / "all" / names[9]).read_bytes())["image"]
    assert np.array_equal(test.batch(np.array([1]), None)["image"][0].numpy(), want)
    with pytest.raises(NoSplit, match=r"no val split .*set val_images"):
        build(tmp_path, "folder", "val", folder="mine")
    assert len(build(tmp_path, "folder", "val", folder="mine", image_size=8, val_images=2)) == 2
    assert len(build(tmp_path, "folder", "train", folder="mine", image_size=8, val_images=2)) == 4


def test_folder_with_a_test_list_only(tmp_path: Path) -> None:
    names = fill(tmp_path, 5)
    (tmp_path / "test.txt").write_text(names[2])
    listing = Folder.find_files(tmp_path, folder=".")
    assert listing.splits == {"test": [names[2]], "train": [name for name in names if name != names[2]]}


def test_folder_by_sub_folders(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        fill(tmp_path / split / "deep", count)
    listing = Folder.find_files(tmp_path, folder=".", val_images=1)
    assert sizes(listing) == {"train": 4, "val": 2, "test": 3}
    assert listing.splits["val"] == ["val/deep/000000.png", "val/deep/000001.png"]
    assert listing.found == 9


def test_folder_by_fraction(tmp_path: Path) -> None:
    touch(tmp_path, [f"{number}.jpg" for number in range(40)])
    assert sizes(Folder.find_files(tmp_path, folder=".")) == {"train": 36, "test": 4}
    assert sizes(Folder.find_files(tmp_path, folder=".", test_images=3, val_images=5)) == {
        "train": 32,
        "val": 5,
        "test": 3,
    }
    assert sizes(Folder.find_files(tmp_path, folder=".", test_fraction=0.5)) == {"train": 20, "test": 20}


def test_folder_may_be_absolute(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", 20)
    assert len(build(tmp_path, "folder", "train", folder=str(tmp_path / "elsewhere"), image_size=8)) == 18


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no folder given; set dataset.folder=DIR"),
        ({"folder": "gone"}, "folder .*gone is missing; any folder of images"),
        ({"folder": "empty"}, "no images under .*empty"),
        ({"folder": "full", "split_by": "lists"}, r"has no train\.txt"),
        ({"folder": "full", "split_by": "folders"}, "has no sub-folder train"),
        ({"folder": "full", "split_by": "magic"}, "dataset.split_by=magic: expected one of auto, lists"),
        (
            {"folder": "full", "test_fraction": 1.5},
            r"test_fraction=1\.5: expected a number at least 0 and at most 1",
        ),
        ({"folder": "full", "val_images": -1}, "dataset.val_images=-1: expected an integer at least 0"),
        ({"folder": "full", "test_images": -1}, "dataset.test_images=-1: expected an integer at least 0"),
        ({"folder": "full", "image_size": 0}, "dataset.image_size=0: expected an integer at least 1"),
        ({"folder": "full", "test_fraction": 1.0}, "the train split is empty"),
        ({"folder": "full", "val_images": 99}, "the train split is empty"),
    ],
)
def test_folder_mistakes_are_user_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "data" / "empty").mkdir(parents=True)
    fill(tmp_path / "data" / "full", 4)
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path, "folder", "train", **options)
    assert "\n" not in str(error.value)


def test_folder_lists_are_checked(tmp_path: Path) -> None:
    names = fill(tmp_path, 4)
    (tmp_path / "train.txt").write_text("\n".join([*names, "gone.png", "gone2.png"]))
    with pytest.raises(UserError, match=r"train\.txt lists 2 missing images, such as gone\.png"):
        Folder.find_files(tmp_path, folder=".")
    (tmp_path / "train.txt").write_text("\n".join(names))
    (tmp_path / "test.txt").write_text(names[1])
    with pytest.raises(UserError, match=rf"1 images are in two splits, such as {names[1]}"):
        Folder.find_files(tmp_path, folder=".")


def test_names_and_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mine"
    for path in ("x/y.png", "x_y.png", "z.bmp"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        noise(9, 9, seed=len(path)).save(folder / path)
    options: dict[str, Any] = {"folder": "mine", "test_fraction": 0.0, "image_size": 8}
    first = build(tmp_path, "folder", "train", **options)
    assert len(set(first.names)) == 3
    assert not any("/" in name for name in first.names)
    os.utime(folder / "z.bmp", (1, 1))
    shutil.rmtree(tmp_path / "cache")
    assert build(tmp_path, "folder", "train", **options).fingerprint == first.fingerprint
    other_size = build(tmp_path, "folder", "train", **{**options, "image_size": 9})
    assert other_size.fingerprint != first.fingerprint
    noise(9, 9, seed=77).save(folder / "z.bmp")
    assert build(tmp_path, "folder", "train", **options).fingerprint != first.fingerprint


def test_skipped_images_are_left_out_of_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "data" / "mine"
    names = fill(folder, 5)
    (folder / names[1]).write_bytes(b"no image")
    options: dict[str, Any] = {"folder": "mine", "test_fraction": 0.0, "image_size": 8}
    with pytest.raises(UserError, match=names[1]):
        build(tmp_path, "folder", "train", **options)
    made = build(tmp_path, "folder", "train", on_error="skip", **options)
    assert made.names == ["000000", "000002", "000003", "000004"]
    assert "1 of 5 images skipped" in caplog.text
    want = ResizeCrop(8)((folder / names[4]).read_bytes())["image"]
    assert np.array_equal(made.batch(np.array([3]), None)["image"][0].numpy(), want)


# The public data sets in full, by name only


def test_celeba_has_the_papers_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "celeba" / "img_align_celeba").mkdir(parents=True)
    everything = [f"{number:06d}.jpg" for number in range(1, 202_600)]
    monkeypatch.setattr(celeba_module, "find_images", lambda root, recursive: everything)
    listing = CelebA.find_files(tmp_path)
    assert sizes(listing) == {"train": 199_599, "test": 3000}
    assert set(listing.splits["train"]) | set(listing.splits["test"]) == {f"img_align_celeba/{n}" for n in everything}
    assert listing.found == CelebA.public_images == 202_599
    assert "not the authors'" in listing.rule


def test_celeba_hq_has_the_papers_counts_in_any_format(tmp_path: Path) -> None:
    for root, pattern in (("a", "{}.jpg"), ("b", "CelebA-HQ-img/{:05d}.png")):
        touch(tmp_path / root / "celeba_hq", [pattern.format(number) for number in range(30_000)])
    touch(tmp_path / "b" / "celeba_hq" / "CelebAMask-HQ-mask-anno", ["00000_hair.png"])
    first, second = CelebAHQ.find_files(tmp_path / "a"), CelebAHQ.find_files(tmp_path / "b")
    assert sizes(first) == sizes(second) == {"train": 27_000, "test": 3000}
    numbers = [sorted(int(Path(path).stem) for path in listing.splits["test"]) for listing in (first, second)]
    assert numbers[0] == numbers[1]
    with_val = CelebAHQ.find_files(tmp_path / "a", val_images=500)
    assert sizes(with_val) == {"train": 26_500, "val": 500, "test": 3000}
    assert with_val.splits["test"] == first.splits["test"]


@pytest.mark.parametrize("inside", ["dtd", "dtd/dtd"])
def test_dtd_has_the_papers_counts(tmp_path: Path, inside: str) -> None:
    classes = [f"class{number}" for number in range(47)]
    touch(tmp_path / inside / "images", [f"{c}/{c}_{number:04d}.jpg" for c in classes for number in range(120)])
    listing = DTD.find_files(tmp_path)
    assert sizes(listing) == {"train": 4512, "test": 1128}
    per_class = np.unique([path.split("/")[1] for path in listing.splits["test"]], return_counts=True)[1]
    assert per_class.tolist() == [24] * 47
    assert sizes(DTD.find_files(tmp_path, val_images=100)) == {"train": 4412, "val": 100, "test": 1128}


def test_danbooru_takes_three_thousand_at_most(tmp_path: Path) -> None:
    touch(tmp_path / "danbooru_portraits", [f"{n % 10:04d}/{n}.jpg" for n in range(31_000)])
    assert sizes(DanbooruPortraits.find_files(tmp_path)) == {"train": 28_000, "test": 3000}


# CelebA's lists


@pytest.mark.parametrize("where", ["celeba", "celeba_recon_lists"])
def test_celeba_takes_the_authors_lists(tmp_path: Path, where: str) -> None:
    images = tmp_path / "celeba" / "img_align_celeba"
    names = [f"{number:06d}.jpg" for number in range(1, 11)]
    touch(images, names)
    (tmp_path / where).mkdir(exist_ok=True)
    wanted = ["img_align_celeba/000003.jpg", "img_align_celeba/000008.jpg", "img_align_celeba/202599.jpg"]
    (tmp_path / where / "test.txt").write_text("\n".join(wanted))
    listing = CelebA.find_files(tmp_path)
    assert listing.splits["test"] == wanted[:2]
    assert listing.splits["train"] == [
        f"img_align_celeba/{name}" for name in names if name not in ("000003.jpg", "000008.jpg")
    ]
    assert "authors' lists" in listing.rule
    assert "1 of their images not found" in listing.rule
    (tmp_path / where / "train.txt").write_text("img_align_celeba/000001.jpg\n")
    listing = CelebA.find_files(tmp_path, val_images=1)
    assert sizes(listing) == {"train": 0, "val": 1, "test": 2}


def test_celeba_official_partition(tmp_path: Path) -> None:
    touch(tmp_path / "celeba" / "img_align_celeba", ["000001.jpg", "162771.jpg", "182638.jpg"])
    partition = tmp_path / "celeba" / "list_eval_partition.txt"
    with pytest.raises(UserError, match=r"list_eval_partition\.txt is missing"):
        CelebA.find_files(tmp_path, split_by="official")
    partition.write_text("000001.jpg 0\n000002.jpg 0\n162771.jpg 1\n182638.jpg 2\n")
    listing = CelebA.find_files(tmp_path, split_by="official")
    assert listing.splits == {
        "train": ["img_align_celeba/000001.jpg"],
        "val": ["img_align_celeba/162771.jpg"],
        "test": ["img_align_celeba/182638.jpg"],
    }
    assert "1 of its images not found" in listing.rule
    partition.write_text("000001.jpg 0\n000002.jpg 3\n")
    with pytest.raises(UserError, match=r"has the line '000002\.jpg 3', expected"):
        CelebA.find_files(tmp_path, split_by="official")


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("celeba", "", r"folder .*celeba is missing; CelebA.*http"),
        ("celeba", "celeba", r"folder .*img_align_celeba is missing; CelebA.*http"),
        ("celeba", "celeba/img_align_celeba", "no images under"),
        ("celeba_hq", "", r"folder .*celeba_hq is missing; .*http"),
        ("celeba_hq", "celeba_hq", r"no images under .*http"),
        ("dtd", "", r"folder .*dtd is missing; DTD.*http"),
        ("dtd", "dtd/images", r"no images under .*http"),
        ("danbooru", "", r"folder .*danbooru_portraits is missing; .*http"),
        ("celeba_64", "", r"folder .*celeba_64 is missing"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, name: str, made: str, message: str) -> None:
    (tmp_path / "data" / made).mkdir(parents=True)
    with pytest.raises(UserError, match=message) as error:
        build(tmp_path, name, "train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("celeba", {"split_by": "mine"}, "dataset.split_by=mine: expected one of paper, official"),
        ("dtd", {"split_by": "mine"}, "dataset.split_by=mine: expected one of paper, official"),
        ("dtd", {"split_by": "official", "fold": 11}, "dataset.fold=11: expected an integer at least 1 and at most 10"),
        ("dtd", {"split_by": "official"}, r"train1\.txt is missing"),
        ("celeba_hq", {"val_images": -2}, "dataset.val_images=-2: expected an integer at least 0"),
    ],
)
def test_wrong_options_are_user_errors(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    data = tmp_path / "data"
    touch(data, ["celeba/img_align_celeba/000001.jpg", "dtd/images/a/a_1.jpg", "celeba_hq/0.jpg"])
    with pytest.raises(UserError, match=message):
        build(tmp_path, name, "train", **options)


# Real images


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} images at {DATA}")
    return DATA


def test_real_celeba_official_partition_follows_the_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = real("celeba")
    listing = CelebA.find_files(root, split_by="official")
    assert sizes(listing) == {"train": 2400, "val": 300, "test": 300}
    ranges = {"train": (1, 162_770), "val": (162_771, 182_637), "test": (182_638, 202_599)}
    for split, (first, last) in ranges.items():
        numbers = [int(Path(path).stem) for path in listing.splits[split]]
        assert first <= min(numbers)
        assert max(numbers) <= last
    with caplog.at_level(logging.WARNING):
        test = build_dataset("celeba", "test", data_root=root, cache_dir=tmp_path, split_by="official")
    assert "the public data set has 202599" in caplog.text
    assert (test.found, test.expected, len(test)) == (3000, 202_599, 300)
    path = root / "celeba" / listing.splits["test"][7]
    assert np.array_equal(
        test.batch(np.array([7]), None)["image"][0].numpy(), ResizeCrop(64)(path.read_bytes())["image"]
    )


@pytest.mark.parametrize(
    ("name", "folder", "options", "counts"),
    [
        ("celeba", "celeba", {}, {"train": 2700, "test": 300}),
        ("celeba_64", "celeba_64", {}, {"train": 22_000, "val": 1000, "test": 3000}),
        ("celeba_hq", "celeba_hq", {"val_images": 50}, {"train": 850, "val": 50, "test": 100}),
        ("dtd", "dtd", {}, {"train": 1427, "test": 357}),
        ("dtd", "dtd", {"split_by": "official"}, {"train": 595, "val": 595, "test": 594}),
        ("danbooru", "danbooru_portraits", {}, {"train": 1800, "test": 200}),
        ("facades", "facades", {}, {"train": 400, "val": 100, "test": 106}),
        ("edges2shoes", "edges2shoes", {}, {"train": 1000, "test": 200}),
    ],
)
def test_real_splits(name: str, folder: str, options: dict[str, Any], counts: dict[str, int]) -> None:
    listing = list_images(name, real(folder), **options)
    assert listing is not None
    assert sizes(listing) == counts


# The registry and its configs


def test_unknown_names_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset 'imagenet'; there are ade20k, celeba, celeba_64"):
        build(tmp_path, "imagenet", "train")
    with pytest.raises(UserError, match="no split 'dev'; use one of train, val, test"):
        build(tmp_path, "photos", "dev")
    with pytest.raises(UserError, match=r"unknown key dataset\.size: .*allowed: dataset\.horizontal_flip"):
        build(tmp_path, "photos", "train", size=3)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_config_lists_the_options_with_their_defaults(name: str) -> None:
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config.pop("name") == name
    parameters = inspect.signature(DATASETS[name]).parameters
    for option, value in config.items():
        assert value == parameters[option].default, option


def test_every_config_names_a_data_set() -> None:
    names = {yaml.safe_load(path.read_text())["name"] for path in CONFIGS.glob("*.yaml")}
    assert set(DATASETS) <= names
