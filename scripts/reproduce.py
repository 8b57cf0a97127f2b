"""Regenerate a table from its runs: python scripts/reproduce.py table=photos, see --help."""

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluate import evaluate
from ffl.errors import UserError
from ffl.evaluation import check_metrics
from ffl.metrics import METRICS
from ffl.record import Record
from ffl.training.config import check_section
from ffl.training.files import write_text
from ffl.training.program import Config, compose, run_program
from ffl.training.run_directory import RunDirectory
from scripts.figure import comparison
from train import check as check_train
from train import train


def check_program(table: dict[str, Any], out: str, overrides: list[str]) -> None:
    """The keys of configs/reproduce.yaml."""


def check(config: Config) -> None:
    """Check the table and the config of every run in it before the first one starts."""
    check_section("", config, check_program, provided=set())
    check_metrics(config["table"]["metrics"])
    for run in config["table"]["runs"]:
        if any(item.partition("=")[0] in ("resume", "name") for item in config["overrides"]):
            raise UserError("overrides: resume and name are set by the table")
        check_train(compose("train", [*run["overrides"], *config["overrides"]]))


def reproduce(config: Config, overrides: list[str]) -> None:
    """Train what is missing, evaluate everything, write the table and the figure."""
    began = time.perf_counter()
    table = config["table"]
    name = next((item.partition("=")[2] for item in overrides if item.startswith("table=")), "photos")
    out = Path(config["out"]) / name
    runs, all_records = [], []
    for row in table["runs"]:
        row_overrides = [*row["overrides"], *config["overrides"]]
        run = train(compose("train", [*row_overrides, "resume=auto"]), row_overrides)
        metrics = f"metrics=[{','.join(table['metrics'])}]"
        all_records.append(evaluate(compose("evaluate", [f"run={run.path}", metrics])))
        runs.append(run)
    markdown = table_markdown(table, runs, all_records)
    write_text(out / "table.md", markdown)
    rows = [
        {"dataset": row["dataset"], "ffl": row["ffl"], "records": [record.to_json() for record in records]}
        for row, records in zip(table["runs"], all_records, strict=True)
    ]
    write_text(out / "table.json", json.dumps({"title": table["title"], "rows": rows}, indent=2) + "\n")
    if table["figure"] == "comparison":
        comparison(runs, [f"{row['ffl']} FFL" for row in table["runs"]], out / "comparison.png")
    print(f"\n{markdown}\nwritten to {out} in {time.perf_counter() - began:.0f} s")


def table_markdown(table: dict[str, Any], runs: list[RunDirectory], all_records: list[list[Record]]) -> str:
    """A table in the shape of the paper's, best values bold, with what is missing and where it comes from below."""
    names = table["metrics"]
    best = {
        name: best_value([records[i].value for records in all_records], name) for i, name in enumerate(names)
    }
    heads = [
        f"{name.upper() if len(name) < 6 else name} {'↑' if METRICS[name].higher_is_better else '↓'}"
        for name in names
    ]
    lines = [
        f"**{table['title']}**",
        "",
        f"| Dataset | FFL | {' | '.join(heads)} |",
        "| --- " * (2 + len(names)) + "|",
    ]
    for row, records in zip(table["runs"], all_records, strict=True):
        cells = [cell(record, best[record.metric]) for record in records]
        lines.append(f"| {row['dataset']} | {row['ffl']} | {' | '.join(cells)} |")
    lines.append("")
    lines += [
        f"- {record.metric.upper()} is missing: {record.missing}"
        for record in all_records[0]
        if record.missing
    ]
    about = all_records[0][0]
    lines.append(
        f"- {about.num_images} test images, seed {about.provenance['seed']}, "
        f"step {about.provenance['step']}, commit {str(about.provenance['commit'])[:10]}"
        f"{' (with uncommitted changes)' if about.provenance['dirty'] else ''}, "
        f"{about.provenance['environment']['cpu']}, {about.provenance['environment']['threads']} threads, {about.utc}"
    )
    lines += [f"- {row['ffl']} FFL: `{run.path}`" for row, run in zip(table["runs"], runs, strict=True)]
    return "\n".join(lines) + "\n"


def best_value(values: list[float | None], metric: str) -> float | None:
    """The better of several values of a metric; None where there are none to compare."""
    present = [value for value in values if value is not None]
    return (max if METRICS[metric].higher_is_better else min)(present) if len(present) > 1 else None


def cell(record: Record, best: float | None) -> str:
    """A table cell: a value, bold where best, or what is missing."""
    if record.value is None:
        return "missing"
    return f"**{record.value:.3f}**" if record.value == best else f"{record.value:.3f}"


if __name__ == "__main__":
    run_program("reproduce", reproduce, check)
