"""A measured value with everything needed to trust and repeat it; one JSON line each."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """One metric of one set of images.

    Attributes:
        metric: its name, such as "psnr".
        value: None where it could not be computed; ``missing`` then says why and how to get it.
        num_images: generated images that entered.
        protocol: what the value means: reference set and split, size, quantisation, resize, weights.
        provenance: run, seed, config and checkpoint hashes, commit, hardware.
        utc: ISO time of the measurement.
        seconds: wall time of the evaluation it came from.
        missing: one line, or None.
    """

    metric: str
    value: float | None
    num_images: int
    protocol: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    utc: str = ""
    seconds: float | None = None
    missing: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; infinities (PSNR of identical images) become strings, as JSON has none."""
        plain = dataclasses.asdict(self)
        if self.value is not None and not math.isfinite(self.value):
            plain["value"] = str(self.value)
        return plain


def append_records(path: Path, records: list[Record]) -> None:
    """Add records to a JSON-lines file."""
    with path.open("a") as file:
        file.writelines(json.dumps(record.to_json()) + "\n" for record in records)
