"""Regenerate a table from its runs: train what is missing, resume what was cut, evaluate, write table and figure.

    python scripts/reproduce.py table=photos [out=results] [key=value ...]

table is a file of configs/table. Further key=value words are overrides for every run, as train.py takes them, such as
seed=2 or trainer.epochs=5. A run that is already there is not trained again.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluate import evaluate
from ffl.errors import UserError
from ffl.evaluation import check_metrics
from ffl.files import write_text
from ffl.metrics import METRICS
from ffl.record import Record
from ffl.training.config import check_section
from ffl.training.program import CONFIG_DIR, compose, user_errors
from ffl.training.run_directory import RunDirectory
from scripts.figure import comparison
from train import check as check_train
from train import train


@dataclass(frozen=True)
class Table:
    """A file of configs/table: which runs make the rows, and which metrics the columns."""

    title: str
    runs: list[Any]
    metrics: list[str]
    figure: str | None = None


def read_table(name: str) -> Table:
    """The table ``name``.

    Raises:
        UserError: if there is no such table, or a metric in it does not exist.
    """
    path = CONFIG_DIR / "table" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise UserError(f"table={name}: no such table; expected one of {known}")
    content = yaml.safe_load(path.read_text())
    check_section(f"table {name}", content, Table, provided=set())
    check_metrics(content["metrics"])
    return Table(**content)


def reproduce(arguments: list[str]) -> None:
    """The program; ``arguments`` are its key=value words."""
    began = time.perf_counter()
    if malformed := [item for item in arguments if "=" not in item]:
        raise UserError(f"cannot read {malformed[0]}; expected key=value, such as table=photos")
    settings = dict(item.split("=", 1) for item in arguments if item.split("=", 1)[0] in ("table", "out"))
    common = [item for item in arguments if item.split("=", 1)[0] not in settings]
    if reserved := [item for item in common if item.split("=", 1)[0] in ("resume", "name", "loss.ffl")]:
        raise UserError(f"{reserved[0]}: set by the table")
    if "table" not in settings:
        raise UserError("no table given; for example table=photos")
    table = read_table(settings["table"])
    for row in table.runs:  # every mistake is found before the first run starts
        check_train(compose("train", [*row["overrides"], *common]))
    runs, all_records = [], []
    for row in table.runs:
        overrides = [*row["overrides"], *common]
        run = train(compose("train", [*overrides, "resume=auto"]), overrides)
        all_records.append(evaluate(compose("evaluate", [f"run={run.path}", f"metrics=[{','.join(table.metrics)}]"])))
        runs.append(run)
    out = Path(settings.get("out", "results")) / settings["table"]
    markdown = table_markdown(table, runs, all_records)
    write_text(out / "table.md", markdown)
    rows = [
        {"dataset": row["dataset"], "ffl": row["ffl"], "records": [record.to_json() for record in records]}
        for row, records in zip(table.runs, all_records, strict=True)
    ]
    write_text(out / "table.json", json.dumps({"title": table.title, "rows": rows}, indent=2) + "\n")
    if table.figure == "comparison":
        comparison(runs, [f"{row['ffl']} FFL" for row in table.runs], out / "comparison.png")
    print(f"\n{markdown}\nwritten to {out}, {time.perf_counter() - began:.0f} s in all")


def table_markdown(table: Table, runs: list[RunDirectory], all_records: list[list[Record]]) -> str:
    """A table in the shape of the paper's, best values bold, with what is missing and where it comes from below."""
    names = table.metrics
    best = {name: best_value([records[i].value for records in all_records], name) for i, name in enumerate(names)}
    heads = [
        f"{name.upper() if len(name) < 6 else name} {'↑' if METRICS[name].higher_is_better else '↓'}" for name in names
    ]
    lines = [
        f"**{table.title}**",
        "",
        f"| Dataset | FFL | {' | '.join(heads)} |",
        "| --- " * (2 + len(names)) + "|",
    ]
    for row, records in zip(table.runs, all_records, strict=True):
        cells = [cell(record, best[record.metric]) for record in records]
        lines.append(f"| {row['dataset']} | {row['ffl']} | {' | '.join(cells)} |")
    lines.append("")
    lines += [f"- {record.metric.upper()} is missing: {record.missing}" for record in all_records[0] if record.missing]
    about = all_records[0][0]
    lines.append(
        f"- {about.num_images} test images, seed {about.provenance['seed']}, "
        f"step {about.provenance['step']}, commit {str(about.provenance['commit'])[:10]}"
        f"{' (with uncommitted changes)' if about.provenance['dirty'] else ''}, "
        f"{about.provenance['environment']['cpu']}, {about.provenance['environment']['threads']} threads, {about.utc}"
    )
    lines += [f"- {row['ffl']} FFL: `{run.path}`" for row, run in zip(table.runs, runs, strict=True)]
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
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)
        print("tables: " + ", ".join(sorted(path.stem for path in (CONFIG_DIR / "table").glob("*.yaml"))))
    else:
        with user_errors():
            reproduce(sys.argv[1:])
