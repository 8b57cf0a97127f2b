"""Decoded images on disk: decode once, then map into memory.

A cache is one file of named arrays, one row per item, so that a batch is a plain copy of rows:

    magic | array | array | ... | footer (JSON) | SHA-256 of the footer | length of the footer | magic

The footer holds the key, the layout, a checksum of each block of data and a digest of the source files. The
key covers the list of source files (path, size, time of modification) and everything that decides on the
pixels, so a changed file or option makes another cache. The digest covers the bytes of the source files, so
it is the same on every machine.

A cache is written under another name and renamed when complete: a build that is killed leaves nothing that could be
taken for a cache. Processes that need the same cache at once wait for the first one; the lock is the kernel's
and goes with the process that holds it.
"""

import fcntl
import hashlib
import json
import logging
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import PIL

from datasets.build import Problem, build_rows
from datasets.decoding import ArraySpec
from ffl.errors import UserError

log = logging.getLogger(__name__)

OnError = Literal["fail", "skip"]

MAGIC = b"FFLcache"
FORMAT = 1
TAIL = struct.Struct("<32sQ8s")
BLOCK = 8 << 20
# Opening reads and checks up to this many bytes of data: all of a small cache, evenly spread blocks of a
# large one.
CHECKED_BYTES = 1 << 30
# A cache smaller than this is copied into memory.
IN_MEMORY_BYTES = 64 << 20
ALIGNMENT = 4096


class Decoder(Protocol):
    """Makes the arrays of an item from the bytes of its files. Must be a frozen dataclass, so that it can be
    sent to worker processes and its fields can enter the key; the output may depend on nothing but those and
    the bytes.

    It raises ValueError, with the reason, for files that it cannot decode.
    """

    @property
    def arrays(self) -> dict[str, ArraySpec]: ...

    # One positional argument of bytes for each file of an item.
    @property
    def __call__(self) -> Callable[..., dict[str, np.ndarray]]: ...


@dataclass(frozen=True)
class Item:
    """What is decoded together: paths relative to the root, in the order that the decoder takes them."""

    files: tuple[str, ...]


class Damaged(Exception):
    """A file that is not a complete and intact cache."""


class CachedArrays:
    """The arrays of a cache.

    Attributes:
        arrays: by name, (rows, *shape); memory-mapped and read-only, or in memory where small.
        rows: int64, the rows that could be decoded, in the order of the items.
        digest: hex SHA-256 of the source files' bytes, over ``rows``.
        problems: (item, reason) of the rows that could not.
    """

    def __init__(self, path: Path, footer: dict[str, Any]) -> None:
        self.path = path
        self.digest: str = footer["digest"]
        self.problems: list[tuple[int, str]] = [(index, reason) for index, reason in footer["problems"]]
        kept = np.ones(footer["rows"], dtype=bool)
        kept[[index for index, _ in self.problems]] = False
        self.rows = np.flatnonzero(kept)
        small = footer["data_end"] < IN_MEMORY_BYTES
        self.arrays: dict[str, np.ndarray] = {}
        for name, place in footer["arrays"].items():
            array = _map(path, place, footer["rows"], "r")
            self.arrays[name] = np.array(array) if small else array


