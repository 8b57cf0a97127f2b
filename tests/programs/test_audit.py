"""python scripts/audit.py: every claim can hold and can fail, and its numbers are what they are called."""

import json
import math
import re
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ffl.metrics import METRICS
from ffl.training.record import Record
from scripts.audit import audit
from scripts.audits.claims import Claim, read_claims, read_pairs
from scripts.audits.evidence import EMBEDDED, OurSource, PaperSource, RowGroup, Source
from scripts.audits.operators import difference, effect, judge_claim, shares
from scripts.audits.report import ablation_setting, markdown
from scripts.audits.verdicts import Item, Numbers, every_part, judge
from scripts.reproduction.paper import paper_tables
from scripts.tables import PUBLISHED, TableResults

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared" / "golden" / "verdicts.json"
CLAIMS = {claim.id: claim for claim in read_claims()}


# A source whose every number follows from how good each row is: 0 is a baseline, 1 is what FFL makes of it.

ABLATIONS = {"no_freq": -1.0, "no_phase": -2.0, "no_ampli": -3.0, "no_focal": 0.1}
GOODNESS: dict[str, dict[str, float]] = {
    "table1": {"dtd_without": 0, "dtd_with": 0.5, "celeba_without": 0, "celeba_with": 1},
    "table2": {"celeba_without": 0, "celeba_with": 1, "celeba_hq_without": 0, "celeba_hq_with": 1},
    "table3": {"celeba_without": 0, "celeba_with": 1, "celeba_hq_without": 0, "celeba_hq_with": 1},
    "table4": {"facades_without": 0, "facades_with": 1, "edges2shoes_without": 0, "edges2shoes_with": 1},
    "table5": {"crn": -0.5, "sims": -1, "pix2pixhd": -0.2, "spade_without": 0, "spade_with": 1},
    "table6": {"celeba_hq_without": 0, "celeba_hq_with": 1},
    "table7": {"baseline": 0, "perceptual": 0.4, "spectral_regularization": 0.1, "ffl_dct": 0.9, "ffl": 1},
    "table8": {"baseline": 0, "full": 1, **ABLATIONS, **{f"{row}_no_mse": value for row, value in ABLATIONS.items()}},
    "pix2pix_ablations": {"baseline": 0, "full": 1, **ABLATIONS},
    "table9": {"baseline": 0, "alpha_1": 1, "alpha_2": 0.6, "alpha_0.5": 0.9, "alpha_0.1": 0.3},
    "table10": {"baseline": 0, "patch_1": 1, "patch_2": 1.1, "patch_4": 0.9, "patch_8": 0.5},
    "table11": {"danbooru_without": 0, "danbooru_with": 1},
    "stylegan2_1024": {"without": 0, "with": 1},
}
# Where one metric of a row is better or worse than its others.
APART: dict[tuple[str, str, str], float] = {
    ("table5", "sims", "fid"): 1.5,
    ("table9", "alpha_2", "fid"): 0.5,
    ("table9", "alpha_0.5", "lpips"): 1.1,
    ("table9", "alpha_0.5", "fid"): 1.1,
    ("table10", "patch_8", "fid"): 0.4,
}


