"""Tables as data: what configs/table says of them, the runs that fill their cells, and the records of results/.

A file ``results/<scale>/<table>.json`` holds one flat record a line, and nothing that configs/table and
results/paper.yaml say already. The ``provenance`` of each record names the ``row`` and the ``group`` of columns that it
serves. Beside the metrics of an evaluation, ``metric`` is

bands         of an evaluation: ``details`` = edges, real, fake, error: mean power by frequency band
training      of a run: ``value`` = wall time in seconds; ``details`` = command, commit, config, images and so on. Where
              there is no run, ``value`` is None and ``missing`` says why
call          of a row whose runs add losses to their model's: ``value`` = seconds of a call, forward and backward
comparison    published once, of two rows over several seeds whose own numbers are gone: ``details`` = quantity, band,
              ``minus`` (the other row), their means, ``spread`` of the difference (``value``), rounded as published
"""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf

from ffl.errors import UserError
from ffl.metrics import METRICS
from ffl.training.config import check_section
from ffl.training.evaluation import check_metrics
from ffl.training.model import Task
from ffl.training.program import Config, compose
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory, find_run, run_name
from ffl.training.words import CONFIG_DIR, compose_defaults
from run_config import defaults

BASE_SEED = 1112  # the authors', and the default of train.py
PUBLISHED = CONFIG_DIR.parent / "results"  # by the maintainers
OWN = Path("outputs/results")  # what a user makes
MODEL_TITLES = {
    "ae": "autoencoder",
    "vae": "VAE",
    "pix2pix": "pix2pix",
    "spade": "SPADE",
    "stylegan2": "StyleGAN2",
    "segmenter": "segmenter",
}

P = ParamSpec("P")
T = TypeVar("T")


def remember(function: Callable[P, T]) -> Callable[P, T]:
    """Call ``function`` once for equal arguments: ``functools.cache`` for arguments that may be lists and dicts."""
    results: dict[str, T] = {}

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        key = repr((arguments, keywords))
        if key not in results:
            results[key] = function(*arguments, **keywords)
        return results[key]

    return call


@dataclass(frozen=True)
class Columns:
    """A block of metric columns.

    Attributes:
        title: above the block; "" where a table has one.
        task: what the models are asked to do.
        metrics: the columns of the paper.
        extra: further columns, ours. An embedded metric stands beside the official one that it resembles.
    """

    title: str
    task: str
    metrics: list[str]
    extra: list[str] = field(default_factory=list)

    @property
    def all_metrics(self) -> list[str]:
        """The paper's and ours, in the order of ``METRICS``."""
        return sorted([*self.metrics, *self.extra], key=list(METRICS).index)


@dataclass(frozen=True)
class TableRow:
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
class ScaleChange:
    """How a table's runs differ at one scale, beyond configs/scale.

    Attributes:
        replace: new values of overrides that the runs have, by key.
        add: further overrides.
        rows: further overrides of some rows alone, by row.
        groups: further overrides of the runs of some groups alone, by group.
        why: a clause for the table's notes; "" where they need none.
    """

    why: str = ""
    replace: dict[str, Any] = field(default_factory=dict)
    add: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)


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
        out: where the table goes below the folder of results, without suffix; None: <scale>/<name>.
        figure: "comparison": also real and generated images side by side; null: none.
        time_calls: whether a column says what a call of each row's losses costs.
    """

    name: str
    title: str
    labels: list[str]
    groups: dict[str, Columns]
    rows: dict[str, TableRow]
    compare: list[tuple[str, str]] = field(default_factory=list)
    scales: dict[str, ScaleChange] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    out: str | None = None
    figure: str | None = None
    time_calls: bool = False


def table_names() -> list[str]:
    """All tables, the paper's first and in order."""
    names = [path.stem for path in (CONFIG_DIR / "table").glob("*.yaml")]
    numbered = [name for name in names if re.fullmatch(r"table\d+", name)]
    return [*sorted(numbered, key=lambda name: int(name[5:])), *sorted(set(names) - set(numbered))]


