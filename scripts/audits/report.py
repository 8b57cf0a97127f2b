"""The audit as one JSON document, and as Markdown made from that document alone."""

import dataclasses
import json
import re
import statistics
from collections.abc import Sequence
from typing import Any

from ffl.training.model import Task
from ffl.training.provenance import code_version
from scripts.audits.ablation_setting import SettingFit, setting_fits
from scripts.audits.bands import Bands
from scripts.audits.claims import Claim, table_claims
from scripts.audits.comparisons import PAIRS, RECONSTRUCTION, Pair, effect, metric_label
from scripts.audits.measured_claims import BAND_PAIRS, measured_claims
from scripts.audits.sources import OurSource, PaperSource, Source
from scripts.audits.verdicts import Absent, judge

VERDICTS = ("holds", "fails", "not tested")

# Said of pictures, in words that no number here tests.
PICTURES_ALONE = (
    "Figure 3: one image needs both amplitude and phase to be reconstructed",
    "Figures 5 to 8 and 10: faces, textures, façades and streets look clearer, with fewer artefacts and truer colours",
    "Figure 9: small artefacts of StyleGAN2 on background and face become fewer",
    "Figure 11: without phase contours stay and colours shift; without amplitude faces are lost",
    "Figures 17 to 19: teeth, eyes and faces at 1024 × 1024",
)

INTRODUCTION = """\
Made by `{command}` from the paper's printed numbers (`results/paper.yaml`) and from our own tables and runs. Each claim
is put in our words and judged by one function on both; where its words leave a number open, one reading is stated with
it and serves both. A verdict is about the numbers that are there: "3 of 5" says how many of the claim's numbers those
are. Differences are "with FFL" minus "without", or as named; ± is the sample standard deviation over seeds of the
difference, seed by seed. Ours at a reduced scale are on other data and sizes than the paper's.
"""


