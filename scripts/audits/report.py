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
from scripts.audits.claims import Pair, read_claims, read_claims_file, read_pairs
from scripts.audits.evidence import OurSource, PaperSource, RowGroup, Source, is_of
from scripts.audits.operators import effect, in_band, judge_claim
from scripts.audits.verdicts import Numbers, judge, matched
from scripts.tables import PUBLISHED

VERDICTS = ("holds", "fails", "not tested")
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
are. Differences are "with FFL" minus "without", or as named; ± is the sample standard deviation over seeds of the
difference, seed by seed. Ours at a reduced scale are on other data and sizes than the paper's.

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

BANDS_INTRODUCTION = (
    "## Error and power by frequency band",
    "",
    "Bands are octaves of the distance to zero frequency, in cycles per image; the last one holds the corners.",
    "Power: of generated over real images, 1 is no gap. Error: in squared grey levels; the bands add up to the",
    "mean squared error. Both over the test split.",
)

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
    claims: list[Json] = [
        {
            "id": claim.id,
            "section": claim.section,
            "statement": claim.statement,
            "reading": claim.reading,
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
        for metric in pair.metrics
    ]
    counts = {
        kind: {
            side: {
                verdict: sum(item[side] is not None and item[side]["verdict"] == verdict for item in items)
                for verdict in VERDICTS
            }
            for side in SIDES
        }
        for kind, items in (("claims", claims), ("cells", effects))
    }
    shown_bands = [claim.arguments["pair"] for claim in read_claims() if claim.operator == "power_lost"]
    report: Json = {
        "scale": ours.scale,
        "command": command,
        "counts": counts,
        "claims": claims,
        "effects": effects,
        "settings": [ablation_setting(paper, ours, row) for row in ABLATIONS],
        "bands": [band_table(ours, read_pairs()[pair]) for pair in shown_bands],
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


def band_table(ours: Source, pair: Pair) -> Json:
    """Power and error by band of frequency without and with FFL, as means over the seeds that both have."""

    def sides(quantity: str, band: int) -> dict[str, Numbers]:
        numbers = (
            ours.numbers(place, "bands", partial(in_band, quantity, band)) for place in (pair.without, pair.with_ffl)
        )
        return dict(zip(("without", "with"), matched(*numbers), strict=True))

    # The lowest band is the mean brightness, which every image has; without it there are no bands at all.
    mean = sides("energy_ratio", 0)["without"]
    table: Json = {"model": pair.model, "data": pair.data, "missing": mean.missing, "seeds": list(mean.by_seed)}
    table["our_data"] = measured_on(ours, pair.with_ffl)
    table["rows"] = []
    edges = [(record.details or {})["edges"] for record in ours.records(pair.table) if record.metric == "bands"]
    for band, label in enumerate(band_labels(edges[0]) if mean.missing is None else ()):
        powers, errors = sides("energy_ratio", band), sides("error", band)  # no error without partners
        values = {
            side: {"energy_ratio": powers[side].mean, "error": None if errors[side].missing else errors[side].mean}
            for side in powers
        }
        table["rows"].append({"band": label, **values})
    return table


def markdown(report: Json) -> str:
    """The report for readers."""
    lines = [f"# Audit of the paper's claims, scale={report['scale']}", ""]
    lines += [INTRODUCTION.format(command=report["command"])]

    # How many hold: the first thing to know, and the shortest.
    lines += ["## Counts", "", "| what | on | holds | fails | not tested |", "| --- | --- | --- | --- | --- |"]
    for kind, words in (("claims", "claims in words"), ("cells", "FFL improves a metric of a model on a data set")):
        for side, source in SIDES.items():
            counts = " | ".join(str(report["counts"][kind][side][verdict]) for verdict in VERDICTS)
            lines.append(f"| {words if side == 'paper' else ''} | {source} | {counts} |")

    # What fails, with the reason in one line.
    claims = report["claims"]
    lines += ["", "## What fails", ""]
    for side, words in (("paper", "On the paper's own numbers:"), ("ours", "On ours:")):
        failing = [claim for claim in claims if claim[side] is not None and claim[side]["verdict"] == "fails"]
        bullets = [f"- {link(claim)}: {summary(claim[side])}" for claim in failing]
        lines += [words, "", *(bullets or ["- nothing"]), ""]

    # Every claim with its two verdicts.
    lines += ["## Claims in words", "", "| claim | where | the paper's numbers | ours | ours judged on |"]
    lines += ["| --- " * 5 + "|"]
    for claim in claims:
        printed = "not printed" if claim["paper"] is None else verdict(claim["paper"])
        texts = [link(claim), claim["section"], printed, verdict(claim["ours"]), ", ".join(claim["ours"]["metrics"])]
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

    # What the claims about spectra rest on.
    lines += ["", *BANDS_INTRODUCTION, ""]
    for table in report["bands"]:
        name = f"{table['model']} on {table['data']}"
        if table["missing"]:
            lines += [f"- {name}: not tested: {commands_as_code(table['missing'])}", ""]
            continue
        runs = "1 seed" if len(table["seeds"]) == 1 else f"mean over {len(table['seeds'])} seeds"
        lines += [f"**{name}**, ours on {table['our_data']}, {runs}", ""]
        lines += ["| band | power w/o | power w/ | error w/o | error w/ | with / without |", "| --- " * 6 + "|"]
        for row in table["rows"]:
            powers = [f"{row[side]['energy_ratio']:.3f}" for side in ("without", "with")]
            without, with_ffl = row["without"]["error"], row["with"]["error"]
            errors = ["", "", ""]
            if without is not None:
                errors = [f"{without:.3g}", f"{with_ffl:.3g}", f"{with_ffl / without:.3f}" if without else ""]
            lines.append(f"| {' | '.join([row['band'], *powers, *errors])} |")
        lines.append("")

    # Every claim with the numbers that its verdicts rest on.
    lines += ["## Claim by claim, with the numbers", ""]
    for claim in claims:
        lines += [f"### {claim['id']}", "", f"{claim['statement']} ({claim['section']})."]
        lines += [f"*Reading:* {claim['reading']}."] if claim["reading"] else []
        lines.append("")
        for side, words in (("paper", "Paper"), ("ours", "Ours"), ("official", "Ours, on the paper's metrics alone")):
            finding = claim[side]
            if finding is None or (side == "official" and finding == claim["ours"]):
                continue
            reasons = [commands_as_code(reason) for reason in finding["missing"]]
            if finding["verdict"] == "not tested":
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
    """How many seeds are behind a finding, and whether differences exceed their spread; "" for printed numbers."""
    if not finding["seeds"]:
        return ""
    words = f"{finding['seeds']} seed" + ("s" if finding["seeds"] > 1 else " or more" if finding["spreads"] else "")
    if not finding["spreads"]:
        return words
    if not finding["within_spread"]:
        return f"{words}, beyond the spread"
    # Where one difference is all there is, there is no need to name it.
    names = "" if finding["spreads"] == 1 else f" in {', '.join(finding['within_spread'])}"
    return f"{words}, within the spread{names}"


def commands_as_code(reason: str) -> str:
    """The reason with the commands in it set as code."""
    return re.sub(r"python [^,;]+", lambda command: f"`{command[0]}`", reason)
