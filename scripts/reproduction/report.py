"""The content of a table, made from its run directories: what results/<scale>/<table>.json holds.

table, title, scale, labels, decimals, groups, compare    as in configs/table; of_paper: whether the paper has it
rows[].groups[GROUP]                                      by group of columns:
    paper, paper_best    printed values (null: N/A), and which of them are bold; {} where the paper has none
    values               by metric: mean, spread (sample standard deviation, null for one seed), n, values by seed; or
                         missing: why there is none. In the paper's units: segmentation scores in percent
    runs                 per seed: run, seed, records (as evaluate.py wrote them) and train: command, commit, config,
                         train_images, images (seen), epochs, steps, wall_s, hardware
    not_run              why there is no run at all, or null
differences                                               with minus without: paper, and ours over the common seeds
notes                                                     lines for below the table
"""

import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ffl.errors import UserError
from ffl.metrics import METRICS
from ffl.training.config import FREE_KEYS
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory
from scripts.reproduction.paper import PaperTable, paper_tables
from scripts.reproduction.records import known_records
from scripts.reproduction.runs import BASE_SEED, Run, count_images, list_images, row_run, state_of
from scripts.reproduction.table import Group, Table

Json = dict[str, Any]

# Scores in [0, 1] that the paper prints in percent.
UNITS = {"miou": 100.0, "accuracy": 100.0, "accuracy_all": 100.0}
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Settings:
    """What every run of a table shares.

    Attributes:
        scale: a choice of configs/scale.
        overrides: further ones for every run.
        base_seed: the first.
        num_seeds: how many were asked for; runs of the seeds that follow are shown where they are there.
        reasons: by run name, why it could not be made.
    """

    scale: str = "paper"
    overrides: list[str] = field(default_factory=list)
    base_seed: int = BASE_SEED
    num_seeds: int = 1
    reasons: dict[str, str] = field(default_factory=dict)

    def run(self, table: Table, row: str, group: str, seed: int) -> Run | None:
        """The run behind cells; None where there is nothing to run."""
        return row_run(table, row, group, self.scale, self.overrides, seed)

    @property
    def seeds(self) -> range:
        """Those asked for."""
        return range(self.base_seed, self.base_seed + self.num_seeds)


@dataclass(frozen=True)
class Measured:
    """A run with its measurements; without any, ``reason`` says why."""

    run: Run
    directory: RunDirectory | None
    records: dict[str, Record]
    reason: str | None


def table_json(table: Table, settings: Settings) -> Json:
    """A table's whole content as plain values, keys as above."""
    paper = paper_tables().get(table.name)
    cells = {
        (row, group): measured(table, row, group, settings) for row in table.rows for group in table.rows[row].runs
    }
    rows = []
    for name, row in table.rows.items():
        groups = {
            group: {
                "paper": _paper_values(paper, name, group, table.groups[group]),
                "paper_best": _paper_best(paper, name, group),
                "values": _values(table.groups[group], cells.get((name, group), [])),
                "runs": [_run_json(item) for item in cells.get((name, group), []) if item.records],
                "not_run": _not_run(cells.get((name, group), [])),
            }
            for group in table.groups
            if group in row.runs or row.quoted
        }
        rows.append({"id": name, "labels": row.labels, "quoted": row.quoted, "groups": groups})
    return {
        "table": table.name,
        "title": table.title,
        "scale": settings.scale,
        "labels": table.labels,
        "decimals": 3 if paper is None else paper.decimals,
        "of_paper": paper is not None,
        "groups": {
            key: {"title": group.title, "task": group.task, "metrics": group.metrics, "extra": group.extra}
            for key, group in table.groups.items()
        },
        "rows": rows,
        "compare": [list(pair) for pair in table.compare],
        "differences": [item for pair in table.compare for item in _differences(table, paper, rows, *pair)],
        "notes": _notes(table, settings, cells),
    }


def json_text(content: Json) -> str:
    """The JSON of a table, indented, but with each record and each run's training on one line."""
    lines: list[str] = []

    def in_one_line(value: Json) -> str:
        lines.append(json.dumps(value, allow_nan=False))
        return f"@line {len(lines) - 1}@"

    rows = [
        {**row, "groups": {key: _shortened(group, in_one_line) for key, group in row["groups"].items()}}
        for row in content["rows"]
    ]
    text = json.dumps({**content, "rows": rows}, indent=2, allow_nan=False)
    return re.sub(r'"@line (\d+)@"', lambda match: lines[int(match[1])], text) + "\n"


