"""Decoding of many items into arrays on disk, by several processes where that pays.

Workers write the pixels into the memory-mapped files themselves; only digests and error messages travel back.
"""

import hashlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.decoding import Item
from ffl.progress import progress_bar

log = logging.getLogger(__name__)

MAX_WORKERS = 8  # each imports torch, which takes about 500 MB
# Starting a worker takes seconds, mostly to import torch: below this many seconds of work one process is faster.
WORTH_WORKERS = 8.0
TRIAL_SECONDS = 1.0
CHUNK = 64  # items a worker decodes before it reports: few enough that the progress bar moves

Result = tuple[int, bytes | str]  # the item; the SHA-256 of its files, or why it cannot be decoded


class Undecodable(Exception):
    """An item that cannot be read or decoded; the message is the reason, in one line."""


def read_item(
    root: Path, item: Item, decode: Callable[..., dict[str, np.ndarray]]
) -> tuple[list[bytes], dict[str, np.ndarray], bytes]:
    """The bytes of an item's files, the arrays that they decode to, and the SHA-256 of the files' digests.

    Raises:
        Undecodable: a file cannot be read, or the files not decoded.
    """
    try:
        files = [(root / file).read_bytes() for file in item]
        arrays = decode(*files)
    except (ValueError, OSError, MemoryError) as err:
        raise Undecodable(" ".join((str(err) or type(err).__name__).split())) from err
    return files, arrays, hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in files)).digest()


@dataclass(frozen=True)
class RowWriter:
    """Reads, decodes and writes items; can be sent to another process.

    Attributes:
        root: folder of the source files.
        items: the paths of each item's files.
        decode: from the bytes of an item's files to its arrays.
        targets: per array, the ``.npy`` file to write to.
    """

    root: Path
    items: Sequence[Item]
    decode: Callable[..., dict[str, np.ndarray]]
    targets: Mapping[str, Path]

    def open(self) -> dict[str, np.ndarray]:
        """The arrays, for ``write``."""
        return {name: np.load(path, mmap_mode="r+") for name, path in self.targets.items()}

    def write(self, indices: Iterable[int], arrays: Mapping[str, np.ndarray]) -> Iterator[Result]:
        """Decode items into their rows."""
        for index in indices:
            try:
                _, decoded, digest = read_item(self.root, self.items[index], self.decode)
            except Undecodable as err:
                yield index, str(err)
                continue
            for name, target in arrays.items():
                value = decoded[name]
                if value.shape != target.shape[1:] or value.dtype != target.dtype:
                    raise TypeError(f"the decoder made {name} {value.dtype} {value.shape}, unlike its specification")
                target[index] = value
            yield index, digest


def default_workers() -> int:
    """One per core that this process may use, ``MAX_WORKERS`` at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def decode_items(
    root: Path,
    items: Sequence[Item],
    decode: Callable[..., dict[str, np.ndarray]],
    targets: Mapping[str, Path],
    label: str,
    stop_at_problem: bool,
    workers: int | None = None,
) -> tuple[list[bytes | None], list[tuple[int, str]]]:
    """Decode all items into ``targets``.

    Args:
        root: folder of the source files.
        items: per row, the paths of its files.
        decode: picklable; see ``datasets.decoding.Decoder``.
        targets: ``.npy`` files of arrays (rows, ...).
        label: what the progress bar says.
        stop_at_problem: end at the first item that cannot be decoded.
        workers: processes; None for ``default_workers()``.
    Returns:
        The digest of each row, None where it could not be decoded; and (row, reason) of those, in their order.
    """
    workers = default_workers() if workers is None else workers
    writer = RowWriter(root, items, decode, targets)
    arrays = writer.open()
    done: dict[int, bytes | str] = {}

    def left() -> list[int]:
        return [index for index in range(len(items)) if index not in done]

    with progress_bar(len(items), label, "image") as bar:

        def collect(results: Iterable[Result], seconds: float = float("inf")) -> bool:
            """Keep results for so many seconds; True where a problem ends the build."""
            started = time.monotonic()
            for index, outcome in results:
                done[index] = outcome
                bar.update()
                if stop_at_problem and isinstance(outcome, str):
                    return True
                if time.monotonic() - started > seconds:
                    break
            return False

        # Decode here for a moment, to see how long all would take.
        stopped = collect(writer.write(left(), arrays), TRIAL_SECONDS if workers > 1 else float("inf"))
        expected_seconds = TRIAL_SECONDS * len(left()) / max(1, len(done))
        # A daemonic process, such as the worker of a loader, may not have children.
        if not stopped and expected_seconds > WORTH_WORKERS and not multiprocessing.current_process().daemon:
            try:
                stopped = collect(_in_workers(writer, left(), workers))
            except BrokenProcessPool:
                log.warning("the decoding processes ended early; decoding the rest in one process")
        # Decode here what is left: little, or what workers that died have not done.
        if not stopped:
            collect(writer.write(left(), arrays))
    problems = [(index, outcome) for index, outcome in sorted(done.items()) if isinstance(outcome, str)]
    digests = [done.get(index) for index in range(len(items))]
    return [digest if isinstance(digest, bytes) else None for digest in digests], problems


def _in_workers(writer: RowWriter, indices: list[int], workers: int) -> Iterator[Result]:
    """Decode items in other processes.

    Raises:
        BrokenProcessPool: workers died, killed for memory perhaps, or cannot import the main module again.
    """
    # Spawned, not forked: a copy of a process with threads or a CUDA context may lock up.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(writer,))
    try:
        chunks = [indices[start : start + CHUNK] for start in range(0, len(indices), CHUNK)]
        for task in as_completed([pool.submit(_work, chunk) for chunk in chunks]):
            yield from task.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[RowWriter, dict[str, np.ndarray]] | None = None


def _start_worker(writer: RowWriter) -> None:
    global _worker
    _worker = writer, writer.open()
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A worker whose parent was killed would wait for work forever.
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _work(indices: list[int]) -> list[Result]:
    assert _worker is not None
    writer, arrays = _worker
    return list(writer.write(indices, arrays))
