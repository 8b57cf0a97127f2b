"""The audit as one JSON document, and as Markdown made from that document alone."""

import dataclasses
import json
import re
import statistics
from functools import partial
from typing import Any

from ffl.files import file_sha256
from ffl.metrics import METRICS
from ffl.metrics.bands import band_labels
from ffl.training.provenance import code_version
from scripts.audits.claims import read_claims, read_claims_file, read_pairs, subjects, tables_of, votes
from scripts.audits.evidence import OurSource, PaperSource, RowGroup, Source, is_of
from scripts.audits.gains import (
    GAINS,
    MOST_ORDERS,
    PREDICTORS,
    ComparedRows,
    compared_rows,
    low_bands,
    when_it_helps,
)
from scripts.audits.gaps import empty_cells
from scripts.audits.operators import effect, in_band, judge_claim
from scripts.audits.verdicts import CONFIDENCE, Numbers, judge, matched
from scripts.tables import PUBLISHED

VERDICTS = ("holds", "fails", "not tested")
SURE = " beyond chance"
SIDES = {
    "paper": "the paper's numbers",
    "ours": "ours",
    "official": "ours, on the paper's metrics alone",
}
ABLATIONS = ("no_freq", "no_phase", "no_ampli", "no_focal")
NEARER = 0.25

INTRODUCTION = """\
Made by `{command}` from the paper's printed numbers (`results/paper.yaml`) and from our own tables. Each claim
is put in our words and judged by one function on both; where its words leave a number open, one reading is stated with
it and serves both. A verdict is about the numbers that are there: "3 of 5" says how many of the claim's numbers those
are. A claim about several tasks or data sets is not tested while one without a number could turn it. LFD is a function
of PSNR, so that the two have one vote, PSNR's. Ours at a reduced scale are on other data and sizes than the paper's.

Differences are "with FFL" minus "without", or as named, taken seed by seed; ± is half of their {confidence:.0%} t
interval over the seeds. A verdict is beyond chance if it would stay the same whichever way those comparisons went whose
interval reaches across the limit, or that rest on one seed: a verdict on one seed never is. Each comparison is held
against chance by itself, without a correction for how many there are.

Where ours lack LPIPS, FID or IS, whose networks have to be downloaded, they are judged on ST-LPIPS, FD-EffNet and
IS-EffNet, whose networks come with packages. These are other metrics than the paper's: each verdict names those that it
rests on, and where it differs, what the paper's metrics alone say stands beside it.
"""

SETTINGS_INTRODUCTION = (
    "## Table 8: is the spatial loss kept in an ablation?",
    "",
    "The text leaves it open. Distance: |ours − printed| in units of what FFL changes in the printed table, mean",
    "over the metrics that both settings have, LFD (which repeats PSNR) left out.",
)

WHERE_INTRODUCTION = """\
Bands are octaves of the distance to zero frequency, in cycles per image; the last one holds the corners. Power: of
generated over real images, 1 is no gap. Error: in squared grey levels; the bands add up to the mean squared error. Both
over the test split. Coherence: 1 where every wave is in its place, whatever its contrast, 0 for noise; its square is
the share of the power that follows the real images.

![Power, error and coherence by octave, without and with FFL](bands.png)

*Drawn by `python scripts/figure.py bands scale={scale}`, which `model=ae` limits to one model.*
"""

WHEN_INTRODUCTION = """\
Every model on every data set, the largest gain first: by how much FFL lowers its squared error, FD-EffNet and spectrum
distance, the last two as shares of what they are without it. What could foretell it is taken from the run without FFL
and from its data. Ranks are compared over pairs, each the mean over its seeds. Chance: |ρ| stays below it in
{confidence:.0%} of the orders in which the gains can be dealt to the pairs, every order up to seven pairs, {orders:,}
of more; p: the share of orders with at least that |ρ|.

![The gain of every pair of runs, and what foretells it best](gains.png)

*Drawn by `python scripts/figure.py gains scale={scale}`.*
"""

