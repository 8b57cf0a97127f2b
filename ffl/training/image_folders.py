"""Two folders of images, real and generated ones, as batches to evaluate."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ffl.decoding import decode_rgb
from ffl.errors import UserError
from ffl.training import distributed
from ffl.training.evaluation import EvaluationBatch

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}


def paired_files(real: Path, fake: Path) -> list[tuple[Path, Path]]:
    """Images of two folders, paired by name without suffix (``a.png`` with ``a.jpg``).

    Raises:
        UserError: if a folder is missing or empty, or an image has no partner.
    """
    real_files, fake_files = _images_by_name(real), _images_by_name(fake)
    if alone := sorted(real_files.keys() ^ fake_files.keys()):
        where = real if alone[0] in real_files else fake
        raise UserError(
            f"{len(alone)} of {len(real_files | fake_files)} images have no partner of the same name, "
            f"such as {alone[0]} in {where}; real and fake must hold the same names"
        )
    return [(real_files[name], fake_files[name]) for name in sorted(real_files)]


def _images_by_name(folder: Path) -> dict[str, Path]:
    """The image files below a folder, by their path in it without suffix."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images; give one with real=DIR fake=DIR")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            # Named here: opening a pipe would wait for ever, and leaving a broken link out would change the numbers.
            if not path.is_file():
                raise UserError(f"{path}: a broken link, a pipe or a device; remove it, or put an image there")
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise UserError(f"{folder}: {found[name].name} and {path.name} have the same name; keep one of them")
            found[name] = path
    if not found:
        raise UserError(f"{folder}: no images in it; put some there ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return found


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of an image file, for which its header alone is read.

    Raises:
        UserError: if it is not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.height, image.width
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def read_pairs(
    files: Sequence[tuple[Path, Path]], sizes: Sequence[tuple[int, int]], batch_size: int, done: int = 0
) -> Iterator[EvaluationBatch]:
    """Batches of pairs, each batch of one image size; each process reads its share of the batches.

    Args:
        files: pairs of a real and a generated image, whose order is kept.
        sizes: (H, W) of each real image.
        batch_size: pairs of a batch at most; it ends early where the size changes.
        done: batches of this process to leave out, the first ones.
    Raises:
        UserError: if an image cannot be read, or has another size than its partner.
    """
    # Every process plans all batches from the sizes alone, so that they agree on them without a message.
    plan: list[list[int]] = []
    for position, size in enumerate(sizes):
        if not plan or len(plan[-1]) == batch_size or size != sizes[plan[-1][0]]:
            plan.append([])
        plan[-1].append(position)

    for positions in distributed.share(plan)[done:]:
        pairs = []
        for real_file, fake_file in (files[position] for position in positions):
            real, fake = _read_image(real_file), _read_image(fake_file)
            if real.shape != fake.shape:
                shapes = f"{real.shape[2]}x{real.shape[1]} and {fake.shape[2]}x{fake.shape[1]}"
                raise UserError(f"{real_file} and {fake_file} differ in size ({shapes}); resize one of them")
            pairs.append((real, fake))
        reals, fakes = (torch.stack(images) for images in zip(*pairs, strict=True))
        names = [files[position][1].stem for position in positions]
        yield EvaluationBatch(reals, fakes, names, torch.tensor(positions))


def _read_image(path: Path) -> Tensor:
    """uint8 (3, H, W), decoded as for training."""
    try:
        return torch.from_numpy(np.array(decode_rgb(path.read_bytes()))).permute(2, 0, 1).contiguous()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = "not an image that Pillow can read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return UserError(f"{path}: not a readable image ({reason}); replace or remove it")
