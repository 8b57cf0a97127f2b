"""Tables as data: what configs/table says of them, and the records of results/ that fill them.

A file ``results/<scale>/<table>.json`` holds one flat record a line, and nothing that a record, configs/table or
results/paper.yaml says already. The ``provenance`` of each record names the ``row`` and the ``group`` of columns that
it serves. Beside the metrics of an evaluation, ``metric`` is

bands         of an evaluation: ``details`` = edges, real, fake, error: mean power by frequency band
training      of a run: ``value`` = wall time in seconds; ``details`` = command, commit, config, images and so on. Where
              there is no run, ``value`` is None and ``missing`` says why
comparison    published once, of two rows over several seeds whose own numbers are gone: ``details`` = quantity, band,
              ``minus`` (the other row), their means, ``spread`` of the difference (``value``), rounded as published
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from ffl.errors import UserError
from ffl.training.config import check_section
from ffl.training.evaluation import check_metrics
from ffl.training.model import Task
from ffl.training.program import CONFIG_DIR
from ffl.training.record import Record

PUBLISHED = CONFIG_DIR.parent / "results"  # by the maintainers; what a user makes goes to OWN
OWN = Path("outputs/results")


@dataclass(frozen=True)
class Group:
    """A block of metric columns.

    Attributes:
        title: above the block; "" where a table has one.
        task: what the models are asked to do.
        metrics: the columns of the paper.
        extra: further columns, ours.
    """

    title: str
    task: str
    metrics: list[str]
    extra: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """All metrics, the paper's first."""
        return [*self.metrics, *self.extra]


@dataclass(frozen=True)
class Row:
    """A row.

    Attributes:
        labels: one per label column.
        runs: by group, the overrides of ``train.py`` that define the run at the paper's scale; a group without a run
            stays empty.
        quoted: whether the paper takes the row from literature: then there is nothing to run.
    """

    labels: list[str]
    runs: dict[str, list[str]] = field(default_factory=dict)
    quoted: bool = False

    def dataset(self, group: str) -> str:
        """The data set that the paper takes for a group."""
        return split_overrides(self.runs[group])["dataset"]


@dataclass(frozen=True)
class Scale:
    """How a table's runs differ at one scale, beyond configs/scale.

    Attributes:
        replace: new values of overrides that the runs have, by key.
        add: further overrides.
        why: one line for the table's notes.
    """

    why: str = ""
    replace: dict[str, Any] = field(default_factory=dict)
    add: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """A table; see configs/table/table1.yaml.

    Attributes:
        name: of its file.
        title: above the table.
        labels: heads of the label columns.
        groups: blocks of columns by id.
        rows: by id; the same ids are the keys in results/paper.yaml.
        compare: (without, with): pairs of rows whose difference is shown.
        scales: what one scale changes for this table's runs alone.
        notes: lines below the table.
        out: where the table goes below results/, without suffix; None: <scale>/<name>.
        figure: "comparison": also real and generated images side by side; null: none.
    """

    name: str
    title: str
    labels: list[str]
    groups: dict[str, Group]
    rows: dict[str, Row]
    compare: list[tuple[str, str]] = field(default_factory=list)
    scales: dict[str, Scale] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    out: str | None = None
    figure: str | None = None


def split_overrides(overrides: list[str]) -> dict[str, str]:
    """Overrides by key."""
    return {key: value for key, _, value in (item.lstrip("+~").partition("=") for item in overrides)}


def table_names() -> list[str]:
    """All tables, numbered ones first and in order."""
    names = [path.stem for path in (CONFIG_DIR / "table").glob("*.yaml")]
    return sorted(names, key=lambda name: (not _number(name), _number(name), name))


def _number(name: str) -> int:
    match = re.fullmatch(r"table(\d+)", name)
    return int(match[1]) if match else 0


def read_table(name: str) -> Table:
    """The table ``name``, such as "photos", "table1" or, for short, "1".

    Raises:
        UserError: if there is no such table, or its file says something that cannot be.
    """
    stem = f"table{name}" if name.isdecimal() else name
    if stem not in table_names():
        raise UserError(f"table={name}: no such table; expected one of {', '.join(table_names())}")
    return parse_table(stem, yaml.safe_load((CONFIG_DIR / "table" / f"{stem}.yaml").read_text()))