Json = dict[str, Any]


def build_report(ours: OurSource, command: str) -> Json:
    """Judge every claim on the paper's numbers and on ours.

    Args:
        ours: our tables.
        command: that made the report.
    Returns:
        Plain values, for JSON and for ``markdown``.
    """
    paper = PaperSource()
    sources: dict[str, Source] = {"paper": paper, "ours": ours, "official": OurSource(ours.results, ours.scale, False)}
    # The same function judges both sides. That our numbers fail a claim means more where the paper's own do not.
    about = {claim.id: subjects(claim) for claim in read_claims()}
    claims: list[Json] = [
        {
            "id": claim.id,
            "section": claim.section,
            "statement": claim.statement,
            "reading": claim.reading,
            "models": about[claim.id][0],
            "data_sets": about[claim.id][1],
            "full_scale": full_scale(tables_of(claim)),
            **{
                side: dataclasses.asdict(judge_claim(claim, source)) if claim.of_paper or side != "paper" else None
                for side, source in sources.items()
            },
        }
        for claim in read_claims()
    ]
    # Each metric of each pair is a small claim of its own: FFL improves it.
    effects: list[Json] = [
        {
            "model": pair.model,
            "data": pair.data,
            "our_data": measured_on(ours, pair.with_ffl),
            "metric": METRICS[metric].label,
            **{
                side: dataclasses.asdict(judge(effect(source, pair, [metric]), "better"))
                for side, source in sources.items()
            },
        }
        for pair in read_pairs().values()
        for metric in votes(pair.metrics)
    ]
    counts = {
        kind: {
            side: {
                verdict: sum(item[side] is not None and item[side]["verdict"] == verdict for item in items)
                for verdict in VERDICTS
            }
            | {
                f"{verdict}{SURE}": sum(
                    item[side] is not None and item[side]["verdict"] == verdict and item[side]["beyond_chance"] is True
                    for item in items
                )
                for verdict in VERDICTS[:2]
            }
            for side in SIDES
        }
        for kind, items in (("claims", claims), ("cells", effects))
    }
    report: Json = {
        "scale": ours.scale,
        "command": command,
        "counts": counts,
        "claims": claims,
        "effects": effects,
        "settings": [ablation_setting(paper, ours, row) for row in ABLATIONS],
        "bands": [band_table(ours, rows) for rows in compared_rows()],
        "gains": when_it_helps(ours),
        "empty_cells": empty_cells(ours),
        "pictures_alone": read_claims_file()["pictures_alone"],
        "tables": {name: file_sha256(path) for name, path in ours.files_read().items()},
        "own_tables": [name for name, path in ours.files_read().items() if PUBLISHED not in path.parents],
        "code": code_version(),
    }
    # What is returned equals what a reader of the file gets.
    plain: Json = json.loads(json.dumps(report))  # tuples become lists, as in the file
    return plain


def measured_on(source: Source, place: RowGroup) -> str:
    """The images that a row was measured on, in a few words; "" where it was not."""
    for record in source.records(place.table):
        if is_of(record, place) and "reference" in record.protocol:
            height, width = record.protocol["size"]
            return f"{record.protocol['reference']}, {record.num_images} images of {height} × {width}"
    return ""


