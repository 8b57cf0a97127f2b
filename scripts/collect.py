"""One table of the runs of a sweep.

    python scripts/collect.py DIR [DIR ...] [sort=psnr] [out=FILE.csv]

DIR: run directories, or patterns such as 'outputs/ae-*'; other folders among them are passed over. A row for each run:
the settings in which the runs differ, its step, the metrics that evaluate.py wrote, and its last losses. sort is any
column: metrics and losses come with the best first, settings in their order. out writes the table as CSV and, beside
it, as Markdown; where the runs differ in one number (and in seeds, if at all), also a plot of the column against it.
"""

import csv
import glob
import io
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure

from ffl.errors import UserError
from ffl.files import failed_writes, write_text
from ffl.metrics import METRICS
from ffl.training.config import flatten, idle_options
from ffl.training.program import run_script
from ffl.training.run_directory import RunDirectory
from scripts.figures.style import save

# Where a run lies and how it was asked for, which no result depends on.
PLACES = {"name", "resume", "output_root", "cache_dir", "data_root"}
ABSENT = "absent"
# What stands for an option of a loss that is off.
IDLE = "–"


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        name: of its directory.
        settings: its configuration by flat key; ``IDLE`` for what means nothing in it.
        results: its metrics, losses and step by column; infinite where a metric is.
    """

    name: str
    settings: Mapping[str, Any]
    results: Mapping[str, float]


def find_runs(patterns: list[str]) -> list[RunDirectory]:
    """The runs that paths and patterns name, each once, in order.

    Raises:
        UserError: if there are none.
    """
    paths = [Path(path) for pattern in patterns for path in (sorted(glob.glob(pattern)) or [pattern])]
    found = {path.resolve(): RunDirectory(path) for path in paths if (path / "config.yaml").is_file()}
    if not found:
        raise UserError(f"{' '.join(patterns)}: no run directories there; name some, such as 'outputs/ae-*'")
    return list(found.values())


def read_row(run: RunDirectory) -> Row:
    """What a run's files say."""
    config = flatten(run.config())
    idle = idle_options(config)
    settings = {
        key: IDLE if key in idle else value
        for key, value in config.items()
        if key not in PLACES and not key.startswith("recipe.")
    }
    results: dict[str, float] = {}
    for path in sorted(run.path.glob("metrics*.json")):
        task = path.stem.removeprefix("metrics").lstrip("_")
        results |= {f"{task}:{name}" if task else name: value for name, value in _metrics(path).items()}
    if lines := run.log_lines():
        last = lines[-1]
        losses = last.get("losses")
        results |= {f"loss/{name}": value for name, value in (losses if isinstance(losses, dict) else {}).items()}
        results["step"] = last["step"]
        if isinstance(last.get("images_per_second"), int | float):
            results["images_per_second"] = last["images_per_second"]
    return Row(run.path.name, settings, results)


def _metrics(path: Path) -> dict[str, float]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not what evaluate.py writes; evaluate the run again")
    numbers = {name: _number(value) for name, value in content.items() if name != "records"}
    return {name: value for name, value in numbers.items() if value is not None}