@dataclass
class MadeUp(Source):
    """A source of made-up numbers.

    Attributes:
        sign: -1 turns every better into a worse.
        changes: how good a row is in place of what the table above says, for all its metrics.
        cost: of an iteration with FFL over one without.
        power_left: at high frequencies, without FFL; with FFL half of what is lost comes back.
        lfd_error: by how much LFD is not what PSNR says.
    """

    printed = False
    sign: int = 1
    changes: dict[tuple[str, str], float] = field(default_factory=dict)
    cost: float = 1.04
    power_left: float = 0.1
    lfd_error: float = 0.0

    def tables(self) -> list[str]:
        return ["table1"]

    def records(self, table: str) -> list[Record]:
        """Two rows that have both PSNR and LFD."""
        found = []
        for psnr in (20.0, 25.0):
            lfd = math.log(64 * 64 * 255**2 * 10 ** (-psnr / 10) + 1) + self.lfd_error
            about = {"row": f"at {psnr}", "group": "", "seed": 1}
            found += [
                Record(name, value, 9, {"size": [64, 64]}, about) for name, value in (("psnr", psnr), ("lfd", lfd))
            ]
        return found

    def why_absent(self, place: RowGroup, metric: str) -> str:
        raise AssertionError("every number is there")

    def numbers(self, place: RowGroup, metric: str, of: Callable[[Record], float | None] | None = None) -> Numbers:
        usual = self.sign * APART.get((place.table, place.row, metric), GOODNESS[place.table][place.row])
        good = self.changes.get((place.table, place.row), usual)
        if of is not None:
            left = min(2.0, self.power_left * 5**good)
            bands = {"real": [100.0] * 7, "fake": [100.0] * 5 + [100 * left] * 2, "error": [5.0] * 5 + [5 - good] * 2}
            value = of(Record(metric, None, 9, {}, details={**bands, "spatial_loss": 0.02 - 0.001 * good}))
            assert value is not None
        elif metric == "spectrum_distance":
            value = 2.0 - good
        else:
            value = 50 + 10 * good * (1 if METRICS[metric].higher_is_better else -1)
        return Numbers({1: value}, 1)

    def overhead(self, model: str) -> list[Item]:
        return [Item("time per iteration", self.cost, ""), Item("memory", 1.001, "")]


# What makes a claim fail where turning everything round does not.
CONTRARY: dict[str, MadeUp] = {
    "table9.0.5_close": MadeUp(changes={("table9", "alpha_0.5"): 0.7}),
    "table10.close": MadeUp(changes={("table10", "patch_4"): 0.7}),
    "table10.patches_can_help": MadeUp(changes={("table10", "patch_2"): 0.9}),
    "table5.greatly": MadeUp(changes={("table5", "spade_with"): 0.05}),
    "table7.dct_slightly_worse": MadeUp(changes={("table7", "ffl_dct"): 0.7}),
    "table1.celeba_gains_more": MadeUp(changes={("table1", "dtd_with"): 1.1}),
    "figure11.no_focal_like_baseline": MadeUp(changes={("table8", "no_focal"): 0.9}),
    "lfd.function_of_psnr": MadeUp(lfd_error=0.001),
    **{f"cost.{model}": MadeUp(cost=1.06) for model in ("pix2pix", "ae", "vae")},
    **{id: MadeUp(power_left=0.6) for id in CLAIMS if id.endswith(".lost")},
}


@pytest.mark.parametrize("id", sorted(CLAIMS))
def test_every_claim_can_hold_and_can_fail(id: str) -> None:
    assert judge_claim(CLAIMS[id], MadeUp()).verdict == "holds"
    finding = judge_claim(CLAIMS[id], CONTRARY.get(id, MadeUp(sign=-1)))
    assert finding.verdict == "fails", finding
    assert finding.tested == finding.total > 0


def test_a_claim_without_numbers_is_not_tested(tmp_path: Path) -> None:
    nothing = OurSource(tmp_path, "cpu")
    for claim in CLAIMS.values():
        finding = judge_claim(claim, nothing)
        assert finding.verdict == "not tested", claim.id
        assert finding.missing, claim.id
        assert finding.tested == 0


def test_claims_say_where_they_stand() -> None:
    assert all(claim.section and claim.statement for claim in CLAIMS.values())
    assert len({claim.statement for claim in CLAIMS.values()}) == len(CLAIMS) == len(read_claims())


# The paper's own numbers.


def test_what_fails_on_the_papers_own_numbers() -> None:
    findings = {claim.id: judge_claim(claim, PaperSource()) for claim in CLAIMS.values() if claim.of_paper}
    failing = {id: finding.summary for id, finding in findings.items() if finding.verdict == "fails"}
    assert failing.keys() == {
        "table5.greatly",
        "table7.ffl_dct_over_perceptual",
        "table7.dct_slightly_worse",
        "table10.close",
        "table10.much_better",
        "table10.8_degrades",
        "lfd.function_of_psnr",
    }
    assert failing["table7.ffl_dct_over_perceptual"] == "better in 7 of 9, not in VAE LPIPS, pix2pix FID"
    assert "against p = 1: worse in 4 of 5, not in LPIPS" in failing["table10.8_degrades"]
    assert findings["table1.most"].summary == "better in 9 of 10, not in vanilla AE, DTD SSIM"
    assert findings["table7.ffl_over_perceptual"].summary == "better in 8 of 9, equal in VAE LPIPS"
    assert findings["cost.pix2pix"].numbers == (
        "time per iteration 0.064 to 0.067 s, +4.7%, memory 3513 to 3515 MB, +0.1%",
    )
    untested = {id for id, finding in findings.items() if finding.verdict == "not tested"}
    assert {id for id in untested if not id.startswith("bands.")} == {
        "figure11.no_freq_blurs",
        "figure11.no_focal_like_baseline",
        "figure14.spatial_loss",
        "figure16.order",
        "cost.ae",
        "cost.vae",
    }


