"""Writing files so that a crash at any moment leaves the old version or the new one, and their digests."""

import errno
import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ffl.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that takes the place of ``path`` at the end of the block, or vanishes if that raises."""
    # In the same folder: a rename is atomic within one file system alone.
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            # On the disk before the name points to it, or a power cut could leave an empty file under that name.
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)  # which only setting it tells
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; results are for others to read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def report_failed_writes(path: Path, advice: str) -> Iterator[None]:
    """Turn a failure to write below ``path``, inside the block, into one line.

    Args:
        path: a file or folder, for the message.
        advice: what to do, and what is safe.
    Raises:
        UserError: if something cannot be written, because the disk is full, read-only or gone.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:  # that is the terminal
            raise
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as file:
        file.write(text.encode())


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content, remembered until the file changes.

    Raises:
        OSError: if it cannot be read.
    """
    # Size and time of change are part of the key, so that a file that was replaced is read again.
    status = path.stat()
    return _file_sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.cache
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
