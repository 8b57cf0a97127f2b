"""What the paper says in words about its tables, each claim with the function that judges it.

Words without a number are given one reading each, the same for the paper's numbers and for ours:

- a claim without "most" or "some" is about every metric of the rows that it names;
- "close" and "slightly": within a quarter of the difference that FFL itself makes to that metric;
- "much better": at least half of the gain that FFL brings; "vastly" worse: below the baseline;
- "greatly": by at least 5 % of the best other number.

What the paper says about figures and cost is in ``measured_claims``.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from scripts.audits.comparisons import (
    ADE20K,
    AE_CELEBA,
    AE_DTD,
    ANIME,
    CITYSCAPES,
    FACADES,
    PAIRS,
    RECONSTRUCTION,
    SHOES,
    SPADE_ADE20K,
    SPADE_CITYSCAPES,
    STYLEGAN2,
    SYNTHESIS,
    VAE_CELEBA,
    VAE_CELEBA_HQ,
    VAE_CELEBA_HQ_SYNTHESIS,
    VAE_CELEBA_SYNTHESIS,
    Items,
    Pair,
    Shares,
    compare,
    effect,
    effects,
    higher_is_better,
    judge_winners,
    larger_effect,
    largest_loss,
    metric_label,
    shares,
)
from scripts.audits.sources import Place, Source
from scripts.audits.verdicts import (
    Absent,
    Finding,
    Gap,
    Measure,
    Quantifier,
    difference,
    every_part,
    grouped,
    judge,
    judge_measures,
    unless_absent,
)

CLOSE = 0.25
MUCH = 0.5
GREATLY = 0.05
# Pairs of rows of Table 8, the better first.
ABLATION_ORDER = (
    ("full", "no_focal"),
    ("no_focal", "baseline"),
    ("baseline", "no_freq"),
    ("no_freq", "no_phase"),
    ("no_freq", "no_ampli"),
)

Judge = Callable[[Source], Finding]


@dataclass(frozen=True)
class Claim:
    """A claim and how it is judged.

    Attributes:
        id: for reports.
        section: where the paper makes it.
        statement: what it says, in our words.
        judge: the verdict on a source's numbers.
        reading: what its words are taken to mean, where they leave that open.
        of_paper: False for the same claim on runs of ours that the paper has no counterpart of.
    """

    id: str
    section: str
    statement: str
    judge: Judge
    reading: str = ""
    of_paper: bool = True


def table_claims() -> list[Claim]:
    """All claims about tables, in the order of the paper's."""
    return [
        *_tables_1_to_4(),
        *_tables_5_and_6(),
        *_table_7(),
        *_table_8(),
        *_table_8("_no_mse"),
        *_table_9(),
        *_table_10(),
        _figure_16(),
        *_across_tables(),
    ]


def improved(
    id: str, section: str, statement: str, pairs: Sequence[Pair], quantifier: Quantifier = "all", reading: str = ""
) -> Claim:
    """The claim that FFL improves the metrics of some pairs."""
    return Claim(id, section, statement, lambda source: judge(effects(source, pairs), quantifier), reading)


def better(a: Place, b: Place, metrics: Sequence[str] = RECONSTRUCTION, quantifier: Quantifier = "all") -> Judge:
    """Judges whether one row is better than another."""
    return lambda source: judge(compare(source, a, b, metrics), quantifier)


def worse(a: Place, b: Place, what: str = "worse", metrics: Sequence[str] = RECONSTRUCTION) -> Judge:
    """Judges whether one row is worse than another in every metric."""
    return lambda source: judge(compare(source, a, b, metrics, worse=True), "all", what)


def parts(judges: Mapping[str, Judge]) -> Judge:
    """Judges a claim of several parts."""
    return lambda source: every_part({name: part(source) for name, part in judges.items()})


