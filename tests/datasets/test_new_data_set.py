"""What a new data set gets from its kind: options from three signatures, their checks, splits, decoding and cache."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import fill

from datasets import DATASETS, build_dataset, list_images
from datasets.decoding import ResizeCrop
from datasets.files import FileImages
from ffl.errors import UserError

SOURCE = Path(__file__).with_name("flowers.py").read_text()


@pytest.fixture(params=["", "from __future__ import annotations\n"], ids=["hints", "hints as strings"])
def flowers(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FileImages]:
    """The example, entered among the data sets, and twelve images of it."""
    module: dict[str, Any] = {"__name__": "flowers"}
    exec(request.param + SOURCE, module)
    monkeypatch.setitem(DATASETS, "flowers", module["Flowers"])
    fill(tmp_path / "flowers" / "jpg", 12)
    return module["Flowers"]


def test_a_square_data_set_takes_forty_lines_at_most() -> None:
    assert len(SOURCE.splitlines()) <= 40


def test_the_signature_joins_the_options_of_three_functions(flowers: type[FileImages]) -> None:
    parameters = inspect.signature(flowers).parameters
    defaults = {name: item.default for name, item in parameters.items() if item.default is not item.empty}
    # From FileImages.__init__, SquareImages.prepare and Flowers.list_files; two differ by ``defaults``.
    assert defaults == {
        "image_size": 16,
        "horizontal_flip": False,
        "val_images": 2,
        "on_error": "fail",
        "workers": None,
        "cache": None,
        "decoder": "pillow",
        "shards": None,
        "exif_orientation": False,
        "test_fraction": 0.25,
    }
    assert [name for name in parameters if name not in defaults] == ["split", "data_root", "cache_dir"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_fracton": 0.5}, r"unknown key dataset\.test_fracton: did you mean dataset\.test_fraction\?"),
        ({"test_fraction": 2}, r"dataset\.test_fraction=2: expected a number at least 0 and at most 1"),
        ({"exif_orientation": 1}, r"dataset\.exif_orientation=1: expected true or false"),
        ({"on_error": "pass"}, r"dataset\.on_error=pass: expected one of fail, skip"),
        ({"direction": "AtoB"}, r"unknown key dataset\.direction: allowed: .*dataset\.exif_orientation"),
    ],
)
def test_the_signature_is_the_schema(
    flowers: type[FileImages], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_dataset("flowers", "train", data_root=tmp_path, cache_dir=tmp_path / "cache", **options)
    with pytest.raises(UserError, match=message):
        list_images("flowers", tmp_path, **options)


def test_a_call_does_what_the_signature_says(flowers: type[FileImages], tmp_path: Path) -> None:
    folders: dict[str, Any] = {"data_root": tmp_path, "cache_dir": tmp_path / "cache"}
    for split, count in (("train", 7), ("val", 2), ("test", 3)):
        dataset = flowers(split, **folders)
        assert len(dataset) == count
        assert dataset.image_size == (16, 16)
        assert dataset.fingerprint == build_dataset("flowers", split, **folders).fingerprint
        path = tmp_path / "flowers" / "jpg" / f"{dataset.names[-1]}.png"
        last = dataset.batch(np.array([count - 1]), None)["image"][0].numpy()
        assert np.array_equal(last, ResizeCrop(16)(path.read_bytes())["image"])
    assert flowers("train", **folders, image_size=8).image_size == (8, 8)
    with pytest.raises(TypeError, match="Flowers takes no val_image"):
        flowers("train", **folders, val_image=3)


def test_files_are_listed_as_a_call_splits_them(flowers: type[FileImages], tmp_path: Path) -> None:
    for options in ({}, {"val_images": 0, "test_fraction": 0.5, "image_size": 8}):
        listing = list_images("flowers", tmp_path, **options)
        assert listing is not None
        assert (listing.found, listing.expected) == (12, 8189)
        for split, paths in listing.splits.items():
            dataset = build_dataset("flowers", split, data_root=tmp_path, cache_dir=tmp_path / "cache", **options)
            assert dataset.names == [Path(path).stem for path in paths]
    assert list_images("photos", tmp_path) is None
    with pytest.raises(UserError, match=r"dataset flowers: folder .* is missing; Oxford Flowers 102: https://"):
        list_images("flowers", tmp_path / "elsewhere")
