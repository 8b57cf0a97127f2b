"""Processes that start in milliseconds: forked from one that has imported the programs already.

Tests kill many of them, or run several as one run, without paying for the imports each time.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
HERE = str(Path(__file__).parent)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["processes", "train", "evaluate"])
# The fork server knows the folders of this process by this variable alone.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), HERE, *filter(None, [os.environ.get("PYTHONPATH")])])


class Program:
    """A function in a process of its own, with its output in files.

    Args:
        function: module-level, called with ``arguments``.
        cwd: working directory.
        environment: variables on top of this process's.
        name: of the files ``name.out`` and ``name.err`` in ``cwd``.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        name: str = "program",
    ) -> None:
        self.out_path, self.err_path = cwd / f"{name}.out", cwd / f"{name}.err"
        for path in (self.out_path, self.err_path):
            path.write_text("")
        files = (str(self.out_path), str(self.err_path))
        self.process: ForkServerProcess = _context.Process(
            target=_run, args=(function, arguments, str(cwd), dict(environment or {}), *files)
        )
        self.process.start()
        assert self.process.pid is not None
        self._handle = os.pidfd_open(self.process.pid)  # the number may be another's once the process is gone

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; False where it has ended already."""
        try:
            signal.pidfd_send_signal(self._handle, number)
        except ProcessLookupError:
            return False
        return True

    def running(self) -> bool:
        return self.process.is_alive()

    def wait(self, timeout: float = 120) -> int:
        """Its exit status, negative for a signal."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {timeout} s: {self.err}")
        return self.process.exitcode

    @property
    def out(self) -> str:
        return self.out_path.read_text()

    @property
    def err(self) -> str:
        return self.err_path.read_text()


def _run(
    function: Callable[..., Any], arguments: tuple[Any, ...], cwd: str, environment: dict[str, str], *files: str
) -> None:
    os.chdir(cwd)
    os.environ.update(environment)
    for path, stream in zip(files, (sys.stdout, sys.stderr), strict=True):
        stream.flush()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(handle, stream.fileno())
    import torch

    torch.set_num_threads(1)
    try:
        function(*arguments)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def wait_until(condition: Callable[[], bool], *programs: Program, seconds: float = 120) -> None:
    """Wait for a condition that running programs bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        for program in programs:
            assert program.running(), program.err
            assert time.monotonic() < deadline, program.err
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ranks(
    function: Callable[..., Any], *arguments: Any, cwd: Path, world_size: int = 2, name: str = "rank"
) -> list[Program]:
    """The same function in several processes that are one run, as torchrun would start them."""
    port = str(free_port())
    place = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        Program(
            function,
            *arguments,
            cwd=cwd,
            environment={**place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            name=f"{name}{rank}",
        )
        for rank in range(world_size)
    ]


def write_images(folder: Path, count: int = 48, side: int = 16) -> list[str]:
    """A folder of random images, and the settings that train on it: unlike the photographs, it is there at once."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return ["dataset=folder", f"dataset.folder={folder}", f"dataset.image_size={side}"]


def train_program(overrides: list[str]) -> None:
    """``python train.py`` with these words."""
    import train
    from ffl.training.exits import report_user_errors
    from ffl.training.program import compose

    with report_user_errors():
        train.train(compose("train", overrides), overrides)


def evaluate_program(overrides: list[str]) -> None:
    """``python evaluate.py`` with these words."""
    import evaluate
    from ffl.training.exits import report_user_errors
    from ffl.training.program import compose

    with report_user_errors():
        evaluate.evaluate(compose("evaluate", overrides))
