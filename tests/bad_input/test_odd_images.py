"""Odd but valid images become the same pixels in training and evaluation: those decided in ``ffl/decoding.py``."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from bad_input.place import Place, encoded, noise, png_file
from bad_input.programs import run_here
from datasets import build_dataset
from ffl.training.evaluation import read_pairs

SIDE = 8
RAMP = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) * 4  # 0 ... 252
ORIENTATION = 0x0112  # the EXIF tag; 6 stands for "turn by 90 degrees clockwise"
TURNED = Image.Exif()
TURNED[ORIENTATION] = 6


def grey(levels: np.ndarray) -> np.ndarray:
    """(H, W) as (H, W, 3)."""
    return np.repeat(levels[..., None], 3, axis=2).astype(np.uint8)


def flat(*colour: int) -> np.ndarray:
    """One colour all over."""
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def picture(mode: str, colour: int | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), colour)


def palette() -> Image.Image:
    """Half of colour (9, 8, 7), half of (60, 50, 40)."""
    image = picture("P", 0)
    image.putpalette([9, 8, 7, 60, 50, 40])
    image.paste(1, (0, SIDE // 2, SIDE, SIDE))
    return image


def halves(above: tuple[int, int, int], below: tuple[int, int, int]) -> np.ndarray:
    return np.concatenate([flat(*above)[: SIDE // 2], flat(*below)[SIDE // 2 :]])


def png_48_bit(levels: np.ndarray) -> bytes:
    """A PNG of 16 bits for each of three channels, which Pillow reads and does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    return png_file(levels.shape[1], levels.shape[0], 16, rows)


@dataclass(frozen=True)
class Odd:
    """An odd file, and what it must become.

    Attributes:
        id: short name.
        suffix: of the file's name.
        content: makes its bytes.
        pixels: uint8 (8, 8, 3).
        tolerance: in grey levels, for lossy files.
    """

    id: str
    suffix: str
    content: Callable[[], bytes]
    pixels: np.ndarray
    tolerance: int = 0


NOISE = noise(SIDE, SIDE)
WHITE, RED = flat(255, 255, 255), flat(255, 0, 0)
ODD = [
    Odd("grey", "png", lambda: encoded(Image.fromarray(RAMP.astype(np.uint8))), grey(RAMP)),
    Odd("grey-jpeg", "jpg", lambda: encoded(picture("L", 100), "jpeg"), flat(100, 100, 100), 1),
    Odd("bilevel", "png", lambda: encoded(Image.fromarray(RAMP > 100)), grey((RAMP > 100) * 255)),
    # 257 = 65535 / 255: white stays white, and nothing is clipped.
    Odd("16-bit", "png", lambda: encoded(Image.fromarray((RAMP * 257).astype(np.uint16))), grey(RAMP)),
    Odd("16-bit-tiff", "tif", lambda: encoded(Image.fromarray((RAMP * 257).astype(np.uint16)), "tiff"), grey(RAMP)),
    Odd("16-bit-colour", "png", lambda: png_48_bit(np.stack([RAMP * 256 + 255] * 3, 2)), grey(RAMP)),
    Odd("grey-alpha", "png", lambda: encoded(picture("LA", (7, 0))), WHITE),
    Odd("transparent", "png", lambda: encoded(picture("RGBA", (200, 0, 100, 0))), WHITE),
    # A fifth of the colour over four fifths of white.
    Odd("translucent", "png", lambda: encoded(picture("RGBA", (200, 0, 100, 51))), flat(244, 204, 224)),
    Odd("opaque", "png", lambda: encoded(picture("RGBA", (200, 0, 100, 255))), flat(200, 0, 100)),
    Odd("palette", "png", lambda: encoded(palette()), halves((9, 8, 7), (60, 50, 40))),
    Odd("palette-alpha", "png", lambda: encoded(palette(), transparency=0), halves((255, 255, 255), (60, 50, 40))),
    Odd("colour-key", "png", lambda: encoded(picture("RGB", (1, 2, 3)), transparency=(1, 2, 3)), WHITE),
    Odd("cmyk-tiff", "tif", lambda: encoded(picture("CMYK", (0, 255, 255, 0)), "tiff"), RED),
    Odd("cmyk-jpeg", "jpg", lambda: encoded(picture("CMYK", (0, 255, 255, 0)), "jpeg"), RED, 2),
    Odd("cmyk-black", "tif", lambda: encoded(picture("CMYK", (0, 0, 0, 255)), "tiff"), flat(0, 0, 0)),
    Odd("progressive", "jpg", lambda: encoded(picture("L", 100), "jpeg", progressive=True), flat(100, 100, 100), 2),
    Odd("several-frames", "webp", lambda: encoded(
        picture("RGB", (255, 0, 0)), "webp", save_all=True, append_images=[picture("RGB", (0, 255, 0))], lossless=True
    ), RED),
    Odd("several-pages", "tif", lambda: encoded(
        picture("RGB", (255, 0, 0)), "tiff", save_all=True, append_images=[picture("RGB", (0, 255, 0))]
    ), RED),
    Odd("bitmap", "bmp", lambda: encoded(NOISE, "bmp"), np.asarray(NOISE)),
    Odd("other-suffix", "jpg", lambda: encoded(NOISE, "png"), np.asarray(NOISE)),
    Odd("capital-suffix", "PNG", lambda: encoded(NOISE), np.asarray(NOISE)),
    # As in the authors' pipeline; the option below applies it.
    Odd("exif-rotation", "png", lambda: encoded(NOISE, exif=TURNED), np.asarray(NOISE)),
]  # fmt: skip