def close(a: Place, b: Place, unit: tuple[Place, Place]) -> Judge:
    """Judges whether two rows differ by at most a quarter of what FFL changes, either way, in every metric."""
    return lambda source: judge_measures(
        shares(source, a, b, unit, RECONSTRUCTION), lambda share: abs(share) <= CLOSE, "close"
    )


def loses_most(metric: str, row: Place, main: Place, unit: tuple[Place, Place]) -> Judge:
    """Judges whether a row loses more against the main one in one metric than in any other, as a share."""
    return lambda source: largest_loss(shares(source, main, row, unit, RECONSTRUCTION), metric)


def _tables_1_to_4() -> list[Claim]:
    return [
        improved(
            "table1.most",
            "4.2, Table 1",
            "FFL improves the vanilla AE in most cases: five metrics on DTD and CelebA",
            (AE_DTD, AE_CELEBA),
            "most",
        ),
        Claim(
            "table1.celeba_gains_more",
            "4.2, Table 1",
            "FFL improves the vanilla AE more on CelebA than on DTD",
            lambda source: judge(larger_effect(source, AE_CELEBA, AE_DTD), "all", "more"),
        ),
        improved(
            "table2.all",
            "4.2, Table 2",
            "FFL improves VAE reconstruction in all metrics",
            (VAE_CELEBA, VAE_CELEBA_HQ),
        ),
        improved(
            "table3.both",
            "4.2, Table 3",
            "FFL improves both FID and IS of VAE synthesis",
            (VAE_CELEBA_SYNTHESIS, VAE_CELEBA_HQ_SYNTHESIS),
        ),
        improved("table4.both", "4.2, Table 4", "FFL improves pix2pix on both data sets", (FACADES, SHOES)),
    ]


def _tables_5_and_6() -> list[Claim]:
    spade = (SPADE_CITYSCAPES, SPADE_ADE20K)
    return [
        improved("table5.boost", "4.2, Table 5", "FFL improves SPADE further", spade),
        Claim(
            "table5.outperforms",
            "4.2, Table 5",
            "SPADE with FFL outperforms the methods that it is compared with",
            _outperforms,
            "better than CRN, SIMS, pix2pixHD and SPADE, but for the FID of SIMS, which the text concedes",
        ),
        Claim(
            "table5.greatly",
            "4.2, Table 5",
            "SPADE with FFL outperforms them greatly",
            _greatly,
            "by at least 5 % of the best other number, but for the FID of SIMS",
        ),
        Claim(
            "table5.sims",
            "4.2, Table 5",
            "SIMS has the best FID on Cityscapes and poor segmentation scores",
            _sims,
            "poor: the lowest of all methods",
        ),
        improved(
            "table5.beside_perceptual_loss",
            "4.2, Table 5",
            "FFL complements the perceptual loss: SPADE, which trains with it, still gains from FFL",
            spade,
        ),
        improved("table6.both", "4.2, Table 6", "FFL improves both FID and IS of StyleGAN2 at 256 × 256", (STYLEGAN2,)),
        Claim(
            "figure17.fid",
            "E.5, Figure 17",
            "FFL improves the FID of StyleGAN2 at 1024 × 1024",
            lambda source: unless_absent("FID", lambda: _large_stylegan2(source)),
        ),
    ]


SPADE_COLUMNS = [*(("cityscapes", metric) for metric in CITYSCAPES), *(("ade20k", metric) for metric in ADE20K)]


def _spade_rivals(group: str, metric: str) -> list[Place]:
    """What SPADE with FFL is compared with in a column: without the FID of SIMS, and SIMS has no ADE20K."""
    sims = ["sims"] if group == "cityscapes" and metric != "fid" else []
    return [Place("table5", row, group) for row in ("crn", *sims, "pix2pixhd", "spade_without")]


def _outperforms(source: Source) -> Finding:
    items: Items = []
    for group, metric in SPADE_COLUMNS:
        for rival in _spade_rivals(group, metric):
            found = compare(source, Place("table5", "spade_with", group), rival, [metric])
            items += grouped(found, f"{group}, against {rival.row}")
    return judge(items, "all")


