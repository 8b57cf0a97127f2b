"""The paper's own numbers, from results/paper.yaml."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PAPER_FILE = Path(__file__).resolve().parents[2] / "results" / "paper.yaml"

Values = dict[str, float | None]


@dataclass(frozen=True)
class PaperRow:
    """A printed row.

    Attributes:
        values: by group, then metric; None for the paper's N/A.
        best: (group, metric) of the values printed in bold.
        size: (H, W) of the images; None for values quoted from literature.
    """

    values: dict[str, Values]
    best: frozenset[tuple[str, str]]
    size: tuple[int, int] | None


@dataclass(frozen=True)
class PaperTable:
    """A printed table.

    Attributes:
        decimals: digits printed after the point.
        groups: metrics of each block of columns, in the order of print.
        rows: by the ids of configs/table.
    """

    decimals: int
    groups: dict[str, list[str]]
    rows: dict[str, PaperRow]

    def value(self, row: str, group: str, metric: str) -> float | None:
        """A printed number; None where the paper has none."""
        found = self.rows.get(row)
        return None if found is None else found.values.get(group, {}).get(metric)


@cache
def read_paper() -> dict[str, Any]:
    """The whole file as plain values; ``figure17`` and ``cost`` are read from it as they are."""
    content: dict[str, Any] = yaml.safe_load(PAPER_FILE.read_text())
    return content


@cache
def paper_tables() -> dict[str, PaperTable]:
    """All tables of the paper, table1 to table11."""
    tables = {}
    for name, content in read_paper()["tables"].items():
        groups, rows = content["groups"], {}
        for id, row in content["rows"].items():
            # Bold values are written "group/metric", and "metric" alone where it is in the first group.
            marks = [mark if "/" in mark else f"{next(iter(groups))}/{mark}" for mark in row["best"]]
            best = frozenset((group, metric) for group, _, metric in (mark.partition("/") for mark in marks))
            size = (row["size"][0], row["size"][1]) if "size" in row else None
            rows[id] = PaperRow({group: row[group] for group in groups}, best, size)
        tables[name] = PaperTable(content["decimals"], groups, rows)
    return tables