@cache
def read_table(name: str) -> Table:
    """The table ``name``, such as "photos", "table1" or, for short, "1".

    Raises:
        UserError: if there is no such table, or its file says something that cannot be.
    """
    # The paper's tables go by their number alone, as in table=1.
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
    kinds: dict[str, type] = {"groups": Columns, "rows": TableRow, "scales": ScaleChange}
    parts: dict[str, Any] = {key: {} for key in kinds}
    for part, kind in kinds.items():
        for key, values in content.get(part, {}).items():
            check_section(f"{where}: {part}.{key}", values, kind, provided=set())
            parts[part][key] = kind(**values)
    plain = {key: value for key, value in content.items() if key not in kinds}
    check_section(where, plain, Table, provided={"name", *kinds})
    table = Table(name=name, **{**plain, **parts, "compare": [tuple(pair) for pair in plain.get("compare", [])]})

    # What types cannot say: ids that do not exist, rows that neither run nor quote.
    for key, group in table.groups.items():
        check_metrics([*group.metrics, *group.extra])
        if group.task not in get_args(Task):
            raise UserError(f"{where}: groups.{key}.task={group.task}: expected one of {', '.join(get_args(Task))}")
    for key, row in table.rows.items():
        if len(row.labels) != len(table.labels):
            raise UserError(f"{where}: rows.{key}.labels: expected {len(table.labels)}, one per column of labels")
        if unknown := row.runs.keys() - table.groups.keys():
            raise UserError(f"{where}: rows.{key}.runs: no group {min(unknown)}; groups are {', '.join(table.groups)}")
        if row.quoted == bool(row.runs):
            raise UserError(f"{where}: rows.{key}: give it either runs or quoted: true")
    named = {"compare": {row for pair in table.compare for row in pair}}
    named |= {f"scales.{key}.rows": set(change.rows) for key, change in table.scales.items()}
    for key, ids in named.items():
        if unknown := ids - table.rows.keys():
            raise UserError(f"{where}: {key}: no row {min(unknown)}; rows are {', '.join(table.rows)}")
    for key, change in table.scales.items():
        if unknown := change.groups.keys() - table.groups.keys():
            raise UserError(
                f"{where}: scales.{key}.groups: no group {min(unknown)}; groups are {', '.join(table.groups)}"
            )
    return table


@dataclass(frozen=True)
class Run:
    """A training run that a table needs, made or not.

    Attributes:
        overrides: of ``train.py``, which with them makes this run.
        config: what they compose to.
        name: of its directory.
    """

    overrides: tuple[str, ...]
    config: Config
    name: str

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"python train.py {' '.join(self.overrides)}"

    def find(self) -> RunDirectory | None:
        """Its directory, finished or not; None where there is none.

        Raises:
            UserError: if a directory of its name holds another configuration.
        """
        return find_run(self.config, list(self.overrides), defaults(self.config))


def row_run(
    table: Table, row: str, group: str, scale: str = "paper", overrides: list[str] | None = None, seed: int = BASE_SEED
) -> Run | None:
    """The run behind the cells of one row and group; None where there is none (quoted rows, empty cells).

    Args:
        table: from ``read_table``.
        row, group: ids of the table.
        scale: a choice of configs/scale.
        overrides: further ones, for every run alike.
        seed: of the run.
    """
    if group not in table.rows[row].runs:
        return None
    change, words = table.scales.get(scale, ScaleChange()), []
    for item in table.rows[row].runs[group]:
        key, _, value = item.partition("=")
        # A scale may have other data than the paper: then every table takes the same stand-in.
        if key == "dataset":
            value = stand_ins(scale).get(value, value)
        words.append(f"{key}={change.replace.get(key, value)}")
    words += [*change.add, *change.rows.get(row, []), *change.groups.get(group, [])]
    # Words that are defaults are left out, so that a run has the name and the command that train.py gives it.
    if scale != "paper":  # the default of train.py
        words.append(f"scale={scale}")
    if seed != BASE_SEED:
        words.append(f"seed={seed}")
    return make_run([*words, *(overrides or [])])