def _shortened(group: Json, in_one_line: Callable[[Json], str]) -> Json:
    runs = [
        {**run, "records": [*map(in_one_line, run["records"])], "train": in_one_line(run["train"])}
        for run in group["runs"]
    ]
    return {**group, "runs": runs}


def measured(table: Table, row: str, group: str, settings: Settings) -> list[Measured]:
    """The runs of one cell: the seeds asked for, and those that follow as long as they are there."""
    found: list[Measured] = []
    for seed in range(settings.base_seed, settings.base_seed + MAX_SEEDS):
        run = settings.run(table, row, group, seed)
        if run is None:
            return []
        item = _measured(run, table.groups[group], settings.reasons)
        if seed not in settings.seeds and not item.records:
            break
        found.append(item)
    return found


def _measured(run: Run, group: Group, reasons: dict[str, str]) -> Measured:
    try:
        state = state_of(run)
        if state.run is None:
            return Measured(run, None, {}, reasons.get(run.name, "not there yet"))
        if state.total is not None and not state.finished:
            return Measured(run, state.run, {}, reasons.get(run.name, str(state)))
        known = known_records(state.run, group.task, run.config)
    except UserError as error:
        return Measured(run, None, {}, str(error))
    records = {name: known[name] for name in group.columns if name in known}
    return Measured(run, state.run, records, None if records else reasons.get(run.name, "not evaluated yet"))


def has_values(content: Json) -> bool:
    """Whether any run of a table was measured."""
    return any(group["runs"] for row in content["rows"] for group in row["groups"].values())


def _paper_values(paper: PaperTable | None, row: str, group: str, columns: Group) -> dict[str, float | None]:
    if paper is None or row not in paper.rows:
        return {}
    return {metric: paper.value(row, group, metric) for metric in columns.metrics}


def _paper_best(paper: PaperTable | None, row: str, group: str) -> list[str]:
    if paper is None or row not in paper.rows:
        return []
    return sorted(metric for own, metric in paper.rows[row].best if own == group)


def _values(group: Group, runs: list[Measured]) -> Json:
    values = {}
    for metric in group.columns:
        records = [item.records[metric] for item in runs if metric in item.records]
        numbers = [record.value * UNITS.get(metric, 1.0) for record in records if record.value is not None]
        missing = [record.missing for record in records if record.missing is not None]
        if numbers and all(map(math.isfinite, numbers)):
            values[metric] = {**_summary(numbers), "values": numbers}
        elif records:
            values[metric] = {"missing": missing[0] if missing else "infinite: the images equal the real ones"}
    return values


def _summary(numbers: list[float]) -> Json:
    """Mean, sample standard deviation (None for a single number) and count."""
    spread = statistics.stdev(numbers) if len(numbers) > 1 else None
    return {"mean": statistics.fmean(numbers), "spread": spread, "n": len(numbers)}


def _not_run(runs: list[Measured]) -> str | None:
    """Why a cell has no run at all."""
    return None if not runs or any(item.records for item in runs) else runs[0].reason


def _run_json(item: Measured) -> Json:
    assert item.directory is not None
    return {
        "run": item.directory.path.name,
        "seed": item.run.seed,
        "records": [record.to_json() for record in item.records.values()],
        "train": _training(item.directory, item.run),
    }


def _training(directory: RunDirectory, run: Run) -> Json:
    """Where a run comes from and what it took; without what holds for one machine, such as its folders."""
    about = _about(directory)
    config = {key: value for key, value in directory.config().items() if key not in FREE_KEYS | {"recipe"}}
    lines = directory.log_lines()
    steps = lines[-1]["step"] if lines else None
    images = lines[-1]["images"] if lines else None
    try:
        train_images = count_images(run.config, "train")
    except UserError:
        train_images = None
    machine = about["environment"]
    return {
        "command": " ".join(["python train.py", *_lasting(list(run.overrides))]),
        "commit": about["commit"],
        "dirty": about["dirty"],
        "config": config,
        "train_images": train_images,
        "images": images,
        "epochs": None if images is None or not train_images else images / train_images,
        "steps": steps,
        "wall_s": training_seconds(lines),
        "hardware": machine["gpu"] or f"{machine['cpu']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}",
        "torch": machine["torch"],
    }


def _about(directory: RunDirectory) -> Json:
    """What train.py noted of a run's origin.

    Raises:
        UserError: if that is gone or damaged: a row of a table must say where it comes from.
    """
    path = directory.path / "run.json"
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict) or not about.keys() >= {"commit", "dirty", "environment"}:
        raise UserError(f"{path}: does not tell where the run comes from; copy it again, or train anew")
    return about


