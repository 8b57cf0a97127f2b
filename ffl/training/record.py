"""A measured value with everything needed to trust and repeat it: one flat JSON line each.

Everything that is measured, anywhere, is a record. Runs append records to ``metrics.jsonl``; tables, figures and the
audit are pivots of records and read nothing else, neither checkpoints nor configs.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Record:
    """One measurement of one run, or of one set of images.

    Attributes:
        metric: its name, such as "psnr"; "bands" for the radial profiles of an evaluation, "training" for what a run
            took (its value is the wall time in seconds).
        value: None where it could not be computed, and ``missing`` then says why and how to get it; also None where
            the measurement is no single number, and ``details`` then holds it.
        num_images: generated images that entered.
        protocol: what the value means: task, reference set and split, size, quantisation, resizing, weights.
        provenance: run, model, data set, seed, step, config and checkpoint hashes, commit, hardware; in the records
            of a table also the row and group of columns that the run serves.
        utc: ISO time of the measurement.
        seconds: wall time of the evaluation that it came from.
        missing: one line, or None.
        details: values by name where one number does not hold the measurement, such as power by frequency band.
        floor: of a metric that compares two sets, the same quantity between two halves of the real one: what it is
            where there is no difference. None for other metrics and older records.
        ceiling: of a score by a segmenter of our own, that of the real images beside the generated ones: what perfect
            images could be expected to reach. None for other metrics and older records.
        warning: one line on what the value can be trusted for, such as too few images for the metric; or None.
    """

    metric: str
    value: float | None
    num_images: int
    protocol: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    utc: str = ""
    seconds: float | None = None
    missing: str | None = None
    details: dict[str, Any] | None = None
    floor: float | None = None
    ceiling: float | None = None
    warning: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values without what few records have; infinities (PSNR of equal images) become strings for JSON."""
        plain = dataclasses.asdict(self)
        for name in ("details", "floor", "ceiling", "warning"):
            if plain[name] is None:
                del plain[name]
        if self.value is not None and not math.isfinite(self.value):
            plain["value"] = str(self.value)
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Record":
        """The record that ``to_json`` made plain.

        Raises:
            KeyError, TypeError, ValueError: if it is none, such as a line that was cut off.
        """
        value = plain["value"]
        return cls(**{**plain, "value": None if value is None else float(value)})


def append_records(path: Path, records: Iterable[Record]) -> None:
    """Add records to a JSON-lines file."""
    # Appended and never rewritten: evaluations with other options stay on record beside the newest.
    with path.open("a") as file:
        file.writelines(json.dumps(record.to_json()) + "\n" for record in records)


def read_records(path: Path) -> list[Record]:
    """The records of a JSON-lines file in their order, without lines that were cut off; none where there is no file."""
    # A process that was killed while it wrote leaves half a line, which must not cost the others.
    records = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            records.append(Record.from_json(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return records
