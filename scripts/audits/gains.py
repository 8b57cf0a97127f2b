"""When does the focal frequency loss help? The gain of every pair of runs, and what foretells it before it is used.

A pair is a model on a data set, trained without and with FFL: the rows X_without and X_with of any table. What could
foretell its gain is taken from the records of the run without FFL alone. Rank correlations are over pairs, each the
mean over its seeds: seeds of one pair are not independent of each other.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ffl.metrics.bands import coherence
from ffl.training.record import Record
from scripts.audits.claims import read_pairs
from scripts.audits.evidence import RowGroup, Source, is_of
from scripts.audits.verdicts import CONFIDENCE
from scripts.tables import read_table, split_overrides, table_names

FEWEST_PAIRS = 5  # of fewer, any order is likely
MOST_ORDERS = 5040  # 7!: up to seven pairs every order is tried, of more so many random ones

Run = Mapping[str, Record]  # the records of one run, by metric


def low_bands(edges: Sequence[float]) -> int:
    """How many bands, the mean included, lie below a quarter of the Nyquist frequency, which is the last edge."""
    return sum(edge <= edges[-1] / 4 for edge in edges)


def value(run: Run, metric: str) -> float | None:
    """The value of a metric; None where it is not there or not finite."""
    found = run[metric].value if metric in run else None
    return found if found is not None and math.isfinite(found) else None


def powers(run: Run, kind: str) -> tuple[list[float], int] | None:
    """The power of ``real``, ``fake`` or ``error`` by band and the number of low bands; None where not measured."""
    details = run["bands"].details if "bands" in run else None
    if details is None or details[kind] is None:
        return None
    return details[kind], low_bands(details["edges"])


# Gains, larger is better: of the run without FFL and of the one with it.


def less_error(without: Run, with_ffl: Run) -> float | None:
    """By how many dB the squared error falls: the difference of PSNR, or of the error that the bands add up to."""
    before, after = value(without, "psnr"), value(with_ffl, "psnr")
    if before is not None and after is not None:
        return after - before
    errors = [powers(run, "error") for run in (without, with_ffl)]
    if None in errors:
        return None
    first, second = (sum(found[0]) for found in errors if found)
    return 10 * math.log10(first / second) if first and second else None


def less_of(metric: str) -> Callable[[Run, Run], float | None]:
    """By which share of itself a distance falls."""

    def fall(without: Run, with_ffl: Run) -> float | None:
        before, after = value(without, metric), value(with_ffl, metric)
        return None if before is None or after is None or before <= 0 else 1 - after / before

    return fall


# Predictors: of the run without FFL.


def low_error(run: Run) -> float | None:
    """The share of its squared error that lies in the low bands."""
    found = powers(run, "error")
    return sum(found[0][: found[1]]) / sum(found[0]) if found and sum(found[0]) else None


def middle_coherence(run: Run) -> float | None:
    """The coherence of the two octaves around a quarter of the Nyquist frequency."""
    kinds = {kind: powers(run, kind) for kind in ("real", "fake", "error")}
    sums = {kind: [sum(found[0][found[1] - 1 : found[1] + 1])] for kind, found in kinds.items() if found}
    return coherence(sums)[0] if len(sums) == len(kinds) else None


def top_power(run: Run) -> float | None:
    """The power of generated over real images in the top octave, as |ln|."""
    real, fake = powers(run, "real"), powers(run, "fake")
    return abs(math.log(fake[0][-2] / real[0][-2])) if real and fake and real[0][-2] and fake[0][-2] else None


def fine_detail(run: Run) -> float | None:
    """The share of the power of real images, without their mean brightness, that lies above the low bands."""
    found = powers(run, "real")
    return sum(found[0][found[1] :]) / sum(found[0][1:]) if found and sum(found[0][1:]) else None


def overfitting(run: Run) -> float | None:
    """Its squared error on test images over that in training; values of the latter are in [-1, 1]."""
    psnr, training = value(run, "psnr"), trained(run, "spatial_loss")
    return None if psnr is None or not training else 4 * 10 ** (-psnr / 10) / training


def trained(run: Run, key: str) -> float | None:
    """What its training took, such as its steps."""
    details = run["training"].details if "training" in run else None
    found = (details or {}).get(key)
    return None if found is None else float(found)


class Measure(NamedTuple):
    """A gain or a predictor.

    Attributes:
        words: what it is, for a table.
        of: its value from the records of one run, or of two.
        form: of its value as text.
    """

    words: str
    of: Callable[..., float | None]
    form: str


GAINS = {
    "error": Measure("squared error, dB", less_error, "{:+.2f}"),
    "distance": Measure("FD-EffNet", less_of("fd_effnet_lite0"), "{:+.1%}"),
    "spectrum": Measure("spectrum distance", less_of("spectrum_distance"), "{:+.1%}"),
}
PREDICTORS = {
    "low_error": Measure("share of the error below a quarter of the Nyquist frequency", low_error, "{:.0%}"),
    "middle_coherence": Measure("coherence of the middle octaves", middle_coherence, "{:.2f}"),
    "top_power": Measure("power gap of the top octave", top_power, "{:.2f}"),
    "spectrum": Measure("spectrum distance", lambda run: value(run, "spectrum_distance"), "{:.2f}"),
    "fine_detail": Measure("real power above a quarter of the Nyquist frequency", fine_detail, "{:.0%}"),
    "overfitting": Measure("error on test over training images", overfitting, "{:.2f}"),
    "train_images": Measure("training images", lambda run: trained(run, "train_images"), "{:,.0f}"),
    "epochs": Measure("epochs", lambda run: trained(run, "epochs"), "{:.0f}"),
    "steps": Measure("steps", lambda run: trained(run, "steps"), "{:,.0f}"),
}


class ComparedRows(NamedTuple):
    """The rows of one model on one data set without and with FFL, and what to call the two."""

    name: str
    without: RowGroup
    with_ffl: RowGroup


def compared_rows() -> list[ComparedRows]:
    """All of them, of whatever table."""
    named = {pair.without: pair.name for pair in read_pairs().values()}
    models: dict[str, str] = {}  # what claims.yaml calls the models of configs/model
    for pair in read_pairs().values():
        models.setdefault(
            split_overrides(read_table(pair.table).rows[pair.without.row].runs[pair.group])["model"], pair.model
        )
    found = []
    for name in table_names():
        table = read_table(name)
        for without, with_ffl in table.compare:
            if not (without.endswith("_without") and with_ffl == f"{without.removesuffix('_without')}_with"):
                continue
            for group, overrides in table.rows[without].runs.items():
                words = split_overrides(overrides)
                first, second = RowGroup(name, without, group), RowGroup(name, with_ffl, group)
                found.append(
                    ComparedRows(named.get(first, f"{models[words['model']]}, {words['dataset']}"), first, second)
                )
    return found


def runs_of(source: Source, place: RowGroup) -> dict[int, dict[str, Record]]:
    """The records of a row by seed and metric."""
    runs: dict[int, dict[str, Record]] = {}
    for record in source.records(place.table):
        if is_of(record, place) and record.provenance.get("seed") is not None:
            runs.setdefault(record.provenance["seed"], {})[record.metric] = record
    return runs


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None without any."""
    found = [number for number in values if number is not None]
    return statistics.fmean(found) if found else None


def ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value from 1; equal ones share the mean of theirs."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> dict[str, float] | None:
    """Spearman's rank correlation, held against chance by giving the values of ``y`` to the pairs in other orders.

    Returns:
        rho; chance: |rho| stays below it in 95 % of the orders; p: the share of orders in which |rho| is at least as
        large. None for too few pairs, or where all have one value.
    """
    if len(x) < FEWEST_PAIRS or min(len(set(x)), len(set(y))) < 2:
        return None
    a, b = (np.array(ranks(values)) for values in (x, y))
    a, b = ((values - values.mean()) / np.linalg.norm(values - values.mean()) for values in (a, b))
    if math.factorial(len(x)) <= MOST_ORDERS:
        orders = np.array(list(itertools.permutations(range(len(x)))))
    else:
        random = np.random.default_rng(0)
        # The order that there is counts as one of them, so that p is never 0.
        orders = np.array([np.arange(len(x)), *(random.permutation(len(x)) for _ in range(MOST_ORDERS - 1))])
    by_chance = np.abs(b[orders] @ a)
    rho = float(a @ b)
    # Orders that are equal but for rounding count.
    p = float((by_chance >= abs(rho) - 1e-9).mean())
    return {"rho": rho, "chance": float(np.quantile(by_chance, CONFIDENCE)), "p": p}


def when_it_helps(source: Source) -> dict[str, Any]:
    """The gain of every pair, what could foretell it, and how well that does.

    Returns:
        pairs: name, seeds, gains and predictors, sorted by gain; tests: of each predictor of each gain, pairs, rho,
        chance and p; best: the test with the smallest p, None if none could be made, and ``corrected``, its p times the
        number of tests.
    """
    pairs: list[dict[str, Any]] = []
    for rows in compared_rows():
        without, with_ffl = runs_of(source, rows.without), runs_of(source, rows.with_ffl)
        both = [(without[seed], with_ffl[seed]) for seed in without if seed in with_ffl]
        gains = {key: mean_of(gain.of(*runs) for runs in both) for key, gain in GAINS.items()}
        if any(gain is not None for gain in gains.values()):
            predictors = {key: mean_of(item.of(first) for first, _ in both) for key, item in PREDICTORS.items()}
            pairs.append({"name": rows.name, "seeds": len(both), "gains": gains, "predictors": predictors})
    # What has a squared error comes first; the others are sorted by their spectra.
    pairs.sort(key=lambda pair: [-math.inf if pair["gains"][key] is None else pair["gains"][key] for key in GAINS])
    pairs.reverse()

    tests: list[dict[str, Any]] = []
    for gain, predictor in itertools.product(GAINS, PREDICTORS):
        both = [(pair["predictors"][predictor], pair["gains"][gain]) for pair in pairs]
        both = [(x, y) for x, y in both if x is not None and y is not None]
        if both and (found := rank_correlation(*zip(*both, strict=True))):
            tests.append({"gain": gain, "predictor": predictor, "pairs": len(both), **found})
    best = min(tests, key=lambda test: test["p"], default=None)
    if best is not None:
        best = {**best, "corrected": min(1.0, best["p"] * len(tests))}
    return {"pairs": pairs, "tests": tests, "best": best}