def _greatly(source: Source) -> Finding:
    measures: Shares = []
    for group, metric in SPADE_COLUMNS:
        label, sign = f"{group} {metric_label(metric)}", 1 if higher_is_better(metric) else -1
        try:
            own = source.numbers(Place("table5", "spade_with", group), metric)
            rivals = [source.numbers(place, metric) for place in _spade_rivals(group, metric)]
        except Absent as reason:
            measures.append(Gap(label, str(reason)))
            continue
        best = max((statistics.fmean(values.values()) for values in rivals), key=lambda value: sign * value)
        margin = sign * (statistics.fmean(own.values()) - best) / best
        measures.append(Measure(label, margin, f"{margin:+.1%}", None if source.printed else len(own)))
    return judge_measures(measures, lambda margin: margin >= GREATLY, "ahead by 5 %")


def _sims(source: Source) -> Finding:
    sims = Place("table5", "sims", "cityscapes")
    others = [Place("table5", row, "cityscapes") for row in ("crn", "pix2pixhd", "spade_without", "spade_with")]

    def against(metrics: Sequence[str], worse: bool) -> Items:
        return [
            item
            for other in others
            for item in grouped(compare(source, sims, other, metrics, worse), f"against {other.row}")
        ]

    return every_part(
        {
            "FID": judge(against(["fid"], worse=False), "all", "lower"),
            "segmentation": judge(against(["miou", "accuracy_all"], worse=True), "all", "lower"),
        }
    )


def _large_stylegan2(source: Source) -> Finding:
    without, with_ffl = source.large_stylegan2_fid()
    return judge([difference("FID", {None: with_ffl}, {None: without}, higher_is_better=False)], "all")


TABLE_7 = {
    "vae_reconstruction": ("VAE", RECONSTRUCTION),
    "vae_synthesis": ("VAE synthesis", SYNTHESIS),
    "pix2pix": ("pix2pix", SYNTHESIS),
}


def _table_7() -> list[Claim]:
    methods = {"ffl": "FFL", "ffl_dct": "FFL with DCT in the place of DFT"}
    rivals = {"perceptual": "the perceptual loss", "spectral_regularization": "spectral regularisation"}
    claims = [
        Claim(
            f"table7.{method}_over_{rival}",
            "4.2, Table 7",
            f"{methods[method]} outperforms {rivals[rival]}",
            partial(_outperforms_in_table_7, method, rival),
            "better in most metrics of the three tasks and worse in none",
        )
        for method in methods
        for rival in rivals
    ]
    slightly = Claim(
        "table7.dct_slightly_worse",
        "4.2, Table 7",
        "FFL with DCT is only slightly inferior to FFL with DFT",
        parts(
            {
                "inferior": lambda source: judge(_in_table_7(source, "ffl_dct", "ffl", worse=True), "all", "worse"),
                "slightly": lambda source: judge_measures(
                    _dct_loss(source), lambda share: share <= CLOSE, "loses at most a quarter of FFL's gain"
                ),
            }
        ),
        "worse, by at most a quarter of what FFL gains over the baseline",
    )
    return [*claims, slightly]


def _in_table_7(source: Source, a: str, b: str, worse: bool = False) -> Items:
    items: Items = []
    for group, (words, metrics) in TABLE_7.items():
        items += grouped(compare(source, Place("table7", a, group), Place("table7", b, group), metrics, worse), words)
    return items


def _outperforms_in_table_7(method: str, rival: str, source: Source) -> Finding:
    return judge(_in_table_7(source, method, rival), "none worse")


def _dct_loss(source: Source) -> Shares:
    found: Shares = []
    for group, (words, metrics) in TABLE_7.items():
        dft, dct, baseline = (Place("table7", row, group) for row in ("ffl", "ffl_dct", "baseline"))
        found += grouped(shares(source, dft, dct, (baseline, dft), metrics), words)
    return found


