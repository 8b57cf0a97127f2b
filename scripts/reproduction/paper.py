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
    return {name: _table(content) for name, content in read_paper()["tables"].items()}


def _table(content: dict[str, Any]) -> PaperTable:
    groups = content["groups"]
    rows = {name: _row(row, list(groups)) for name, row in content["rows"].items()}
    return PaperTable(content["decimals"], groups, rows)


def _row(content: dict[str, Any], groups: list[str]) -> PaperRow:
    marks = [mark if "/" in mark else f"{groups[0]}/{mark}" for mark in content["best"]]
    best = frozenset((group, metric) for group, _, metric in (mark.partition("/") for mark in marks))
    size = content.get("size")
    return PaperRow({group: content[group] for group in groups}, best, None if size is None else (size[0], size[1]))
