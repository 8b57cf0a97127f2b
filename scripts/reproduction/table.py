"""Tables as data: configs/table/<name>.yaml read into dataclasses and checked."""

import re
from dataclasses import dataclass, field
from typing import Any, get_args

import yaml

from ffl.errors import UserError
from ffl.training.config import check_section
from ffl.training.evaluation import check_metrics
from ffl.training.model import Task
from ffl.training.program import CONFIG_DIR


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
