"""Caches of files give what caches of pixels give, and notice what happens to them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import encoded, noise

from datasets import ImageDataset, build_dataset, files, packed
from ffl.decoding import decode_rgb
from ffl.errors import UserError

IMAGES = {"name": "folder", "folder": "images", "image_size": 8, "test_fraction": 0.5, "horizontal_flip": True}
PAIRS = {"name": "facades", "image_size": 8, "load_size": 10}
MAPS = {"name": "ade20k", "image_size": 8, "load_size": 10, "horizontal_flip": True}


def open_split(root: Path, options: dict[str, Any], split: str = "train", **more: Any) -> ImageDataset:
    name = options["name"]
    rest = {key: value for key, value in {**options, **more}.items() if key != "name"}
    return build_dataset(name, split, data_root=root, cache_dir=root / "cache", **rest)


@pytest.mark.parametrize("options", [IMAGES, PAIRS, MAPS], ids=lambda options: options["name"])
def test_both_forms_are_one_data_set(root: Path, options: dict[str, Any]) -> None:
    pixels, packed_files = (open_split(root, options, cache=form) for form in ("pixels", "files"))
    assert packed_files.fingerprint == pixels.fingerprint
    assert packed_files.names == pixels.names
    indices = np.array([4, 0, 4, 5])
    for seed in (None, 3, 4):
        expected, found = pixels.batch(indices, seed), packed_files.batch(indices, seed)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_large_images_stay_files(root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert not isinstance(open_split(root, IMAGES)._pixels, packed.PackedRows)
    monkeypatch.setattr(files, "PACKED_FROM", 8)
    assert isinstance(open_split(root, IMAGES)._pixels, packed.PackedRows)
    assert "images of 8x8 stay files in the cache (cache=files)" in caplog.text
    assert not isinstance(open_split(root, IMAGES, cache="pixels")._pixels, packed.PackedRows)


def test_sources_are_not_needed_again(root: Path) -> None:
    data = open_split(root, IMAGES, cache="files")
    expected = data.batch(np.arange(6), None)["image"]
    for path in (root / "images").iterdir():
        path.unlink()
    assert torch.equal(data.batch(np.arange(6), None)["image"], expected)


def test_threads_change_nothing(root: Path) -> None:
    data = open_split(root, IMAGES, cache="files")
    alone = packed.PackedRows(data._pixels.path, data._pixels.decoder, [1] * 6, threads=1)
    rows, offsets = np.array([2, 5, 1]), np.zeros((3, 2), dtype=int)
    found = [pixels.crops(rows, (8, 8), offsets)["image"] for pixels in (alone, data._pixels)]
    assert np.array_equal(*found)


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [packed.PACKED, packed.INDEX])
def test_damaged_cache_is_built_anew(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    data = open_split(root, IMAGES, cache="files")
    expected = data.batch(np.arange(6), None)["image"]
    alter(data._pixels.path / name)
    again = open_split(root, IMAGES, cache="files")
    assert "damaged" in caplog.text
    assert torch.equal(again.batch(np.arange(6), None)["image"], expected)


def test_damage_while_in_use_is_named(root: Path) -> None:
    data = open_split(root, IMAGES, cache="files")
    alter(data._pixels.path / packed.PACKED)
    with pytest.raises(UserError, match=r"file \d of it is damaged; delete the folder"):
        data.batch(np.arange(6), None)
    # A shard that vanishes in part is noticed the same way, and ends nothing but the batch.
    (data._pixels.path / packed.PACKED).write_bytes(b"")
    with pytest.raises(UserError, match="file 0 of it is damaged"):
        data.batch(np.array([0]), None)


def test_undecodable_images_are_named_or_skipped(root: Path) -> None:
    for path in sorted((root / "images").iterdir())[3:5]:
        path.write_bytes(encoded(noise(40, 40), "jpeg")[:-300])
    with pytest.raises(UserError, match=r"00000[34]\.png: cannot be decoded"):
        open_split(root, {**IMAGES, "test_fraction": 0.0}, cache="files")
    assert not list((root / "cache").glob("*files.cache"))
    pixels, packed_files = (
        open_split(root, {**IMAGES, "test_fraction": 0.0}, cache=form, on_error="skip") for form in ("pixels", "files")
    )
    assert packed_files.names == pixels.names
    assert len(packed_files) == 10
    assert packed_files.fingerprint == pixels.fingerprint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.packed.PACKED", "/dev/full")
    with pytest.raises(UserError, match=r"cannot write the image cache .* No space left on device; set cache_dir"):
        open_split(root, IMAGES, cache="files")
    assert [path.suffix for path in (root / "cache").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [
        ("RGB", "jpeg", {"quality": 95, "subsampling": 0}),
        ("RGB", "jpeg", {"quality": 60, "subsampling": 2, "progressive": True}),
        ("L", "jpeg", {}),
        ("CMYK", "jpeg", {}),
        ("RGB", "png", {}),
    ],
)
def test_turbo_gives_the_pixels_of_pillow(mode: str, form: str, options: dict[str, Any]) -> None:
    """Equal where both have one version of libjpeg-turbo; versions round differently by a level."""
    data = encoded(noise(33, 47).resize((94, 66)).convert(mode), form, **options)
    turbo, pillow = (np.asarray(decode_rgb(data, jpeg=name)).astype(int) for name in ("turbo", "pillow"))
    assert turbo.shape == (66, 94, 3)
    assert np.abs(turbo - pillow).max() <= 1


def test_turbo_makes_another_cache_and_another_data_set(root: Path) -> None:
    pillow, turbo = (open_split(root, MAPS, decoder=name) for name in ("pillow", "turbo"))
    assert turbo.fingerprint != pillow.fingerprint
    assert len(list((root / "cache").glob("ade20k-train*.cache"))) == 2
    with pytest.raises(ValueError, match="image"):
        decode_rgb(b"\xff\xd8\xff and no more", jpeg="turbo")
