"""Where an audit finds its numbers: the paper as printed, and our tables and runs."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.training.model import Task
from ffl.training.run_directory import RunDirectory
from scripts.audits.bands import Bands, final_spatial_loss, run_bands
from scripts.audits.verdicts import Absent, Measure, Seed
from scripts.reproduction.paper import paper_tables, read_paper
from scripts.reproduction.report import by_seed

ROW_KEYS = {"id", "labels", "quoted", "groups"}  # of a table that reproduce.py wrote
PICTURES = "the paper shows this in pictures and prints no number"


class Place(NamedTuple):
    """A block of cells: ``table8``, row ``full``, group ``reconstruction``."""

    table: str
    row: str
    group: str


class PairRow(NamedTuple):
    """PSNR and LFD of one row or run, and what is known of their rounding."""

    place: Place
    seed: Seed
    psnr: float
    lfd: float
    size: tuple[int, int]
    half_unit: float


class Source(Protocol):
    """What a claim can ask for. Every method raises ``Absent`` with one line where there is no such number."""

    printed: bool

    def numbers(self, place: Place, metric: str) -> Mapping[Seed, float]:
        """A metric by seed."""

    def data(self, place: Place) -> str:
        """What the numbers of a row were measured on, in a few words."""

    def pair_rows(self) -> Iterator[PairRow]:
        """Every row that has both PSNR and LFD."""

    def bands(self, place: Place, task: Task) -> Mapping[Seed, Bands]:
        """Error and energy by frequency band, by seed."""

    def spatial_loss(self, place: Place) -> Mapping[Seed, float]:
        """Mean squared error over the last epoch of training, by seed."""

    def large_stylegan2_fid(self) -> tuple[float, float]:
        """FID of StyleGAN2 at 1024 x 1024 without and with FFL."""

    def overhead(self, model: str) -> list[Measure]:
        """Time, and memory where known, of a training step with FFL over one without."""


class PaperSource:
    """The numbers of results/paper.yaml."""

    printed = True

    def numbers(self, place: Place, metric: str) -> Mapping[Seed, float]:
        tables = paper_tables()
        if place.table not in tables:
            raise Absent("the paper prints it inside a picture alone")
        value = tables[place.table].value(place.row, place.group, metric)
        if value is None:
            raise Absent("the paper prints none")
        return {None: value}

    def data(self, place: Place) -> str:
        return ""

    def pair_rows(self) -> Iterator[PairRow]:
        for table, content in paper_tables().items():
            for row, printed in content.rows.items():
                for group, values in printed.values.items():
                    psnr, lfd = values.get("psnr"), values.get("lfd")
                    if psnr is not None and lfd is not None and printed.size is not None:
                        half_unit = 0.5 * 10.0**-content.decimals
                        yield PairRow(Place(table, row, group), None, psnr, lfd, printed.size, half_unit)

    def bands(self, place: Place, task: Task) -> Mapping[Seed, Bands]:
        raise Absent(PICTURES)

    def spatial_loss(self, place: Place) -> Mapping[Seed, float]:
        raise Absent("the paper draws the curves and prints no number")

    def large_stylegan2_fid(self) -> tuple[float, float]:
        fid = read_paper()["figure17"]["fid"]
        return fid["without"], fid["with"]

    def overhead(self, model: str) -> list[Measure]:
        if model != "pix2pix":
            raise Absent("the paper prints the cost of pix2pix alone")
        cost = read_paper()["cost"]
        return [
            _ratio("time per iteration", cost["seconds"]["without"], cost["seconds"]["with"], "s"),
            _ratio("memory", cost["memory_mb"]["without"], cost["memory_mb"]["with"], "MB"),
        ]


@dataclass
class OurSource:
    """Our tables in ``results/<scale>`` and the runs that they name.

    Attributes:
        results: the folder of all results.
        scale: name of its part, such as "cpu".
        output_root: where the run directories are.
        data_root: of the data sets, for what is measured from runs; None: as in each run.
        cache_dir: of the decoded images.
    """

    results: Path
    scale: str
    output_root: Path
    data_root: Path | None = None
    cache_dir: Path = Path("outputs/cache")
    printed: bool = False
    _tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    _bands: dict[tuple[str, Task], Bands] = field(default_factory=dict)

    def numbers(self, place: Place, metric: str) -> Mapping[Seed, float]:
        block = self._block(place)
        if found := by_seed(block, metric):
            return dict(found.items())
        raise Absent(block["values"].get(metric, {}).get("missing") or self._command(place, with_row=True))

    def data(self, place: Place) -> str:
        for run in self._block(place)["runs"]:
            for record in run["records"]:
                protocol = record["protocol"]
                height, width = protocol["size"]
                return f"{protocol['reference']}, {record['num_images']} images of {height} × {width}"
        raise Absent(self._command(place, with_row=True))

    def pair_rows(self) -> Iterator[PairRow]:
        for file in sorted((self.results / self.scale).glob("table*.json")):
            for row in self._table(file.stem)["rows"]:
                for group, block in row["groups"].items():
                    for run in block["runs"]:
                        values = {record["metric"]: record for record in run["records"]}
                        if values.get("psnr", {}).get("value") is None or values.get("lfd", {}).get("value") is None:
                            continue
                        psnr, lfd = (float(values[name]["value"]) for name in ("psnr", "lfd"))
                        if not math.isfinite(psnr):  # an image that equals its reconstruction
                            continue
                        size = values["psnr"]["protocol"]["size"]
                        place = Place(file.stem, row["id"], group)
                        # Nothing is rounded; the +1 inside the logarithm of Eq. 11 stays below 1e-5 up to 40 dB.
                        yield PairRow(place, run["seed"], psnr, lfd, (size[0], size[1]), 1e-5)

    def bands(self, place: Place, task: Task) -> Mapping[Seed, Bands]:
        found: dict[Seed, Bands] = {}
        for seed, run in self._runs(place).items():
            key = (run.path.name, task)
            if key not in self._bands:
                try:
                    self._bands[key] = run_bands(run, task, self.data_root, self.cache_dir)
                except UserError as error:
                    raise Absent(str(error)) from None
            found[seed] = self._bands[key]
        return found

    def spatial_loss(self, place: Place) -> Mapping[Seed, float]:
        found: dict[Seed, float] = {}
        for seed, run in self._runs(place).items():
            value = final_spatial_loss(run)
            if value is None:
                raise Absent(f"{run.log} holds no generator/mse")
            found[seed] = value
        return found

    def large_stylegan2_fid(self) -> tuple[float, float]:
        command = "python train.py model=stylegan2 dataset=celeba_hq dataset.image_size=1024"
        raise Absent(f"no table of ours has it; {command}, with and without loss.ffl=true")

    def overhead(self, model: str) -> list[Measure]:
        measures = []
        for file in sorted((self.results / "benchmark").glob("*.json")):
            content = _read(file)
            device = content.get("device", "")
            for row in content.get("overhead", []):
                if row["model"] != model:
                    continue
                shown = f"{row['without_s']:.4f} to {row['with_s']:.4f} s, {row['ratio'] - 1:+.1%}"
                measures.append(Measure(f"time per iteration on {device}", row["ratio"], shown))
                if row.get("without_bytes"):
                    before, after = (row[f"{side}_bytes"] / 2**20 for side in ("without", "with"))
                    measures.append(_ratio(f"memory of a step on {device}", before, after, "MiB"))
        if not measures:
            raise Absent(f"python scripts/benchmark.py overhead models={model} json=results/benchmark/overhead.json")
        return measures

    def tables_used(self) -> dict[str, str]:
        """SHA-256 of each table that was read."""
        folder = self.results / self.scale
        return {name: file_sha256(folder / f"{name}.json") for name in sorted(self._tables)}

    def _table(self, name: str) -> dict[str, Any]:
        if name not in self._tables:
            path = self.results / self.scale / f"{name}.json"
            content = _read(path)
            rows = content.get("rows")
            if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= ROW_KEYS for row in rows):
                raise _unreadable(path)
            self._tables[name] = content
        return self._tables[name]

    def _block(self, place: Place) -> dict[str, Any]:
        """The row's part for one group."""
        if not (self.results / self.scale / f"{place.table}.json").is_file():
            raise Absent(self._command(place))
        row = next((row for row in self._table(place.table)["rows"] if row["id"] == place.row), None)
        if row is None:
            raise Absent(self._command(place, with_row=True))
        if row["quoted"]:
            raise Absent(f"{' '.join(row['labels'])} is quoted from literature, not run")
        block: dict[str, Any] | None = row["groups"].get(place.group)
        if block is None:
            raise Absent(self._command(place, with_row=True))
        if block.get("not_run"):
            raise Absent(f"{block['not_run']}; {self._command(place, with_row=True)}")
        return block

    def _runs(self, place: Place) -> dict[Seed, RunDirectory]:
        runs: dict[Seed, RunDirectory] = {}
        for run in self._block(place)["runs"]:
            path = self.output_root / run["run"]
            if not (path / "config.yaml").is_file():
                raise Absent(f"the run {run['run']} is not under {self.output_root}; give its place as output_root=DIR")
            runs[run["seed"]] = RunDirectory.open(path)
        if not runs:
            raise Absent(self._command(place, with_row=True))
        return runs

    def _command(self, place: Place, with_row: bool = False) -> str:
        number = place.table.removeprefix("table")
        return f"python scripts/reproduce.py table={number} scale={self.scale}" + (
            f" rows={place.row}" if with_row else ""
        )


def _ratio(label: str, without: float, with_ffl: float, unit: str) -> Measure:
    return Measure(label, with_ffl / without, f"{without:g} to {with_ffl:g} {unit}, {with_ffl / without - 1:+.1%}")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict):
        raise _unreadable(path)
    return content


def _unreadable(path: Path) -> UserError:
    return UserError(f"{path}: not a readable JSON table; make it again with scripts/reproduce.py")