def trained_on(place: Place, name: str, **options: bool) -> np.ndarray:
    """(H, W, 3) of the one training image, as batches hold it."""
    place.write({"x/train.txt": name.encode()})
    dataset = build_dataset(
        "folder", "train", data_root=place.root, cache_dir=place / "cache", folder="x", image_size=SIDE, **options
    )
    assert len(dataset) == 1
    image = dataset.batch(np.arange(1), None)["image"]
    assert isinstance(image, Tensor)
    return image[0].permute(1, 2, 0).numpy()


def measured(place: Place, name: str) -> np.ndarray:
    """(H, W, 3) of the image, as metrics get it."""
    (batch,) = read_pairs([(place / "x" / name, place / "x" / name)], 1)
    return batch.real[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.id)
def test_pixels_in_training_and_evaluation(odd: Odd, place: Place) -> None:
    name = f"größe ☃.{odd.suffix}"
    place.write({f"x/{name}": odd.content()})
    for pixels in (trained_on(place, name), measured(place, name)):
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - odd.pixels).max() <= odd.tolerance


def test_exif_rotation_where_it_is_asked_for(place: Place) -> None:
    place.write({"x/a.png": encoded(NOISE, exif=TURNED)})
    assert np.array_equal(trained_on(place, "a.png", exif_orientation=True), np.rot90(np.asarray(NOISE), -1))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5)])
def test_images_of_any_size_are_resized(size: tuple[int, int], place: Place) -> None:
    colour = np.full((*size, 3), (10, 200, 30), np.uint8)
    place.write({"x/a.png": encoded(Image.fromarray(colour))})
    assert np.array_equal(trained_on(place, "a.png"), flat(10, 200, 30))


def test_a_large_photograph_is_no_bomb(place: Place) -> None:
    """Between Pillow's limit and twice that it only warns; the program says nothing."""
    large = Image.new("L", (9_500, 9_500), 77)
    place.write({"x/a.png": encoded(large, compress_level=1), "x/train.txt": b"a.png"})
    done = run_here(
        "scripts/prepare_data.py", ["dataset=folder", "folder=x", f"data_root={place.root}", "verify=true", "workers=1"]
    )
    assert done.code == 0
    assert done.messages() == []
    assert "all 1 images can be decoded" in done.stdout


def test_what_is_no_image_is_left_alone(place: Place) -> None:
    """Hidden files, other files, and folders with the name of an image."""
    place.images(count=5)
    place.write(
        {"x/.hidden.png": b"", "x/.cache/a.png": b"", "x/notes.txt": b"", "x/album.png/inside.png": encoded(NOISE)}
    )
    (place / "x/back").symlink_to(place / "x", target_is_directory=True)
    done = run_here("scripts/prepare_data.py", ["dataset=folder", "folder=x", f"data_root={place.root}", "verify=true"])
    assert done.code == 0, done.stdout
    assert "all 6 images can be decoded" in done.stdout
