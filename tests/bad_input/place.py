"""The folder that a program is started in, and what tests put there: images, runs, hostile files."""

import functools
import io
import os
import pickle
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from bad_input.programs import run_here

MARK = "EXECUTED"  # the file that hostile content leaves where somebody runs it
TINY_DATA = ("dataset=folder", "dataset.folder=x", "data_root=.", "dataset.image_size=8", "dataset.test_fraction=0.2")
TINY_STEPS = ("trainer.steps=1", "trainer.batch_size=2")
TINY = (*TINY_DATA, *TINY_STEPS)  # a run of an instant, on ``Place.images``
RUN = "outputs/run"


class Hostile:
    """Unpickled, it runs a command."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {MARK}",)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """An RGB image of white noise."""
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, suffix: str = "png", **options: Any) -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def saved(content: Any) -> bytes:
    """What ``torch.save`` writes of anything."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def png_file(width: int, height: int, depth: int, pixels: bytes) -> bytes:
    """An RGB PNG of ``depth`` bits per channel, with ``pixels`` as they stand in the file before compression."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of some kilobytes whose header promises so many pixels."""
    return png_file(width, height, 8, bytes(1 << 20))


PNG = encoded(noise(16, 16))
JPEG = encoded(noise(40, 40), "jpeg")
HOSTILE_PICKLE = pickle.dumps(Hostile(), protocol=2)  # the protocol of files that torch wrote before version 1.6
HOSTILE_ARCHIVE = saved({"layer.weight": torch.zeros(2), "extra": Hostile()})
# Each line multiplies the one before by nine: a few hundred bytes stand for gigabytes.
YAML_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


class Place:
    """An empty folder, the working directory of a program, and how to fill it.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def write(self, files: Mapping[str, bytes]) -> None:
        """Files by their path below the folder."""
        for name, content in files.items():
            (self / name).parent.mkdir(parents=True, exist_ok=True)
            (self / name).write_bytes(content)

    def images(self, folder: str = "x", count: int = 10, size: tuple[int, int] = (8, 8), suffix: str = "png") -> None:
        """``000000.png``, ``000001.png`` and so on, all different."""
        self.write({f"{folder}/{n:06d}.{suffix}": encoded(noise(*size, n), _format(suffix)) for n in range(count)})

    def run(self) -> Path:
        """A copy of a finished run on ``images()``, and of those images; returns its folder ``outputs/run``."""
        shutil.copytree(_template(), self.root, dirs_exist_ok=True)
        return self / RUN


def _format(suffix: str) -> str:
    return {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)


@functools.cache
def _template() -> Path:
    """A folder with images and the run of ``train.py TINY name=run`` on them; made once."""
    keeper = tempfile.TemporaryDirectory()
    _keepers.append(keeper)
    place, before = Place(Path(keeper.name)), Path.cwd()
    place.images()
    os.chdir(place.root)
    try:
        done = run_here("train.py", [*TINY, "name=run"])
    finally:
        os.chdir(before)
    assert done.code == 0, done.stderr
    shutil.rmtree(place / "outputs/run/tensorboard")  # of no use to tests, and large beside the rest
    return place.root


_keepers: list[tempfile.TemporaryDirectory] = []  # removed when the process ends


def change_checkpoints(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite every checkpoint of a run: ``change`` alters its state, or returns another one."""
    for path in sorted((run / "checkpoints").iterdir()):
        state = torch.load(path, weights_only=True)
        changed = change(state)
        path.write_bytes(saved(state if changed is None else changed))


def replace_checkpoints(run: Path, content: bytes) -> None:
    """Give every checkpoint of a run other bytes."""
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(content)


def change_config(run: Path, key: str, value: Any) -> None:
    """Set a key of a run's stored configuration, such as ``model.lr``; ``...`` removes it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    *sections, last = key.split(".")
    section = functools.reduce(lambda inside, name: inside.setdefault(name, {}), sections, config)
    if value is ...:
        del section[last]
    else:
        section[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
