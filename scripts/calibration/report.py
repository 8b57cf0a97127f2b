"""The table, the sentences and the figure of a calibration, from its records alone."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import rankdata

from ffl.files import atomic_write
from ffl.metrics import METRICS
from ffl.training.record import Record
from scripts.calibration.damage import DAMAGES
from scripts.calibration.measure import BIAS_COUNTS, DRAWS, NETWORK_PAIRS, NONE, SPREAD_OF
from scripts.figures.style import BLACK, BLUE, DIVERGING, GREY, ORANGE, PAGE_WIDTH, SMALL, VERMILION

SENTENCES = Path(__file__).with_name("sentences.yaml")
SET_LABELS = {"celeba_64": "faces", "facades": "façades", "dtd": "textures"}
STEPS = [(kind, level) for kind, (_, _, levels) in DAMAGES.items() for level in levels]
HEAD = """\
# Which metric may be believed for what

Real test images are damaged by known amounts and measured beside themselves undamaged, by `scripts/calibrate.py`. A
sentence that its numbers contradict says so.

{sentences}

![calibration](calibration.png)

Kinds of damage: {damages}.
*None*: copies without damage. *Halves*: a random half of the real images beside the other half, and its standard
deviation over {draws} draws. *Spread*: standard deviation over random halves for {spread}. ST-LPIPS takes the first
{pairs} images. Shares in the figure are of what blurred copies of sigma 1 get.
"""


def by_key(records: Sequence[Record]) -> dict[str, float]:
    """Every number under the words that sentences call it by.

    ``DATASET METRIC KIND LEVEL`` (``DATASET METRIC none 0`` undamaged), ``DATASET METRIC floor``, ``DATASET METRIC
    spread``, ``DATASET METRIC bias COUNT``, the middle two also with `` sd`` for their standard deviation;
    ``damages METRIC METRIC`` and ``runs METRIC METRIC``, also with `` items``; ``DATASET images``.
    """
    values: dict[str, float] = {}
    for record in records:
        assert record.value is not None
        quantity, of = record.protocol["quantity"], record.provenance
        if quantity == "agreement":
            assert record.details is not None
            key = f"{record.details['over']} {record.metric} {record.details['with']}"
            values[f"{key} items"] = record.details["items"]
        elif quantity == "damage":
            key = f"{of['dataset']} {record.metric} {of['damage']} {of['level']:g}"
            values[f"{of['dataset']} images"] = record.num_images
        else:
            key = f"{of['dataset']} {record.metric} {quantity}" + (
                f" {record.num_images}" if quantity == "bias" else ""
            )
            if record.details is not None:
                values[f"{key} sd"] = record.details["sd"]
        values[key] = record.value
    return values


def fill_sentences(values: dict[str, float], content: Sequence[dict[str, Any]] | None = None) -> list[str]:
    """The sentences with their numbers; one whose numbers were not measured is left out.

    A sentence is right as long as its numbers increase in the order of its ``increasing`` lists. Where they do not, as
    may be with other images, it says so itself.

    Args:
        values: from ``by_key``.
        content: of sentences.yaml.
    """
    sentences = []
    for sentence in yaml.safe_load(SENTENCES.read_text()) if content is None else content:
        try:
            text = re.sub(r"\{([^}:]+):([^}]*)\}", lambda found: format(values[found[1]], found[2]), sentence["text"])
            chains = [
                [values[key] if isinstance(key, str) else key for key in chain] for chain in sentence["increasing"]
            ]
        except KeyError:
            continue
        if not all(a < b for chain in chains for a, b in pairwise(chain)):
            text = f"(Not so in these numbers:) {text}"
        sentences.append(" ".join(text.split()))
    return sentences


def markdown(records: Sequence[Record], missing: dict[str, str]) -> str:
    """The sentences and one table: a row for each metric of each set, a cell for each kind of damage.

    Args:
        records: all.
        missing: why metrics have no row, by name.
    """
    values = by_key(records)
    damages = "; ".join(
        f"{kind} ({unit} {', '.join(f'{level:g}' for level in levels)})" for kind, (_, unit, levels) in DAMAGES.items()
    )
    sentences = "\n".join(f"{number}. {text}" for number, text in enumerate(fill_sentences(values), 1))
    spread = f"{SPREAD_OF[0]} {SPREAD_OF[1]:g}"
    lines = [
        HEAD.format(sentences=sentences, damages=damages, draws=DRAWS, spread=spread, pairs=NETWORK_PAIRS),
        f"| images | metric | none | halves | {' | '.join(DAMAGES)} | spread |",
        "| --- " * (len(DAMAGES) + 5) + "|",
    ]
    for name, metrics in measured_sets(records).items():
        for metric in metrics:
            key = f"{name} {metric}"
            floor = "–"
            if f"{key} floor" in values:
                floor = f"{digits(values[f'{key} floor'])} ± {values[f'{key} floor sd']:.2g}"
            cells = [
                " / ".join(digits(values[f"{key} {kind} {level:g}"]) for level in levels)
                for kind, (_, _, levels) in DAMAGES.items()
            ]
            arrow = "↑" if METRICS[metric].higher_is_better else "↓"
            what = f"{SET_LABELS[name]}, {values[f'{name} images']:g}"
            first = [what, f"{metric} {arrow}", digits(values[f"{key} {NONE} 0"]), floor]
            last = f"{values[f'{key} spread sd']:.2g}"
            lines.append(f"| {' | '.join([*first, *cells, last])} |")
    notes = [f"{name} is missing: {reason}" for name, reason in missing.items()]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def digits(value: float) -> str:
    """Three digits, or as many as the whole number has; two of a very small one, and 0 for what is rounding alone."""
    if abs(value) < 1e-3:
        return "0" if abs(value) < 1e-9 else f"{value:.2g}"
    return f"{value:.0f}" if 1000 <= abs(value) < np.inf else f"{value:.3g}"


def measured_sets(records: Sequence[Record]) -> dict[str, list[str]]:
    """The metrics of each data set, in the order of measurement."""
    found: dict[str, list[str]] = {}
    for record in records:
        if record.protocol["quantity"] == "damage" and record.provenance["damage"] == NONE:
            found.setdefault(record.provenance["dataset"], []).append(record.metric)
    return found


def draw(records: Sequence[Record], path: Path) -> None:
    """Draw the ladder of each set, the bias and the agreement of the metrics, as PNG."""
    values = by_key(records)
    sets = measured_sets(records)
    metrics = next(iter(sets.values()))
    rows = len(metrics)
    tall = 0.16 * rows + 0.3
    figure = Figure(figsize=(PAGE_WIDTH, len(sets) * tall + 3.9), layout="constrained")
    grid = figure.add_gridspec(len(sets) + 1, 2, height_ratios=[*[tall] * len(sets), 3.4])
    for row, name in enumerate(sets):
        draw_ladder(figure.add_subplot(grid[row, :]), name, metrics, values, titles=row == 0)
    draw_bias(figure.add_subplot(grid[-1, 0]), next(iter(sets)), metrics, values)
    draw_agreement(figure.add_subplot(grid[-1, 1]), metrics, values)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=160, metadata={"Software": None})


def draw_ladder(axes: Axes, name: str, metrics: list[str], values: dict[str, float], titles: bool) -> None:
    """The value of each damage, coloured by its rank among all of them: from hardly damaged, light, to the worst."""
    table = np.array([[values[f"{name} {metric} {kind} {level:g}"] for kind, level in STEPS] for metric in metrics])
    worse = np.array([-1 if METRICS[metric].higher_is_better else 1 for metric in metrics])
    ranks = rankdata(worse[:, None] * table, axis=1) - 1
    axes.imshow(ranks, cmap="cividis_r", vmin=-1, vmax=len(STEPS), aspect="auto")
    for row, column in np.ndindex(ranks.shape):
        colour = "white" if ranks[row, column] > 0.55 * len(STEPS) else BLACK
        axes.text(column, row, digits(float(table[row, column])), ha="center", va="center", size=5.5, color=colour)
    axes.set_yticks(range(len(metrics)), [METRICS[metric].label for metric in metrics])
    axes.set_xticks(range(len(STEPS)), [f"{level:g}" for _, level in STEPS])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for edge in range(3, len(STEPS), 3):
        axes.axvline(edge - 0.5, color="white", linewidth=2)
    axes.set_ylabel(f"{SET_LABELS[name]}, {values[f'{name} images']:g} images")
    if titles:
        for place, kind in enumerate(DAMAGES):
            axes.text(3 * place + 1, -0.75, kind, ha="center", va="bottom", size=SMALL)
        axes.set_title("damaged copies: value, and its rank among the damages (darkest: the worst)\n")


def draw_bias(axes: Axes, name: str, metrics: list[str], values: dict[str, float]) -> None:
    """What each metric says of real images beside as many other real images."""
    styles = [(colour, dash) for dash in ("-", "--") for colour in (BLUE, VERMILION, ORANGE, BLACK, GREY)]
    of_sets = [metric for metric in metrics if f"{name} {metric} floor" in values]
    for metric, (colour, dash) in zip(of_sets, styles, strict=False):
        key = f"{name} {metric}"
        # A distance of nothing is 0; what copies get instead is no measure of it where they share their originals.
        none = values[f"{key} {NONE} 0"] if METRICS[metric].higher_is_better else 0.0
        blurred = values[f"{key} blur 1"]
        counts = [count for count in BIAS_COUNTS if f"{key} bias {count}" in values]
        shares = [(values[f"{key} bias {count}"] - none) / (blurred - none) for count in counts]
        axes.plot(counts, shares, color=colour, linestyle=dash, marker="o", ms=2.5, label=METRICS[metric].label)
    axes.set_xscale("log")
    axes.set_xticks(BIAS_COUNTS, map(str, BIAS_COUNTS))
    axes.minorticks_off()
    axes.set_yscale("symlog", linthresh=0.1)
    axes.axhline(1, color=GREY, linewidth=0.6)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set(xlabel=f"{SET_LABELS[name]} in each of two disjoint sets", ylabel="share of the value for blur 1")
    axes.set_title("real beside other real images\n")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6, handlelength=3.2)


def draw_agreement(axes: Axes, metrics: list[str], values: dict[str, float]) -> None:
    """Rank correlation of each two metrics: over damages above the diagonal, over runs below it."""
    table = np.full((len(metrics), len(metrics)), np.nan)
    for row, one in enumerate(metrics):
        for column, other in enumerate(metrics[row + 1 :], row + 1):
            table[row, column] = values.get(f"damages {one} {other}", np.nan)
            table[column, row] = values.get(f"runs {one} {other}", np.nan)
    axes.imshow(table, cmap=DIVERGING, vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.75 else BLACK
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", size=5, color=colour)
    labels = [METRICS[metric].label for metric in metrics]
    axes.set_xticks(range(len(metrics)), labels, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(metrics)), labels)
    axes.tick_params(length=0, labelsize=6)
    axes.spines[:].set_visible(False)
    axes.set_title("agreement of ranks, percent\n(damages above, runs below)")