def ablation_setting(paper: Source, ours: Source, row: str) -> Json:
    """Which of our two settings of an ablation fits the printed row: Table 8 leaves open if the spatial loss stays.

    Returns:
        row; printed, kept and left_out (our row ``<row>_no_mse``): values by metric; distances of the last two from
        the printed ones: |difference| in units of what FFL changes in the printed table, mean over the metrics that
        both have, without LFD, which repeats PSNR; verdict: the setting that is nearer by a quarter, or why neither.
    """
    metrics = read_pairs()["ae_celeba"].metrics

    def means(source: Source, name: str) -> tuple[dict[str, float], str | None]:
        numbers = {metric: source.numbers(RowGroup("table8", name, "reconstruction"), metric) for metric in metrics}
        found = {metric: number.mean for metric, number in numbers.items() if number.missing is None}
        return found, None if found else numbers[metrics[0]].missing

    # LFD is a function of PSNR and would count it twice. Differences are taken in units of what FFL itself changes,
    # since metrics have scales of their own.
    baseline, full, printed = (means(paper, name)[0] for name in ("baseline", "full", row))
    (kept, not_kept), (left_out, not_left_out) = means(ours, row), means(ours, f"{row}_no_mse")
    result: Json = {"row": row, "printed": printed, "kept": kept, "left_out": left_out, "distances": None}
    common = [metric for metric in kept if metric in left_out and metric != "lfd"]
    if not common:
        reasons = dict.fromkeys(reason for reason in (not_kept, not_left_out) if reason)
        return {**result, "verdict": f"not tested: {'; '.join(reasons)}"}
    with_loss, without_loss = result["distances"] = [
        statistics.fmean(abs(values[key] - printed[key]) / abs(full[key] - baseline[key]) for key in common)
        for values in (kept, left_out)
    ]
    # Two distances that are nearly alike decide nothing.
    verdict = "spatial loss kept" if with_loss < without_loss else "spatial loss left out"
    if min(with_loss, without_loss) > (1 - NEARER) * max(with_loss, without_loss):
        verdict = "undecided, the two are about as far"
    return {**result, "verdict": verdict}


def full_scale(tables: set[str]) -> str:
    """The command that makes these tables and figures at the paper's scale, with three seeds."""
    figures = sorted(table for table in tables if table.startswith("figure"))
    names = sorted(table.removeprefix("table") for table in tables if not table.startswith("figure"))
    commands = [f"python scripts/figure.py {name.removeprefix('figure')} scale=paper" for name in figures]
    which = names if len(names) < 4 else ["all"]
    commands += [f"python scripts/reproduce.py table={name} seeds=3 scale=paper" for name in which]
    return "; ".join(commands)


def band_table(ours: Source, rows: ComparedRows) -> Json:
    """Power, error and coherence by band of frequency without and with FFL, as means over the seeds that both have.

    Returns:
        name, seeds, our_data; missing: why there is nothing else; rows: by band; error: the squared error ``without``
        and ``with``, and its change ``low`` and ``high``, below and above ``edge``, a quarter of the Nyquist frequency;
        None for images that are no pairs.
    """

    def sides(quantity: str, band: int) -> dict[str, Numbers]:
        numbers = (
            ours.numbers(place, "bands", partial(in_band, quantity, band)) for place in (rows.without, rows.with_ffl)
        )
        return dict(zip(("without", "with"), matched(*numbers), strict=True))

    # The lowest band is the mean brightness, which every image has; without it there are no bands at all.
    mean = sides("energy_ratio", 0)["without"]
    table: Json = {"name": rows.name, "missing": mean.missing, "seeds": list(mean.by_seed), "rows": [], "error": None}
    table["our_data"] = measured_on(ours, rows.with_ffl)
    if mean.missing is not None:
        return table
    found = (record for record in ours.records(rows.without.table) if record.metric == "bands")
    edges = next((record.details or {})["edges"] for record in found if is_of(record, rows.without))
    for band, label in enumerate(band_labels(edges)):
        quantities = {quantity: sides(quantity, band) for quantity in ("energy_ratio", "error", "coherence")}
        values = {
            side: {quantity: None if by[side].missing else by[side].mean for quantity, by in quantities.items()}
            for side in ("without", "with")
        }
        table["rows"].append({"band": label, **values})
    errors = {side: [row[side]["error"] for row in table["rows"]] for side in ("without", "with")}
    if None not in errors["without"]:
        change = [after - before for before, after in zip(errors["without"], errors["with"], strict=True)]
        low = low_bands(edges)
        table["error"] = {side: sum(values) for side, values in errors.items()}
        table["error"] |= {"low": sum(change[:low]), "high": sum(change[low:]), "edge": edges[low - 1]}
    return table


