"""When the focal frequency loss helps: the gain of every pair of runs, and what foretells it best, from records."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, PercentFormatter

from ffl.errors import UserError
from scripts.audits.evidence import OurSource
from scripts.audits.gains import GAINS, PREDICTORS, compared_rows, when_it_helps
from scripts.figures.runs import Drawing, TableRun, command
from scripts.figures.style import BLUE, GREY, PAGE_WIDTH, SMALL, VERMILION, Sheet

BAR = 0.17  # inches
NAMES_WIDTH = 1.75
SIDE = 2.1  # of a scatter plot


def gains_figure(*, scale: str = "cpu") -> Drawing:
    """Bars of the gain of every model on every data set, sorted, above the best predictor of each of the three gains.

    Args:
        scale: of the tables whose records are drawn: the user's own, or else the published ones.
    Raises:
        UserError: if no pair of runs has been measured.
    """
    found = when_it_helps(OurSource(None, scale))
    pairs, tests = found["pairs"], found["tests"]
    if not pairs:
        rows = [
            TableRun(item.without.table, row, "", "")
            for item in compared_rows()
            for row in (item.without.row, item.with_ffl.row)
        ]
        raise UserError(f"no pair of runs has been measured; run: {command(rows, scale, [])}")

    # Above, a column of bars for each gain; all have the order of the audit.
    sheet, top = Sheet(), 0.3
    width = (PAGE_WIDTH - NAMES_WIDTH) / len(GAINS) - 0.12
    height = BAR * len(pairs)
    for column, (key, measure) in enumerate(GAINS.items()):
        x = NAMES_WIDTH + column * (width + 0.12)
        sheet.text(x + width / 2, 0.04, f"less {measure.words}")
        axes = sheet.axes(x, top, width, height)
        gains = [pair["gains"][key] for pair in pairs]
        measured = [(place, gain) for place, gain in enumerate(gains) if gain is not None]
        if measured:
            places, widths = zip(*measured, strict=True)
            axes.barh(places, widths, color=[BLUE if width > 0 else VERMILION for width in widths], height=0.7)
        axes.axvline(0, color=GREY, lw=0.6)
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.set_yticks(range(len(pairs)), [pair["name"] for pair in pairs])
        axes.tick_params(labelleft=column == 0, left=False)
        in_percent(axes, measure.form, "x")
    sheet.height += 0.2  # the labels below

    # Below, each gain against what foretells it best, if any predictor has enough pairs.
    y = sheet.height + 0.15
    for column, key in enumerate(GAINS):
        test = min((test for test in tests if test["gain"] == key), key=lambda test: test["p"], default=None)
        if test is None:
            continue
        predictor = PREDICTORS[test["predictor"]]
        x = 0.5 + column * (PAGE_WIDTH / len(GAINS))
        sheet.text(x + SIDE / 2 - 0.2, y, f"ρ {test['rho']:+.2f}, {test['pairs']} pairs, p {test['p']:.3f}", SMALL)
        axes = sheet.axes(x, y + 0.2, SIDE - 0.4, SIDE - 0.5)
        both = [(pair["predictors"][test["predictor"]], pair["gains"][key]) for pair in pairs]
        points = [(known, gain) for known, gain in both if known is not None and gain is not None]
        axes.plot(*zip(*points, strict=True), "o", color=BLUE, ms=3.5)
        axes.axhline(0, color=GREY, lw=0.6)
        if test["predictor"] in ("train_images", "epochs", "steps"):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        in_percent(axes, predictor.form, "x")
        in_percent(axes, GAINS[key].form, "y")
        axes.set_xlabel(predictor.words, fontsize=SMALL, wrap=True)
        axes.set_ylabel(f"less {GAINS[key].words}", fontsize=SMALL)
    if tests:
        sheet.height += 0.4
    best = found["best"]
    caption = (
        "By how much FFL lowers squared error, FD-EffNet and spectrum distance of each model on each data set, the "
        "last two as shares, mean over seeds; below, each gain against the predictor of smallest p. Predictors are of "
        "the run without FFL and its data. ρ: rank correlation over pairs; p: share of orders of the gains with at "
        "least that |ρ|. "
    )
    if best is None:
        caption += "No predictor has enough pairs."
    else:
        caption += (
            f"Best of {len(tests)} tests: {PREDICTORS[best['predictor']].words} for {GAINS[best['gain']].words}, "
            f"p = {best['p']:.3f}, times the number of tests {best['corrected']:.2f}."
        )
    sheet.caption(caption)
    values: dict[str, Any] = {"pairs": pairs, "tests": tests, "best": best}
    return Drawing(sheet.finish(), caption, values)


def in_percent(axes: Axes, form: str, which: str) -> None:
    """Show an axis in percent where the measure is."""
    if "%" in form:
        (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter(PercentFormatter(1.0, 0))