def ablation(row: str) -> Place:
    """A row of Table 8."""
    return Place("table8", row, "reconstruction")


def _table_8(suffix: str = "") -> list[Claim]:
    """Ablations; ``suffix`` chooses our rows without the spatial loss, of which the paper prints none."""

    def place(row: str) -> Place:
        return ablation(row if row in ("baseline", "full") else row + suffix)

    baseline, full, no_freq, no_phase, no_ampli, no_focal = map(
        place, ("baseline", "full", "no_freq", "no_phase", "no_ampli", "no_focal")
    )
    vastly = "worse than the baseline: more is lost than FFL gains"

    def claim(id: str, statement: str, judge: Judge, reading: str = "") -> Claim:
        words = f"{statement} (spatial loss left out)" if suffix else statement
        return Claim(f"table8.{id}{suffix}", "4.2, Table 8", words, judge, reading, of_paper=not suffix)

    return [
        claim(
            "full_best",
            "The full FFL performs best",
            parts(
                {f"against {row.row}": better(full, row) for row in (baseline, no_freq, no_phase, no_ampli, no_focal)}
            ),
        ),
        claim("no_freq", "Without the frequency representation the results degrade", worse(no_freq, full)),
        claim("no_phase", "Without phase the metrics are vastly worse", worse(no_phase, baseline), vastly),
        claim("no_ampli", "Without amplitude the metrics are vastly worse", worse(no_ampli, baseline), vastly),
        claim(
            "no_focal",
            "Without the focal weights the metrics fall close to the baseline and stay slightly better than it",
            parts(
                {
                    "against full": worse(no_focal, full),
                    "against the baseline": better(no_focal, baseline),
                    "close to it": close(no_focal, baseline, (baseline, full)),
                }
            ),
            "worse than full, better than the baseline, by at most a quarter of FFL's gain",
        ),
        claim(
            "order",
            "The rows, from best to worst: full, without focal, baseline, without freq, then without phase or ampli",
            _ranked(place, RECONSTRUCTION),
            "in every metric; the text says it row by row",
        ),
    ]


def _ranked(place: Callable[[str], Place], metrics: Sequence[str]) -> Judge:
    """Judges the order in which the text on Table 8 ranks its rows; ``place`` is where a row of it stands."""
    pairs = [(place(upper), place(lower)) for upper, lower in ABLATION_ORDER]
    return parts({f"{upper.row} over {lower.row}": better(upper, lower, metrics) for upper, lower in pairs})


def _figure_16() -> Claim:
    return Claim(
        "figure16.order",
        "E.3, Figure 16",
        "Ablations of pix2pix on edges → shoes agree with Table 8",
        _ranked(lambda row: Place("pix2pix_ablations", row, "translation"), SYNTHESIS),
        "FID and IS rank the rows as the text on Table 8 does",
    )


def _table_9() -> list[Claim]:
    baseline, main, two, half, tenth = (
        Place("table9", row, "reconstruction") for row in ("baseline", "alpha_1", "alpha_2", "alpha_0.5", "alpha_0.1")
    )
    unit = (baseline, main)
    where = "D, Table 9"
    return [
        Claim("table9.1_over_baseline", where, "α = 1 beats the baseline in all five metrics", better(main, baseline)),
        Claim(
            "table9.2_degrades",
            where,
            "α = 2 degrades from α = 1, especially in FID",
            parts({"against α = 1": worse(two, main), "especially FID": loses_most("fid", two, main, unit)}),
            "worse in every metric; FID loses the most, as a share of what FFL gains in a metric",
        ),
        Claim(
            "table9.2_over_baseline",
            where,
            "α = 2 still beats the baseline in most cases",
            better(two, baseline, quantifier="most"),
        ),
        Claim("table9.0.5_over_baseline", where, "α = 0.5 beats the baseline in all metrics", better(half, baseline)),
        Claim(
            "table9.0.5_lpips_fid",
            where,
            "α = 0.5 has better LPIPS and FID than α = 1",
            better(half, main, ["lpips", "fid"]),
        ),
        Claim(
            "table9.0.5_close",
            where,
            "α = 0.5 is close to α = 1",
            close(half, main, unit),
            "within a quarter of FFL's gain in every metric",
        ),
        Claim(
            "table9.0.1",
            where,
            "α = 0.1 degrades from α = 1 and still beats the baseline",
            parts({"against α = 1": worse(tenth, main), "against the baseline": better(tenth, baseline)}),
        ),
        Claim(
            "table9.best",
            where,
            "α = 1 is the best trade-off",
            lambda source: judge_winners(source, main, [two, half, tenth], RECONSTRUCTION),
            "the best α in more metrics than any other α",
        ),
    ]


