"""What the paper says about its figures, its metric and its cost, judged by measurements rather than table cells.

Words without a number are given one reading each:

- high frequencies are two bands, each on its own: the top octave up to the Nyquist frequency, and the corners beyond;
- "losing" them: less than half of the real power is left; "clearly" narrower: the gap shrinks by at least a quarter;
- "negligible": at most 5 % of time and 1 % of memory.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ffl.training.model import Task
from scripts.audits.bands import HIGH
from scripts.audits.claims import Claim, ablation
from scripts.audits.comparisons import AE_CELEBA, AE_DTD, STYLEGAN2, VAE_CELEBA, VAE_CELEBA_HQ, Pair
from scripts.audits.sources import PICTURES, Place, Source
from scripts.audits.verdicts import (
    Absent,
    Finding,
    Gap,
    Measure,
    Seed,
    difference,
    judge,
    judge_measures,
    unless_absent,
    untested,
)

CLEARLY = 0.25
LOST = 0.5
NEGLIGIBLE_TIME = 1.05
NEGLIGIBLE_MEMORY = 1.01
LOG_PER_DECIBEL = math.log(10) / 10

# Pairs whose spectra the paper shows or describes: id, task of the model, where.
BAND_PAIRS: tuple[tuple[str, Pair, Task, str], ...] = (
    ("ae_dtd", AE_DTD, "reconstruction", "4.2, Figure 5"),
    ("ae_celeba", AE_CELEBA, "reconstruction", "1, Figures 1 and 5"),
    ("vae_celeba", VAE_CELEBA, "reconstruction", "E.2, Figures 1 and 15"),
    ("vae_celeba_hq", VAE_CELEBA_HQ, "reconstruction", "4.2, Figure 7"),
    ("stylegan2", STYLEGAN2, "synthesis", "4.2, Figure 9"),
)


def measured_claims() -> list[Claim]:
    """All of them."""
    return [*_frequency_claims(), *_blur_claims(), *_other_claims()]


def _frequency_claims() -> list[Claim]:
    claims = []
    for id, pair, task, section in BAND_PAIRS:
        where = f"{pair.model} on {pair.data}"
        claims.append(
            Claim(
                f"bands.{id}.lost",
                section,
                f"Without FFL the {where} loses high frequencies",
                partial(_lost, pair, task),
                "less than half of the real power is left, in the top octave and in the corners of the spectrum",
            )
        )
        claims.append(
            Claim(
                f"bands.{id}.gap_narrower",
                section,
                f"With FFL the gap of the {where} at high frequencies is clearly narrower",
                partial(_gap_narrower, pair, task),
                "|ln(generated / real power)| shrinks by at least a quarter, in the top octave and in the corners",
            )
        )
        if task != "synthesis":
            claims.append(
                Claim(
                    f"bands.{id}.error_smaller",
                    section,
                    f"With FFL the error of the {where} at high frequencies is smaller",
                    partial(_error_smaller, pair, task),
                    "the parts of the mean squared error in the top octave and in the corners",
                )
            )
        claims.append(
            Claim(
                f"bands.{id}.spectrum_closer",
                section,
                f"With FFL the spectrum of the {where} is clearly closer to the real one",
                partial(_spectrum_closer, pair),
                "the mean distance of log power over all radii (spectrum_distance) shrinks by at least a quarter",
            )
        )
    return claims


def _blur_claims() -> list[Claim]:
    return [
        Claim(
            f"figure11.no_freq_blurs{suffix}",
            "4.2, Figure 11",
            "Without the frequency representation images are more blurry" + (" (spatial loss left out)" * bool(suffix)),
            partial(_less_high_power, ablation(f"no_freq{suffix}"), ablation("full")),
            "less power than with the full FFL, in the top octave and in the corners, relative to the real images",
            of_paper=not suffix,
        )
        for suffix in ("", "_no_mse")
    ] + [
        Claim(
            "figure11.no_focal_like_baseline",
            "3.3, 4.2, Figure 11",
            "Eq. 8 without the focal weights does not help with hard frequencies: images are like the baseline's",
            partial(_similar_gap, ablation("no_focal"), ablation("baseline")),
            "the gap is within a quarter of the baseline's, in the top octave and in the corners",
        )
    ]


def _other_claims() -> list[Claim]:
    costs = {"pix2pix": "pix2pix (CMP Facades)", "ae": "the vanilla AE", "vae": "the VAE"}
    return [
        Claim(
            "figure14.spatial_loss",
            "E.1, Figure 14",
            "The spatial loss of the vanilla AE on CelebA ends lower with FFL",
            _spatial_loss,
            "mean squared error of training batches, mean over the last epoch",
        ),
        *(
            Claim(
                f"cost.{model}",
                "B.2",
                f"What FFL adds to a training iteration of {words} is negligible",
                partial(_cost, model),
                "at most 5 % of the time and 1 % of the memory, at the paper's size",
            )
            for model, words in costs.items()
        ),
        Claim(
            "lfd.function_of_psnr",
            "4.1, Eq. 11",
            "LFD, introduced to measure the gap in the frequency domain, is a function of PSNR",
            lfd_identity,
            "about the paper's metric, not a claim of its text: LFD = ln(H·W·255²) − PSNR·ln(10)/10 by Parseval's "
            "theorem, in every row that has both, to within rounding",
        ),
    ]


def log_gap(ratio: float) -> float:
    """|ln(generated power / real power)|; 0 is no gap."""
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _power(source: Source, row: Place, task: Task, band: int) -> dict[Seed, float]:
    """Generated over real power in a band, by seed."""
    return {seed: bands.energy_ratio[band] for seed, bands in source.bands(row, task).items()}


def _gap(source: Source, row: Place, task: Task, band: int) -> dict[Seed, float]:
    return {seed: log_gap(ratio) for seed, ratio in _power(source, row, task, band).items()}


def _squared_error(source: Source, row: Place, task: Task, band: int) -> dict[Seed, float]:
    return {seed: bands.error[band] for seed, bands in source.bands(row, task).items() if bands.error is not None}


def _lost(pair: Pair, task: Task, source: Source) -> Finding:
    def find() -> Finding:
        measures: list[Measure | Gap] = []
        for label, band in HIGH.items():
            ratios = _power(source, pair.without, task, band).values()
            left = statistics.fmean(ratios)
            measures.append(Measure(label, left, f"{left:.1%}", len(ratios)))
        return judge_measures(measures, lambda value: value < LOST, "less than half is left")

    return unless_absent("power", find)


def _gap_narrower(pair: Pair, task: Task, source: Source) -> Finding:
    def find() -> Finding:
        gaps = {
            label: (_gap(source, pair.with_ffl, task, band), _gap(source, pair.without, task, band))
            for label, band in HIGH.items()
        }
        return shrinks(gaps, CLEARLY, "clearly narrower")

    return unless_absent("gap", find)


def _error_smaller(pair: Pair, task: Task, source: Source) -> Finding:
    def find() -> Finding:
        errors = {
            label: (_squared_error(source, pair.with_ffl, task, band), _squared_error(source, pair.without, task, band))
            for label, band in HIGH.items()
        }
        return shrinks(errors, 0.0, "smaller")

    return unless_absent("squared error", find)


def _spectrum_closer(pair: Pair, source: Source) -> Finding:
    def find() -> Finding:
        if source.printed:
            raise Absent(PICTURES)
        with_ffl, without = (source.numbers(row, "spectrum_distance") for row in (pair.with_ffl, pair.without))
        return shrinks({"spectrum distance": (with_ffl, without)}, CLEARLY, "clearly closer")

    return unless_absent("spectrum distance", find)


def _less_high_power(less: Place, more: Place, source: Source) -> Finding:
    def find() -> Finding:
        powers = {
            label: (_power(source, less, "reconstruction", band), _power(source, more, "reconstruction", band))
            for label, band in HIGH.items()
        }
        return shrinks(powers, 0.0, "less", ("with the full FFL", "without freq"))

    return unless_absent("power", find)


def _similar_gap(row: Place, baseline: Place, source: Source) -> Finding:
    def find() -> Finding:
        measures: list[Measure | Gap] = []
        for label, band in HIGH.items():
            gaps = [_gap(source, place, "reconstruction", band).values() for place in (baseline, row)]
            before, after = map(statistics.fmean, gaps)
            measures.append(Measure(label, after / before - 1, f"{before:.3f} to {after:.3f}", min(map(len, gaps))))
        return judge_measures(measures, lambda value: abs(value) <= CLEARLY, "within a quarter")

    return unless_absent("gap", find)


def _spatial_loss(source: Source) -> Finding:
    def find() -> Finding:
        with_ffl, without = (source.spatial_loss(row) for row in (AE_CELEBA.with_ffl, AE_CELEBA.without))
        return shrinks({"MSE": (with_ffl, without)}, 0.0, "lower")

    return unless_absent("MSE", find)


def shrinks(
    numbers: Mapping[str, tuple[Mapping[Seed, float], Mapping[Seed, float]]],
    least: float,
    what: str,
    words: tuple[str, str] = ("without", "with FFL"),
) -> Finding:
    """Whether numbers are smaller with FFL than without, all of them.

    Args:
        numbers: by label, those with FFL and those without, by seed.
        least: share that each must shrink by.
        what: a number that shrinks so, for the summary.
        words: for the numbers without FFL and with it.
    """
    items, lines, staying = [], [], []
    for label, (with_ffl, without) in numbers.items():
        item = difference(label, with_ffl, without, higher_is_better=False)
        items.append(item)
        if isinstance(item, Gap):
            continue
        before, after = (statistics.fmean(values[seed] for seed in item.by_seed) for values in (without, with_ffl))
        change = f" ({after / before - 1:+.0%})" if before else ""
        spread = "" if item.spread is None else f", difference {item.mean:.3g} ± {item.spread:.3g}"
        lines.append(f"{label} {before:.3g} {words[0]}, {after:.3g} {words[1]}{change}{spread}")
        if after >= before or after > (1 - least) * before:
            staying.append(label)
    finding = judge(items, "all")
    if finding.verdict == "not tested":
        return finding
    return replace(
        finding,
        verdict="fails" if staying else "holds",
        summary=f"{what} in {len(lines) - len(staying)} of {len(lines)}"
        + (f", not in {', '.join(staying)}" if staying else ""),
        numbers=tuple(lines),
    )


def _cost(model: str, source: Source) -> Finding:
    def find() -> Finding:
        costs = source.overhead(model)
        outside = [
            cost
            for cost in costs
            if cost.value > (NEGLIGIBLE_MEMORY if cost.label.startswith("memory") else NEGLIGIBLE_TIME)
        ]
        return Finding(
            "fails" if outside else "holds",
            "more: " + ", ".join(cost.label for cost in outside) if outside else "no more than that",
            (", ".join(map(str, costs)),),
            len(costs),
            len(costs),
        )

    return unless_absent("cost", find)


def lfd_identity(source: Source) -> Finding:
    """Whether LFD = ln(H·W·255²) − PSNR·ln(10)/10 in every row that has both, to within the rounding of the two.

    Both are means over images of logarithms of one error, so that the means obey it as each image does. Rows that
    break it are named.
    """
    rows = list(source.pair_rows())
    if not rows:
        return untested([Gap("LFD and PSNR", "no table of ours has both; python scripts/reproduce.py table=all")], 1)
    broken, largest = [], 0.0
    for row in rows:
        at_zero = math.log(math.prod(row.size) * 255.0**2)
        expected = at_zero - row.psnr * LOG_PER_DECIBEL
        error = abs(row.lfd - expected)
        if error <= row.half_unit * (1 + LOG_PER_DECIBEL):
            largest = max(largest, error)
            continue
        seed = "" if row.seed is None else f" (seed {row.seed})"
        broken.append(
            f"{row.place.table} {row.place.row}{seed}: LFD {row.lfd:.3f}, but {expected:.3f} goes with PSNR "
            f"{row.psnr:.3f}, and PSNR {(at_zero - row.lfd) / LOG_PER_DECIBEL:.3f} with that LFD"
        )
    return Finding(
        "fails" if broken else "holds",
        f"obeyed in {len(rows) - len(broken)} of {len(rows)} rows",
        (*(f"broken by {line}" for line in broken), f"largest deviation of the others {largest:.2g}"),
        len(rows),
        len(rows),
    )