def markdown(report: Json) -> str:
    """The report for readers."""
    lines = [f"# Audit of the paper's claims, scale={report['scale']}", ""]
    lines += [INTRODUCTION.format(command=report["command"], confidence=CONFIDENCE)]

    # How many hold: the first thing to know, and the shortest.
    columns = ["holds", f"holds{SURE}", "fails", f"fails{SURE}", "not tested"]
    short = [name.replace("holds beyond", "beyond").replace("fails beyond", "beyond") for name in columns]
    lines += ["## Counts", "", f"| what | on | {' | '.join(short)} |", "| --- " * 7 + "|"]
    for kind, words in (("claims", "claims in words"), ("cells", "FFL improves a metric of a model on a data set")):
        for side, source in SIDES.items():
            counts = " | ".join(
                "" if side == "paper" and SURE in name else str(report["counts"][kind][side][name]) for name in columns
            )
            lines.append(f"| {words if side == 'paper' else ''} | {source} | {counts} |")

    # What fails: on ours with the numbers, and with what would tell whether the scale is the reason.
    claims = report["claims"]
    lines += ["", "## What fails", ""]
    for side, words in (("paper", "On the paper's own numbers:"), ("ours", "On ours:")):
        bullets = []
        for claim in [claim for claim in claims if claim[side] is not None and claim[side]["verdict"] == "fails"]:
            alike = side == "ours" and claim["paper"] is not None and claim["paper"]["verdict"] == "fails"
            also = "; so it does on the paper's own numbers" if alike else ""
            bullets.append(f"- {link(claim)}: {summary(claim[side])}{also}")
            if side == "ours":
                bullets += [f"  - {line}" for line in claim["ours"]["numbers"]]
                bullets += (
                    [f"  - at full scale: {commands_as_code(claim['full_scale'])}"] if claim["full_scale"] else []
                )
        lines += [words, "", *(bullets or ["- nothing"]), ""]

    lines += where_section(report)
    lines += when_section(report)

    # Every claim with its two verdicts.
    lines += ["## Claims in words", "", "| claim | where | the paper's numbers | ours | seeds | ours judged on |"]
    lines += ["| --- " * 6 + "|"]
    for claim in claims:
        printed, ours = "not printed" if claim["paper"] is None else verdict(claim["paper"]), claim["ours"]
        runs = f"{ours['seeds'] or ''}" + (SURE.replace(" ", ", ", 1) if ours["beyond_chance"] else "")
        texts = [link(claim), claim["section"], printed, verdict(ours), runs, ", ".join(ours["metrics"])]
        lines.append(f"| {' | '.join(texts)} |")

    # Every metric of every pair, a model's name on its first line alone.
    lines += ["", "## FFL improves a metric of a model on a data set", ""]
    lines += ["| model | data | metric | paper | better? | ours | better? |", "| --- " * 7 + "|"]
    answers = {"holds": "yes", "fails": "**no**", "not tested": "not tested"}
    measured: dict[str, str] = {}
    missing: dict[str, dict[str, list[str]]] = {}
    before = None
    for cell in report["effects"]:
        name = f"{cell['model']}, {cell['data']}"
        texts = [*([cell["model"], cell["data"]] if name != before else ["", ""]), cell["metric"]]
        for finding in (cell["paper"], cell["ours"]):
            texts.append(", ".join(finding["numbers"]).removeprefix(f"{cell['metric']} "))
            texts.append(", ".join(filter(None, (answers[finding["verdict"]], seeds(finding)))))
        lines.append(f"| {' | '.join(texts)} |")
        before = name
        if cell["our_data"]:
            measured[name] = cell["our_data"]
        for reason in cell["ours"]["missing"]:
            missing.setdefault(reason, {}).setdefault(name, []).append(cell["metric"])
    if measured:
        lines += ["", "Ours were measured on:", "", *(f"- {name}: {data}" for name, data in measured.items())]
    if missing:
        lines += ["", "Not tested:", ""]
    for reason, cells in missing.items():
        what = "; ".join(f"{name} ({', '.join(metrics)})" for name, metrics in cells.items())
        lines.append(f"- {what}: {commands_as_code(reason)}")

    # The setting that the text of Table 8 leaves open, told from the numbers.
    metrics = read_pairs()["ae_celeba"].metrics
    lines += ["", *SETTINGS_INTRODUCTION, ""]
    lines += [f"| row | numbers | {' | '.join(METRICS[metric].label for metric in metrics)} | distance |"]
    lines += ["| --- " * (len(metrics) + 3) + "|"]
    for fit in report["settings"]:
        distances = [f"{distance:.2f}" for distance in fit["distances"] or ()] or ["", ""]
        heads = ([fit["row"], "printed"], ["", "ours, kept"], ["", "left out"])
        rows = (fit["printed"], fit["kept"], fit["left_out"])
        for head, values, distance in zip(heads, rows, ["", *distances], strict=True):
            if values:
                numbers = [f"{values[metric]:.3f}" if metric in values else "" for metric in metrics]
                lines.append(f"| {' | '.join([*head, *numbers, distance])} |")
    lines += ["", "The printed numbers fit:", ""]
    lines += [f"- {fit['row']}: {commands_as_code(fit['verdict'])}" for fit in report["settings"]]

    # What the tables lack, by reason.
    lines += ["", "## Cells without a number", ""]
    total = sum(gap["count"] for gap in report["empty_cells"])
    lines += [f"{total} cells of our tables are empty. Rows are named where not all of them lack a metric.", ""]
    for gap in report["empty_cells"]:
        lines.append(f"- {gap['count']}: {commands_as_code(gap['reason'])}")
        for place in gap["places"]:
            table = place["table"].replace("table", "Table ") + (f", {place['group']}" if place["group"] else "")
            few = len(place["rows"]) <= len(place["others"])
            named = "; ".join(place["rows"]) if few else "all but " + "; ".join(place["others"])
            which = f" ({named})" if place["others"] else ""
            lines.append(f"  - {table}: {', '.join(place['metrics'])}{which}")

    # Every claim with the numbers that its verdicts rest on.
    lines += ["", "## Claim by claim, with the numbers", ""]
    for claim in claims:
        lines += [f"### {claim['id']}", "", f"{claim['statement']} ({claim['section']})."]
        lines += [f"*Reading:* {claim['reading']}."] if claim["reading"] else []
        lines.append("")
        for side, words in (("paper", "Paper"), ("ours", "Ours"), ("official", "Ours, on the paper's metrics alone")):
            finding = claim[side]
            if finding is None or (side == "official" and finding == claim["ours"]):
                continue
            reasons = [commands_as_code(reason) for reason in finding["missing"]]
            if not finding["tested"]:
                lines.append(f"- {words}: not tested: {'; '.join(reasons)}")
                continue
            on = f", on {', '.join(finding['metrics'])}" if finding["metrics"] else ""
            lines.append(f"- {words}: {verdict(finding)}{on}: {summary(finding)}")
            lines += [f"  - {line}" for line in finding["numbers"]]
            lines += [f"  - not there: {reason}" for reason in reasons]
        lines.append("")

    # What no number here tests, and where the numbers are from.
    lines += ["## Said of pictures alone", "", "No number here tests these; see the figures.", ""]
    lines += [f"- {line}" for line in report["pictures_alone"]]
    commit = str(report["code"]["commit"])[:10] + (" (with uncommitted changes)" if report["code"]["dirty"] else "")
    tables = ", ".join(f"{name} {digest[:10]}" for name, digest in report["tables"].items()) or "none"
    own = f" Not published ones: {', '.join(report['own_tables'])}." if report["own_tables"] else ""
    lines += ["", f"Commit {commit}. Our tables, by SHA-256: {tables}.{own}", ""]
    return "\n".join(lines)