def open_cache(
    cache_dir: Path,
    label: str,
    root: Path,
    items: Sequence[Item],
    decoder: Decoder,
    *,
    on_error: OnError = "fail",
    workers: int | None = None,
) -> CachedArrays:
    """The decoded items, built first where there is no intact cache of them.

    Args:
        cache_dir: folder for caches; made where absent.
        label: start of the cache's file name, for people who look into the folder.
        root: folder that the items' paths are relative to; not part of the key, so a data set may be moved.
        items: what to decode.
        decoder: how.
        on_error: "fail" raises for an item that cannot be decoded; "skip" leaves it out, counted and logged.
        workers: processes that decode; None takes one per available core, 8 at most.
    Raises:
        UserError: an item cannot be decoded, or the cache cannot be written.
    """
    if on_error not in ("fail", "skip"):
        raise UserError(f'on_error={on_error!r} must be "fail" or "skip"')
    key = cache_key(root, items, decoder)
    path = cache_dir / f"{label}-{key[:20]}.cache"
    layout = _layout(len(items), decoder.arrays)
    cache = _load_if_intact(path, key, len(items), *layout)
    if cache is None:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with _exclusive(path.with_suffix(".lock")):
                # Another process may have built it while this one waited.
                cache = _load_if_intact(path, key, len(items), *layout)
                if cache is None:
                    _build(path, key, root, items, decoder, on_error, workers)
                    cache = CachedArrays(path, read_footer(path, key))
        except OSError as err:
            raise UserError(f"cannot write the image cache {path}: {err.strerror or err}; set cache_dir") from err
    if cache.problems:
        first, reason = cache.problems[0]
        if on_error == "fail":
            raise _undecodable(root, items[first], reason)
        log.warning(
            "%s: %d of %d images skipped, such as %s: %s",
            label,
            len(cache.problems),
            len(items),
            items[first].files[0],
            reason,
        )
    if not len(cache.rows):
        first, reason = cache.problems[0]
        raise UserError(
            f"{root}: none of the {len(items)} images of {label} can be decoded, such as {items[first].files[0]}: "
            f"{reason}; replace them"
        )
    return cache


def cache_key(root: Path, items: Sequence[Item], decoder: Decoder) -> str:
    """Hex SHA-256 over the source files (path, size, time of modification) and what decides on the pixels."""
    key = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, describe(decoder)], sort_keys=True).encode())
    for item in items:
        for file in item.files:
            try:
                stat = os.stat(os.path.join(root, file))
            except OSError as err:
                raise UserError(f"{root / file}: cannot be read ({err.strerror}); remove it from the list") from err
            key.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        key.update(b"\n")
    return key.hexdigest()


def describe(decoder: Decoder) -> dict[str, Any]:
    """What decides on the decoder's output: its class and its fields."""
    return {"decoder": type(decoder).__name__, **asdict(decoder)}  # type: ignore[call-overload]


def _load_if_intact(
    path: Path, key: str, rows: int, places: Mapping[str, Mapping[str, Any]], data_end: int
) -> CachedArrays | None:
    """The cache, unless it is absent, damaged or laid out otherwise: what a file says of itself is not believed."""
    try:
        footer = read_footer(path, key)
        if (footer["rows"], footer["arrays"], footer["data_end"]) != (rows, places, data_end):
            raise Damaged("other arrays than the decoder makes")
        check_blocks(path, footer, CHECKED_BYTES)
        return CachedArrays(path, footer)
    except FileNotFoundError:
        return None
    except (Damaged, OSError, KeyError, TypeError, ValueError, IndexError) as err:
        log.warning("image cache %s is damaged (%s); building it anew", path, err)
        return None


