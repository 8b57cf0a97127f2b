"""A data set as shards: its files, byte for byte, inside a few large ones that no local disk needs to hold.

The shards have the format of litdata, whose writer makes them (``scripts/prepare_data.py dataset=... shards=DIR``), and
whose loaders can read them. Each starts with the number of its files and a table of where they begin and end, 32-bit
integers; a file follows after four bytes with its size. ``index.json`` lists the shards. ``dataset.json`` beside it is
ours: the splits, and of each file its path, size and SHA-256.

They are read here and not by litdata, at random and by any number of threads and processes at once: its loaders map
shards into memory, where one that vanishes ends the process without a word, keep one shard open, and download ahead in
threads of their own. Since every file keeps its bytes, batches and fingerprint are those of the data set's folder.
"""

import hashlib
import json
import os
import shutil
import struct
import warnings
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from datasets.decoding import Decoder, Item, undecodable
from datasets.listing import Listing
from datasets.packed import AHEAD, DecodedRows, in_order
from ffl.errors import UserError, missing_extra
from ffl.files import report_failed_writes, write_text
from ffl.progress import progress_bar

INDEX, CONTENT = "index.json", "dataset.json"
FORMAT = 1
SHARD_BYTES = 64 << 20  # litdata's own default, so that its loaders read them at their best
# Where the data set lies is not part of what it is.
PLACES = {"folder"}


class Shards:
    """The files of a data set inside shards, read by number.

    Attributes:
        path: of the folder.
        name: of the data set.
        numbers: of the files by path.

    Args:
        path: of the folder.
        name: of the data set.
        files: path, size and hex SHA-256 of each file.
        index: content of ``index.json``.
    Raises:
        UserError: a shard is missing, or longer or shorter than it was.
    """

    def __init__(self, path: Path, name: str, files: Sequence[tuple[str, int, str]], index: Mapping[str, Any]) -> None:
        self.path = path
        self.name = name
        self.numbers = {file: number for number, (file, _, _) in enumerate(files)}
        self.sizes = [size for _, size, _ in files]
        self.digests = [bytes.fromhex(digest) for _, _, digest in files]
        self.shards = [path / str(shard["filename"]) for shard in index["chunks"]]
        self.firsts = [0, *accumulate(shard["chunk_size"] for shard in index["chunks"])]
        if self.firsts[-1] != len(files):
            raise ValueError(f"{INDEX} has {self.firsts[-1]} files, {CONTENT} {len(files)}")
        # What a copy lacks shows before the first step and not days later.
        for shard, about in zip(self.shards, index["chunks"], strict=True):
            try:
                size = shard.stat().st_size
            except OSError as error:
                raise self.lost(shard, error.strerror) from None
            if size != about["chunk_bytes"]:
                raise self.lost(shard, f"{size:,} bytes, not {about['chunk_bytes']:,}")

    def read(self, number: int) -> bytes:
        """The bytes of a file, as they were when the shards were made.

        Raises:
            UserError: its shard is missing or damaged.
        """
        place = bisect_right(self.firsts, number) - 1
        shard, size = self.shards[place], self.sizes[number]
        # Opened for each file: nothing is shared between threads, and no limit on open files is met. Not mapped, since
        # a file that vanishes under a map ends the process without a word.
        try:
            file = os.open(shard, os.O_RDONLY)
            try:
                table = os.pread(file, 8, 4 * (1 + number - self.firsts[place]))
                begin, end = struct.unpack("<2I", table)
                data = os.pread(file, size, begin + 4) if end - begin == 4 + size else b""
            finally:
                os.close(file)
        except (OSError, struct.error) as error:
            raise self.lost(shard, getattr(error, "strerror", None) or "cut short") from None
        if hashlib.sha256(data).digest() != self.digests[number]:
            raise self.lost(shard, f"file {number - self.firsts[place]} of it is altered")
        return data

    def lost(self, shard: Path, reason: str | None) -> UserError:
        """The error for a shard that cannot be read."""
        return UserError(
            f"{shard}: this shard is missing or damaged ({reason}); copy it again, or delete {self.path} and make it "
            f"again: python scripts/prepare_data.py dataset={self.name} shards={self.path}"
        )


@dataclass(frozen=True)
class ShardListing(Listing):
    """The files of a data set that lie in shards.

    Attributes:
        shards: that hold them.
    """

    shards: Shards = field(kw_only=True)

    def has(self, path: str) -> bool:
        """See ``Listing.has``."""
        return path in self.shards.numbers


