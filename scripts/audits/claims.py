"""The claims of claims.yaml as objects; the head of that file says what its keys mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from scripts.audits.evidence import RowGroup
from scripts.tables import read_table, split_overrides, table_names

CLAIMS_FILE = Path(__file__).with_name("claims.yaml")
WORDS = ("statement", "reading")  # the other key of a claim is its operator


@dataclass(frozen=True)
class Pair:
    """A model on a data set, trained without and with FFL; the rows are ``<rows>_without`` and ``<rows>_with``."""

    model: str
    data: str
    table: str
    group: str
    rows: str

    @property
    def name(self) -> str:
        """Model and data set, for reports."""
        return f"{self.model}, {self.data}"

    @property
    def without(self) -> RowGroup:
        """The row of the baseline."""
        return RowGroup(self.table, f"{self.rows}_without", self.group)

    @property
    def with_ffl(self) -> RowGroup:
        """The row of what FFL makes of it."""
        return RowGroup(self.table, f"{self.rows}_with", self.group)

    @property
    def metrics(self) -> list[str]:
        """The metrics that the paper prints for the pair."""
        return read_table(self.table).groups[self.group].metrics


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        id: for reports.
        section: where the paper makes it.
        operator: the function of scripts/audits/operators.py that judges it.
        arguments: of that function.
        table: whose rows the arguments name.
        groups: blocks of columns by id, with the words for each.
        ffl: rows without and with FFL, whose difference is the unit of shares.
        about: pairs that it is about, beside those that its arguments name.
        statement: what the paper says, in our words.
        reading: what these words are taken to mean, where they leave that open.
        of_paper: False for the same claim on runs of ours that the paper has no counterpart of.
    """

    id: str
    section: str
    operator: str
    arguments: Any
    table: str
    groups: dict[str, str]
    ffl: tuple[str, ...]
    about: tuple[str, ...]
    statement: str
    reading: str = ""
    of_paper: bool = True


def votes(metrics: Sequence[str]) -> list[str]:
    """The metrics whose verdicts count. LFD is a function of PSNR (Parseval), so that the two have one vote."""
    return [metric for metric in metrics if metric != "lfd" or "psnr" not in metrics]


@cache
def read_pairs() -> dict[str, Pair]:
    """All pairs by name, in the order of the report."""
    return {name: Pair(**content) for name, content in read_claims_file()["pairs"].items()}


@cache
def read_claims() -> list[Claim]:
    """All claims, in the order of the report."""
    claims = []
    for template in read_claims_file()["sections"]:
        # Figures 5 to 7 say the same four things of each model, Table 8 the same six of each setting of its rows.
        for values in template.get("for_each", [{}]):
            section = fill_in(template, values)
            table = section.get("table", "")
            groups = section.get("groups") or (dict.fromkeys(read_table(table).groups, "") if table else {})
            about: dict[str, Any] = {key: tuple(section.get(key, ())) for key in ("ffl", "about")}
            about["of_paper"] = values.get("of_paper", True)
            for id, content in section["claims"].items():
                # The one key of a claim that is no word names its operator.
                ((operator, arguments),) = ((key, value) for key, value in content.items() if key not in WORDS)
                words = {key: content[key] for key in WORDS if key in content}
                claims.append(Claim(id, section["section"], operator, arguments, table, groups, **about, **words))
    return claims


def tables_of(claim: Claim) -> set[str]:
    """The tables and figures whose numbers a claim is about."""
    pairs, tables = read_pairs(), {claim.table} if claim.table else set()
    if claim.operator == "every_pair_better":
        return {pair.table for pair in pairs.values()}
    return tables | {pairs[word].table for word in words_in(claim.arguments) if word in pairs}


def subjects(claim: Claim) -> tuple[list[str], list[str]]:
    """The models and the data sets that a claim is about, in the words and the order of the pairs."""
    pairs, words = read_pairs(), words_in(claim.arguments)
    named = {name for name in pairs if name in (*words, *claim.about) or claim.operator == "every_pair_better"}
    of_pairs = {name: trained_in(pair.table, pair.with_ffl.row, pair.group) for name, pair in pairs.items()}
    # A row of a table is of the pair that trains the same model on the same data, for the same task.
    trained = [
        trained_in(claim.table, row, group)
        for row in words
        for group in claim.groups
        if claim.table in table_names() and group in read_table(claim.table).groups
        if row in read_table(claim.table).rows and group in read_table(claim.table).rows[row].runs
    ]
    named |= {name for name, run in of_pairs.items() if run in trained}
    # The cost of a model is that on any data set.
    models = [pair.model for name, pair in pairs.items() if name in named]
    if claim.operator == "negligible_cost":
        models = [pairs[name].model for name, (model, _, _) in of_pairs.items() if model == claim.arguments["model"]]
    data = [pair.data for name, pair in pairs.items() if name in named]
    return list(dict.fromkeys(models)), list(dict.fromkeys(data))


def trained_in(table: str, row: str, group: str) -> tuple[str, str, str]:
    """The model, the data set and the task of the run behind a row and group of columns."""
    content = read_table(table)
    overrides = split_overrides(content.rows[row].runs[group])
    return overrides["model"], overrides["dataset"], content.groups[group].task


def words_in(part: Any) -> list[Any]:
    """The values in a claim's arguments, without their keys."""
    if isinstance(part, dict):
        return [word for value in part.values() for word in words_in(value)]
    return [word for value in part for word in words_in(value)] if isinstance(part, list) else [part]


def fill_in(template: Any, values: dict[str, Any]) -> Any:
    """A part of the file with ``<key>`` in its texts, those of keys included, replaced by the value of that key."""
    if isinstance(template, dict):
        return {fill_in(key, values): fill_in(value, values) for key, value in template.items()}
    if isinstance(template, list):
        return [fill_in(item, values) for item in template]
    if isinstance(template, str):
        for key, value in values.items():
            template = template.replace(f"<{key}>", str(value))
    return template


@cache
def read_claims_file() -> dict[str, Any]:
    """The file as plain values; ``pictures_alone`` is read from it as it is."""
    content: dict[str, Any] = yaml.safe_load(CLAIMS_FILE.read_text())
    return content
