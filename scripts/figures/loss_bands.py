"""What each frequency loss does to each frequency band, from the records of the table of losses."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from ffl.errors import UserError
from ffl.metrics.bands import band_labels
from ffl.training.record import Record
from scripts.figures.band_curves import IDENTITY, over_seeds
from scripts.figures.runs import Drawing, TableRun, command
from scripts.figures.style import DIVERGING, PAGE_WIDTH, SMALL, Sheet
from scripts.tables import by_seed, read_records_of, read_table

TABLE, BASELINE = "losses", "baseline"
CELL_HEIGHT, NAMES_WIDTH, GAP, TITLE_HEIGHT = 0.155, 1.42, 0.1, 0.5  # inches
# What each block of rows shows: its words, and the value that is white with what is as dark as can be beyond it.
QUANTITIES = {
    "power": ("power / real power", 1.0, 4.0),
    "error": ("error / error of the baseline", 1.0, 2.0),
    "coherence": ("coherence − coherence of the baseline", 0.0, 0.2),
}


def loss_bands_figure(*, scale: str = "cpu") -> Drawing:
    """A map for each quantity and model: a line for each loss, a column for each octave of frequency.

    Args:
        scale: of the table whose records are drawn: the user's own, or else the published one.
    Raises:
        UserError: if no model has records of its baseline and of another loss.
    """
    # The mean over seeds of every row that has been measured, by group of columns.
    table, records = read_table(TABLE), read_records_of(None, scale, TABLE)
    drawn: dict[str, dict[str, dict[int, Record]]] = {}
    missing: list[str] = []
    for group in table.groups:
        found = {row: by_seed(records, row, group, "bands") for row in table.rows}
        there = {row: measured for row, measured in found.items() if measured}
        lacking = [TableRun(TABLE, row, "", group) for row in found if row not in there]
        if lacking:
            words = command(lacking, scale, [f"groups={group}"])
            missing.append(f"{len(lacking)} rows of {group} have no record of their bands; run: {words}")
        if BASELINE in there and len(there) > 1:
            drawn[group] = there
    if not drawn:
        raise UserError(f"no loss has been measured beside its baseline; {missing[0]}")

    values: dict[str, Any] = {}
    for group, rows in drawn.items():
        summaries = {row: over_seeds(measured) for row, measured in rows.items()}
        means = {row: {key: summary[key]["mean"] for key in QUANTITIES} for row, summary in summaries.items()}
        base = means[BASELINE]
        edges = (next(iter(rows[BASELINE].values())).details or {})["edges"]
        values[table.groups[group].title] = {
            "bands": [label.replace(" to ", "–").replace(" and more", "+") for label in band_labels(edges)[1:]],
            "seeds": {_label(row): summary["seeds"] for row, summary in summaries.items()},
            "power": {_label(row): mean["power"] for row, mean in means.items()},
            "error": {
                _label(row): [a / b for a, b in zip(mean["error"], base["error"], strict=True)]
                for row, mean in means.items()
            },
            "coherence": {
                _label(row): [a - b for a, b in zip(mean["coherence"], base["coherence"], strict=True)]
                for row, mean in means.items()
            },
        }

    # One column of maps for each model, one line of maps for each quantity; names of losses on the left alone.
    sheet = Sheet()
    names = [_label(row) for row in table.rows if any(row in rows for rows in drawn.values())]
    width = (PAGE_WIDTH - NAMES_WIDTH) / len(drawn) - GAP
    height = CELL_HEIGHT * len(names)
    for line, (quantity, (words, white, darkest)) in enumerate(QUANTITIES.items()):
        top = line * (height + TITLE_HEIGHT)
        sheet.text(NAMES_WIDTH, top, words, align="left")
        for column, (title, shown) in enumerate(values.items()):
            axes = sheet.axes(NAMES_WIDTH + column * (width + GAP), top + 0.33, width, height)
            _draw_map(axes, names, shown["bands"], shown[quantity], white, darkest)
            axes.tick_params(labelleft=column == 0)
            axes.set_title(title, fontsize=SMALL, pad=3)
    sheet.height += 0.36  # the labels below the last maps

    caption = (
        "Losses that hold half of the gradient at the generator's output (but FFL with a weight of its own), by octave "
        "of spatial frequency in cycles per image, with the corners beyond the Nyquist frequency last. Orange is "
        "more than white and purple less: white is the power of real images, or the baseline's error and coherence. "
        "Mean over seeds."
    )
    sheet.caption(caption)
    runs = {
        f"{TABLE} {row} {group} seed {seed}": {key: record.provenance[key] for key in IDENTITY}
        for group, rows in drawn.items()
        for row, measured in rows.items()
        for seed, record in measured.items()
    }
    return Drawing(sheet.finish(), caption, values, runs, missing)


def _label(row: str) -> str:
    return " ".join(read_table(TABLE).rows[row].labels)


def _draw_map(
    axes: Axes, names: list[str], bands: list[str], rows: dict[str, list[float]], white: float, darkest: float
) -> None:
    """A cell for each loss and band with its number; colours go by the logarithm of a ratio, by a difference itself."""
    empty = [np.nan] * len(bands)
    numbers = np.array([rows.get(name, empty) for name in names])
    depth = np.log(numbers) / np.log(darkest) if white else numbers / darkest
    axes.imshow(depth, cmap=DIVERGING, vmin=-1.3, vmax=1.3, aspect="auto")
    for (line, column), number in np.ndenumerate(numbers):
        text = "" if np.isnan(number) else f"{number:.2f}" if white else f"{number:+.2f}".replace("-", "−")
        dark = abs(depth[line, column]) > 0.9
        axes.text(column, line, text, size=5.5, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(bands)), bands, fontsize=5.5)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.add_patch(Rectangle((-0.5, -0.5), len(bands), 1, fill=False, lw=0.6))  # the baseline, on top
