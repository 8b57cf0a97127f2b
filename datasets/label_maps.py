"""From the bytes of label maps to ids of a fixed size. Ids are checked here, and never interpolated."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from datasets.decoding import ArraySpec
from ffl.decoding import JPEGDecoder, decode_rgb, load_image

SHOWN_IDS = 8
# Photograph and label map may have different resolutions, but not different shapes, up to a rounded side.
ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class LabelIds:
    """The ids that a data set's label maps may hold.

    Attributes:
        count: valid ids are 0 ... count - 1.
        unknown: what 255, the usual mark of an unknown pixel, becomes; None where it is not allowed.
        hint: where the right maps come from, for messages.
    """

    count: int
    unknown: int | None
    hint: str


@dataclass(frozen=True)
class SemanticDecoder:
    """A photograph (bicubic), its label map and its instance map (nearest), resized to one size without cropping.

    Takes the files in this order, as far as they are used: photograph, label map, instance map. Where instance maps
    are used and an item comes without one, its label map takes that place.

    Attributes:
        height, width: of all arrays.
        ids: what the label maps may hold.
        image: whether there is a photograph.
        instance: whether there are instance maps.
        jpeg: decoder of JPEG files, of photographs alone: a label map is never a JPEG file.
    """

    height: int
    width: int
    ids: LabelIds
    image: bool = True
    instance: bool = False
    jpeg: JPEGDecoder = "pillow"

    @property
    def arrays(self) -> dict[str, ArraySpec]:
        size = (self.height, self.width)
        specs: dict[str, ArraySpec] = {}
        if self.image:
            specs["image"] = ArraySpec("uint8", (3, *size))
        specs["label"] = ArraySpec("uint8", size)
        if self.instance:
            specs["instance"] = ArraySpec("int32", size)
        return specs

    def __call__(self, *files: bytes) -> dict[str, np.ndarray]:
        remaining = list(files)
        decoded: dict[str, np.ndarray] = {}
        photograph = decode_rgb(remaining.pop(0), jpeg=self.jpeg) if self.image else None
        label = decode_map(remaining.pop(0), "label map", self.ids.hint)
        if photograph is not None:
            _check_shapes("photograph", photograph, label)
            resized = photograph.resize((self.width, self.height), Image.Resampling.BICUBIC)
            decoded["image"] = np.asarray(resized).transpose(2, 0, 1)
        # Before the map is resized: nearest neighbours may drop the few pixels that hold a wrong id.
        check_ids(np.asarray(label), self.ids)
        ids = self._nearest(label)
        if self.ids.unknown is not None:
            ids = np.where(ids == 255, self.ids.unknown, ids)
        decoded["label"] = ids.astype(np.uint8)
        if self.instance:
            instance = label
            if remaining:
                instance = decode_map(remaining.pop(0), "instance map", "use the 16-bit *_instanceIds.png")
                _check_shapes("instance map", instance, label)
            decoded["instance"] = self._nearest(instance).astype(np.int32)
        return decoded

    def _nearest(self, ids: Image.Image) -> np.ndarray:
        return np.asarray(ids.resize((self.width, self.height), Image.Resampling.NEAREST))


def decode_map(data: bytes, what: Literal["label map", "instance map"], hint: str) -> Image.Image:
    """A map of ids as a one-channel image; of a palette image, the ids are the palette's indices.

    Raises:
        ValueError: not an image, several channels (colours instead of ids), or lossily compressed.
    """
    try:
        ids = load_image(data)
    except ValueError as err:
        raise ValueError(f"{what}: {err}") from err
    if ids.mode not in ("1", "L", "P", "I") and not ids.mode.startswith("I;16"):
        raise ValueError(f"{what} is colour-coded ({ids.mode}), its pixels are not ids: {hint}")
    if ids.format in ("JPEG", "WEBP"):
        raise ValueError(f"{what} is a {ids.format} file, whose compression alters ids: {hint}")
    return ids


def check_ids(labels: np.ndarray, ids: LabelIds) -> None:
    """Raise ValueError, naming them, where ``labels`` holds ids that the data set does not have."""
    found = np.unique(labels)
    wrong = [int(i) for i in found if not 0 <= i < ids.count and not (i == 255 and ids.unknown is not None)]
    if wrong:
        shown = ", ".join(map(str, wrong[:SHOWN_IDS])) + (" ..." if len(wrong) > SHOWN_IDS else "")
        allowed = f"0..{ids.count - 1}" + (" or 255" if ids.unknown is not None else "")
        raise ValueError(f"label ids {shown} are not among {allowed}: {ids.hint}")


def _check_shapes(what: str, picture: Image.Image, label: Image.Image) -> None:
    ratio = picture.width * label.height / (picture.height * label.width)
    if abs(ratio - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"{what} has {picture.width} x {picture.height} pixels, the label map {label.width} x {label.height}: "
            "they are not of the same picture"
        )