def find_run_of(
    table: str, row: str, group: str, scale: str = "paper", overrides: list[str] | None = None, seed: int = BASE_SEED
) -> RunDirectory | None:
    """The directory of the run behind the cells of one row and group of a table, if it is there.

    Args:
        table: its name, such as "table1" or "1".
        row, group, scale, overrides, seed: as for ``row_run``; ``output_root=DIR`` among the overrides says where to
            look.
    """
    run = row_run(read_table(table), row, group, scale, overrides, seed)
    return None if run is None else run.find()


@remember
def make_run(overrides: list[str]) -> Run:
    """The run that ``train.py`` would make from these overrides.

    Raises:
        UserError: for an override that cannot be composed.
    """
    # Hydra takes a tenth of a second and there may be hundreds of runs. What it makes of plain words is the same as
    # setting their values in the defaults that the chosen files make, which runs share.
    words = [*overrides, "resume=auto"]
    groups = {key: [value] for key, value in split_overrides(words).items() if (CONFIG_DIR / key).is_dir()}
    config: Any
    try:
        values = [word for word in words if word.partition("=")[0] not in groups]
        merged = copy.deepcopy(open_defaults(groups))
        for override in OverridesParser.create().parse_overrides(values):
            if override.type is not OverrideType.CHANGE:  # +key and ~key are rare, and Hydra's to understand
                raise ValueError(override.input_line)
            OmegaConf.update(merged, override.key_or_group, override.value(), merge=True)
        config = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except Exception:  # of whatever kind: Hydra takes it, or says in one line what is wrong
        config = compose("train", words)
    return Run(tuple(overrides), config, run_name(config, overrides))


def check_scale(scale: str) -> None:
    """Raise a ``UserError`` for a scale that is no file of configs/scale."""
    scales = sorted(path.stem for path in (CONFIG_DIR / "scale").glob("*.yaml"))
    if scale not in scales:
        raise UserError(f"scale={scale}: no such scale; expected one of {', '.join(scales)}")


@remember
def open_defaults(choices: dict[str, list[str]]) -> DictConfig:
    """What the files of these choices make of configs/train.yaml, ready for values that are in it."""
    merged = OmegaConf.create(compose_defaults("train", choices))
    OmegaConf.set_struct(merged, True)
    return merged


@cache
def stand_ins(scale: str) -> dict[str, str]:
    """Data sets that runs at a scale take instead of the paper's."""
    content = yaml.safe_load((CONFIG_DIR / "scale" / f"{scale}.yaml").read_text()) or {}
    named: dict[str, str] = content.get("recipe", {}).get("stand_ins", {})
    return named


def split_overrides(overrides: list[str]) -> dict[str, str]:
    """Overrides by key."""
    return {key: value for key, _, value in (item.lstrip("+~").partition("=") for item in overrides)}


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
        # A record a line: a changed number is a changed line for git, and for whoever reads the difference.
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: not a readable JSON table; make it again with scripts/reproduce.py") from None


def results_file(results: Path | None, scale: str, table: str) -> Path | None:
    """The file of a table's results; None where there is none.

    Args:
        results: folder of all results; None: the user's own, and for a table that is not there the published one.
        scale: a choice of configs/scale.
        table: name or number.
    """
    # Table by table: a user who has made one still compares with the published others.
    for folder in [OWN, PUBLISHED] if results is None else [results]:
        stem = results_path(folder, scale, read_table(table))
        if (path := stem.with_name(f"{stem.name}.json")).is_file():
            return path
    return None


def read_records_of(results: Path | None, scale: str, table: str) -> list[Record]:
    """The records of a table; none where there is no file. Arguments as of ``results_file``.

    Raises:
        UserError: if the file cannot be read.
    """
    path = results_file(results, scale, table)
    return [] if path is None else read_results(path).records


def by_seed(records: list[Record], row: str, group: str, metric: str) -> dict[int, Record]:
    """The records of one metric in a row and group of columns, by seed."""
    return {
        record.provenance["seed"]: record
        for record in records
        if record.metric == metric and (record.provenance["row"], record.provenance["group"]) == (row, group)
    }