class ShardRows(DecodedRows):
    """Rows of a data set in shards, decoded when they are asked for.

    Args:
        shards: that hold the files.
        items: the paths of each item's files.
        decoder: from the files of an item to its arrays.
        threads: that read and decode; None for one per core, 8 at most.
    """

    def __init__(self, shards: Shards, items: Sequence[Item], decoder: Decoder, threads: int | None = None) -> None:
        super().__init__(decoder, threads)
        self.shards = shards
        self.items = items

    def decode(self, row: int) -> dict[str, np.ndarray]:
        """See ``DecodedRows.decode``."""
        files = [self.shards.read(self.shards.numbers[file]) for file in self.items[row]]
        try:
            return self.decoder(*files)
        except ValueError as error:
            where = " + ".join(self.items[row])
            raise UserError(
                f"{self.shards.path}: {where} in it cannot be decoded ({error}); make the shards again without it"
            ) from None

    def digest(self) -> str:
        """Hex SHA-256 of the files of all items: that of a cache of the same files."""
        digests, numbers = self.shards.digests, self.shards.numbers
        items = (hashlib.sha256(b"".join(digests[numbers[file]] for file in item)).digest() for item in self.items)
        return hashlib.sha256(b"".join(items)).hexdigest()


def open_shards(path: Path, name: str, options: Mapping[str, Any]) -> ShardListing:
    """The files of a data set in shards; no shard is read yet.

    Args:
        path: of the folder.
        name: of the data set.
        options: of its ``list_files``, which must be those that the shards were made with.
    Raises:
        UserError: there are no shards, or of another data set or other options; some are missing or damaged.
    """
    again = f"python scripts/prepare_data.py dataset={name} shards={path}"
    if not path.is_dir():
        raise UserError(f"dataset.shards={path}: no such folder; make it: {again}")
    try:
        index = json.loads((path / INDEX).read_text())
        content = json.loads((path / CONTENT).read_text())
        if content.pop("checksum") != _checksum(content, index) or content["format"] != FORMAT:
            raise ValueError("altered, or of another version")
        shards = Shards(path, content["dataset"], content["files"], index)
        listing = ShardListing(path, content["splits"], content["rule"], shards=shards)
        of, made_with = content["dataset"], content["options"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"dataset.shards={path}: {INDEX} or {CONTENT} in it cannot be read ({error}); copy both again, or delete "
            f"the folder and make it again: {again}"
        ) from None
    if of != name:
        raise UserError(f"dataset.shards={path}: these are shards of {of}, not of {name}; set dataset={of}")
    for key, value in options.items():
        if key not in PLACES and made_with.get(key) != value:
            raise UserError(
                f"dataset.{key}={value}: the shards in {path} were made with {made_with.get(key)}; set that, or make "
                f"others: python scripts/prepare_data.py dataset={name} dataset_options={{{key}:{value}}} shards=DIR"
            )
    return listing


def write_shards(
    path: Path, name: str, options: Mapping[str, Any], listing: Listing, files: Sequence[str], workers: int
) -> int:
    """Write the files of a data set into shards; each image of the listing is decoded once, to see that it can be.

    Args:
        path: folder to make; an empty one is taken too.
        name: of the data set.
        options: that the listing was made with.
        listing: of the data set in its folder.
        files: all files that its items need, relative to the listing's root.
        workers: threads that read and decode.
    Returns:
        The number of shards.
    Raises:
        UserError: the folder is not empty or cannot be written, or an image cannot be read or decoded.
        MissingExtra: litdata is not installed.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"shards={path}: is there already; delete it, or name another folder")
    try:
        from litdata.streaming.writer import BinaryWriter
    except ModuleNotFoundError as error:
        raise missing_extra(error.name, "shards") from None
    images = {image for paths in listing.splits.values() for image in paths}

    def read(file: str) -> bytes:
        try:
            data = (listing.root / file).read_bytes()
        except OSError as error:
            raise UserError(f"{listing.root / file}: cannot be read ({error.strerror}); remove it") from None
        if file in images and (reason := undecodable(data)) is not None:
            raise UserError(f"{listing.root / file}: cannot be decoded ({reason}); replace or remove it")
        return data

    # Under another name until all is there, so that what a killed command leaves is never taken for the whole.
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    about: list[tuple[str, int, str]] = []
    try:
        with (
            report_failed_writes(path, "make room, or set shards=DIR elsewhere"),
            warnings.catch_warnings(),
            ThreadPoolExecutor(workers, "packer") as pool,
            progress_bar(len(files), f"{name} into shards", "file") as bar,
        ):
            warnings.simplefilter("ignore")  # of files larger than a shard, which then has one of its own
            partial.mkdir(parents=True)
            writer = BinaryWriter(str(partial), chunk_bytes=SHARD_BYTES)
            for number, data in enumerate(in_order(pool, read, files, AHEAD * workers)):
                writer[number] = data
                about.append((files[number], len(data), hashlib.sha256(data).hexdigest()))
                bar.update()
            writer.done()
            writer.merge()
            index = json.loads((partial / INDEX).read_text())
            for shard in index["chunks"]:
                with open(partial / shard["filename"], "rb") as written:
                    os.fsync(written.fileno())
            content = {
                "format": FORMAT,
                "dataset": name,
                "options": {key: value for key, value in options.items() if key not in PLACES},
                "rule": listing.rule,
                "splits": dict(listing.splits),
                "files": about,
            }
            write_text(partial / CONTENT, json.dumps({**content, "checksum": _checksum(content, index)}))
            os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(index["chunks"])


def _checksum(content: Mapping[str, Any], index: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps([content, index], sort_keys=True).encode()).hexdigest()
