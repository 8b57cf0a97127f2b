"""Where an audit finds its numbers: in the paper as printed, and in our results. Both are records, read in one way.

What two figures measure is in no table: ``figure1`` and ``figure9`` are read like tables, from the JSON of the figure.
"""

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ffl.errors import UserError
from ffl.metrics import METRICS
from ffl.training.record import Record
from scripts.audits.verdicts import Item, Numbers
from scripts.reproduction.paper import paper_tables, read_paper
from scripts.tables import OWN, PUBLISHED, read_records_of, read_table, results_file, table_names

# What our numbers are judged on where an official metric has none. The networks of these come with packages.
EMBEDDED = {"lpips": "stlpips_alex", "fid": "fd_effnet_lite0", "is": "is_effnet_lite0"}
LARGE_STYLEGAN2 = "stylegan2_1024"  # a table of the paper's two numbers in the caption of Figure 17
AVERAGE_GAP = "average_gap"  # of Figure 9: between minibatch average spectra of generated and real images, in dB
# The rows of Table 6 by their labels in Figure 9.
ARM_ROWS = {"w/o FFL": "celeba_hq_without", "w/ FFL": "celeba_hq_with"}


class RowGroup(NamedTuple):
    """A row of a table in one group of its columns, such as ``table8``, ``full``, ``reconstruction``."""

    table: str
    row: str
    group: str


def is_of(record: Record, place: RowGroup) -> bool:
    """Whether a record of that table is about that row and group."""
    return (record.provenance["row"], record.provenance["group"]) == (place.row, place.group)


class Source(ABC):
    """What claims are judged on.

    Attributes:
        printed: whether its numbers are printed ones, behind which there is no run that could be counted.
    """

    printed: bool

    @abstractmethod
    def tables(self) -> list[str]:
        """Names of the tables that there are."""

    @abstractmethod
    def records(self, table: str) -> list[Record]:
        """The records of a table, none where there is no table.

        Values are in the units of the paper's tables; ``provenance`` says of which row and group a record is.
        """

    @abstractmethod
    def why_absent(self, place: RowGroup, metric: str) -> str:
        """One line on a number that no record holds."""

    @abstractmethod
    def overhead(self, model: str) -> list[Item]:
        """Time, and memory where known, of a training step with FFL over one without, as ratios."""

    def judged_metric(self, metric: str, places: Iterable[RowGroup]) -> str:
        """The metric that rows are compared by: the official one, or another in its place."""
        return metric

    def numbers(self, place: RowGroup, metric: str, of: Callable[[Record], float | None] | None = None) -> Numbers:
        """A quantity of a row by seed.

        Args:
            place: the row.
            metric: which records of the row hold the quantity.
            of: the quantity in such a record; None: the record's value.
        """
        by_seed: dict[int | None, float] = {}
        missing = None
        for record in self.records(place.table):
            if record.metric != metric or not is_of(record, place):
                continue
            missing = missing or record.missing
            value = of(record) if of else record.value
            if value is not None and (of or math.isfinite(value)):  # PSNR is infinite where two images are the same
                by_seed[record.provenance.get("seed")] = value
        if not by_seed:
            return Numbers(missing=missing or self.why_absent(place, metric))
        return Numbers(by_seed, None if self.printed else len(by_seed))


class PaperSource(Source):
    """The numbers of results/paper.yaml."""

    printed = True

    def __init__(self) -> None:
        self._records = {
            name: [
                Record(metric, value, 0, {"size": row.size, "decimals": table.decimals}, {"row": id, "group": group})
                for id, row in table.rows.items()
                for group, values in row.values.items()
                for metric, value in values.items()
            ]
            for name, table in paper_tables().items()
        }
        # Two numbers in a caption. As a table of one column they are judged like any other.
        self._records[LARGE_STYLEGAN2] = [
            Record("fid", value, 0, {}, {"row": id, "group": "synthesis"})
            for id, value in read_paper()["figure17"]["fid"].items()
        ]

    def tables(self) -> list[str]:
        return list(self._records)

    def records(self, table: str) -> list[Record]:
        return self._records.get(table, [])

    def why_absent(self, place: RowGroup, metric: str) -> str:
        # What the paper shows without printing it is told apart from what it does not have.
        if metric == "training":
            return "the paper draws the curves and prints no number"
        if metric in ("bands", "spectrum_distance") or place.table.startswith("figure"):
            return "the paper shows this in pictures and prints no number"
        if place.table not in self._records:
            return "the paper prints it inside a picture alone"
        return "the paper prints none"

    def overhead(self, model: str) -> list[Item]:
        if model != "pix2pix":
            return [Item("cost", 0, "", missing="the paper prints the cost of pix2pix alone")]
        cost = read_paper()["cost"]
        return [
            ratio("time per iteration", cost["seconds"]["without"], cost["seconds"]["with"], "s"),
            ratio("memory", cost["memory_mb"]["without"], cost["memory_mb"]["with"], "MB"),
        ]


