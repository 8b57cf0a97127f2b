"""Which files a data set consists of, and which split each is in. Nothing is decoded here."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.base import Split
from ffl.errors import UserError

# Control characters and line breaks, and what Python makes of bytes that are not UTF-8.
UNFIT_FOR_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))


@dataclass(frozen=True)
class Listing:
    """The files of a data set.

    Attributes:
        root: folder that the paths are relative to.
        splits: per split, sorted posix paths relative to ``root``. A split that the layout does not have is
            absent.
        rule: how the splits came about, in a few words.
        expected: images of the whole public data set; None where there is no such number.
    """

    root: Path
    splits: Mapping[Split, list[str]]
    rule: str
    expected: int | None = None

    @property
    def found(self) -> int:
        """Images of all splits together."""
        return sum(map(len, self.splits.values()))

    def has(self, path: str) -> bool:
        """Whether there is a file at ``path``, relative to ``root``, listed or not."""
        return os.path.isfile(os.path.join(self.root, path))


def find_images(root: Path, recursive: bool = True) -> list[str]:
    """Sorted posix paths, relative to ``root``, of the image files under it that are not hidden.

    Links are followed, but not back into a folder that leads to them.

    Raises:
        UserError: a folder cannot be opened; an image's name has line breaks, control characters or bytes that are not
            UTF-8, so that no list or message could hold it; what has the name of an image is a broken link, a pipe or
            a device.
    """
    return sorted(_images_below(root, "", recursive, frozenset()))


def _images_below(root: Path, prefix: str, recursive: bool, parents: frozenset[str]) -> Iterator[str]:
    # Not Path.rglob, which follows no links: data sets are often linked into place from a shared disk.
    folder = os.path.join(root, prefix)
    if (real := os.path.realpath(folder)) in parents:
        return
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError as err:
        raise UserError(f"{folder}: cannot be opened ({err.strerror}); change its permissions or remove it") from err
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if recursive:
                yield from _images_below(root, f"{prefix}{entry.name}/", recursive, parents | {real})
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
            path = prefix + entry.name
            if UNFIT_FOR_NAMES.search(path):
                raise UserError(f"{root}: cannot use the file name {path!a}; rename it in plain characters")
            if not entry.is_file():
                raise UserError(f"{root / path}: a broken link, a pipe or a device; remove it or put an image there")
            yield path


def read_list(path: Path) -> list[str]:
    """The relative paths that a split file lists, one a line; empty lines are skipped.

    Raises:
        UserError: not a text file, or a path that leaves the data set's folder.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"{path}: cannot be read as a list of image paths ({err}); save it as UTF-8 text") from err
    paths = [PurePosixPath(line.strip()) for line in lines if line.strip()]
    for entry in paths:
        if entry.is_absolute() or ".." in entry.parts:
            raise UserError(f"{path}: lists {entry}; paths must be relative to the folder and stay inside it")
    return [entry.as_posix() for entry in paths]


def split_key(path: str) -> str:
    """What identifies an image when splits are drawn: its path without suffix and leading zeros of a number.

    So ``7.jpg`` and ``00007.png`` fall into the same split.
    """
    folder, slash, name = os.path.splitext(path)[0].rpartition("/")
    return folder + slash + (str(int(name)) if name.isdecimal() else name)


def draw_order(paths: Iterable[str]) -> list[str]:
    """Paths in a fixed random order: by the SHA-256 of their ``split_key``.

    It needs no generator whose stream might change, and images that are added later do not reorder the
    others.
    """
    return sorted(paths, key=lambda path: (hashlib.sha256(split_key(path).encode()).digest(), path))


def draw_splits(paths: Iterable[str], test_images: int) -> dict[Split, list[str]]:
    """The first ``test_images`` of ``draw_order`` are test, the rest train."""
    order = draw_order(paths)
    return {"train": sorted(order[test_images:]), "test": sorted(order[:test_images])}


def hold_out_val(splits: Mapping[Split, list[str]], val_images: int) -> Mapping[Split, list[str]]:
    """Splits with ``val_images`` of train, the first in ``draw_order``, as val; unchanged if there is one."""
    if "val" in splits or val_images == 0:
        return splits
    # Val follows test in the same order, so that test does not depend on how many are held out.
    order = draw_order(splits["train"])
    return {**splits, "train": sorted(order[val_images:]), "val": sorted(order[:val_images])}


def num_test_images(found: int, wanted: int, fraction: float) -> int:
    """Test images to draw: ``wanted``, but no more than ``fraction`` of what was found."""
    return min(wanted, round(fraction * found))


def present(root: Path, listed: Iterable[str]) -> tuple[list[str], int]:
    """The listed paths that exist under ``root``, sorted and without repeats, and how many do not."""
    unique = sorted(set(listed))
    there = [path for path in unique if os.path.isfile(os.path.join(root, path))]
    return there, len(unique) - len(there)


def check_disjoint(splits: Mapping[Split, list[str]], where: str) -> None:
    """Raise UserError where an image is in two splits."""
    counts = Counter(path for paths in splits.values() for path in set(paths))
    shared = sorted(path for path, count in counts.items() if count > 1)
    if shared:
        raise UserError(f"{where}: {len(shared)} images are in two splits, such as {shared[0]}; list each once")


def item_names(paths: Iterable[str]) -> list[str]:
    """A unique name per path: without suffix, ``/`` as ``_``; equal ones get a hash of the path added."""
    paths = list(paths)
    plain = [os.path.splitext(path)[0].replace("/", "_") for path in paths]
    repeated = {name for name, count in Counter(plain).items() if count > 1}
    return [
        f"{name}_{hashlib.sha256(path.encode()).hexdigest()[:8]}" if name in repeated else name
        for name, path in zip(plain, paths, strict=True)
    ]
