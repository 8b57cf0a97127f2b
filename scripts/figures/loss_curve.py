"""Figure 14: the spatial loss in training without and with the focal frequency loss."""

import math
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from ffl.errors import UserError
from ffl.training.config import difference
from ffl.training.run_directory import RunDirectory
from run_config import defaults
from scripts.figures.sources import Drawing, Settings, about, find_all, pair
from scripts.figures.style import COLOURS, SMALL, Sheet
from scripts.reproduction.records import final_spatial_loss

TERM = "generator/mse"
RUNS = pair("table1", "celeba", "reconstruction")
POINTS = 150  # at most: more would only show noise


@dataclass(frozen=True)
class Point:
    """The mean of a loss over steps ``first`` (exclusive) to ``last``."""

    first: int
    last: int
    mean: float


def figure14(settings: Settings) -> Drawing:
    """Mean squared error of both runs over training; the second half again, enlarged.

    Raises:
        UserError: if the two runs differ in more than the focal frequency loss.
    """
    found, missing = find_all(RUNS, settings)
    runs = {run.label: directory for run, directory in found.items()}
    for a, b in pairwise(runs.values()):
        lines = difference(a.config(), b.config(), defaults(a.config()))
        if other := [line for line in lines if not line.startswith("loss.")]:
            raise UserError(f"{a.path} and {b.path} differ in more than the loss: {other[0]}")
    curves = {label: spatial_loss(run) for label, run in runs.items()}
    final = {label: final_spatial_loss(run) for label, run in runs.items()}
    half = max(curve[-1].last for curve in curves.values()) / 2
    sheet = Sheet()
    width, left, space = 2.85, 0.55, 0.7
    for column, title in enumerate(("whole training", "second half")):
        axes = sheet.axes(left + column * (width + space), 0.25, width, 1.9)
        for label, curve in curves.items():
            kept = [point for point in curve if column == 0 or point.first >= half]
            middles = [(point.first + point.last) / 2 for point in kept]
            name = f"{label}: {final[label]:.5f}"
            axes.plot(middles, [point.mean for point in kept], color=COLOURS[label], label=name)
        axes.set(title=title, xlabel="step", ylabel="spatial loss (MSE)")
        if column == 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.legend(title="mean of the last epoch", title_fontsize=SMALL)
    sheet.height += 0.36  # the labels below the panels
    run = next(iter(runs.values()))
    config = run.config()
    steps = max(point.last - point.first for curve in curves.values() for point in curve)
    caption = (
        f"Spatial loss of the autoencoder in training on {config['dataset']['name']}, "
        f"{config['dataset']['image_size']}×{config['dataset']['image_size']}, with the same weight and seed "
        f"({config['seed']}). A point is the mean over {steps} steps of {config['trainer']['batch_size']} images."
    )
    sheet.caption(caption)
    values = {"mean_of_last_epoch": final}
    drawn = {row.label: about(directory, curves[row.label][-1].last) for row, directory in found.items()}
    return Drawing(sheet.finish(), caption, values, drawn, missing)


def spatial_loss(run: RunDirectory) -> list[Point]:
    """The mean squared error in training, without its weight, in at most ``POINTS`` means over consecutive steps.

    Raises:
        UserError: if the run has not logged any.
    """
    lines = [line for line in run.log_lines() if TERM in line.get("losses", {})]
    if not lines:
        raise UserError(f"{run.log}: no {TERM} in it; train the run further, or with a spatial loss")
    weight = run.config()["model"]["mse_weight"]
    points = [
        Point(before, line["step"], line["losses"][TERM] / weight)
        for before, line in zip([0, *(line["step"] for line in lines)], lines, strict=False)
    ]
    group = math.ceil(len(points) / POINTS)
    return [merged(points[first : first + group]) for first in range(0, len(points), group)]


def merged(points: list[Point]) -> Point:
    """The mean over the steps of consecutive points."""
    steps = points[-1].last - points[0].first
    return Point(points[0].first, points[-1].last, sum(p.mean * (p.last - p.first) for p in points) / steps)