def test_lfd_follows_from_psnr_in_every_printed_row_but_one() -> None:
    rows = [
        (name, row, group, values["psnr"], values["lfd"], content.size)
        for name, table in paper_tables().items()
        for row, content in table.rows.items()
        for group, values in content.values.items()
        if {"psnr", "lfd"} <= values.keys()
    ]
    broken = [
        (name, row, group)
        for name, row, group, psnr, lfd, size in rows
        if psnr
        and lfd
        and size
        and abs(lfd - (math.log(math.prod(size) * 65025) - psnr * 0.23025851)) > 0.0005 * 1.2303
    ]
    assert broken == [("table7", "spectral_regularization", "vae_reconstruction")]
    finding = judge_claim(CLAIMS["lfd.function_of_psnr"], PaperSource())
    assert finding.summary == f"obeyed in {len(rows) - 1} of {len(rows)} rows"
    assert "table7 spectral_regularization: LFD 14.796, but 14.801 goes with PSNR 19.974" in finding.numbers[0]


def test_pairs_are_the_printed_ones() -> None:
    """Each without/with pair of Tables 1 to 6 and 11 is audited, in all of its metrics."""
    printed = {
        (name, row.removesuffix("_with"), group): list(values)
        for name, table in paper_tables().items()
        for row, content in table.rows.items()
        for group, values in content.values.items()
        if row.endswith("_with")
    }
    assert {(pair.table, pair.rows, pair.group): pair.metrics for pair in read_pairs().values()} == printed


# Comparisons and counts.


def _items(*gains: float) -> list[Item]:
    return [Item(f"m{number}", gain, f"{gain:+g}") for number, gain in enumerate(gains)]


@pytest.mark.parametrize(
    ("gains", "count", "verdict"),
    [
        ([1, 1], "all", "holds"),
        ([1, 0], "all", "fails"),
        ([1, 1, -1], "most", "holds"),
        ([1, -1], "most", "fails"),
        ([1, 0, 0], "most", "fails"),
        ([-1, 1, -1], "some", "holds"),
        ([-1, 0], "some", "fails"),
        ([1, 1, 0], "none worse", "holds"),
        ([1, 1, -1], "none worse", "fails"),
        ([1, 0], "none worse", "fails"),
    ],
)
def test_counts(gains: list[float], count: Any, verdict: str) -> None:
    assert judge(_items(*gains), "better", count=count).verdict == verdict


def test_differences_are_taken_seed_by_seed_and_held_against_their_spread() -> None:
    change = Numbers({1: 22.0, 2: 23.0, 3: 24.5}, 3) - Numbers({1: 21.0, 2: 21.5, 4: 20.0}, 3)
    assert change.by_seed == {1: 1.0, 2: 1.5}
    assert change.spread == pytest.approx(math.sqrt(0.125))
    item = difference("PSNR", change)
    assert item.shown == "+1.250 ± 0.354"
    finding = judge([item], "better")
    assert (finding.seeds, finding.spreads, finding.within_spread) == (2, 1, ())
    noisy = difference("FID", Numbers({1: 80.0, 2: 95.0}, 2) - Numbers({1: 90.0, 2: 90.0}, 2), sign=-1)
    finding = judge([item, noisy], "better")
    assert finding.verdict == "holds"  # lower by 2.5 on average ...
    assert finding.within_spread == ("FID",)  # ... which is less than its spread of 10.6
    assert (Numbers({1: 0.5}, 1) - Numbers({2: 0.5}, 1)).missing == "no seed was run on both sides"
    # Means over runs whose single values are lost are compared as means.
    assert (Numbers({None: 3.0}, 2) - Numbers({1: 1.0, 2: 1.5, 3: 2.0}, 3)) == Numbers({None: 1.5}, 2)