def where_section(report: Json) -> list[str]:
    """Where the gain sits: what becomes of the error of each pair, below and above, then power and error by band."""
    lines = ["## Where the gain sits", "", WHERE_INTRODUCTION.format(scale=report["scale"])]
    tables = [table for table in report["bands"] if not table["missing"]]
    # In one sentence, then pair by pair.
    shares, corners, texts = [], [], []
    for table in [table for table in tables if table["error"]]:
        error, last = table["error"], table["rows"][-1]
        change = error["low"] + error["high"]
        text = f"{error['without']:.0f} to {error['with']:.0f} ({change / error['without']:+.0%}): "
        text += f"{error['low']:+.0f} below {error['edge']:g} cycles, {error['high']:+.0f} above"
        if change < 0:
            shares.append(min(1.0, error["low"] / change))
            text += f", so that {shares[-1]:.0%} of the drop lies below"
        if last["without"]["error"]:
            corners.append(last["with"]["error"] / last["without"]["error"])
            text += f"; in the corners {corners[-1]:.2f} times the error"
        texts.append(f"- {table['name']}: {text}.")
    if texts:
        sentence = f"**FFL lowers the squared error of {len(shares)} of {len(texts)} pairs."
        if shares:
            sentence += f" Of what it saves there, {span(shares, '.0%')} lies below a quarter of the Nyquist frequency."
        if corners:
            worse = sum(ratio > 1 for ratio in corners)
            sentence += f" In the corners the error rises in {worse} of {len(corners)}, {span(corners, '.2f')} times."
        lines += [f"{sentence}**", "", "Squared error without and with FFL:", "", *texts]
    lines += ["", "Error with FFL over the error without, band by band from the lowest:", ""]
    for table in tables:
        pairs = [(row["without"]["error"], row["with"]["error"]) for row in table["rows"]]
        ratios = [f"{after / before:.2f}" if before else "" for before, after in pairs if before is not None]
        lines += [f"- {table['name']}: {' '.join(ratios)}"] if ratios else []

    lines.append("")
    for table in tables:
        runs = "1 seed" if len(table["seeds"]) == 1 else f"mean over {len(table['seeds'])} seeds"
        lines += [f"**{table['name']}**, ours on {table['our_data']}, {runs}", ""]
        heads = [f"{quantity} {side}" for quantity in ("power", "error", "coherence") for side in ("w/o", "w/")]
        lines += [f"| band | {' | '.join(heads)} |", "| --- " * 7 + "|"]
        for row in table["rows"]:
            cells = [row["band"]]
            for quantity, form in (("energy_ratio", "{:.3f}"), ("error", "{:.3g}"), ("coherence", "{:.3f}")):
                numbers = (row[side][quantity] for side in ("without", "with"))
                cells += ["" if number is None else form.format(number) for number in numbers]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    absent: dict[str, list[str]] = {}
    for table in [table for table in report["bands"] if table["missing"]]:
        absent.setdefault(table["missing"], []).append(table["name"])
    lines += ["Not measured:", ""] if absent else []
    lines += [f"- {'; '.join(names)}: {commands_as_code(reason)}" for reason, names in absent.items()]
    return [*lines, ""] if absent else lines