def _table_10() -> list[Claim]:
    baseline, one, two, four, eight = (
        Place("table10", row, "reconstruction") for row in ("baseline", "patch_1", "patch_2", "patch_4", "patch_8")
    )
    unit = (baseline, one)
    where = "D, Table 10"

    def much_better(row: Place) -> Judge:
        return lambda source: judge_measures(
            shares(source, row, baseline, unit, RECONSTRUCTION),
            lambda share: share >= MUCH,
            "at least half of FFL's gain",
        )

    return [
        Claim(
            "table10.close",
            where,
            "p = 1, 2 and 4 perform closely in the five metrics",
            parts({"p = 2 and 1": close(two, one, unit), "p = 4 and 1": close(four, one, unit)}),
            "within a quarter of FFL's gain in every metric",
        ),
        Claim(
            "table10.much_better",
            where,
            "p = 1, 2 and 4 are all much better than the baseline",
            parts({"p = 1": better(one, baseline), "p = 2": much_better(two), "p = 4": much_better(four)}),
            "p = 1 better in every metric, p = 2 and 4 by at least half of what p = 1 gains",
        ),
        Claim(
            "table10.8_degrades",
            where,
            "p = 8 degrades from smaller p, especially in FID",
            parts(
                {
                    "against p = 1": worse(eight, one),
                    "against p = 2": worse(eight, two),
                    "against p = 4": worse(eight, four),
                    "especially FID": loses_most("fid", eight, one, unit),
                }
            ),
            "worse in every metric; FID loses the most against p = 1, as a share of FFL's gain",
        ),
        Claim(
            "table10.8_over_baseline",
            where,
            "p = 8 still beats the baseline in most cases",
            better(eight, baseline, quantifier="most"),
        ),
        Claim(
            "table10.patches_can_help",
            where,
            "Patches can improve the results further in certain cases",
            lambda source: judge_winners(source, one, [two, four, eight], RECONSTRUCTION, beaten_somewhere=True),
            "some p above 1 is the best in some metric",
        ),
    ]


def _across_tables() -> list[Claim]:
    reconstructions = [pair for pair in PAIRS if pair.metrics == RECONSTRUCTION]

    def pixel_metrics(source: Source) -> Items:
        return [
            item
            for pair in reconstructions
            for item in grouped(compare(source, pair.with_ffl, pair.without, ["psnr", "ssim"]), pair.name)
        ]

    def every_model(source: Source) -> Finding:
        return every_part({pair.name: judge(effect(source, pair), "most") for pair in PAIRS})

    return [
        improved("table11.all", "E.4, Table 11", "FFL improves all metrics on non-photorealistic images", (ANIME,)),
        Claim(
            "overall.every_model",
            "Abstract, 5",
            "FFL improves the quantitative performance of AE, VAE, pix2pix, SPADE and StyleGAN2",
            every_model,
            "in most metrics of each model on each data set",
        ),
        Claim(
            "overall.pixel_metrics",
            "A.2",
            "FFL improves some pixel-based metrics, such as PSNR and SSIM",
            lambda source: judge(pixel_metrics(source), "some"),
            "PSNR or SSIM in some reconstruction task",
        ),
    ]