def read_footer(path: Path, key: str) -> dict[str, Any]:
    """The footer of the cache with that key.

    Raises:
        Damaged: cut short, or not written by this code.
        FileNotFoundError: no such file.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < len(MAGIC) + TAIL.size:
            raise Damaged("too short")
        file.seek(size - TAIL.size)
        checksum, length, magic = TAIL.unpack(file.read(TAIL.size))
        if magic != MAGIC or length > size:
            raise Damaged("cut short")
        file.seek(size - TAIL.size - length)
        text = file.read(length)
        file.seek(0)
        if file.read(len(MAGIC)) != MAGIC or hashlib.sha256(text).digest() != checksum:
            raise Damaged("header or footer altered")
    footer: dict[str, Any] = json.loads(text)
    if footer["data_end"] + length + TAIL.size != size or footer["key"] != key:
        raise Damaged("wrong length or key")
    return footer


def check_blocks(path: Path, footer: dict[str, Any], limit: int | None) -> None:
    """Compare data with the stored checksums; ``limit`` bytes of it, evenly spread, or all where it is None.

    Raises:
        Damaged: a block differs.
    """
    sums: list[int] = footer["blocks"]
    if len(sums) != -(-footer["data_end"] // BLOCK):
        raise Damaged("checksums are missing")
    count = len(sums) if limit is None else min(len(sums), limit // BLOCK)
    with open(path, "rb") as file:
        for number in np.linspace(0, len(sums) - 1, count).round().astype(int).tolist():
            file.seek(number * BLOCK)
            if zlib.crc32(file.read(min(BLOCK, footer["data_end"] - number * BLOCK))) != sums[number]:
                raise Damaged(f"block {number} of {len(sums)} altered")


def _map(path: Path, place: dict[str, Any], rows: int, mode: Literal["r", "r+"]) -> np.ndarray:
    return np.memmap(path, dtype=place["dtype"], mode=mode, offset=place["offset"], shape=(rows, *place["shape"]))


def _undecodable(root: Path, item: Item, reason: str) -> UserError:
    where = " + ".join(str(root / file) for file in item.files)
    return UserError(f"{where}: cannot be decoded ({reason}); replace or remove it, or set on_error=skip")


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file. The file stays: removing it would let two processes lock two files of one name."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process to build %s", path.with_suffix(".cache"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _layout(rows: int, arrays: dict[str, ArraySpec]) -> tuple[dict[str, dict[str, Any]], int]:
    """Where each array lies, and where the data ends."""
    places: dict[str, dict[str, Any]] = {}
    end = len(MAGIC)
    for name, spec in arrays.items():
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        places[name] = {"dtype": spec.dtype, "shape": list(spec.shape), "offset": offset}
        end = offset + rows * int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    return places, end


def _build(
    path: Path,
    key: str,
    root: Path,
    items: Sequence[Item],
    decoder: Decoder,
    on_error: OnError,
    workers: int | None,
) -> None:
    """Decode all items into a new file, then give it its name. The caller holds the lock."""
    for left_over in path.parent.glob(f"{path.stem}.*.partial"):
        left_over.unlink(missing_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    places, data_end = _layout(len(items), decoder.arrays)
    started = time.monotonic()
    try:
        with open(partial, "wb") as file:
            # Reserved now, a full disk is an error; met while writing to a memory map, it would kill the
            # process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, data_end)
            else:
                file.truncate(data_end)
            file.write(MAGIC)
        targets = {name: _map(partial, place, len(items), "r+") for name, place in places.items()}
        digests, problems = build_rows(
            root, [item.files for item in items], decoder, targets, path.stem, on_error == "fail", workers
        )
        if problems and on_error == "fail":
            raise _undecodable(root, items[problems[0].index], problems[0].reason)
        for target in targets.values():
            assert isinstance(target, np.memmap)
            target.flush()
        _finish(partial, key, places, data_end, digests, problems)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    log.info("built %s: %d items in %.1f s", path, len(items), time.monotonic() - started)


def _finish(
    partial: Path,
    key: str,
    places: dict[str, dict[str, Any]],
    data_end: int,
    digests: Sequence[bytes | None],
    problems: Sequence[Problem],
) -> None:
    """Append the footer and make sure that all of the file is on the disk."""
    with open(partial, "r+b") as file:
        blocks = []
        for start in range(0, data_end, BLOCK):
            blocks.append(zlib.crc32(file.read(min(BLOCK, data_end - start))))
        footer = {
            "key": key,
            "rows": len(digests),
            "arrays": places,
            "data_end": data_end,
            "blocks": blocks,
            "digest": hashlib.sha256(b"".join(digest for digest in digests if digest is not None)).hexdigest(),
            "problems": [(problem.index, problem.reason) for problem in problems],
        }
        text = json.dumps(footer).encode()
        file.seek(data_end)
        file.write(text + TAIL.pack(hashlib.sha256(text).digest(), len(text), MAGIC))
        file.flush()
        os.fsync(file.fileno())
