"""Where the content of a figure comes from: runs of rows of the tables, and what those runs generate."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from datasets import ImageDataset, build_dataset
from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.images import from_uint8, to_uint8
from ffl.training.checkpoint import load_checkpoint
from ffl.training.model import Batch, Model, Task
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device, to_device
from models import load_model
from scripts.reproduction.records import known_records, total_steps
from scripts.tables import find_run_of


@dataclass(frozen=True)
class Settings:
    """The words after a figure's number.

    Attributes:
        scale: of configs/scale; which runs are meant.
        data_root: folder of the data sets; None for that of each run.
        output_root: folder of the runs; None for that of the configuration.
        image: file for figures that need one image only; None for an embedded photograph.
        runs: run directories to use in the place of those of the tables.
        images: how many images an average is taken over; None for as many as the test split has.
    """

    scale: str = "cpu"
    data_root: Path | None = None
    output_root: Path | None = None
    image: Path | None = None
    runs: tuple[Path, ...] = ()
    images: int | None = None

    def overrides(self) -> list[str]:
        """Where the runs and their data are, as ``train.py`` takes it."""
        folders = {"data_root": self.data_root, "output_root": self.output_root}
        return [f"{key}={folder}" for key, folder in folders.items() if folder is not None]

    def with_runs(self, runs: tuple[Path, ...]) -> "Settings":
        """The same with other ``runs``."""
        return replace(self, runs=runs)


@dataclass(frozen=True)
class TableRun:
    """The run behind a row of a table.

    Attributes:
        table: name of a file of configs/table.
        row: id in it.
        label: what the figure calls it.
        group: block of columns.
    """

    table: str
    row: str
    label: str
    group: str


def pair(table: str, row: str, group: str) -> tuple[TableRun, TableRun]:
    """The rows of a table without and with the focal frequency loss."""
    return TableRun(table, f"{row}_without", "w/o FFL", group), TableRun(table, f"{row}_with", "w/ FFL", group)


def command(rows: Sequence[TableRun], settings: Settings) -> str:
    """What makes the runs of these rows: one program for each table."""
    tables: dict[str, dict[str, None]] = {}  # a row may have runs in several groups
    for row in rows:
        tables.setdefault(row.table.removeprefix("table"), {})[row.row] = None
    programs = [
        ["python scripts/reproduce.py", f"table={table}", f"rows={','.join(ids)}", f"scale={settings.scale}"]
        for table, ids in tables.items()
    ]
    return " && ".join(" ".join([*words, *settings.overrides()]) for words in programs)


@dataclass
class Drawing:
    """A figure, and what a reader of it can ask for.

    Attributes:
        figure: to be saved.
        caption: what it shows, and of what.
        values: the numbers in it.
        runs: what ``about`` says of the runs that it shows, by label.
        missing: one line for each run that is not there or not finished, with the command that makes it.
    """

    figure: Figure
    caption: str
    values: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Caption, numbers and runs as plain values."""
        return {
            "caption": self.caption,
            "values": self.values,
            "runs": self.runs,
            "missing": self.missing,
        }


def find(row: TableRun, settings: Settings) -> RunDirectory | None:
    """The run of a row, or None where none with a checkpoint is there."""
    run = find_run_of(row.table, row.row, row.group, settings.scale, settings.overrides())
    return run if run is not None and run.last.is_file() else None


def find_all(rows: Sequence[TableRun], settings: Settings) -> tuple[dict[TableRun, RunDirectory], list[str]]:
    """The runs that are there, and a line for each that is not, or not finished.

    ``settings.runs`` stand for ``rows`` in their order, where given.

    Raises:
        UserError: if none is there, or ``settings.runs`` are not as many as ``rows``.
    """
    if settings.runs:
        if len(settings.runs) != len(rows):
            labels = ", ".join(row.label for row in rows)
            raise UserError(f"runs={','.join(map(str, settings.runs))}: this figure takes {len(rows)} runs ({labels})")
        return {row: RunDirectory.open(path) for row, path in zip(rows, settings.runs, strict=True)}, []
    found: dict[TableRun, RunDirectory] = {}
    missing: list[str] = []
    refused: list[str] = []
    for row in rows:
        try:
            run = find(row, settings)
        except UserError as error:  # a run of that name with another configuration
            refused.append(f"{row.table} {row.row}: {error}")
            continue
        if run is None:
            missing.append(f"{row.table} {row.row} is not there; run: {command([row], settings)}")
            continue
        found[row] = run
        if (cut := cut_at(run, settings)) is not None:
            missing.append(f"{row.table} {row.row} is cut at {cut}; run: {command([row], settings)}")
    if not found:
        raise UserError(refused[0] if refused else f"none of its runs is there; run: {command(rows, settings)}")
    return found, missing + refused