def span(values: list[float], form: str) -> str:
    """The range of some values as text."""
    ends = dict.fromkeys(format(value, form) for value in (min(values), max(values)))
    return " to ".join(ends)


def when_section(report: Json) -> list[str]:
    """When FFL helps: the pairs by gain, the predictors by how well they do, and what that comes to."""
    gains, words = report["gains"], {key: measure.words for key, measure in PREDICTORS.items()}
    lines = ["## When FFL helps", ""]
    lines += [WHEN_INTRODUCTION.format(scale=report["scale"], confidence=CONFIDENCE, orders=MOST_ORDERS)]
    if not gains["pairs"]:
        return [*lines, "Not tested: no pair of runs has been measured.", ""]
    lines += [f"| pair | seeds | {' | '.join(measure.words for measure in GAINS.values())} |"]
    lines += ["| --- " * (len(GAINS) + 2) + "|"]
    for pair in gains["pairs"]:
        numbers = [(pair["gains"][key], measure.form) for key, measure in GAINS.items()]
        cells = ["" if number is None else form.format(number) for number, form in numbers]
        lines.append(f"| {' | '.join([pair['name'], str(pair['seeds']), *cells])} |")

    lines += ["", "What is known before, in the same order:", ""]
    lines += [f"| pair | {' | '.join(words.values())} |", "| --- " * (len(words) + 1) + "|"]
    for pair in gains["pairs"]:
        numbers = [(pair["predictors"][key], measure.form) for key, measure in PREDICTORS.items()]
        cells = ["" if number is None else form.format(number) for number, form in numbers]
        lines.append(f"| {' | '.join([pair['name'], *cells])} |")

    best = gains["best"]
    if best is None:
        return [*lines, "", "Not tested: too few pairs have both a gain and a predictor.", ""]
    lines += ["", "| gain in | foretold by | pairs | ρ | chance | p |", "| --- " * 6 + "|"]
    for test in gains["tests"]:
        name = [GAINS[test["gain"]].words, words[test["predictor"]], str(test["pairs"])]
        lines.append(f"| {' | '.join(name)} | {test['rho']:+.2f} | {test['chance']:.2f} | {test['p']:.3f} |")
    kept = f"**{words[best['predictor']]}** for the gain in {GAINS[best['gain']].words}"
    is_sure = best["corrected"] < 1 - CONFIDENCE
    lines += [
        "",
        f"The best is {kept}: ρ = {best['rho']:+.2f} over {best['pairs']} pairs, p = {best['p']:.3f}. It is the best "
        f"of {len(gains['tests'])} tests, and times that number p is {best['corrected']:.2f}: "
        + ("beyond chance." if is_sure else "chance alone gives as much, so that none of them may be relied on."),
        "",
    ]
    return lines