def build_report(ours: OurSource, command: str) -> dict[str, Any]:
    """Judge every claim on the paper's numbers and on ours.

    Args:
        ours: our tables and runs.
        command: that made the report.
    Returns:
        Plain values, for JSON and for ``markdown``.
    """
    paper = PaperSource()
    claims = [_judged(claim, paper, ours) for claim in (*table_claims(), *measured_claims())]
    effects = [cell for pair in PAIRS for cell in _effects(pair, paper, ours)]
    report = {
        "scale": ours.scale,
        "command": command,
        "counts": {"claims": _counts(claims), "cells": _counts(effects)},
        "claims": claims,
        "effects": effects,
        "settings": [_setting(fit) for fit in setting_fits(paper, ours)],
        "bands": [_band_table(pair, task, ours) for _, pair, task, _ in BAND_PAIRS],
        "pictures_alone": list(PICTURES_ALONE),
        "tables": ours.tables_used(),
        "code": code_version(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(report))  # tuples become lists, as in the file
    return plain


def _judged(claim: Claim, paper: Source, ours: Source) -> dict[str, Any]:
    return {
        "id": claim.id,
        "section": claim.section,
        "statement": claim.statement,
        "reading": claim.reading,
        "paper": dataclasses.asdict(claim.judge(paper)) if claim.of_paper else None,
        "ours": dataclasses.asdict(claim.judge(ours)),
    }


def _effects(pair: Pair, paper: Source, ours: Source) -> list[dict[str, Any]]:
    """For each metric of a pair: does FFL improve it?"""
    try:
        data = ours.data(pair.with_ffl)
    except Absent:
        data = ""
    cells = []
    for metric, printed, measured in zip(pair.metrics, effect(paper, pair), effect(ours, pair), strict=True):
        findings = {"paper": judge([printed], "all"), "ours": judge([measured], "all")}
        cells.append(
            {
                "model": pair.model,
                "data": pair.data,
                "our_data": data,
                "metric": metric_label(metric),
                **{side: dataclasses.asdict(finding) for side, finding in findings.items()},
            }
        )
    return cells


def _counts(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    return {
        side: {
            verdict: sum(item[side] is not None and item[side]["verdict"] == verdict for item in items)
            for verdict in VERDICTS
        }
        for side in ("paper", "ours")
    }


def _setting(fit: SettingFit) -> dict[str, Any]:
    return dataclasses.asdict(fit)


def _band_table(pair: Pair, task: Task, ours: OurSource) -> dict[str, Any]:
    """Bands without and with FFL: means over the seeds that both have, and every seed."""
    table: dict[str, Any] = {"model": pair.model, "data": pair.data, "missing": None, "seeds": [], "rows": []}
    try:
        without, with_ffl = (ours.bands(place, task) for place in (pair.without, pair.with_ffl))
        table["our_data"] = ours.data(pair.with_ffl)
    except Absent as reason:
        table["missing"] = str(reason)
        return table
    seeds = [seed for seed in without if seed in with_ffl]
    if not seeds:
        table["missing"] = "no seed was run on both sides"
        return table
    sides = {"without": [without[seed] for seed in seeds], "with": [with_ffl[seed] for seed in seeds]}
    table["seeds"] = seeds
    table["by_seed"] = {side: [dataclasses.asdict(bands) for bands in found] for side, found in sides.items()}
    for index, label in enumerate(sides["with"][0].labels):
        table["rows"].append({"band": label, **{side: _band(found, index) for side, found in sides.items()}})
    return table


def _band(found: Sequence[Bands], index: int) -> dict[str, float | None]:
    errors = [bands.error[index] for bands in found if bands.error is not None]
    return {
        "energy_ratio": statistics.fmean(bands.energy_ratio[index] for bands in found),
        "error": statistics.fmean(errors) if errors else None,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report for readers."""
    return "\n".join(
        [
            f"# Audit of the paper's claims, scale={report['scale']}",
            "",
            INTRODUCTION.format(command=report["command"]),
            *_counts_section(report),
            *_failures(report["claims"]),
            *_overview(report["claims"]),
            *_effects_section(report["effects"]),
            *_settings_section(report["settings"]),
            *_bands_section(report["bands"]),
            *_details(report["claims"]),
            "## Said of pictures alone",
            "",
            "No number here tests these; see the figures.",
            "",
            *(f"- {line}" for line in report["pictures_alone"]),
            "",
            _provenance(report),
        ]
    )


def _counts_section(report: dict[str, Any]) -> list[str]:
    counts = report["counts"]
    lines = ["## Counts", "", "| what | on | holds | fails | not tested |", "| --- | --- | --- | --- | --- |"]
    for kind, words in (("claims", "claims in words"), ("cells", "FFL improves a metric of a model on a data set")):
        for side, source in (("paper", "the paper's numbers"), ("ours", "ours")):
            numbers = " | ".join(str(counts[kind][side][verdict]) for verdict in VERDICTS)
            lines.append(f"| {words if side == 'paper' else ''} | {source} | {numbers} |")
    return [*lines, ""]


def _failures(claims: list[dict[str, Any]]) -> list[str]:
    """What a reader wants to know first."""
    lines = ["## What fails", ""]
    for side, words in (("paper", "On the paper's own numbers:"), ("ours", "On ours:")):
        failing = [claim for claim in claims if claim[side] is not None and claim[side]["verdict"] == "fails"]
        bullets = [f"- {_link(claim['statement'], claim)}: {_summary(claim[side])}" for claim in failing]
        lines += [words, "", *(bullets or ["- nothing"]), ""]
    return lines


def _link(words: str, claim: dict[str, Any]) -> str:
    """Words that lead to a claim's numbers below."""
    return f"[{words}](#{claim['id'].replace('.', '')})"


def _overview(claims: list[dict[str, Any]]) -> list[str]:
    lines = ["## Claims in words", "", "| claim | where | the paper's numbers | ours |", "| --- | --- | --- | --- |"]
    for claim in claims:
        printed = "not printed" if claim["paper"] is None else _verdict(claim["paper"])
        statement = _link(claim["statement"], claim)
        lines.append(f"| {statement} | {claim['section']} | {printed} | {_verdict(claim['ours'])} |")
    return [*lines, ""]


def _verdict(finding: dict[str, Any]) -> str:
    """A verdict with how much of the claim it covers."""
    verdict = finding["verdict"]
    if verdict == "not tested":
        return verdict
    partly = f", {finding['tested']} of {finding['total']}" if finding["tested"] < finding["total"] else ""
    return f"**{verdict}**{partly}"


def _effects_section(effects: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## FFL improves a metric of a model on a data set",
        "",
        "| model | data | metric | paper | better? | ours | better? |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    before = None
    for cell in effects:
        start = (cell["model"], cell["data"]) != before
        before = (cell["model"], cell["data"])
        names = f"{cell['model']} | {cell['data']}" if start else " | "
        sides = " | ".join(
            f"{_change(cell[side], cell['metric'])} | {_yes_no(cell[side])}" for side in ("paper", "ours")
        )
        lines.append(f"| {names} | {cell['metric']} | {sides} |")
    measured = {f"{cell['model']}, {cell['data']}": cell["our_data"] for cell in effects if cell["our_data"]}
    if measured:
        lines += ["", "Ours were measured on:", "", *(f"- {name}: {data}" for name, data in measured.items())]
    reasons: dict[str, dict[str, list[str]]] = {}
    for cell in effects:
        for reason in cell["ours"]["missing"]:
            reasons.setdefault(reason, {}).setdefault(f"{cell['model']}, {cell['data']}", []).append(cell["metric"])
    if reasons:
        lines += ["", "Not tested:", ""]
    for reason, cells in reasons.items():
        what = "; ".join(f"{name} ({', '.join(metrics)})" for name, metrics in cells.items())
        lines.append(f"- {what}: {_code(reason)}")
    return [*lines, ""]


def _change(finding: dict[str, Any], metric: str) -> str:
    return ", ".join(finding["numbers"]).removeprefix(f"{metric} ")


def _yes_no(finding: dict[str, Any]) -> str:
    words = {"holds": "yes", "fails": "**no**", "not tested": "not tested"}[finding["verdict"]]
    notes = [_seeds(finding)] if finding["seeds"] else []
    return ", ".join([words, *notes])


def _summary(finding: dict[str, Any]) -> str:
    return finding["summary"] + (f" ({_seeds(finding)})" if finding["seeds"] else "")


def _seeds(finding: dict[str, Any]) -> str:
    """How many seeds, and whether differences exceed their spread."""
    if finding["seeds"] is None:
        return ""
    words = f"{finding['seeds']} seed" + ("s" if finding["seeds"] > 1 else " or more" if finding["spreads"] else "")
    if not finding["spreads"]:
        return words
    if not finding["within_spread"]:
        return f"{words}, beyond the spread"
    if finding["spreads"] == 1:
        return f"{words}, within the spread"
    return f"{words}, within the spread in {', '.join(finding['within_spread'])}"


def _settings_section(settings: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Table 8: is the spatial loss kept in an ablation?",
        "",
        "The text leaves it open. Distance: |ours − printed| in units of what FFL changes in the printed table, mean",
        "over the metrics that both settings have, LFD (which repeats PSNR) left out.",
        "",
        f"| row | numbers | {' | '.join(metric_label(metric) for metric in RECONSTRUCTION)} | distance |",
        "| --- " * (len(RECONSTRUCTION) + 3) + "|",
    ]
    for fit in settings:
        distances = fit["distances"] or (None, None)
        rows = (
            ("printed", "printed", None),
            ("kept", "ours, kept", distances[0]),
            ("left_out", "left out", distances[1]),
        )
        for key, words, distance in rows:
            if not fit[key]:
                continue
            cells = " | ".join(_number(fit[key].get(metric)) for metric in RECONSTRUCTION)
            name = fit["row"] if key == "printed" else ""
            lines.append(f"| {name} | {words} | {cells} | {_number(distance, 2)} |")
    verdicts = [f"- {fit['row']}: {_code(fit['verdict'])}" for fit in settings]
    return [*lines, "", "The printed numbers fit:", "", *verdicts, ""]


def _number(value: float | None, decimals: int = 3) -> str:
    return "" if value is None else f"{value:.{decimals}f}"


def _bands_section(tables: list[dict[str, Any]]) -> list[str]:
    lines = [
        "## Error and power by frequency band",
        "",
        "Bands are octaves of the distance to zero frequency, in cycles per image; the last one holds the corners.",
        "Power: of generated over real images, 1 is no gap. Error: in squared grey levels; the bands add up to the",
        "mean squared error. Both over the test split.",
        "",
    ]
    for table in tables:
        name = f"{table['model']} on {table['data']}"
        if table["missing"]:
            lines += [f"- {name}: not tested: {_code(table['missing'])}", ""]
            continue
        seeds = len(table["seeds"])
        lines += [
            f"**{name}**, ours on {table['our_data']}, {'1 seed' if seeds == 1 else f'mean over {seeds} seeds'}",
            "",
            "| band | power w/o | power w/ | error w/o | error w/ | with / without |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in table["rows"]:
            errors = [row[side]["error"] for side in ("without", "with")]
            shown = ["", "", ""]
            if None not in errors:
                shown = [*(f"{error:.3g}" for error in errors), f"{errors[1] / errors[0]:.3f}" if errors[0] else ""]
            powers = [f"{row[side]['energy_ratio']:.3f}" for side in ("without", "with")]
            lines.append(f"| {' | '.join([row['band'], *powers, *shown])} |")
        lines.append("")
    return lines


def _details(claims: list[dict[str, Any]]) -> list[str]:
    lines = ["## Claim by claim, with the numbers", ""]
    for claim in claims:
        lines += [f"### {claim['id']}", "", f"{claim['statement']} ({claim['section']})."]
        if claim["reading"]:
            lines.append(f"*Reading:* {claim['reading']}.")
        lines.append("")
        for side, words in (("paper", "Paper"), ("ours", "Ours")):
            if claim[side] is not None:
                lines += _detail(words, claim[side])
        lines.append("")
    return lines


def _detail(words: str, finding: dict[str, Any]) -> list[str]:
    if finding["verdict"] == "not tested":
        return [f"- {words}: not tested: {'; '.join(_code(reason) for reason in finding['missing'])}"]
    return [
        f"- {words}: {_verdict(finding)}: {_summary(finding)}",
        *(f"  - {line}" for line in finding["numbers"]),
        *(f"  - not there: {_code(reason)}" for reason in finding["missing"]),
    ]


def _code(reason: str) -> str:
    """Commands as code."""
    return re.sub(r"python [^,;]+", lambda command: f"`{command[0]}`", reason)


def _provenance(report: dict[str, Any]) -> str:
    commit = str(report["code"]["commit"])[:10]
    dirty = " (with uncommitted changes)" if report["code"]["dirty"] else ""
    tables = ", ".join(f"{name} {digest[:10]}" for name, digest in report["tables"].items()) or "none"
    return f"Commit {commit}{dirty}. Our tables, by SHA-256: {tables}.\n"
