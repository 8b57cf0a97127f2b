"""Good files with a few bytes or tensors changed: taken, or refused with the one error that callers expect."""

import random
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bad_input.place import encoded, noise
from datasets.label_maps import decode_map
from ffl.decoding import decode_rgb
from ffl.errors import UserError
from models.ae import MLP
from models.official import load_official
from models.pix2pix import UNetGenerator
from models.spade import SpadeGenerator
from models.stylegan2 import Generator
from models.stylegan2.official import nvlabs_generator_keys, rosinality_generator_keys

IMAGE_ROUNDS, WEIGHT_ROUNDS = 200, 80
TURNED = Image.Exif()
TURNED[0x0112] = 6
IMAGES = {
    "png": encoded(noise(20, 20), exif=TURNED),
    "palette": encoded(noise(20, 20).quantize(), transparency=0),
    "16-bit": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 160)),
    "jpeg": encoded(noise(20, 20), "jpeg", exif=TURNED),
    "cmyk": encoded(noise(20, 20).convert("CMYK"), "jpeg"),
    "webp": encoded(noise(20, 20), "webp"),
    "bmp": encoded(noise(20, 20), "bmp"),
    "tiff": encoded(noise(20, 20), "tiff"),
}


def altered(content: bytes, draw: random.Random) -> bytes:
    """Cut somewhere, or with up to 16 other bytes, mostly near the beginning, where the header is."""
    if draw.random() < 0.3:
        return content[: draw.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(draw.choice((1, 2, 4, 16))):
        at = draw.randrange(len(changed) if draw.random() < 0.3 else min(len(changed), 400))
        changed[at] = draw.choice((0, 255, draw.randrange(256), changed[at] ^ 1 << draw.randrange(8)))
    return bytes(changed)


@pytest.mark.parametrize("kind", IMAGES)
def test_altered_images_decode_or_are_value_errors(kind: str) -> None:
    draw, messages = random.Random(kind), []
    for _ in range(IMAGE_ROUNDS):
        content = altered(IMAGES[kind], draw)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                assert decode_rgb(content, exif_orientation=True).mode == "RGB"
                decode_map(content, "label map", "use the maps")
            except ValueError as error:
                messages.append(str(error))
    assert messages
    assert all(messages)


def _weights() -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """A small official checkpoint of each kind, and the options that its weights don't tell."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stylegan2 = Generator(16, 8, 2, 128, 8).state_dict()

        def renamed(keys: Mapping[str, str]) -> dict[str, Tensor]:
            return {theirs: stylegan2[ours].clone() for theirs, ours in keys.items()}

        rosinality = {
            key: value[None] if key.endswith("conv.weight") else value  # one axis more than ours
            for key, value in renamed(rosinality_generator_keys(3, 2)).items()
        }
        spade = SpadeGenerator((32, 32), 5, 2, "normal", None, 4).state_dict()
        return {
            "vanilla_ae": (MLP((3, 8, 8), 4, 2).state_dict(), {}),
            "pix2pix_generator": (UNetGenerator(3, 3, 3, 2, "batch", True).state_dict(), {}),
            "spade_generator": (spade, {"crop_size": 32, "aspect_ratio": 1.0}),
            "stylegan2_nvlabs": (renamed(nvlabs_generator_keys([4, 8, 16], 2)), {}),
            "stylegan2_rosinality": (rosinality, {}),
        }


def mutated(state: Mapping[str, Tensor], draw: random.Random) -> dict[str, Any]:
    """One or two tensors absent, of another shape or type, under another name, or no tensors."""
    changed: dict[str, Any] = dict(state)
    for key in draw.sample(sorted(changed), draw.choice((1, 2))):
        value = changed.pop(key)
        replacement = draw.choice(
            (
                {},
                {f"x.{key}": value},
                {key: torch.zeros(())},
                {key: torch.zeros(3)},
                {key: value.new_zeros((0, *value.shape[1:]))},
                {key: value[None]},
                {key: value.transpose(0, -1) if value.dim() else value},
                {key: torch.zeros(1).expand(10**5, 10**5)},
                {key: "text"},
                {key: None},
            )
        )
        changed |= replacement
    return changed


WEIGHTS = _weights()


@pytest.mark.parametrize("kind", WEIGHTS)
def test_altered_weights_load_or_are_user_errors(kind: str) -> None:
    state, options = WEIGHTS[kind]
    load_official(kind, state, **options)
    draw, messages = random.Random(kind), []
    for _ in range(WEIGHT_ROUNDS):
        try:
            load_official(kind, mutated(state, draw), **options)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > WEIGHT_ROUNDS / 2
    assert all(message and "\n" not in message for message in messages)