def link(claim: Json) -> str:
    """The statement, leading to the claim's numbers below."""
    return f"[{claim['statement']}](#{claim['id'].replace('.', '')})"


def verdict(finding: Json) -> str:
    """A verdict with how much of the claim it covers."""
    if finding["verdict"] == "not tested":
        return "not tested"
    partly = f", {finding['tested']} of {finding['total']}" if finding["tested"] < finding["total"] else ""
    return f"**{finding['verdict']}**{partly}"


def summary(finding: Json) -> str:
    """The summary with the seeds behind it."""
    return finding["summary"] + (f" ({seeds(finding)})" if finding["seeds"] else "")


def seeds(finding: Json) -> str:
    """How many seeds are behind a finding, and whether it is beyond chance; "" for printed numbers."""
    if not finding["seeds"]:
        return ""
    if finding["seeds"] == 1 and len(finding["one_seed"]) == finding["tested"]:
        return "1 seed, chance not ruled out"
    words = f"{finding['seeds']} seed" + ("s" if finding["seeds"] > 1 else " or more" if finding["tested"] > 1 else "")
    if finding["beyond_chance"] is not None:
        words += ", beyond chance" if finding["beyond_chance"] else ", not beyond chance"
    # Where one difference is all there is, there is no need to name it.
    if finding["tested"] > 1 and finding["within_chance"]:
        words += f"; within chance: {', '.join(finding['within_chance'])}"
    return words + (f"; 1 seed: {', '.join(finding['one_seed'])}" if finding["one_seed"] else "")


def commands_as_code(reason: str) -> str:
    """The reason with the commands in it set as code."""
    return re.sub(r"python [^,;]+", lambda command: f"`{command[0]}`", reason)
