"""Images on disk, ready for batches: decoded once and mapped into memory, or packed as they are and decoded again.

A cache is a folder with ``cache.json`` and, of one of two forms,

- ``pixels``: one plain ``.npy`` file for each array of the items, with a row per item;
- ``files``: the bytes of the source files one after the other, ``files.bin``, and where each begins and its checksum,
  ``index.npy``. See ``datasets.packed``.

The JSON holds the key, a checksum of each block of each file, and a digest of the source files. The key covers the
list of source files (path, size, time of modification) and everything that decides on the pixels, so a changed file or
option makes another cache. The digest covers the bytes of the source files, so it is the same on every machine and in
both forms.

A cache is written under another name and renamed when it is complete, so a build that is killed leaves nothing that
could be taken for a cache. Of several processes that need the same cache at once one builds it; the others wait for a
lock, which the kernel releases when the process that holds it ends.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL

from datasets.base import ArrayRows, Rows
from datasets.build import decode_items
from datasets.decoding import ArraySpec, Decoder, Item
from datasets.packed import INDEX, PACKED, PackedRows, pack_items
from ffl.errors import UserError
from ffl.files import write_text

log = logging.getLogger(__name__)

OnError = Literal["fail", "skip"]
Form = Literal["pixels", "files"]

FORMAT = 3
BLOCK = 8 << 20
# Opening reads and checks up to this many bytes of each file: all of a small one, evenly spread blocks of a large one.
CHECKED_BYTES = 1 << 30
# A cache smaller than this is copied into memory, where later reads cannot wait for a disk.
IN_MEMORY_BYTES = 64 << 20


class Damaged(Exception):
    """A folder that is not a complete and intact cache."""


class Cache:
    """An intact cache.

    Attributes:
        path: of its folder.
        pixels: all its rows.
        rows: int64, the rows that could be decoded, in the order of the items.
        digest: hex SHA-256 of the source files' bytes, over ``rows``.
        problems: (item, reason) of the items that could not be decoded.
    """

    def __init__(
        self, path: Path, about: Mapping[str, Any], items: Sequence[Item], decoder: Decoder, form: Form
    ) -> None:
        self.path = path
        self.digest: str = about["digest"]
        self.problems: list[tuple[int, str]] = [(index, reason) for index, reason in about["problems"]]
        kept = np.ones(len(items), dtype=bool)
        kept[[index for index, _ in self.problems]] = False
        self.rows = np.flatnonzero(kept)
        self.pixels: Rows
        if form == "files":
            self.pixels = PackedRows(path, decoder, [len(item) for item in items])
        else:
            self.pixels = ArrayRows(_load_arrays(path, len(items), decoder.arrays))


def _load_arrays(path: Path, num_items: int, specs: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """The arrays of a cache of pixels by name; memory-mapped and read-only, or in memory where small."""
    arrays = {}
    small = sum(_array_file(path, name).stat().st_size for name in specs) < IN_MEMORY_BYTES
    for name, spec in specs.items():
        array = np.load(_array_file(path, name), mmap_mode=None if small else "r", allow_pickle=False)
        # What a file says of itself is not believed: it has to be what the decoder makes.
        if (array.shape, array.dtype) != ((num_items, *spec.shape), np.dtype(spec.dtype)):
            raise Damaged(f"{name} is {array.dtype} {array.shape}")
        arrays[name] = array
    return arrays


def open_cache(
    cache_dir: Path,
    label: str,
    root: Path,
    items: Sequence[Item],
    decoder: Decoder,
    *,
    form: Form = "pixels",
    on_error: OnError = "fail",
    workers: int | None = None,
) -> Cache:
    """The cache of items, built first where there is no intact one.

    Args:
        cache_dir: folder for caches; made where absent.
        label: start of the cache's name, for people who look into the folder.
        root: folder that the items' paths are relative to; not part of the key, so a data set may be moved.
        items: what to decode.
        decoder: how.
        form: of the cache.
        on_error: "fail" raises for an item that cannot be decoded; "skip" leaves it out, counted and logged.
        workers: processes that decode; None takes one per available core, 8 at most.
    Raises:
        UserError: an item cannot be decoded, or the cache cannot be written.
    """
    key = cache_key(root, items, decoder)
    path = cache_dir / f"{label}-{key[:20]}{'' if form == 'pixels' else '-' + form}.cache"
    cache = _load_if_intact(path, key, items, decoder, form)
    if cache is None:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with _hold_lock(path.with_suffix(".lock")):
                # Another process may have built it while this one waited.
                cache = _load_if_intact(path, key, items, decoder, form)
                if cache is None:
                    cache = _build(path, key, root, items, decoder, form, on_error, workers)
        except OSError as err:
            raise UserError(f"cannot write the image cache {path}: {err.strerror or err}; set cache_dir") from err
    # A cache that was built with gaps, under on_error=skip, is still an error to those who want none.
    if cache.problems:
        first, reason = cache.problems[0]
        if on_error == "fail":
            raise _undecodable(root, items[first], reason)
        if not len(cache.rows):
            raise UserError(
                f"{root}: none of the {len(items)} images of {label} can be decoded, such as {items[first][0]}: "
                f"{reason}; replace them"
            )
        skipped = f"{len(cache.problems)} of {len(items)} images skipped"
        log.warning("%s: %s, such as %s: %s", label, skipped, items[first][0], reason)
    return cache


def cache_key(root: Path, items: Sequence[Item], decoder: Decoder) -> str:
    """Hex SHA-256 over the source files (path, size, time of modification) and what decides on the pixels."""
    # Pillow's version counts: another decoder or filter may round pixels differently.
    key = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, describe(decoder)], sort_keys=True).encode())
    for item in items:
        for file in item:
            try:
                stat = os.stat(os.path.join(root, file))
            except OSError as err:
                raise UserError(f"{root / file}: cannot be read ({err.strerror}); remove it from the list") from err
            key.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        key.update(b"\n")
    return key.hexdigest()


def describe(decoder: Decoder) -> dict[str, Any]:
    """What decides on the decoder's output: its class and its fields."""
    made: dict[str, Any] = {"decoder": type(decoder).__name__, **asdict(decoder)}  # type: ignore[call-overload]
    # Caches and fingerprints from before there was a choice are those of Pillow.
    if made.get("jpeg") == "pillow":
        del made["jpeg"]
    return made


