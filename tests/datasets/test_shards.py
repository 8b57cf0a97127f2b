"""Shards give what the folder gives, are litdata's, and notice what happens to them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from prepare_script import Doctor
from test_packed import IMAGES, MAPS, PAIRS, open_split
from test_prepare_data import cells

from datasets import DATASETS, shards
from ffl.errors import UserError


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 2000)


def make_shards(doctor: Doctor, root: Path, options: dict[str, Any], *words: str) -> Path:
    """Shards of a data set under ``root``, made by the script."""
    name, path = options["name"], root / "shards"
    words = (*words, f"data_root={root}", f"dataset={name}", f"shards={path}")
    words += (f"folder={options['folder']}", "dataset_options={test_fraction:0.5}") if name == "folder" else ()
    assert doctor.main(list(words)) == 0
    return path


@pytest.mark.parametrize("options", [IMAGES, PAIRS, MAPS], ids=lambda options: options["name"])
def test_shards_are_the_data_set(doctor: Doctor, root: Path, options: dict[str, Any]) -> None:
    """Names, fingerprint and every batch are those of the folder, for which nothing but the shards is needed."""
    path = make_shards(doctor, root, options)
    assert len(list(path.glob("*.bin"))) > 1
    for split in ("train", "val") if options is PAIRS else ("train", "val", "test"):
        held_out = {"val_images": 2}
        folder = open_split(root, options, split, **held_out)
        for threads in (1, 3):
            sharded = open_split(Path("/nowhere"), options, split, shards=str(path), **held_out)
            sharded._pixels = shards.ShardRows(
                sharded._pixels.shards, sharded._pixels.items, sharded._pixels.decoder, threads
            )
            assert (sharded.names, sharded.fingerprint) == (folder.names, folder.fingerprint)
            assert (sharded.found, sharded.expected) == (folder.found, folder.expected)
            for seed in (None, 3, 4):
                indices = np.array([1, 0, 1])
                expected, found = folder.batch(indices, seed), sharded.batch(indices, seed)
                assert found.keys() == expected.keys()
                assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_they_are_litdata_s(doctor: Doctor, root: Path) -> None:
    """Its own loader finds the bytes of the files, in the order of our list of them."""
    from litdata import StreamingDataset

    path = make_shards(doctor, root, MAPS)
    files = json.loads((path / "dataset.json").read_text())["files"]
    theirs = StreamingDataset(str(path))
    assert len(theirs) == len(files) == 24
    for number, (file, size, _) in enumerate(files):
        assert theirs[number] == (root / "ade20k" / file).read_bytes()
        assert len(theirs[number]) == size
    # A photograph and its map lie next to each other.
    assert [file for file, _, _ in files[:2]] == ["images/training/0.jpg", "annotations/training/0.png"]


def test_a_file_larger_than_a_shard_has_one_of_its_own(
    doctor: Doctor, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    path = make_shards(doctor, root, IMAGES)
    assert len(list(path.glob("*.bin"))) == 12
    expected = open_split(root, IMAGES).batch(np.arange(6), None)["image"]
    assert torch.equal(open_split(root, IMAGES, shards=str(path)).batch(np.arange(6), None)["image"], expected)


def middle(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)


def table(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    data[4:12] = b"\xff" * 8
    shard.write_bytes(data)


@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize(
    ("damage", "reason", "seen_at_once"),
    [
        (Path.unlink, "No such file", True),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-1]), "bytes, not|is altered|cut short", True),
        (lambda shard: shard.write_bytes(b""), "bytes, not|cut short", True),
        (middle, "is altered", False),
        (table, "is altered", False),
    ],
    ids=["gone", "cut", "empty", "middle", "table"],
)
def test_a_lost_shard_is_named(
    doctor: Doctor, root: Path, damage: Any, reason: str, opened: bool, seen_at_once: bool
) -> None:
    path = make_shards(doctor, root, IMAGES)
    data = open_split(root, IMAGES, shards=str(path))
    every = np.arange(len(data))
    expected = data.batch(every, 1)["image"]
    shard = path / "chunk-0-1.bin"
    before = shard.read_bytes()
    damage(shard)

    def read_all() -> None:
        reader = data if opened else open_split(root, IMAGES, shards=str(path))
        assert opened or not seen_at_once
        for number in range(12):
            reader._pixels.shards.read(number)

    with pytest.raises(UserError, match=rf"^{re.escape(str(shard))}: .*({reason}).*copy it again.*shards={path}"):
        read_all()
    shard.write_bytes(before)
    assert torch.equal(data.batch(every, 1)["image"], expected)  # nothing has to be opened again


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"test_fraction": 0.1},
            r"test_fraction=0\.1: the shards in .* were made with 0\.5; .*dataset_options",
        ),
        ({"cache": "files"}, r"dataset\.cache=files: nothing of shards is cached"),
        ({"name": "danbooru"}, "these are shards of folder, not of danbooru; set dataset=folder"),
        ({"shards": "elsewhere"}, r"dataset\.shards=elsewhere: no such folder; .*prepare_data.py dataset=folder"),
    ],
)
def test_what_does_not_fit_is_said(doctor: Doctor, root: Path, change: dict[str, Any], message: str) -> None:
    path = make_shards(doctor, root, IMAGES)
    options = {**IMAGES, "shards": str(path), **change}
    if "name" in change:
        options = {"name": "danbooru", "shards": str(path)}
    with pytest.raises(UserError, match=message):
        open_split(root, options)


@pytest.mark.parametrize("file", ["index.json", "dataset.json"])
def test_an_altered_list_is_no_list(doctor: Doctor, root: Path, file: str) -> None:
    path = make_shards(doctor, root, IMAGES)
    text = (path / file).read_text()
    for damaged in (text[: len(text) // 2], text.replace("1", "2", 1), "[]", "null", "[" * 100_000):
        (path / file).write_text(damaged)
        with pytest.raises(UserError, match=r"index.json or dataset.json in it cannot be read"):
            open_split(root, IMAGES, shards=str(path))


def test_no_shards_are_made_of_what_cannot_be_used(
    doctor: Doctor, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data_root={root}", "dataset=folder", "folder=images", f"shards={root / 'shards'}"]
    (root / "images" / "000003.png").write_bytes(b"no image")
    assert doctor.main(words) == 1
    output = capsys.readouterr().out
    assert cells(output, "folder")[1:3] == ["bad", "12"]
    assert re.search(r"no shards were made: .*000003.png: cannot be decoded \(not an image", output)
    assert not list(root.glob("*shards*"))
    (root / "images" / "000003.png").unlink()
    assert doctor.main(words) == 0
    assert f"python train.py dataset=folder dataset.shards={root / 'shards'}" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (root / "shards").iterdir()}
    assert doctor.main(words) == 1
    assert "is there already; delete it, or name another folder" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (root / "shards").iterdir()} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shards=x"], "shards=x: is of one data set; name it"),
        (["dataset=dtd,celeba", "dataset_options={fold: 2}"], "dataset_options: is of one data set"),
        (["dataset=photos", "shards=x"], "shards=x: photos has no files to copy"),
        (["dataset=dtd", "dataset_options={shards: x}"], "leave shards out of it"),
        (["dataset=dtd", "dataset_options=3"], "dataset_options=3: expected keys and values"),
    ],
)
def test_wrong_words_are_user_errors(doctor: Doctor, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        doctor.main(words)


def test_every_data_set_of_files_takes_them() -> None:
    takes = {name for name, kind in DATASETS.items() if hasattr(kind, "source_files")}
    assert takes == set(DATASETS) - {"photos"}