def test_a_verdict_is_about_the_numbers_that_are_there() -> None:
    gap = Item("FID", 0, "", missing="python scripts/download_weights.py inception_fid")
    finding = judge([*_items(1, 1), gap], "better")
    assert (finding.verdict, finding.tested, finding.total) == ("holds", 2, 3)
    assert finding.missing == ("python scripts/download_weights.py inception_fid",)
    parts = every_part({"a": finding, "b": judge([gap], "better"), "c": judge(_items(-1), "better")})
    assert parts.verdict == "fails"
    assert parts.summary == "1 of 2 parts hold; c: better in 0 of 1, not in m0"
    assert (parts.tested, parts.total) == (3, 5)
    assert judge([gap], "positive", lambda value: value > 0).verdict == "not tested"


# What is judged where the official networks are not there.


def _source(folder: Path, fid: dict[str, float | None]) -> OurSource:
    """Rows of Table 1 on faces with LPIPS and its stand-in, and the stand-in of FID; FID itself as given."""
    records = []
    for row, gain in (("celeba_without", 0.0), ("celeba_with", 1.0)):
        embedded = {"stlpips_alex": 0.4 + gain, "fd_effnet_lite0": 100.0 + 2 * gain}
        records += _records(row, psnr=20.0 + gain, lpips=0.3 - 0.1 * gain, fid=fid[row], **embedded)
    weights = "no weights; run: python scripts/download_weights.py inception_fid"
    _write(folder, "table1", [item if item.value else replace(item, missing=weights) for item in records])
    return OurSource(folder, "cpu")


@pytest.mark.parametrize(
    ("without", "with_ffl", "metrics"),
    [
        (None, None, ("PSNR", "LPIPS", "FD-EffNet")),
        (90.0, None, ("PSNR", "LPIPS", "FD-EffNet")),  # never one row's FID against another's FD-EffNet
        (90.0, 80.0, ("PSNR", "LPIPS", "FID")),
    ],
)
def test_an_embedded_metric_is_judged_only_where_the_official_one_is_not_there(
    without: float | None, with_ffl: float | None, metrics: tuple[str, ...], tmp_path: Path
) -> None:
    source = _source(tmp_path, {"celeba_without": without, "celeba_with": with_ffl})
    pair = read_pairs()["ae_celeba"]
    finding = judge(effect(source, pair), "better")
    assert finding.metrics == metrics
    assert (finding.verdict, finding.tested) == ("holds" if "FID" in metrics else "fails", 3)
    assert finding.numbers[0].endswith("FID -10.000" if "FID" in metrics else "FD-EffNet +2.000")
    alone = judge(effect(OurSource(tmp_path, "cpu", embedded=False), pair), "better")
    assert (alone.verdict, alone.metrics) == ("holds", tuple(name for name in metrics if name != "FD-EffNet"))


def test_every_operator_takes_the_embedded_metrics_and_names_them(tmp_path: Path) -> None:
    """The paper's own numbers as if they were ours, under the names of the embedded metrics: the verdicts stay."""
    for name in [name for name in PaperSource().tables() if name != "stylegan2_1024"]:
        records = [
            replace(
                record,
                metric=EMBEDDED.get(record.metric, record.metric),
                value=None if record.value is None else record.value / METRICS[record.metric].unit,
                provenance={**record.provenance, "seed": 1},
            )
            for record in PaperSource().records(name)
        ]
        _write(tmp_path, name, records)
    labels = {METRICS[official].label: METRICS[metric].label for official, metric in EMBEDDED.items()}
    operators = set()
    for claim in [claim for claim in CLAIMS.values() if claim.table != "stylegan2_1024"]:
        printed = judge_claim(claim, PaperSource())
        if printed.metrics:
            ours = judge_claim(claim, OurSource(tmp_path, "cpu"))
            assert (ours.verdict, ours.tested, ours.total) == (printed.verdict, printed.tested, printed.total), claim.id
            assert ours.metrics == tuple(labels.get(label, label) for label in printed.metrics)
            alone = judge_claim(claim, OurSource(tmp_path, "cpu", embedded=False))
            assert alone.metrics == tuple(label for label in printed.metrics if label not in labels)
            parts = claim.arguments.values() if claim.operator == "all_of" else ()
            operators |= {claim.operator, *(operator for part in parts for operator in part)}
    assert operators == {
        *("all_of", "better", "worse", "order", "share", "close", "loses_most", "most", "gains_more"),
        *("every_pair_better", "ahead"),
    }


