"""Curves of the report as plain values, which its script draws: bands of frequency from records, training from logs."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ffl.metrics.bands import band_labels, band_limits, by_band
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory

MOST_POINTS = 400  # of a training curve, more than a screen is wide

# A chart: its ``title``; ``x`` with ``label``, ``values``, and ``log`` = 2 and ``names`` where they are octaves;
# ``log`` for a logarithmic y axis; and ``series``, each with its ``label``, its ``side`` (without, with or other, which
# gives the colour), ``values``, and of terms of a loss ``dash``, of several seeds ``low`` and ``high``.
Chart = dict[str, Any]
QUANTITIES = {
    "power": "power of generated over real images",
    "error": "squared error over the power of real images",
    "coherence": "coherence: whether detail is where it belongs",
}


def band_charts(sides: Mapping[str, Sequence[Record]], labels: Mapping[str, str]) -> list[Chart]:
    """Power, and of pairs error and coherence, against frequency.

    Args:
        sides: the ``bands`` records of all seeds, by "without" and "with".
        labels: what the legend calls the sides.
    Returns:
        A chart for each quantity: the mean over seeds and, of several, their standard deviation around it.
    """
    first = next((record.details for records in sides.values() for record in records if record.details), None)
    if first is None:
        return []
    # Octaves are equally wide on a logarithmic axis; the last band is the corners beyond the Nyquist frequency.
    axis = {
        "label": "cycles per image",
        "values": [math.sqrt(low * high) for low, high in pairwise(band_limits(first["edges"]))],
        "names": band_labels(first["edges"])[1:],
        "log": 2,
    }
    charts = []
    for quantity, title in QUANTITIES.items():
        series, log = [], quantity != "coherence"
        for side, records in sides.items():
            shown = [by_band(record.details) for record in records if record.details]
            runs = [bands[quantity] for bands in shown if quantity in bands]
            if runs:
                # NaN, where the real images have no power, stays NaN in both.
                values = np.array(runs)
                means = values.mean(0)
                curve: dict[str, Any] = {"label": labels[side], "side": side, "values": drawable(means, log)}
                if len(runs) > 1:
                    spread = values.std(0, ddof=1)
                    curve |= {"low": drawable(means - spread, log), "high": drawable(means + spread, log)}
                series.append(curve)
        if series:
            charts.append({"title": title, "x": axis, "log": log, "series": series})
    return charts


def drawable(values: np.ndarray, log: bool) -> list[float | None]:
    """Values that an axis has a place for, and None for the others, such as zero on a logarithmic axis."""
    return [value if math.isfinite(value) and (value > 0 or not log) else None for value in values.tolist()]


def training_charts(sides: Mapping[str, RunDirectory], labels: Mapping[str, str]) -> list[Chart]:
    """Losses and the share of each term in the gradient at the generator's output, by step, from the logs of runs."""
    logs = {side: run.log_lines() for side, run in sides.items()}
    charts = []
    for key, title in (("losses", "losses in training"), ("gradient_share", "share of the gradient")):
        terms = dict.fromkeys(term for lines in logs.values() for line in lines for term in line.get(key) or {})
        by_step = {
            (side, term): {
                line["step"]: line[key][term]
                for line in lines
                if isinstance(line.get(key), dict)
                and isinstance(line[key].get(term), int | float)
                and math.isfinite(line[key][term])
            }
            for side, lines in logs.items()
            for term in terms
        }
        steps = sorted({step for points in by_step.values() for step in points})
        steps = steps[:: math.ceil(len(steps) / MOST_POINTS) or 1]
        # Terms of one run have dashes of their own, since colour tells the runs apart.
        series = []
        every: list[float] = []
        for (side, term), points in by_step.items():
            if points:
                label, colour = (f"{term}, {labels[side]}", side) if len(sides) > 1 else (term, "other")
                values = [points.get(step) for step in steps]
                series.append({"label": label, "side": colour, "dash": list(terms).index(term), "values": values})
                every += points.values()
        if series:
            log = key == "losses" and min(every) > 0
            charts.append({"title": title, "x": {"label": "step", "values": steps}, "log": log, "series": series})
    return charts
