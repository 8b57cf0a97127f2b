"""One table of the runs of a sweep.

    python scripts/collect.py DIR [DIR ...] [sort=psnr] [plot=psnr,spectrum_distance] [out=FILE.csv]

DIR: run directories, or patterns such as 'outputs/ae-*'; other folders among them are passed over. A row for each run:
the settings in which the runs differ, its step, the metrics that evaluate.py wrote, its last losses and their shares of
the gradient at the generator's output.
"""

import csv
import glob
import io
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.figure import Figure

from ffl.errors import UserError
from ffl.files import report_failed_writes, write_text
from ffl.metrics import METRICS
from ffl.training.command import run_script
from ffl.training.config import flatten, idle_options
from ffl.training.run_directory import RunDirectory
from scripts.figures.style import SMALL, save

# Where a run lies and how it was asked for, which no result depends on.
PLACES = {"name", "resume", "output_root", "cache_dir", "data_root"}
ABSENT = "absent"
# What stands for an option of a loss that is off.
IDLE = "–"


@dataclass(frozen=True)
class SweepRun:
    """What the files of one run say.

    Attributes:
        name: of its directory.
        settings: its configuration by flat key; ``IDLE`` for what means nothing in it.
        results: its metrics, losses, their shares of the gradient at the generator's output, and step by column;
            infinite where a metric is.
    """

    name: str
    settings: Mapping[str, Any]
    results: Mapping[str, float]


def find_runs(patterns: tuple[str, ...]) -> list[RunDirectory]:
    """The runs that paths and patterns name, each once, in order.

    Raises:
        UserError: if there are none.
    """
    paths = [Path(path) for pattern in patterns for path in (sorted(glob.glob(pattern)) or [pattern])]
    found = {path.resolve(): RunDirectory(path) for path in paths if (path / "config.yaml").is_file()}
    if not found:
        raise UserError(f"{' '.join(patterns)}: no run directories there; name some, such as 'outputs/ae-*'")
    return list(found.values())


def read_run(run: RunDirectory) -> SweepRun:
    """The settings and results of a run.

    Raises:
        UserError: if its metrics are damaged.
    """
    # An exponent of a loss that is off would look like a setting in which runs differ; and null is off, not a number.
    config = flatten(run.config())
    idle = idle_options(config)
    settings = {
        key: IDLE if key in idle or value is None else value
        for key, value in config.items()
        if key not in PLACES and not key.startswith("recipe.")
    }

    # Every task of a model has a file of its own; the columns of its second task are named after it.
    results: dict[str, float] = {}
    for path in sorted(run.path.glob("metrics*.json")):
        try:
            content = json.loads(path.read_text())
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise UserError(f"{path}: not what evaluate.py writes; evaluate the run again")
        task = path.stem.removeprefix("metrics").lstrip("_")
        for name, value in content.items():
            if isinstance(value, str):  # JSON has no infinity
                value = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}.get(value)
            if is_number(value):
                results[f"{task}:{name}" if task else name] = value

    # The log may end in half a line, where a run was killed. Its last whole line counts.
    if lines := run.log_lines():
        last = lines[-1]
        losses = last.get("losses")
        results |= {f"loss/{name}": value for name, value in (losses if isinstance(losses, dict) else {}).items()}
        shares = last.get("gradient_share")
        results |= {f"share/{name}": value for name, value in (shares if isinstance(shares, dict) else {}).items()}
        results["step"] = last["step"]
        if is_number(last.get("images_per_second")):
            results["images_per_second"] = last["images_per_second"]
    return SweepRun(run.path.name, settings, results)


def is_number(value: Any) -> bool:
    """Whether a value of a JSON or YAML file is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def meaningful_values(runs: list[SweepRun], key: str) -> list[Any]:
    """A setting of each run in which it means something."""
    values = [run.settings.get(key, ABSENT) for run in runs]
    return [value for value in values if value != IDLE]


def swept_keys(runs: list[SweepRun]) -> list[str]:
    """Settings in which runs differ, in the order of the configuration."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = {key: meaningful_values(runs, key) for key in keys}
    return [key for key in keys if any(value != values[key][0] for value in values[key])]