def test_shares_are_of_what_ffl_changes() -> None:
    claim = CLAIMS["table9.0.5_close"]
    assert {item.label: item.value for item in shares(claim, MadeUp(), ["alpha_0.1", "baseline"])} == pytest.approx(
        {"PSNR": 0.3, "SSIM": 0.3, "LPIPS": 0.3, "FID": 0.3, "LFD": 0.3}
    )
    assert shares(claim, MadeUp(), ["baseline", "alpha_0.1"])[0].value == pytest.approx(-0.3)
    without_effect = MadeUp(changes={("table9", "alpha_1"): 0.0})
    assert judge_claim(claim, without_effect).missing == ("FFL makes no difference to measure by",)


def test_a_larger_gain_is_one_whatever_the_direction_of_the_metric() -> None:
    (numbers,) = judge_claim(CLAIMS["table1.celeba_gains_more"], PaperSource()).numbers
    assert numbers == "PSNR +1.641, SSIM +0.081, LPIPS +0.028, FID +6.737, LFD +0.378"  # FID: 13.234 and 6.497


def test_which_setting_of_an_ablation_the_printed_numbers_fit() -> None:
    """A source whose rows stand nearer to the printed ones with the spatial loss, then without it."""

    @dataclass
    class Near(MadeUp):
        near: str = ""
        scales: tuple[float, float] = (1.01, 1.05)

        def numbers(self, place: RowGroup, metric: str, of: Callable[[Record], float | None] | None = None) -> Numbers:
            if place.row.startswith("no_ampli"):
                return Numbers(missing="not run")
            is_near = place.row.endswith("_no_mse") == (self.near == "left out")
            row = place.row.removesuffix("_no_mse")
            return self.scales[0 if is_near else 1] * PaperSource().numbers(place._replace(row=row), metric)

    even = ablation_setting(PaperSource(), Near(near="neither", scales=(1.05, 1.05)), "no_freq")
    assert even["verdict"] == "undecided, the two are about as far"
    for near in ("kept", "left out"):
        fit = ablation_setting(PaperSource(), Near(near=near), "no_freq")
        assert fit["verdict"] == f"spatial loss {near}"
        assert ablation_setting(PaperSource(), Near(near=near), "no_ampli")["verdict"] == "not tested: not run"
    unit = {"psnr": 1.659, "ssim": 0.074, "lpips": 0.038, "fid": 13.234}
    printed = {"psnr": 18.2, "ssim": 0.47, "lpips": 0.265, "fid": 123.833}
    expected = sum(0.05 * printed[metric] / unit[metric] for metric in unit) / 4
    assert fit["distances"][0] == pytest.approx(expected, rel=1e-6)


def test_a_gap_must_shrink_everywhere_and_far_enough() -> None:
    @dataclass
    class Measured(MadeUp):
        with_ffl: tuple[dict[int | None, float], ...] = ()  # error in the top octave, and in the corners

        def numbers(self, place: RowGroup, metric: str, of: Callable[[Record], float | None] | None = None) -> Numbers:
            assert of is not None
            top = of(Record("bands", None, 9, {}, details={"error": [1, 0]}))
            values: dict[int | None, float] = {1: 1.0, 2: 1.0}
            return Numbers(self.with_ffl[0 if top else 1] if place.row.endswith("_with") else values, 2)

    def claim(by: float) -> Claim:
        arguments = {"pair": "ae_dtd", "quantity": "error", "by": by, "words": "narrower"}
        return replace(CLAIMS["bands.ae_dtd.error_smaller"], arguments=arguments)

    less: dict[int | None, float] = {1: 0.5, 2: 0.7}
    same: dict[int | None, float] = {1: 1.0, 2: 1.0}
    finding = judge_claim(claim(0.25), Measured(with_ffl=(less, less)))
    assert (finding.verdict, finding.summary) == ("holds", "narrower in 2 of 2")
    assert finding.numbers[0] == "top octave 1 without, 0.6 with FFL (-40%), difference -0.4 ± 0.141"
    assert judge_claim(claim(0.5), Measured(with_ffl=(less, less))).verdict == "fails"
    finding = judge_claim(claim(0), Measured(with_ffl=(less, same)))
    assert (finding.verdict, finding.summary) == ("fails", "narrower in 1 of 2, not in corners")
    assert judge_claim(claim(0), Measured(with_ffl=({3: 0.5}, {3: 0.5}))).verdict == "not tested"