def _lasting(overrides: list[str]) -> list[str]:
    """Those that change what a run ends with."""
    return [item for item in overrides if item.lstrip("+~").partition("=")[0] not in FREE_KEYS]


def training_seconds(lines: list[Json]) -> float:
    """Wall time of a run from its log, over all its sessions: each interval's images by its speed."""
    before = [0, *(line["images"] for line in lines)]
    return sum(
        (line["images"] - first) / line["images_per_second"]
        for first, line in zip(before, lines, strict=False)
        if line["images_per_second"]
    )


def _differences(table: Table, paper: PaperTable | None, rows: list[Json], without: str, with_: str) -> list[Json]:
    """With minus without, seed by seed, of every metric that both rows have."""
    by_id = {row["id"]: row["groups"] for row in rows}
    found = []
    for group, columns in table.groups.items():
        if group not in by_id[without] or group not in by_id[with_]:
            continue
        for metric in columns.columns:
            first, second = (by_seed(by_id[row][group], metric) for row in (without, with_))
            numbers = [second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())]
            found.append(
                {
                    "without": without,
                    "with": with_,
                    "group": group,
                    "metric": metric,
                    "paper": _paper_difference(paper, without, with_, group, metric),
                    "ours": _summary(numbers) if numbers else None,
                }
            )
    return found


def _paper_difference(paper: PaperTable | None, without: str, with_: str, group: str, metric: str) -> float | None:
    if paper is None:
        return None
    first, second = paper.value(without, group, metric), paper.value(with_, group, metric)
    return None if first is None or second is None else round(second - first, paper.decimals)


def by_seed(group: Json, metric: str) -> dict[int, float]:
    """The finite values of a metric in one row and group of a table's JSON, in the units shown."""
    return {
        run["seed"]: float(record["value"]) * UNITS.get(metric, 1.0)
        for run in group["runs"]
        for record in run["records"]
        if record["metric"] == metric and record["value"] is not None and math.isfinite(float(record["value"]))
    }


def _notes(table: Table, settings: Settings, cells: dict[tuple[str, str], list[Measured]]) -> list[str]:
    """What a reader must know beside the numbers."""
    runs = [item for found in cells.values() for item in found]
    notes = []
    if settings.scale != "paper":
        notes.append(
            f"scale={settings.scale}: fewer images, epochs, channels or pixels than in the paper, as configs/scale "
            "states. Compare the differences, not the values."
        )
    if settings.scale in table.scales:
        notes.append(f"This table at scale={settings.scale}: {table.scales[settings.scale].why}.")
    for was, now in sorted({pair for item in runs for pair in item.run.stand_ins}):
        notes.append(f"The data set {now} stands in for {was}.")
    notes += _data_notes([item.run for item in runs])
    if common := _lasting(settings.overrides):
        notes.append(f"All runs with {' '.join(common)}.")
    if any(item.records for item in runs) and max(map(len, cells.values())) > 1:
        notes.append("± is the standard deviation over seeds; a difference is taken seed by seed.")
    notes += table.notes
    gaps: dict[str, list[str]] = {}
    for item in runs:
        for record in item.records.values():
            if record.missing is not None:
                gaps.setdefault(record.missing, []).append(METRICS[record.metric].name.upper())
    for reason, names in gaps.items():
        *others, last = dict.fromkeys(names)
        notes.append(f"{', '.join(others)} and {last} are" if others else f"{last} is")
        notes[-1] += f" missing: {reason}"
    idle: dict[str, list[str]] = {}
    for (row, group), found in cells.items():
        where = " ".join(table.rows[row].labels) + (f" ({table.groups[group].title})" if len(table.groups) > 1 else "")
        for item in found:
            if item.reason is not None:
                seed = f", seed {item.run.seed}" if len(found) > 1 else ""
                idle.setdefault(item.reason, []).append(where + seed)
    notes += [f"Not run: {'; '.join(where)}: {reason}" for reason, where in idle.items()]
    return notes


def _data_notes(runs: list[Run]) -> list[str]:
    """Data sets of which not all public images are here."""
    notes = []
    for run in {run.dataset: run for run in runs}.values():
        try:
            listing = list_images(run.config)
        except UserError:
            continue
        if listing is not None and listing.expected is not None and listing.found != listing.expected:
            counts = ", ".join(f"{len(paths):,} {split}" for split, paths in listing.splits.items())
            notes.append(
                f"{run.dataset}: {listing.found:,} of the {listing.expected:,} public images were there ({counts})."
            )
    return notes