def result_columns(runs: list[SweepRun]) -> list[str]:
    """Metrics in the order of ``METRICS``, then losses and the rest."""
    present = {key for run in runs for key in run.results}
    metrics = [key for name in METRICS for key in sorted(present) if key.rpartition(":")[2] == name]
    return [*metrics, *sorted(present - set(metrics), key=lambda key: (not key.startswith("loss/"), key))]


def column_head(column: str) -> str:
    """A column of results with an arrow towards the better, where it is a metric."""
    metric = METRICS.get(column.rpartition(":")[2])
    return column if metric is None else f"{column} {'↑' if metric.higher_is_better else '↓'}"


def sorted_runs(runs: list[SweepRun], column: str) -> list[SweepRun]:
    """Runs by a column: the best result or the smallest setting first, runs without it last.

    Raises:
        UserError: if there is no such column.
    """
    results, settings = result_columns(runs), swept_keys(runs)
    if column not in [*results, *settings]:
        raise UserError(f"sort={column}: no such column; there are {', '.join([*settings, *results])}")
    # What is no metric and no loss counts upwards: steps, and images a second.
    metric = METRICS.get(column.rpartition(":")[2])
    falls = metric.higher_is_better if metric is not None else not column.startswith("loss/")

    def place(run: SweepRun) -> tuple[bool, float, str]:
        if column in results:
            value = run.results.get(column, math.nan)
            return math.isnan(value), -value if falls else value, ""
        setting: Any = run.settings.get(column)
        return (False, float(setting), "") if is_number(setting) else (True, 0.0, str(setting))

    return sorted(runs, key=place)


def csv_text(runs: list[SweepRun]) -> str:
    """The table with every digit; empty where a run lacks a value."""
    settings, results = swept_keys(runs), result_columns(runs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", *settings, *results])
    for run in runs:
        values = [*(run.settings.get(key, ABSENT) for key in settings), *(run.results.get(key, "") for key in results)]
        writer.writerow([run.name, *values])
    return text.getvalue()


def markdown_text(runs: list[SweepRun]) -> str:
    """The table for readers: five digits, an arrow towards the better."""
    settings, results = swept_keys(runs), result_columns(runs)
    rows = [["run", *settings, *map(column_head, results)], ["---"] * (1 + len(settings) + len(results))]
    for run in runs:
        values = [f"{run.results[key]:.5g}" if key in run.results else "–" for key in results]
        rows.append([run.name, *(str(run.settings.get(key, ABSENT)) for key in settings), *values])
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in rows)


def plotted_keys(runs: list[SweepRun]) -> list[str]:
    """The settings that differ and are numbers wherever they mean something, seeds aside; none of them if over two."""
    numeric = [key for key in swept_keys(runs) if key != "seed" and all(map(is_number, meaningful_values(runs, key)))]
    return numeric if len(numeric) <= 2 else []


def draw_map(runs: list[SweepRun], keys: Sequence[str], columns: Sequence[str]) -> Figure:
    """Results over the grid of two settings, a panel each: the mean of the runs of each cell, as a number and a colour.

    The setting that means nothing in some runs is drawn along x, and these runs come first, as "off".
    """
    y_key, x_key = sorted(keys, key=lambda key: any(run.settings.get(key) == IDLE for run in runs))
    off = -math.inf
    places = [
        tuple(off if run.settings.get(key) == IDLE else float(run.settings.get(key, off)) for key in (y_key, x_key))
        for run in runs
    ]
    ys, xs = (sorted(set(values)) for values in zip(*places, strict=True))
    figure = Figure(figsize=(0.8 + (0.6 + 0.55 * len(xs)) * len(columns), 0.9 + 0.4 * len(ys)), layout="constrained")
    for axes, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        means = np.full((len(ys), len(xs)), np.nan)
        for (row, y), (place, x) in itertools.product(enumerate(ys), enumerate(xs)):
            values = [run.results.get(column, math.nan) for run, at in zip(runs, places, strict=True) if at == (y, x)]
            if values := [value for value in values if math.isfinite(value)]:
                means[row, place] = sum(values) / len(values)
        # Better is darker, whichever way that is.
        metric = METRICS.get(column.rpartition(":")[2])
        falls = metric is None or not metric.higher_is_better
        axes.imshow(means, cmap="Blues_r" if falls else "Blues", aspect="auto", origin="lower", alpha=0.5)
        for (row, place), mean in np.ndenumerate(means):
            axes.text(place, row, "–" if np.isnan(mean) else f"{mean:.4g}", ha="center", va="center", fontsize=SMALL)
        axes.set_xticks(range(len(xs)), ["off" if x == off else f"{x:g}" for x in xs])
        axes.set_yticks(range(len(ys)), ["off" if y == off else f"{y:g}" for y in ys])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(column_head(column))
        axes.set_xlabel(x_key)
        axes.set_ylabel(y_key)
    return figure


