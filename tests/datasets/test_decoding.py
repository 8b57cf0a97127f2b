import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encoded, noise
from oracles import SHARED
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from datasets.decoding import ResizeCrop
from ffl.decoding import decode_rgb


def official(data: bytes, size: int) -> np.ndarray:
    """The pipeline that the paper's numbers were made with."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(Compose([Resize(size), CenterCrop(size)])(image)).transpose(2, 0, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 48))
def test_resize_and_crop_equal_torchvision(height: int, width: int, size: int) -> None:
    data = encoded(noise(height, width))
    assert np.array_equal(ResizeCrop(size)(data)["image"], official(data, size))


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("celeba/img_align_celeba/*.jpg", 64),
        ("dtd/images/*/*.jpg", 64),
        ("celeba_hq/*.jpg", 256),
        ("celeba_hq/*.jpg", 64),
        ("danbooru_portraits/*.jpg", 64),
        ("ade20k/images/validation/*.jpg", 100),
    ],
)
def test_real_images_equal_torchvision(pattern: str, size: int) -> None:
    paths = sorted((SHARED / "data").glob(pattern))[::37][:12]
    if not paths:
        pytest.skip(f"no images at {SHARED / 'data' / pattern}")
    for path in paths:
        data = path.read_bytes()
        assert np.array_equal(ResizeCrop(size)(data)["image"], official(data, size)), path


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    levels = np.array([[0, 257, 128 * 257, 65535, 40000]], dtype=np.uint16)
    for suffix in ("png", "tiff"):
        rgb = np.asarray(decode_rgb(encoded(Image.fromarray(levels), suffix)))
        # 40000 / 257 = 155.6
        assert rgb[0].tolist() == [[v, v, v] for v in (0, 1, 128, 255, 156)]


def test_transparency_is_composited_over_white() -> None:
    rgba = Image.fromarray(np.array([[[200, 0, 100, 0], [200, 0, 100, 255], [200, 0, 100, 51]]], dtype=np.uint8))
    # 51 / 255 = 0.2 of the colour and 0.8 of white.
    assert np.asarray(decode_rgb(encoded(rgba)))[0].tolist() == [[255, 255, 255], [200, 0, 100], [244, 204, 224]]
    grey_alpha = Image.merge("LA", (Image.new("L", (1, 1), 7), Image.new("L", (1, 1), 0)))
    assert np.asarray(decode_rgb(encoded(grey_alpha)))[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 8, 7, 60, 50, 40])
    palette.putdata([0, 1])
    data = encoded(palette, transparency=0)
    assert np.asarray(decode_rgb(data))[0].tolist() == [[255, 255, 255], [60, 50, 40]]


def test_palette_grey_and_bilevel_become_rgb() -> None:
    palette = noise(8, 8).quantize(256)
    assert np.array_equal(np.asarray(decode_rgb(encoded(palette))), np.asarray(palette.convert("RGB")))
    grey = noise(8, 8).convert("L")
    assert np.array_equal(np.asarray(decode_rgb(encoded(grey))), np.asarray(grey)[..., None].repeat(3, axis=2))
    bilevel = Image.fromarray(np.eye(4, dtype=bool))
    assert np.array_equal(np.asarray(decode_rgb(encoded(bilevel)))[..., 1], np.eye(4) * 255)


def test_cmyk_becomes_rgb_as_in_the_official_pipeline() -> None:
    data = encoded(noise(16, 16).convert("CMYK"), "jpeg")
    assert np.array_equal(ResizeCrop(16)(data)["image"], official(data, 16))


def test_exif_orientation_only_when_asked_for() -> None:
    image = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    data = encoded(image, exif=exif)
    assert decode_rgb(data).size == (6, 4)
    turned = np.asarray(decode_rgb(data, exif_orientation=True))
    assert np.array_equal(turned, np.rot90(np.asarray(image), -1))


def test_first_of_several_frames() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    data = encoded(frames[0], "webp", save_all=True, append_images=frames[1:], lossless=True)
    assert np.asarray(decode_rgb(data))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image"),
        (b"hello, I am a text file", "not an image"),
        (encoded(noise(40, 40), "jpeg")[:-300], "truncated"),
        (encoded(noise(40, 40))[:-2000], "truncated|broken"),
        (encoded(Image.fromarray(np.ones((2, 2), dtype=np.float32)), "tiff"), "no known range"),
        (encoded(Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)), "tiff"), "outside 16 bits"),
    ],
)
def test_broken_files_are_value_errors_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_rgb(data)


def test_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # Pillow warns above it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_rgb(data).size == (20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # and refuses above twice of it
    with pytest.raises(ValueError, match="exceeds limit"):
        decode_rgb(data)