class OurSource(Source):
    """The tables that scripts/reproduce.py wrote, and the costs that scripts/benchmark.py measured.

    Attributes:
        results: the folder of all results; None: the user's own, and for what is not there the published one.
        scale: a choice of configs/scale.
        embedded: whether an embedded metric is judged where an official one has no number.
    """

    printed = False

    def __init__(self, results: Path | None, scale: str, embedded: bool = True) -> None:
        self.results = results
        self.scale = scale
        self.embedded = embedded
        self._records: dict[str, list[Record]] = {}

    def tables(self) -> list[str]:
        return [name for name in table_names() if name.startswith("table")]

    def records(self, table: str) -> list[Record]:
        if table == LARGE_STYLEGAN2:
            return []
        if table not in self._records:
            if table.startswith("figure"):
                path = self._file(table)
                self._records[table] = [] if path is None else figure_records(path)
                return self._records[table]
            # Runs record what a metric returns; the paper prints some of them in percent, and claims compare the two.
            self._records[table] = [
                replace(record, value=record.value * METRICS[record.metric].unit)
                if record.value is not None and record.metric in METRICS
                else record
                for record in read_records_of(self.results, self.scale, table)
            ]
        return self._records[table]

    def files_read(self) -> dict[str, Path]:
        """The file of each table that was asked for, where there is one."""
        paths = {table: self._file(table) for table in sorted(self._records)}
        return {table: path for table, path in paths.items() if path is not None}

    def _file(self, table: str) -> Path | None:
        """The file of a table's or figure's numbers; None where there is none."""
        if not table.startswith("figure"):
            return results_file(self.results, self.scale, table)
        folders = [OWN, PUBLISHED] if self.results is None else [self.results]
        paths = (folder / self.scale / f"{table}.json" for folder in folders)
        return next((path for path in paths if path.is_file()), None)

    def judged_metric(self, metric: str, places: Iterable[RowGroup]) -> str:
        # The two are never compared with each other: the one that more of the rows have serves them all.
        places = list(places)
        choices = [metric]
        if self.embedded and metric in EMBEDDED:
            # A row that is quoted has the paper's metric alone, with which ours could then be compared.
            of_tables = [place for place in places if place.table in self.tables()]
            quoted = [place for place in of_tables if read_table(place.table).rows[place.row].quoted]
            if all(self.numbers(place, EMBEDDED[metric]).missing is None for place in quoted):
                choices.append(EMBEDDED[metric])
        return max(choices, key=lambda name: sum(self.numbers(place, name).missing is None for place in places))

    def why_absent(self, place: RowGroup, metric: str) -> str:
        if place.table == LARGE_STYLEGAN2:
            command = "python train.py model=stylegan2 dataset=celeba_hq dataset.image_size=1024"
            return f"no table of ours has it; {command}, with and without loss.ffl=true"
        if place.table.startswith("figure"):
            return f"python scripts/figure.py {place.table.removeprefix('figure')} scale={self.scale}"
        # Where a run was tried, the reason why it failed comes before the command that would try it again.
        command = f"python scripts/reproduce.py table={place.table.removeprefix('table')} scale={self.scale}"
        records = self.records(place.table)
        if not records:
            return command
        row = read_table(place.table).rows[place.row]
        if row.quoted:
            return f"{' '.join(row.labels)} is quoted from literature, not run"
        not_run = [record.missing for record in records if record.metric == "training" and is_of(record, place)]
        return "; ".join([*filter(None, not_run[:1]), f"{command} rows={place.row}"])

    def overhead(self, model: str) -> list[Item]:
        measured = []
        # Costs of two machines are not put side by side: the published ones count where the user has measured none.
        for folder in [OWN, PUBLISHED] if self.results is None else [self.results]:
            for file in sorted((folder / "benchmark").glob("*.json")):
                try:
                    content = dict(json.loads(file.read_text()))
                except (ValueError, TypeError):
                    raise UserError(f"{file}: not a readable JSON; make it again with scripts/benchmark.py") from None
                device = content.get("device", "")
                for row in content.get("overhead", []):
                    if row["model"] != model:
                        continue
                    shown = f"{row['without_s']:.4f} to {row['with_s']:.4f} s, {row['ratio'] - 1:+.1%}"
                    measured.append(Item(f"time per iteration on {device}", row["ratio"], shown))
                    if row.get("without_bytes"):
                        before, after = (row[f"{side}_bytes"] / 2**20 for side in ("without", "with"))
                        measured.append(ratio(f"memory of a step on {device}", before, after, "MiB"))
            if measured:
                return measured
        command = f"python scripts/benchmark.py overhead models={model} json={OWN}/benchmark/overhead.json"
        return [Item("cost", 0, "", missing=command)]


def ratio(label: str, without: float, with_ffl: float, unit: str) -> Item:
    """What FFL adds to a cost."""
    shown = f"{without:g} to {with_ffl:g} {unit}, {with_ffl / without - 1:+.1%}"
    return Item(label, with_ffl / without, shown)


def figure_records(path: Path) -> list[Record]:
    """What the JSON of Figure 1 or 9 says in numbers, as records of the rows that it shows.

    Raises:
        UserError: if the file cannot be read.
    """
    try:
        content = json.loads(path.read_text())
        values, runs, records = content["values"], content["runs"], []
        if content["figure"] == 9:
            for label, row in ARM_ROWS.items():
                about = {"row": row, "group": "synthesis", "seed": runs[label]["seed"]}
                gap = float(values["mean_absolute_gap_db"][label]["averages"])
                records.append(Record(AVERAGE_GAP, gap, values["images"], {}, about))
            return records
        for name, measured in values.items():
            about = {"row": name.split()[-1], "group": "translation", "seed": runs[name]["seed"]}
            numbers = {metric: float(value) for metric, value in measured.items() if metric != "images"}
            records += [Record(metric, value, measured["images"], {}, about) for metric, value in numbers.items()]
        return records
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{path}: not a readable figure; make it again with scripts/figure.py") from None