# The program.


def _records(row: str, seed: int = 1, group: str = "reconstruction", **values: float | None) -> list[Record]:
    protocol = {"reference": "celeba_64 test", "size": [64, 64]}
    return [
        Record(name, value, 3000, protocol, {"row": row, "group": group, "seed": seed})
        for name, value in values.items()
    ]


def _write(folder: Path, table: str, records: list[Record]) -> None:
    (folder / "cpu").mkdir(parents=True, exist_ok=True)
    (folder / "cpu" / f"{table}.json").write_text(TableResults(table, "cpu", [], records).to_json())


def _lfd(psnr: float) -> float:
    return math.log(64 * 64 * 255**2) - psnr * math.log(10) / 10


@pytest.fixture
def report(tmp_path: Path) -> dict[str, Any]:
    """The audit of tables of a small reproduction in ``tmp_path``."""
    spread = {1: 0.0, 2: 0.3, 3: -0.3}
    rows = [("baseline", 20.0, 0), ("full", 21.0, 1), ("no_freq", 18.3, 0), ("no_freq_no_mse", 15.0, 0)]
    table8 = [
        record
        for row, psnr, shift in [*rows, ("no_focal", 20.1, 1)]
        for seed, by in spread.items()
        for record in _records(row, seed, psnr=psnr + shift * by, lfd=_lfd(psnr + shift * by), fid=None)
    ]
    weights = "no weights; run: python scripts/download_weights.py inception_fid"
    _write(tmp_path, "table8", [replace(item, missing=weights) if item.value is None else item for item in table8])
    table1 = []
    for row, left, mse in (("celeba_without", 0.25, 0.04), ("celeba_with", 1.0, 0.03)):
        table1 += _records(row, psnr=20.0, lfd=_lfd(20.0), spectrum_distance=left)
        (bands, training) = _records(row, bands=None, training=60.0)
        power = {"edges": [0.5, 2.0, 4.0], "real": [9.0, 4.0, 2.0, 1.0], "fake": [9.0, 4.0, 2 * left, left]}
        table1 += [replace(bands, details={**power, "error": [4.0, 2.0, 1.0, 100 * mse]})]
        table1 += [replace(training, details={"spatial_loss": mse})]
    for row in ("dtd_without", "dtd_with"):
        table1 += [replace(_records(row, training=None)[0], missing="data/dtd: no such folder")]
    _write(tmp_path, "table1", table1)
    cost = {"model": "ae", "without_s": 0.02, "with_s": 0.0204, "ratio": 1.02}
    cost |= {"without_bytes": 100 * 2**20, "with_bytes": 103 * 2**20}
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "overhead.json").write_text(json.dumps({"overhead": [cost], "device": "cpu"}))
    return audit(results=tmp_path, out=tmp_path)


