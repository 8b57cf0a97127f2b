"""Which cells of our tables hold no number, and why."""

from typing import Any

from ffl.metrics import METRICS
from scripts.audits.evidence import Source
from scripts.reproduction.pivot import Cells, gather_cells, shown_values
from scripts.tables import read_table

NOT_RUN = "not run"
NOT_FINITE = "not a finite number"
NOT_MEASURED = "not measured: the run was evaluated before there was this metric"


def empty_cells(source: Source) -> list[dict[str, Any]]:
    """The cells of the paper's tables that hold no number of ours, gathered by reason.

    Returns:
        ``reason``, ``count`` of cells, and ``places``: of one group of columns each, with ``table``, ``group``,
        ``metrics``, the ``rows`` that lack these metrics and the ``others`` that have them.
    """
    by_reason: dict[str, list[dict[str, Any]]] = {}
    for name in source.tables():
        table, cells = read_table(name), gather_cells(source.records(name))
        for group, columns in table.groups.items():
            # Rows that lack the same metrics for the same reason make one entry.
            rows = [row for row, settings in table.rows.items() if group in settings.runs]
            lacking: dict[tuple[str, str], list[str]] = {}
            for metric in columns.all_metrics:
                for row in rows:
                    reason = why_empty(cells, row, group, metric)
                    if reason is not None:
                        lacking.setdefault((reason, metric), []).append(row)
            alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
            for (reason, metric), names in lacking.items():
                alike.setdefault((reason, tuple(names)), []).append(METRICS[metric].label)
            for (reason, where), metrics in alike.items():
                place: dict[str, Any] = {"table": name, "group": columns.title, "metrics": metrics}
                labels = {row: " ".join(table.rows[row].labels) for row in rows}
                place["rows"] = [labels[row] for row in where]
                place["others"] = [labels[row] for row in rows if row not in where]
                by_reason.setdefault(reason, []).append(place)
    counts = {
        reason: sum(len(place["rows"]) * len(place["metrics"]) for place in places)
        for reason, places in by_reason.items()
    }
    return [{"reason": reason, "count": counts[reason], "places": places} for reason, places in by_reason.items()]


def why_empty(cells: Cells, row: str, group: str, metric: str) -> str | None:
    """Why a cell holds no number; None where it holds one."""
    measured = cells.get((row, group, metric), {})
    if shown_values(measured):
        return None
    trained = cells.get((row, group, "training"), {})
    reasons = [record.missing for record in (*measured.values(), *trained.values()) if record.missing]
    if reasons:
        return reasons[0]
    if measured:
        return NOT_FINITE
    return NOT_MEASURED if any(cell[:2] == (row, group) for cell in cells) else NOT_RUN