def draw(runs: list[SweepRun], key: str, columns: Sequence[str]) -> Figure:
    """Results against a setting, a panel each: a point for each run, a line through the mean of each value.

    Runs that differ in other settings have a line for each group; runs in which the setting means nothing are a dashed
    line at their mean.
    """
    figure = Figure(figsize=(0.5 + 4.0 * len(columns), 3.0), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    # Seeds are what points of one setting scatter over, and no setting of their own.
    others = [other for other in swept_keys(runs) if other not in (key, "seed")]
    for axes, column in zip(panels, columns, strict=True):
        groups: dict[str, dict[float, list[float]]] = {}
        without: dict[str, list[float]] = {}
        for run in runs:
            value = run.results.get(column, math.nan)
            if not math.isfinite(value):
                continue
            label = ", ".join(f"{other}={run.settings.get(other, ABSENT)}" for other in others)
            if run.settings[key] == IDLE:
                without.setdefault(label, []).append(value)
            else:
                groups.setdefault(label, {}).setdefault(float(run.settings[key]), []).append(value)

        for label, points in groups.items():
            places = sorted(points)
            means = [sum(points[place]) / len(points[place]) for place in places]
            (line,) = axes.plot(places, means, label=label or None)
            for place in places:
                axes.plot([place] * len(points[place]), points[place], "o", markersize=4, color=line.get_color())
        for number, (label, level) in enumerate(without.items(), len(groups)):
            axes.axhline(sum(level) / len(level), linestyle="--", color=f"C{number}", label=label or None)
        values = [place for points in groups.values() for place in points]
        # Sweeps such as 1, 10, 100 would crowd at the left of a linear axis.
        if values and min(values) > 0 and max(values) >= 20 * min(values):
            axes.set_xscale("log")
        axes.set_xlabel(key)
        axes.set_ylabel(column_head(column))
        if len(groups) + len(without) > 1 and axes is panels[0]:
            axes.legend()
    return figure


def collect(*runs: str, sort: str | None = None, plot: list[str] | None = None, out: Path | None = None) -> None:
    """Print the table of runs, and write it.

    Args:
        runs: run directories, or patterns.
        sort: any column: metrics and losses come with the best first, settings in their order.
        plot: the columns to draw; else the one that the table is sorted by, or the first metric.
        out: FILE.csv for the table, which also goes beside it as Markdown; where the runs differ in one number (and in
            seeds, if at all), also a plot of the columns against it, and in two, a map.
    """
    if not runs:
        raise UserError("no runs given; name directories, such as 'outputs/ae-*'")
    if out is not None and out.suffix != ".csv":
        raise UserError(f"out={out}: expected a name that ends in .csv")
    # The table is printed even where nothing is to be written.
    swept = [read_run(run) for run in find_runs(runs)]
    if sort is not None:
        swept = sorted_runs(swept, sort)
    columns = result_columns(swept)
    if unknown := next((column for column in plot or () if column not in columns), None):
        raise UserError(f"plot={unknown}: no such column; there are {', '.join(columns)}")
    print(markdown_text(swept), end="")
    if out is None:
        return
    written = [out, out.with_suffix(".md")]
    with report_failed_writes(out, "make room, or choose another place with out=FILE.csv"):
        write_text(out, csv_text(swept))
        write_text(out.with_suffix(".md"), markdown_text(swept))
        drawn = plot or [column for column in (sort, *columns) if column in columns][:1]
        keys = plotted_keys(swept)
        if keys and drawn:
            figure = draw(swept, keys[0], drawn) if len(keys) == 1 else draw_map(swept, keys, drawn)
            written += save(figure, out.with_suffix(".png"))
    print(f"\nwritten to {', '.join(map(str, written))}")


if __name__ == "__main__":
    run_script(collect)