def test_the_audit_of_a_small_reproduction(report: dict[str, Any], tmp_path: Path) -> None:
    assert report == json.loads((tmp_path / "cpu" / "audit.json").read_text())
    ours = {claim["id"]: claim["ours"] for claim in report["claims"]}

    assert ours["table8.no_freq"]["verdict"] == "holds"
    assert (ours["table8.no_freq"]["tested"], ours["table8.no_freq"]["total"]) == (2, 5)
    assert ours["table8.no_freq"]["seeds"] == 3
    assert "PSNR -2.700 ± 0.300" in ours["table8.no_freq"]["numbers"][0]
    assert any("inception_fid" in reason for reason in ours["table8.no_freq"]["missing"])
    # Better than the baseline by 0.1 dB on average, which is less than the spread of 0.3 dB.
    assert "against the baseline PSNR" in ours["table8.no_focal"]["within_spread"]
    assert ours["table8.no_freq_no_mse"]["verdict"] == "holds"
    fits = {fit["row"]: fit for fit in report["settings"]}
    assert fits["no_freq"]["verdict"] == "spatial loss kept"  # 18.3 and 15.0 dB for the printed 18.2
    assert fits["no_freq"]["distances"][0] == pytest.approx(0.1 / 1.659)
    assert fits["no_phase"]["verdict"].startswith("not tested: ")

    assert ours["table2.all"]["missing"] == ["python scripts/reproduce.py table=2 scale=cpu"]
    assert ours["table1.most"]["total"] == 10
    assert any("data/dtd: no such folder" in reason for reason in ours["table1.celeba_gains_more"]["missing"])
    assert ours["cost.ae"]["verdict"] == "fails"  # 2 % of the time is within the reading, 3 % of the memory is not
    assert ours["cost.ae"]["summary"] == "more: memory of a step on cpu"
    assert ours["cost.pix2pix"]["verdict"] == "not tested"
    assert ours["lfd.function_of_psnr"]["summary"] == "obeyed in 17 of 17 rows"  # 5 rows of 3 seeds, and 2

    numbers = ours["bands.ae_celeba.gap_narrower"]["numbers"]
    assert numbers[0] == "top octave 1.39 without, 0 with FFL (-100%)"
    assert ours["bands.ae_celeba.lost"]["numbers"] == ["top octave 25.0%, corners 25.0%"]
    assert ours["bands.ae_celeba.error_smaller"]["numbers"][1] == "corners 4 without, 3 with FFL (-25%)"
    assert ours["bands.ae_celeba.spectrum_closer"]["verdict"] == "fails"
    assert ours["figure14.spatial_loss"]["numbers"] == ["MSE 0.04 without, 0.03 with FFL (-25%)"]
    table = next(table for table in report["bands"] if (table["model"], table["data"]) == ("vanilla AE", "CelebA"))
    assert [row["band"] for row in table["rows"]] == ["mean", "1 to 2", "2 to 4", "4 and more"]
    assert table["rows"][3]["without"] == {"energy_ratio": 0.25, "error": 4.0}

    for side in ("paper", "ours"):
        counted = [claim[side]["verdict"] for claim in report["claims"] if claim[side] is not None]
        assert report["counts"]["claims"][side] == {
            verdict: counted.count(verdict) for verdict in ("holds", "fails", "not tested")
        }


