"""The source files of many items in one file, decoded again for every batch.

Decoded pixels of 30,000 images of 1024 x 1024 are 94 GB, their JPEG files 3. One file of all of them spares a disk or a
network drive the search for each, and can be read without asking the source again. Decoding costs more than reading
pixels, so several threads share it: Pillow and torchvision let others run while they decode.
"""

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import numpy as np

from datasets.build import Undecodable, default_workers, read_item
from datasets.decoding import ArraySpec, Decoder, Item
from ffl.errors import UserError
from ffl.progress import progress_bar

S = TypeVar("S")
T = TypeVar("T")

PACKED, INDEX = "files.bin", "index.npy"
AHEAD = 4  # items that each thread may be ahead of the writer while files are packed: a bound on memory


class DecodedRows(ABC):
    """Rows that are decoded when they are asked for, on several threads; see ``datasets.base.Rows``.

    Args:
        decoder: from the files of an item to its arrays.
        threads: that decode; None for one per core, 8 at most.
    """

    def __init__(self, decoder: Decoder, threads: int | None = None) -> None:
        self.decoder = decoder
        self.pool = ThreadPoolExecutor(default_workers() if threads is None else threads, "decoder")

    def __del__(self) -> None:
        if hasattr(self, "pool"):
            self.pool.shutdown(wait=False)

    @property
    def specs(self) -> Mapping[str, ArraySpec]:
        """See ``Rows``."""
        return self.decoder.arrays

    def crops(self, rows: np.ndarray, size: tuple[int, int], offsets: np.ndarray) -> dict[str, np.ndarray]:
        """See ``Rows.crops``."""
        shapes = {name: (len(rows), *spec.shape[:-2], *size) for name, spec in self.specs.items()}
        batch = {name: np.empty(shape, self.specs[name].dtype) for name, shape in shapes.items()}

        def fill(number: int) -> None:
            top, left = offsets[number].tolist()
            for name, array in self.decode(int(rows[number])).items():
                batch[name][number] = array[..., top : top + size[0], left : left + size[1]]

        for _ in self.pool.map(fill, range(len(rows))):
            pass
        return batch

    @abstractmethod
    def decode(self, row: int) -> dict[str, np.ndarray]:
        """The arrays of a row; called by several threads at once.

        Raises:
            UserError: its files were altered.
        """


class PackedRows(DecodedRows):
    """Rows of the form ``files`` of a cache. Every file has a checksum, which is compared whenever it is read.

    Args:
        path: folder of the cache, with ``files.bin`` and ``index.npy``.
        decoder: from the files of an item to its arrays.
        counts: number of files of each item.
        threads: that decode; None for one per core, 8 at most.
    """

    def __init__(self, path: Path, decoder: Decoder, counts: Sequence[int], threads: int | None = None) -> None:
        super().__init__(decoder, threads)
        self.path = path
        self.first_files = [0, *accumulate(counts)]
        index = np.load(path / INDEX, allow_pickle=False)
        if index.shape != (self.first_files[-1], 3) or index.dtype != np.int64:
            raise ValueError(f"{INDEX} is {index.dtype} {index.shape}")
        self.begins, self.sizes, self.sums = index.T.tolist()
        # Read with pread, not mapped: a file that vanishes under a map ends the process without a word.
        self.file = os.open(path / PACKED, os.O_RDONLY)

    def __del__(self) -> None:
        super().__del__()
        if hasattr(self, "file"):
            os.close(self.file)

    def decode(self, row: int) -> dict[str, np.ndarray]:
        """See ``DecodedRows.decode``."""
        files = []
        for number in range(self.first_files[row], self.first_files[row + 1]):
            data = os.pread(self.file, self.sizes[number], self.begins[number])
            if zlib.crc32(data) != self.sums[number]:
                raise UserError(f"{self.path}: file {number} of it is damaged; delete the folder, and it is built anew")
            files.append(data)
        return self.decoder(*files)


def pack_items(
    root: Path,
    items: Sequence[Item],
    decoder: Decoder,
    folder: Path,
    label: str,
    stop_at_problem: bool,
    workers: int | None = None,
) -> tuple[list[bytes | None], list[tuple[int, str]]]:
    """Write ``files.bin`` and ``index.npy`` of all items into a folder, each decoded once to see that it can be.

    Args and result are those of ``datasets.build.decode_items``, with the folder in the place of arrays, and threads as
    workers.
    """

    def read(item: Item) -> tuple[list[bytes], bytes | str]:
        """The files of an item, and their digest or why they cannot be decoded."""
        try:
            files, _, digest = read_item(root, item, decoder)
        except Undecodable as error:
            return [b""] * len(item), str(error)
        return files, digest

    threads = default_workers() if workers is None else workers
    index: list[tuple[int, int, int]] = []
    digests: list[bytes | None] = [None] * len(items)
    problems: list[tuple[int, str]] = []
    place = 0
    with (
        open(folder / PACKED, "wb") as packed,
        ThreadPoolExecutor(threads, "packer") as pool,
        progress_bar(len(items), label, "image") as bar,
    ):
        for number, (files, outcome) in enumerate(in_order(pool, read, items, AHEAD * threads)):
            for data in files:
                packed.write(data)
                index.append((place, len(data), zlib.crc32(data)))
                place += len(data)
            bar.update()
            if isinstance(outcome, bytes):
                digests[number] = outcome
                continue
            problems.append((number, outcome))
            if stop_at_problem:
                break
    np.save(folder / INDEX, np.array(index, dtype=np.int64).reshape(-1, 3))
    return digests, problems


def in_order(pool: ThreadPoolExecutor, function: Callable[[S], T], items: Sequence[S], ahead: int) -> Iterator[T]:
    """What ``pool.map`` gives, but no more than so many items ahead of the reader, which bounds the memory."""
    waiting = [pool.submit(function, item) for item in items[:ahead]]
    for number in range(len(items)):
        yield waiting[number % ahead].result()
        if number + ahead < len(items):
            waiting[number % ahead] = pool.submit(function, items[number + ahead])
