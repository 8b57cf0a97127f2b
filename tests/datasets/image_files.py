"""Images made for tests, and decoders that worker processes can import."""

import io
import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.decoding import ArraySpec, ResizeCrop


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """An RGB image of white noise: the hardest content to get right by accident."""
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, suffix: str = "png", **options: object) -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def fill(folder: Path, count: int, suffix: str = "png", size: tuple[int, int] = (12, 10)) -> list[str]:
    """Write ``count`` different images ``000000.png`` ...; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:06d}.{suffix}" for number in range(count)]
    for number, name in enumerate(names):
        noise(*size, seed=number).save(folder / name)
    return names


def touch(folder: Path, names: list[str]) -> None:
    """Write empty files, for tests that only list."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@dataclass(frozen=True)
class Logged(ResizeCrop):
    """Takes ``seconds`` for an image and leaves a line in ``log`` for each."""

    log: str = ""
    seconds: float = 0.0

    def __call__(self, data: bytes) -> dict[str, np.ndarray]:
        time.sleep(self.seconds)
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        return super().__call__(data)


@dataclass(frozen=True)
class DiesInWorker(ResizeCrop):
    """Ends the process it runs in, unless that is the main one: what a worker killed for memory looks like."""

    def __call__(self, data: bytes) -> dict[str, np.ndarray]:
        if multiprocessing.parent_process() is not None:
            os._exit(1)
        return super().__call__(data)


@dataclass(frozen=True)
class WithLabels(ResizeCrop):
    """An image and a label map of other types and shapes, from two files."""

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        side = self.image_size
        return {
            "image": ArraySpec("uint8", (3, side, side)),
            "label": ArraySpec("uint16", (side, side)),
            "instance": ArraySpec("int32", (side, side)),
        }

    def __call__(self, data: bytes, label: bytes) -> dict[str, np.ndarray]:
        ids = np.asarray(Image.open(io.BytesIO(label))).astype(np.uint16)
        return {**super().__call__(data), "label": ids, "instance": ids.astype(np.int32) * -1000}
