"""What was measured for a table, gathered from its run directories."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from ffl.errors import UserError
from ffl.training.config import FREE_KEYS
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory
from scripts.reproduction.records import known_records
from scripts.reproduction.runs import BASE_SEED, Run, count_images, list_images, row_run, state_of
from scripts.tables import Group, Table, TableResults

Json = dict[str, Any]

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


def table_results(table: Table, settings: Settings) -> TableResults:
    """The records of every cell of a table, in the order of rows, groups and seeds, and what no record says."""
    records: list[Record] = []
    runs: list[Run] = []
    for row in table.rows:
        for group in table.rows[row].runs:
            for item in measured(table, row, group, settings):
                runs.append(item.run)
                records += _cell_records(item, {"row": row, "group": group})
    notes = _data_notes(runs)
    if common := _lasting(settings.overrides):
        notes.append(f"All runs with {' '.join(common)}.")
    return TableResults(table.name, settings.scale, notes, records)


def _cell_records(item: Measured, where: dict[str, str]) -> list[Record]:
    """The measurements of one run for one group of columns, and what its training took or why there was none."""
    model, seed = item.run.config["model"]["name"], item.run.seed
    names = {"model": model, "dataset": item.run.dataset, "seed": seed}
    if not item.records:
        provenance = {**where, "run": item.run.name, **names}
        return [Record("training", None, 0, {}, provenance, missing=item.reason)]
    assert item.directory is not None
    made = [
        replace(record, provenance={**where, **record.provenance, "model": model, "dataset": item.run.dataset})
        for record in item.records.values()
    ]
    details = _training(item.directory, item.run)
    provenance = {**where, "run": item.directory.path.name, **names, "step": details["steps"]}
    wall = training_seconds(item.directory.log_lines())
    return [*made, Record("training", wall, 0, {}, provenance, details=details)]


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


def has_values(results: TableResults) -> bool:
    """Whether any run of a table was measured."""
    return any(record.metric != "training" for record in results.records)


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
