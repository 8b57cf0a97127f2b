"""Power, error and coherence by frequency band, without and with the focal frequency loss, from records of tables."""

import math
import statistics
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FormatStrFormatter, LogLocator, NullFormatter, NullLocator

from ffl.errors import UserError
from ffl.metrics.bands import band_labels, band_limits, by_band
from ffl.training.record import Record
from scripts.figures.comparison import BLOCKS
from scripts.figures.runs import Drawing, TableRun, command
from scripts.figures.style import COLOURS, GREY, PAGE_WIDTH, Sheet
from scripts.tables import MODEL_TITLES, by_seed, read_records_of, read_table, split_overrides

QUANTITIES = {"power": "power / real power", "error": "error / real power", "coherence": "coherence"}
MARKERS = {"w/o FFL": "o", "w/ FFL": "s"}
MOST_COLUMNS = 4  # of a block; more pairs go into a block below, where labels stay readable
IDENTITY = ("run", "seed", "step", "checkpoint_sha256")
# The comparisons of the paper whose generated images belong to real ones.
PAIRS = [block.runs for blocks in BLOCKS.values() for block in blocks if block.task is None and len(block.runs) == 2]


def over_seeds(records: dict[int, Record]) -> dict[str, Any]:
    """The seeds, and for each quantity its mean and, of several seeds, their sample standard deviation by band."""
    measured = [by_band(record.details or {}) for record in records.values()]
    summary: dict[str, Any] = {"seeds": list(records)}
    for quantity in QUANTITIES:
        bands = list(zip(*(run[quantity] for run in measured), strict=True))
        spread = [statistics.stdev(values) for values in bands] if len(measured) > 1 else None
        summary[quantity] = {"mean": [statistics.fmean(values) for values in bands], "spread": spread}
    return summary