def _number(value: Any) -> float | None:
    """A metric of metrics.json, where infinity is text; None for one that is missing."""
    if isinstance(value, str):
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}.get(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def swept_keys(rows: list[Row]) -> list[str]:
    """Settings in which runs differ, in the order of the configuration."""
    keys = dict.fromkeys(key for row in rows for key in row.settings)
    return [key for key in keys if _differ(_values(rows, key))]


def _differ(values: list[Any]) -> bool:
    return any(value != values[0] for value in values)


def _values(rows: list[Row], key: str) -> list[Any]:
    """A setting of each run that it means something in."""
    values = [row.settings.get(key, ABSENT) for row in rows]
    return [value for value in values if value != IDLE]


def result_columns(rows: list[Row]) -> list[str]:
    """Metrics in the order of ``METRICS``, then losses and the rest."""
    present = {key for row in rows for key in row.results}
    metrics = [key for name in METRICS for key in sorted(present) if key.rpartition(":")[2] == name]
    return [*metrics, *sorted(present - set(metrics), key=lambda key: (not key.startswith("loss/"), key))]


def sorted_rows(rows: list[Row], column: str) -> list[Row]:
    """Rows by a column: the best result or the smallest setting first, rows without it last.

    Raises:
        UserError: if there is no such column.
    """
    results, settings = result_columns(rows), swept_keys(rows)
    if column in results:
        metric = METRICS.get(column.rpartition(":")[2])
        falls = metric.higher_is_better if metric is not None else not column.startswith("loss/")

        def result(row: Row) -> tuple[bool, float]:
            value = row.results.get(column, math.nan)
            return math.isnan(value), -value if falls else value

        return sorted(rows, key=result)
    if column in settings:
        return sorted(rows, key=lambda row: _order(row.settings.get(column)))
    raise UserError(f"sort={column}: no such column; there are {', '.join([*settings, *results])}")


def _order(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if _is_number(value) else (1, 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def csv_text(rows: list[Row]) -> str:
    """The table with every digit; empty where a run lacks a value."""
    settings, results = swept_keys(rows), result_columns(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *settings, *results])
    for row in rows:
        writer.writerow(
            [
                row.name,
                *(row.settings.get(key, ABSENT) for key in settings),
                *(row.results.get(key, "") for key in results),
            ]
        )
    return text.getvalue()


def markdown_text(rows: list[Row]) -> str:
    """The table for readers: five digits, an arrow towards the better."""
    settings, results = swept_keys(rows), result_columns(rows)
    lines = [_line(["run", *settings, *map(_head, results)]), _line(["---"] * (1 + len(settings) + len(results)))]
    for row in rows:
        values = [f"{row.results[key]:.5g}" if key in row.results else "–" for key in results]
        lines.append(_line([row.name, *(str(row.settings.get(key, ABSENT)) for key in settings), *values]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _head(column: str) -> str:
    metric = METRICS.get(column.rpartition(":")[2])
    return column if metric is None else f"{column} {'↑' if metric.higher_is_better else '↓'}"


def plotted_key(rows: list[Row]) -> str | None:
    """The one setting that differs and is a number wherever it means something, seeds aside; None unless just one."""
    numeric = [key for key in swept_keys(rows) if key != "seed" and all(map(_is_number, _values(rows, key)))]
    return numeric[0] if len(numeric) == 1 else None


def plot(rows: list[Row], key: str, column: str) -> Figure:
    """A point for each run, a line through the mean of each value, one for each group of runs that differ otherwise.

    Runs in which it means nothing are a dashed line at their mean.
    """
    others = [other for other in swept_keys(rows) if other not in (key, "seed")]
    groups: dict[str, dict[float, list[float]]] = {}
    without: dict[str, list[float]] = {}
    for row in rows:
        value = row.results.get(column, math.nan)
        if not math.isfinite(value):
            continue
        label = ", ".join(f"{other}={row.settings.get(other, ABSENT)}" for other in others)
        if row.settings[key] != IDLE:
            groups.setdefault(label, {}).setdefault(float(row.settings[key]), []).append(value)
        else:
            without.setdefault(label, []).append(value)
    figure = Figure(figsize=(4.5, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for label, points in groups.items():
        places = sorted(points)
        (line,) = axes.plot(places, [sum(points[place]) / len(points[place]) for place in places], label=label or None)
        for place in places:
            axes.plot([place] * len(points[place]), points[place], "o", markersize=4, color=line.get_color())
    for number, (label, level) in enumerate(without.items(), len(groups)):
        axes.axhline(sum(level) / len(level), linestyle="--", color=f"C{number}", label=label or None)
    values = [place for points in groups.values() for place in points]
    if values and min(values) > 0 and max(values) >= 20 * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(key)
    axes.set_ylabel(_head(column))
    if len(groups) + len(without) > 1:
        axes.legend()
    return figure


def collect(arguments: list[str]) -> None:
    """The program; ``arguments`` are its words."""
    settings = dict(item.split("=", 1) for item in arguments if "=" in item)
    patterns = [item for item in arguments if "=" not in item]
    if unknown := settings.keys() - {"sort", "out"}:
        raise UserError(f"unknown key {min(unknown)}; allowed: sort, out")
    if not patterns:
        raise UserError("no runs given; name directories, such as 'outputs/ae-*'")
    rows = [read_row(run) for run in find_runs(patterns)]
    columns = result_columns(rows)
    rows = sorted_rows(rows, settings["sort"]) if "sort" in settings else rows
    print(markdown_text(rows), end="")
    if "out" not in settings:
        return
    out = Path(settings["out"])
    if out.suffix != ".csv":
        raise UserError(f"out={out}: expected a name that ends in .csv")
    written = [out, out.with_suffix(".md")]
    with failed_writes(out, "make room, or choose another place with out=FILE.csv"):
        write_text(out, csv_text(rows))
        write_text(out.with_suffix(".md"), markdown_text(rows))
        column = settings["sort"] if settings.get("sort") in columns else next(iter(columns), None)
        if (key := plotted_key(rows)) is not None and column is not None:
            written += save(plot(rows, key, column), out.with_suffix(".png"))
    print(f"\nwritten to {', '.join(map(str, written))}")


if __name__ == "__main__":
    run_script(collect, __doc__)