def parse_table(name: str, content: dict[str, Any]) -> Table:
    """A table from the content of its file.

    Raises:
        UserError: naming the table, the key and what is allowed.
    """
    where = f"table {name}"
    parts: dict[str, dict[str, Any]] = {"groups": {}, "rows": {}, "scales": {}}
    kinds: dict[str, type] = {"groups": Group, "rows": Row, "scales": Scale}
    for part, kind in kinds.items():
        for key, values in content.get(part, {}).items():
            check_section(f"{where}: {part}.{key}", values, kind, provided=set())
            parts[part][key] = kind(**values)
    plain = {key: value for key, value in content.items() if key not in kinds}
    check_section(where, plain, Table, provided={"name", *kinds})
    table = Table(name=name, **{**plain, **parts, "compare": [tuple(pair) for pair in plain.get("compare", [])]})
    _check(table, where)
    return table


def _check(table: Table, where: str) -> None:
    for key, group in table.groups.items():
        check_metrics(group.columns)
        if group.task not in get_args(Task):
            raise UserError(f"{where}: groups.{key}.task={group.task}: expected one of {', '.join(get_args(Task))}")
    for key, row in table.rows.items():
        if len(row.labels) != len(table.labels):
            raise UserError(f"{where}: rows.{key}.labels: expected {len(table.labels)}, one per column of labels")
        if unknown := row.runs.keys() - table.groups.keys():
            raise UserError(f"{where}: rows.{key}.runs: no group {min(unknown)}; groups are {', '.join(table.groups)}")
        if row.quoted == bool(row.runs):
            raise UserError(f"{where}: rows.{key}: give it either runs or quoted: true")
    for pair in table.compare:
        if unknown := set(pair) - table.rows.keys():
            raise UserError(f"{where}: compare: no row {min(unknown)}; rows are {', '.join(table.rows)}")


@dataclass(frozen=True)
class Selection:
    """Part of a table that is to be made.

    Attributes:
        table: the whole of it.
        rows: ids.
        groups: ids.
    """

    table: Table
    rows: list[str]
    groups: list[str]


def select(table: Table, rows: list[str] | None, groups: list[str] | None) -> Selection:
    """The rows and groups of these ids, in the table's order; None for all.

    Raises:
        UserError: for an id that the table lacks.
    """
    return Selection(
        table,
        _choose(table.name, "rows", list(table.rows), rows),
        _choose(table.name, "groups", list(table.groups), groups),
    )


def _choose(table: str, key: str, known: list[str], ids: list[str] | None) -> list[str]:
    if ids is None:
        return known
    if unknown := [item for item in ids if item not in known]:
        raise UserError(
            f"{key}={unknown[0]}: {table} has no such {key.removesuffix('s')}; its {key} are {', '.join(known)}"
        )
    return [item for item in known if item in ids]


@dataclass(frozen=True)
class TableResults:
    """What was measured for a table at one scale.

    Attributes:
        table: its name.
        scale: a choice of configs/scale.
        notes: what a reader must know that no record says, such as how many of the public images were there.
        records: in the order of rows, groups and seeds.
    """

    table: str
    scale: str
    notes: list[str]
    records: list[Record]

    def to_json(self) -> str:
        """The content of its file: JSON with one record a line."""
        about = {"table": self.table, "scale": self.scale, "notes": self.notes}
        keys = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}," for key, value in about.items()]
        lines = ",\n".join(json.dumps(record.to_json(), allow_nan=False) for record in self.records)
        return "\n".join(["{", *keys, '"records": [', lines, "]}", ""])


def results_path(folder: Path, scale: str, table: Table) -> Path:
    """Where the results of a table stand below ``folder``, without suffix."""
    return folder / (table.out or f"{scale}/{table.name}")


def read_results(path: Path) -> TableResults:
    """A file that ``TableResults.to_json`` made.

    Raises:
        UserError: if it is damaged, or of an older version.
    """
    try:
        content = json.loads(path.read_text())
        records = [Record.from_json(record) for record in content["records"]]
        return TableResults(content["table"], content["scale"], list(content["notes"]), records)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: not a readable JSON table; make it again with scripts/reproduce.py") from None


def read_records_of(results: Path | None, scale: str, table: str) -> list[Record]:
    """The records of a table; none where there is no file.

    Args:
        results: folder of all results; None: the user's own, and for a table that is not there the published one.
        scale: a choice of configs/scale.
        table: name or number.
    Raises:
        UserError: if the file cannot be read.
    """
    folders = [OWN, PUBLISHED] if results is None else [results]
    for folder in folders:
        stem = results_path(folder, scale, read_table(table))
        if (path := stem.with_name(f"{stem.name}.json")).is_file():
            return read_results(path).records
    return []


def by_seed(records: list[Record], row: str, group: str, metric: str) -> dict[int, Record]:
    """The records of one metric in a row and group of columns, by seed."""
    return {
        record.provenance["seed"]: record
        for record in records
        if record.metric == metric and (record.provenance["row"], record.provenance["group"]) == (row, group)
    }
