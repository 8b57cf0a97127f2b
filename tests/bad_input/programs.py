"""Runs a program of the repository as a user's shell does, in this process or in one of its own.

Importing torch takes seconds, so most invocations run here. What a user would see is kept apart from what the test
runner adds: log handlers and warning filters are those of a fresh interpreter.
"""

import contextlib
import io
import logging
import os
import re
import runpy
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).resolve().parents[2]
# A bar of tqdm, which is redrawn in place: "evaluating:   0%|          | 0/2 [00:00<?, ?image/s]".
PROGRESS = re.compile(r"[^\r\n]*\d+%\|[^\r\n]*\[[^\r\n]*\]|[^\r\n:]*: 0\S* \[[^\r\n]*\]")

CURSOR_UP = "\x1b[A"  # by which several bars share a terminal


@dataclass(frozen=True)
class Outcome:
    """What a shell sees of a finished program: exit status and both streams."""

    code: int
    stdout: str
    stderr: str

    def messages(self) -> list[str]:
        """Lines of stderr that are neither empty nor a progress bar."""
        # Not splitlines: only a line feed starts a line of a terminal or a log file.
        lines = PROGRESS.sub("", self.stderr.replace("\r", "\n").replace(CURSOR_UP, "")).split("\n")
        return [line for line in lines if line.strip()]


def run_here(program: str, arguments: Sequence[str]) -> Outcome:
    """Run ``program`` (a path below the root) in this process, as ``__main__``, in the working directory."""
    stdout, stderr = _stream("strict"), _stream("backslashreplace")
    with _fresh_interpreter(program, arguments), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = _run(program)
    return Outcome(code, _text(stdout), _text(stderr))


def run_apart(program: str, arguments: Sequence[str]) -> Outcome:
    """Run ``program`` in a process of its own."""
    command = [sys.executable, str(ROOT / program), *arguments]
    done = subprocess.run(command, capture_output=True, timeout=120)
    # Streams may hold bytes that are no UTF-8: names of files, as the system gives them.
    return Outcome(done.returncode, *(text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr)))


def _run(program: str) -> int:
    """The exit status that the interpreter would end with."""
    try:
        runpy.run_path(str(ROOT / program), run_name="__main__")
    except SystemExit as stopped:
        if stopped.code is None or isinstance(stopped.code, int):
            return stopped.code or 0
        print(stopped.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _fresh_interpreter(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """Without what the test runner and earlier programs left behind; all of it is put back after."""
    before = list(sys.argv), list(sys.path), dict(os.environ), torch.get_num_threads()
    handlers, level = logging.root.handlers, logging.root.level
    logging.root.handlers = []
    logging.root.setLevel(logging.WARNING)
    sys.argv[:] = [str(ROOT / program), *arguments]
    GlobalHydra.instance().clear()
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", kind)
            warnings.filterwarnings("default", category=DeprecationWarning, module="__main__")
            warnings.showwarning = _show_warning
            yield
    finally:
        logging.root.handlers = handlers
        logging.root.setLevel(level)
        sys.argv[:], sys.path[:] = before[:2]
        os.environ.clear()
        os.environ.update(before[2])
        torch.set_num_threads(before[3])
        GlobalHydra.instance().clear()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(errors="backslashreplace")