def cut_at(run: RunDirectory, settings: Settings) -> str | None:
    """How far an unfinished run is, such as "step 500 of 3420"; None for a finished one, or without its data set."""
    step = load_checkpoint(run.last, whole=False)["step"]
    config = run.config()
    try:
        total = total_steps({**config, "data_root": str(settings.data_root or config["data_root"])})
    except UserError:
        return None
    return None if step is None or step >= total else f"step {step} of {total}"


def about(run: RunDirectory, step: int | None) -> dict[str, Any]:
    """What identifies a run, and the weights that it has at ``step``."""
    seed = run.config()["seed"]
    return {"run": run.path.name, "seed": seed, "step": step, "checkpoint_sha256": file_sha256(run.last)}


class Source:
    """The test images of a run, and its model.

    Args:
        run: with a checkpoint.
        settings: ``data_root`` replaces the run's.
    """

    def __init__(self, run: RunDirectory, settings: Settings) -> None:
        self.run = run
        self.config = run.config()
        self.folders: dict[str, Any] = {
            "data_root": settings.data_root or Path(self.config["data_root"]),
            "cache_dir": Path(self.config["cache_dir"]),
        }
        self.dataset = build_dataset(split="test", **self.folders, **self.config["dataset"])
        self.device = choose_device("auto")
        model, self.step = load_model(self.config, self.dataset.image_size, run.last)
        self.about = about(run, self.step)
        self.model: Model = model.to(self.device).eval()

    def batch(self, count: int) -> Batch:
        """The first ``count`` test items, fewer where there are not as many."""
        return to_device(self.dataset.batch(np.arange(min(count, len(self.dataset))), None), self.device)

    def generate(self, count: int, task: Task | None = None, batch_size: int = 100) -> Tensor:
        """Images of the first test items, or of the first latents: float (N, 3, H, W) in [-1, 1], on the CPU.

        They are those of an evaluation with seed 0.
        """
        task = task or self.model.tasks[0]
        parts = []
        for first in range(0, count, batch_size):
            index = np.arange(first, min(first + batch_size, count))
            if task == "synthesis":
                batch: Batch = {"index": torch.from_numpy(index).to(self.device)}
            else:
                batch = to_device(self.dataset.batch(index, None), self.device)
            parts.append(self.model.generate(batch, task, 0).cpu())
        return torch.cat(parts)

    def score(self, metric: str) -> str | None:
        """A value that has been measured of these weights, such as "FID 70.1"; None where there is none."""
        config = {**self.config, **{key: str(folder) for key, folder in self.folders.items()}}
        record = known_records(self.run, self.model.tasks[0], config).get(metric)
        return None if record is None or record.value is None else f"{metric.upper()} {record.value:.2f}"

    def describe(self) -> str:
        """Data set, size and how far the run was trained, in words."""
        height, width = self.dataset.image_size
        return f"{self.dataset.name} {width}×{height}, seed {self.config['seed']}, step {self.step}"


def real_images(dataset: ImageDataset, count: int) -> Tensor:
    """The first images of a split as the metrics see them: float (N, 3, H, W) in [-1, 1]."""
    image = dataset.batch(np.arange(min(count, len(dataset))), None)["image"]
    assert isinstance(image, Tensor)
    return quantised(from_uint8(image))


def quantised(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to 8 bits as the metrics do."""
    return from_uint8(to_uint8(images, "paper"))
