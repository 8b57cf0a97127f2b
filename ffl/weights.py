"""Pretrained weight files: where they come from, where they lie, and whether they are the right ones.

Files are looked up in ``$FFL_WEIGHTS`` (default ``weights/``). Nothing is downloaded here; ``scripts/download_weights.py``
does that. A file that is absent makes its metric missing, never another number.
"""

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ffl.errors import UserError


@dataclass(frozen=True)
class WeightFile:
    """One published weight file.

    Attributes:
        filename: name under ``$FFL_WEIGHTS``.
        url: where it is published.
        sha256: hex digest or a published prefix of it (torchvision prints eight digits in its file names); None where
            nothing is published.
        size: bytes, None where unknown.
        used_by: what needs it, for messages.
    """

    filename: str
    url: str
    sha256: str | None
    size: int | None
    used_by: str


class MissingWeights(UserError):
    """A weight file is not there; the message says how to get it."""


def weights_dir() -> Path:
    """``$FFL_WEIGHTS``, or ``weights/`` in the working directory."""
    return Path(os.environ.get("FFL_WEIGHTS") or "weights")
