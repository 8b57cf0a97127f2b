"""Decoding of many items into arrays on disk, by several processes where that pays.

Workers write the pixels into the memory-mapped target themselves; only digests and error messages travel
back.
"""

import hashlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

log = logging.getLogger(__name__)

Decode = Callable[..., dict[str, np.ndarray]]

MAX_WORKERS = 8
# Starting a worker takes seconds, mostly to import torch: below this many seconds of work one process is
# faster.
WORTH_WORKERS = 8.0
TRIAL_SECONDS = 1.0
CHUNK = 64


@dataclass(frozen=True)
class Problem:
    """An item that could not be decoded, and why."""

    index: int
    reason: str


@dataclass(frozen=True)
class Rows:
    """Reads, decodes and writes items; can be sent to another process.

    Attributes:
        root: folder of the source files.
        decode: from the bytes of an item's files to its arrays.
        targets: per array, the arguments of the ``numpy.memmap`` to write to.
    """

    root: Path
    decode: Decode
    targets: Mapping[str, dict[str, Any]]

    def open(self) -> dict[str, np.ndarray]:
        return {name: np.memmap(mode="r+", **place) for name, place in self.targets.items()}

    def write(self, index: int, files: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> bytes | Problem:
        """Decode one item into row ``index``: the SHA-256 of its files, or what is wrong with it."""
        try:
            blobs = [(self.root / file).read_bytes() for file in files]
            decoded = self.decode(*blobs)
        except (ValueError, OSError, MemoryError) as err:
            return Problem(index, " ".join((str(err) or type(err).__name__).split()))
        if decoded.keys() != arrays.keys():
            raise TypeError(f"the decoder gave arrays {sorted(decoded)}, its spec says {sorted(arrays)}")
        for name, value in decoded.items():
            target = arrays[name]
            if value.shape != target.shape[1:] or value.dtype != target.dtype:
                raise TypeError(
                    f"the decoder gave {name} {value.dtype} {value.shape}, its spec says "
                    f"{target.dtype} {target.shape[1:]}"
                )
            target[index] = value
        return hashlib.sha256(b"".join(hashlib.sha256(blob).digest() for blob in blobs)).digest()


def default_workers() -> int:
    """One per core that this process may use, ``MAX_WORKERS`` at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_WORKERS, cores)


def build_rows(
    root: Path,
    items: Sequence[tuple[str, ...]],
    decode: Decode,
    targets: Mapping[str, np.ndarray],
    label: str,
    stop_at_problem: bool,
    workers: int | None = None,
) -> tuple[list[bytes | None], list[Problem]]:
    """Decode all items into ``targets``.

    Args:
        root: folder of the source files.
        items: per row, the paths of its files.
        decode: picklable; see ``datasets.cache.Decoder``.
        targets: memory-mapped arrays (rows, ...).
        label: what the progress bar says.
        stop_at_problem: end at the first item that cannot be decoded.
        workers: processes; None for ``default_workers()``.
    Returns:
        The digest of each row, None where there is a problem; the problems in the order of the rows.
    """
    workers = default_workers() if workers is None else workers
    rows = Rows(root, decode, {name: _place(array) for name, array in targets.items()})
    results: dict[int, bytes | Problem] = {}
    with tqdm(total=len(items), desc=label, unit="img", disable=None, smoothing=0.05) as bar:

        def note(index: int, result: bytes | Problem) -> bool:
            """Keep a result; True where the build should end."""
            results[index] = result
            bar.update()
            return stop_at_problem and isinstance(result, Problem)

        stopped = _decode_here(rows, items, targets, results, note, limit=TRIAL_SECONDS if workers > 1 else None)
        if not stopped and len(results) < len(items):
            seconds = TRIAL_SECONDS * (len(items) - len(results)) / len(results)
            # A daemonic process, such as the worker of a loader, may not have children.
            if seconds > WORTH_WORKERS and not multiprocessing.current_process().daemon:
                stopped = _decode_in_workers(rows, items, results, note, workers)
            if not stopped:
                _decode_here(rows, items, targets, results, note, limit=None)
    problems = sorted((r for r in results.values() if isinstance(r, Problem)), key=lambda problem: problem.index)
    digests = [results.get(index) for index in range(len(items))]
    return [digest if isinstance(digest, bytes) else None for digest in digests], problems


def _place(array: np.ndarray) -> dict[str, Any]:
    if not isinstance(array, np.memmap):
        raise TypeError(f"targets must be numpy.memmap, got {type(array).__name__}")
    return {
        "filename": array.filename,
        "dtype": array.dtype.str,
        "offset": array.offset,
        "shape": array.shape,
    }


def _decode_here(
    rows: Rows,
    items: Sequence[tuple[str, ...]],
    targets: Mapping[str, np.ndarray],
    results: Mapping[int, bytes | Problem],
    note: Callable[[int, bytes | Problem], bool],
    limit: float | None,
) -> bool:
    """Decode here what is not done yet, for ``limit`` seconds at most; True where a problem ended it."""
    started = time.monotonic()
    for index in [index for index in range(len(items)) if index not in results]:
        if note(index, rows.write(index, items[index], targets)):
            return True
        if limit is not None and time.monotonic() - started > limit:
            break
    return False


def _decode_in_workers(
    rows: Rows,
    items: Sequence[tuple[str, ...]],
    results: Mapping[int, bytes | Problem],
    note: Callable[[int, bytes | Problem], bool],
    workers: int,
) -> bool:
    """Decode what is not done yet in other processes; True where a problem ended it.

    Where workers cannot start or die (killed for memory, a main module that cannot be imported again), what
    they have not done is left over.
    """
    left = [index for index in range(len(items)) if index not in results]
    chunks = [left[start : start + CHUNK] for start in range(0, len(left), CHUNK)]
    # Not forked: a copy of a process with threads or a CUDA context may lock up.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(rows,))
    try:
        tasks = [pool.submit(_work, [(index, items[index]) for index in chunk]) for chunk in chunks]
        for task in as_completed(tasks):
            stop = False
            for index, result in task.result():
                stop |= note(index, result)
            if stop:
                return True
    except BrokenProcessPool:
        log.warning("the decoding processes ended early; decoding the rest in one process")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return False


_worker: tuple[Rows, dict[str, np.ndarray]] | None = None


def _start_worker(rows: Rows) -> None:
    global _worker
    _worker = rows, rows.open()
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A worker whose parent was killed would wait for work forever.
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _work(chunk: list[tuple[int, tuple[str, ...]]]) -> list[tuple[int, bytes | Problem]]:
    assert _worker is not None
    rows, arrays = _worker
    return [(index, rows.write(index, files, arrays)) for index, files in chunk]