def test_the_report_reads_well(report: dict[str, Any], tmp_path: Path) -> None:
    text = (tmp_path / "cpu" / "audit.md").read_text()
    assert text.index("## Counts") < text.index("## What fails") < text.index("## Claim by claim")
    anchors = {re.sub(r"[^\w -]", "", head).replace(" ", "-") for head in re.findall(r"^### (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block
    assert "| **holds**, 2 of 5 |" in text
    assert "3 seeds, beyond the spread" in text
    assert "vanilla AE, CelebA: celeba_64 test, 3000 images of 64 × 64" in text
    assert "`python scripts/reproduce.py table=2 scale=cpu`" in text
    assert "—" not in text
    assert str(report["counts"]["claims"]["paper"]["holds"]) in text


def test_the_report_says_what_was_judged_in_the_place_of_what(tmp_path: Path) -> None:
    _source(tmp_path, {"celeba_without": None, "celeba_with": None})
    report = audit(results=tmp_path, out=tmp_path)
    (claim,) = [claim for claim in report["claims"] if claim["id"] == "table1.most"]
    assert (claim["ours"]["verdict"], claim["ours"]["tested"]) == ("holds", 3)
    assert (claim["official"]["verdict"], claim["official"]["tested"]) == ("holds", 2)
    cells = report["counts"]["cells"]
    assert (cells["ours"]["fails"], cells["official"]["fails"]) == (1, 0)
    assert cells["ours"]["not tested"] == cells["official"]["not tested"] - 1
    text = (tmp_path / "cpu" / "audit.md").read_text()
    assert "| **holds**, 3 of 10 | PSNR, LPIPS, FD-EffNet |" in text
    assert "- Ours: **holds**, 3 of 10, on PSNR, LPIPS, FD-EffNet: better in 2 of 3, not in " in text
    assert "- Ours, on the paper's metrics alone: **holds**, 2 of 10, on PSNR, LPIPS: better in 2 of 2" in text
    assert re.search(r"\| FID \| -13\.234 \| yes \| FD-EffNet \+2\.000 \| \*\*no\*\*, 1 seed \|", text)


def test_a_fresh_clone_gives_the_published_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command without words, where there is no run: it reads results/ and writes below outputs/."""
    monkeypatch.chdir(tmp_path)
    program = str(ROOT / "scripts" / "audit.py")
    monkeypatch.setattr(sys, "argv", [program])
    before = (PUBLISHED / "cpu" / "audit.json").read_bytes()
    runpy.run_path(program, run_name="__main__")
    assert re.search(r"the paper's numbers +\d+ holds, 7 fails", capsys.readouterr().out)
    assert (PUBLISHED / "cpu" / "audit.json").read_bytes() == before
    published = json.loads(before)
    assert (PUBLISHED / "cpu" / "audit.md").read_text() == markdown(published)
    own = json.loads((tmp_path / "outputs" / "results" / "cpu" / "audit.json").read_text())
    assert {**own, "code": None} == {**published, "code": None}


@pytest.mark.skipif(not GOLDEN.is_file(), reason="no verdicts of the first audit beside this checkout")
def test_published_verdicts_are_those_of_the_first_audit() -> None:
    golden = json.loads(GOLDEN.read_text())["claims"]
    published = json.loads((PUBLISHED / "cpu" / "audit.json").read_text())["claims"]
    # New results may change what is said of ours: textures are now learnt from 1,427 images instead of 960.
    golden["bands.ae_dtd.lost"]["ours"] = "holds"
    # The first audit knew no embedded metrics, so that its verdicts on ours are those on the paper's metrics alone.
    sides = {"paper": "paper", "ours": "official"}
    assert {
        claim["id"]: {
            "statement": claim["statement"],
            **{side: (claim[now] or {}).get("verdict") for side, now in sides.items()},
        }
        for claim in published
    } == golden
    embedded = {METRICS[name].label for name in EMBEDDED.values()}
    assert [c["id"] for c in published if c["ours"] != c["official"] and not embedded & set(c["ours"]["metrics"])] == []


def test_own_tables_come_before_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "outputs" / "results", "table1", _records("celeba_with", psnr=1.0))
    mixed = OurSource(None, "cpu")
    assert mixed.numbers(RowGroup("table1", "celeba_with", "reconstruction"), "psnr").by_seed == {1: 1.0}
    assert len(mixed.numbers(RowGroup("table8", "full", "reconstruction"), "psnr").by_seed) == 3
    assert mixed.files_read() == {
        "table1": Path("outputs/results/cpu/table1.json"),
        "table8": PUBLISHED / "cpu" / "table8.json",
    }


def test_numbers_that_are_not_there_say_why(tmp_path: Path) -> None:
    _write(tmp_path, "table1", _records("celeba_with", psnr=math.inf, lfd=9.0))
    _write(tmp_path, "table5", _records("spade_with", group="cityscapes", miou=0.623))
    source = OurSource(tmp_path, "cpu")
    place = RowGroup("table5", "spade_with", "cityscapes")
    assert source.numbers(place, "miou").mean == pytest.approx(62.3)  # in percent, as the paper's
    quoted = source.numbers(place._replace(row="crn"), "miou")
    assert quoted.missing == "CRN is quoted from literature, not run"
    place = RowGroup("table1", "celeba_with", "reconstruction")
    command = "python scripts/reproduce.py table=1 scale=cpu rows=celeba_with"
    assert source.numbers(place, "psnr").missing == command  # infinite: no mean, and no difference, can be taken of it
    assert source.numbers(place, "bands").missing == command
    change = source.numbers(place, "lfd") - source.numbers(place._replace(row="celeba_without"), "lfd")
    assert change.missing == "python scripts/reproduce.py table=1 scale=cpu rows=celeba_without"