def _load_if_intact(path: Path, key: str, items: Sequence[Item], decoder: Decoder, form: Form) -> Cache | None:
    """The cache, unless it is absent or damaged."""
    if not path.exists():
        return None
    try:
        about = read_about(path, key)
        for name in _file_names(decoder, form):
            check_blocks(path / name, about["blocks"][name], CHECKED_BYTES)
        return Cache(path, about, items, decoder, form)
    except (Damaged, OSError, EOFError, KeyError, TypeError, ValueError, IndexError, RecursionError) as err:
        log.warning("image cache %s is damaged (%s); building it anew", path, err)
        return None


def _file_names(decoder: Decoder, form: Form) -> list[str]:
    """The files of a cache beside ``cache.json``."""
    return [PACKED, INDEX] if form == "files" else [f"{name}.npy" for name in decoder.arrays]


def _array_file(path: Path, name: str) -> Path:
    return path / f"{name}.npy"


def read_about(path: Path, key: str) -> dict[str, Any]:
    """The content of a cache's ``cache.json``.

    Raises:
        Damaged: altered, or of another key.
    """
    about: dict[str, Any] = json.loads((path / "cache.json").read_text())
    if about.pop("checksum") != _checksum(about) or about["key"] != key:
        raise Damaged("cache.json is altered, or of another cache")
    return about


def _checksum(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def check_blocks(file: Path, sums: Sequence[int], limit: int | None) -> None:
    """Compare a file with its checksums; ``limit`` bytes of it, evenly spread, or all where it is None.

    Raises:
        Damaged: a block differs, or the file is longer or shorter.
    """
    if len(sums) != -(-file.stat().st_size // BLOCK):
        raise Damaged(f"{file.name} is longer or shorter")
    # First and last block are always among them: what cuts a file short or overwrites its start shows there.
    count = len(sums) if limit is None else min(len(sums), limit // BLOCK)
    with open(file, "rb") as opened:
        for number in np.linspace(0, len(sums) - 1, count).round().astype(int).tolist():
            opened.seek(number * BLOCK)
            if zlib.crc32(opened.read(BLOCK)) != sums[number]:
                raise Damaged(f"block {number} of {len(sums)} of {file.name} altered")


def _undecodable(root: Path, item: Item, reason: str) -> UserError:
    where = " + ".join(str(root / file) for file in item)
    return UserError(f"{where}: cannot be decoded ({reason}); replace or remove it, or set on_error=skip")


@contextmanager
def _hold_lock(path: Path) -> Iterator[None]:
    """Hold a lock file. The file stays: removing it would let two processes lock two files of one name."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process to build %s", path.with_suffix(".cache"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    path: Path,
    key: str,
    root: Path,
    items: Sequence[Item],
    decoder: Decoder,
    form: Form,
    on_error: OnError,
    workers: int | None,
) -> Cache:
    """Make all items' files in a new folder, then give it its name. The caller holds the lock."""
    started = time.monotonic()
    for left_over in path.parent.glob(f"{path.stem}.*.partial"):
        shutil.rmtree(left_over, ignore_errors=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.mkdir()
        stop = on_error == "fail"
        if form == "files":
            digests, problems = pack_items(root, items, decoder, partial, path.stem, stop, workers)
        else:
            # Arrays at their full size. On a full disk this is an error; a write to a memory map would be fatal.
            targets = {name: _array_file(partial, name) for name in decoder.arrays}
            for name, spec in decoder.arrays.items():
                np.lib.format.open_memmap(targets[name], "w+", spec.dtype, (len(items), *spec.shape))
                with open(targets[name], "r+b") as file:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, targets[name].stat().st_size)
            digests, problems = decode_items(root, items, decoder, targets, path.stem, stop, workers)
        if problems and on_error == "fail":
            raise _undecodable(root, items[problems[0][0]], problems[0][1])
        # Add the checksums, once all data is on the disk.
        blocks = {name: _sync_and_sum(partial / name) for name in _file_names(decoder, form)}
        digest = hashlib.sha256(b"".join(digest for digest in digests if digest is not None)).hexdigest()
        about = {"key": key, "digest": digest, "problems": problems, "blocks": blocks}
        write_text(partial / "cache.json", json.dumps({**about, "checksum": _checksum(about)}))
        # Take the place of a damaged cache, if there is one. Renaming is atomic: whoever looks finds all or nothing.
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log.info("built %s: %d items in %.1f s", path, len(items), time.monotonic() - started)
    return Cache(path, about, items, decoder, form)


def _sync_and_sum(path: Path) -> list[int]:
    """Checksums of a file's blocks, after all of it is on the disk."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())
        return [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]
