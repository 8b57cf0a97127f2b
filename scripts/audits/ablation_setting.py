"""Table 8 leaves open whether an ablated loss stands beside the spatial loss: which of our two settings fits it."""

import statistics
from dataclasses import dataclass

from scripts.audits.claims import ablation
from scripts.audits.comparisons import RECONSTRUCTION, compare, means
from scripts.audits.sources import Source
from scripts.audits.verdicts import Difference

CLEARLY = 0.25
ABLATIONS = ("no_freq", "no_phase", "no_ampli", "no_focal")


@dataclass(frozen=True)
class SettingFit:
    """How far our two settings of an ablation are from the printed row.

    Attributes:
        row: the ablation.
        printed: the paper's numbers by metric.
        kept: ours with the spatial loss.
        left_out: ours without it.
        distances: of (kept, left out) from the printed numbers: |difference| in units of what FFL changes in the
            printed table, mean over the metrics that both have. LFD, which repeats PSNR, is left out of the mean.
        verdict: which of the two the printed numbers fit, nearer by at least a quarter; or why that is not tested.
    """

    row: str
    printed: dict[str, float]
    kept: dict[str, float]
    left_out: dict[str, float]
    distances: tuple[float, float] | None
    verdict: str


def setting_fits(paper: Source, ours: Source) -> list[SettingFit]:
    """The fits, row by row."""
    units = {
        metric: abs(item.mean)
        for metric in RECONSTRUCTION
        for item in compare(paper, ablation("full"), ablation("baseline"), [metric])
        if isinstance(item, Difference)
    }
    fits = []
    for row in ABLATIONS:
        printed, _ = means(paper, ablation(row), RECONSTRUCTION)
        kept, why_not_kept = means(ours, ablation(row), RECONSTRUCTION)
        left_out, why_not_left_out = means(ours, ablation(f"{row}_no_mse"), RECONSTRUCTION)
        metrics = [metric for metric in kept if metric in left_out and metric != "lfd"]
        if not metrics:
            reasons = [reason for found, reason in ((kept, why_not_kept), (left_out, why_not_left_out)) if not found]
            verdict = f"not tested: {'; '.join(dict.fromkeys(reasons))}"
            fits.append(SettingFit(row, printed, kept, left_out, None, verdict))
            continue
        with_loss, alone = (
            statistics.fmean(abs(values[metric] - printed[metric]) / units[metric] for metric in metrics)
            for values in (kept, left_out)
        )
        verdict = "spatial loss kept" if with_loss < alone else "spatial loss left out"
        if min(with_loss, alone) > (1 - CLEARLY) * max(with_loss, alone):
            verdict = "undecided, the two are about as far"
        fits.append(SettingFit(row, printed, kept, left_out, (with_loss, alone), verdict))
    return fits
