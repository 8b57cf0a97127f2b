"""Figure 14: the spatial loss in training without and with the focal frequency loss."""

import math
from itertools import pairwise

from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from ffl.errors import UserError
from ffl.training.config import difference
from ffl.training.run_directory import RunDirectory
from run_config import defaults
from scripts.figures.runs import Drawing, FoundRuns, about, pair
from scripts.figures.style import COLOURS, SMALL, Sheet
from scripts.reproduction.records import SPATIAL_TERM, LossPoint, final_spatial_loss, spatial_loss

LOSS_RUNS = pair("table1", "celeba", "reconstruction")
MOST_POINTS = 150  # more would only show noise


def loss_curve(run: RunDirectory) -> list[LossPoint]:
    """The spatial loss in training, in at most ``MOST_POINTS`` means over consecutive steps.

    Raises:
        UserError: if the run has not logged any.
    """
    points = spatial_loss(run)
    if not points:
        raise UserError(f"{run.log}: no {SPATIAL_TERM} in it; train the run further, or with a spatial loss")
    # Points are weighted by the steps behind them, since a run that was resumed may have shorter ones.
    group = math.ceil(len(points) / MOST_POINTS)
    curve = []
    for start in range(0, len(points), group):
        part = points[start : start + group]
        total = sum(point.mean * (point.last - point.first) for point in part)
        curve.append(LossPoint(part[0].first, part[-1].last, total / (part[-1].last - part[0].first)))
    return curve


def figure14(found: FoundRuns) -> Drawing:
    """Figure 14: mean squared error of two runs over training, and the second half of it enlarged.

    Raises:
        UserError: if the runs differ in more than the focal frequency loss.
    """
    runs = {row.label: directory for row, directory in found.directories.items()}
    # A curve says something of the loss only where nothing else differs, not even the batch size.
    for a, b in pairwise(runs.values()):
        lines = difference(a.config(), b.config(), defaults(a.config()))
        if other := [line for line in lines if not line.startswith("loss.")]:
            raise UserError(f"{a.path} and {b.path} differ in more than the loss: {other[0]}")
    curves = {label: loss_curve(run) for label, run in runs.items()}
    final = {label: final_spatial_loss(run) for label, run in runs.items()}
    # Late in training the curves are so near to each other that the axis of the whole hides which is lower.
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

    config = next(iter(runs.values())).config()
    steps = max(point.last - point.first for curve in curves.values() for point in curve)
    size = config["dataset"]["image_size"]
    caption = (
        f"Spatial loss of the autoencoder in training on {config['dataset']['name']}, {size}×{size}, with the same "
        f"weight and seed ({config['seed']}). A point is the mean over {steps} steps of "
        f"{config['trainer']['batch_size']} images."
    )
    sheet.caption(caption)
    drawn = {label: about(run, curves[label][-1].last) for label, run in runs.items()}
    return Drawing(sheet.finish(), caption, {"mean_of_last_epoch": final}, drawn)