def bands_figure(*, scale: str = "cpu", model: str | None = None) -> Drawing:
    """Power, error and coherence against frequency, a column for each model and data set.

    Args:
        scale: of the tables whose records are drawn: the user's own, or else the published ones.
        model: whose columns to draw, such as ae; those of all models by default.
    Raises:
        UserError: if there is no such model, or no record to draw.
    """
    # Each pair of rows trains one model, which the words of its runs say.
    pairs: dict[tuple[TableRun, ...], str] = {
        rows: split_overrides(read_table(rows[0].table).rows[rows[0].row].runs[rows[0].group])["model"]
        for rows in PAIRS
    }
    if model is not None and model not in pairs.values():
        known = ", ".join(dict.fromkeys(pairs.values()))
        raise UserError(f"model={model}: not in this figure; expected one of {known}")
    wanted = {rows: name for rows, name in pairs.items() if model in (None, name)}

    # Half a pair would not show what FFL changes.
    drawn: dict[tuple[TableRun, ...], dict[TableRun, dict[int, Record]]] = {}
    missing: list[str] = []
    for rows in wanted:
        records = {row: by_seed(read_records_of(None, scale, row.table), row.row, row.group, "bands") for row in rows}
        if lacking := [row for row in rows if not records[row]]:
            missing += [f"{row} has no record of its bands; run: {command([row], scale, [])}" for row in lacking]
        else:
            drawn[rows] = records
    if not drawn:
        every = [row for rows in wanted for row in rows]
        raise UserError(f"none of its runs has a record of its bands; run: {command(every, scale, [])}")

    # A legend, then blocks of panels: a line for each quantity and a column for each pair.
    sheet = Sheet()
    left, gap, height, title_height = 0.5, 0.12, 1.1, 0.4
    width = min(3.2, (PAGE_WIDTH - left) / min(len(drawn), MOST_COLUMNS) - gap)
    legend = sheet.axes(left, 0.02, PAGE_WIDTH - left, 0.2)
    legend.set_axis_off()
    handles = [Line2D([], [], color=COLOURS[name], marker=MARKERS[name], ms=3, label=name) for name in MARKERS]
    handles.append(Line2D([], [], color=GREY, ls=":", label="coherence²: the power of least error"))
    legend.legend(handles=handles, ncols=len(handles), loc="center left")

    values: dict[str, Any] = {}
    panels: dict[str, list[Axes]] = {quantity: [] for quantity in QUANTITIES}
    top = 0.0
    for column, (rows, records) in enumerate(drawn.items()):
        record = next(iter(records[rows[0]].values()))
        assert record.details is not None
        edges, (high, wide) = record.details["edges"], record.protocol["size"]
        # Octaves are equally wide; the last band is the corners beyond the Nyquist frequency.
        ends = band_limits(edges)
        centres = [math.sqrt(low * end) for low, end in pairwise(ends)]
        data = f"{record.provenance['dataset']} {wide}×{high}"
        curves = {row.label: over_seeds(records[row]) for row in rows}
        values[f"{MODEL_TITLES[wanted[rows]]}, {data}"] = {"edges": edges, "bands": band_labels(edges)[1:], **curves}
        if column % MOST_COLUMNS == 0:
            top = sheet.height + 0.1
        x = left + column % MOST_COLUMNS * (width + gap)
        sheet.text(x + width / 2, top, MODEL_TITLES[wanted[rows]])
        sheet.text(x + width / 2, top + 0.15, data)

        for line, quantity in enumerate(QUANTITIES):
            axes = sheet.axes(x, top + title_height + line * (height + gap), width, height)
            panels[quantity].append(axes)
            axes.axvspan(edges[-1], ends[-1], color=GREY, alpha=0.15, lw=0)
            axes.axhline(0 if quantity == "coherence" else 1, color=GREY, lw=0.6)
            for name, curve in curves.items():
                mean, spread = np.array(curve[quantity]["mean"]), curve[quantity]["spread"]
                axes.plot(centres, mean, color=COLOURS[name], marker=MARKERS[name], ms=2.5)
                if spread is not None:
                    axes.fill_between(centres, mean - spread, mean + spread, color=COLOURS[name], alpha=0.25, lw=0)
                if quantity == "power":
                    least = np.square(curve["coherence"]["mean"])
                    axes.plot(centres, least, color=COLOURS[name], ls=":", lw=1)
            axes.set_xscale("log", base=2)
            axes.set_xlim(1, ends[-1])
            axes.xaxis.set_major_locator(FixedLocator(edges[1:]))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(labelbottom=quantity == "coherence")
        axes.set_xlabel("cycles per image")  # below the last line
        if column % MOST_COLUMNS == MOST_COLUMNS - 1 or column == len(drawn) - 1:
            sheet.height += 0.36  # the labels below the panels

    # All panels of a quantity have one scale, which the first of each block names.
    for quantity, same in panels.items():
        means = [mean for shown in values.values() for name in MARKERS for mean in shown[name][quantity]["mean"]]
        positive = [mean for mean in means if mean > 0] or [1.0]
        for column, axes in enumerate(same):
            if quantity == "coherence":
                axes.set_ylim(min(0, *means) - 0.05, 1.05)
            else:
                axes.set_yscale("log")
                axes.set_ylim(min(positive) / (3 if quantity == "power" else 1.5), max(positive) * 1.5)
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
                axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
                axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelleft=column % MOST_COLUMNS == 0)
            axes.set_ylabel(QUANTITIES[quantity] if column % MOST_COLUMNS == 0 else "")

    counts = {title: dict.fromkeys(len(shown[name]["seeds"]) for name in MARKERS) for title, shown in values.items()}
    seeds = "; ".join(f"{' and '.join(map(str, numbers))} of {title}" for title, numbers in counts.items())
    caption = (
        "Power of generated test images and their squared error, both over the power of real images, and coherence, by "
        "octave of spatial frequency; grey: the corners beyond the Nyquist frequency. Coherence is 1 where every wave "
        "is in its place and 0 for noise. An error of 1 is that of images that leave the band empty. Mean over seeds, "
        f"their standard deviation as a shade. Seeds: {seeds}."
    )
    sheet.caption(caption)
    runs = {
        f"{row} seed {seed}": {key: record.provenance[key] for key in IDENTITY}
        for records in drawn.values()
        for row, by in records.items()
        for seed, record in by.items()
    }
    return Drawing(sheet.finish(), caption, values, runs, list(dict.fromkeys(missing)))
