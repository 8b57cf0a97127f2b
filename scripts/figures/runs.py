"""Where the content of a figure comes from: runs of rows of the tables, and what those runs generate."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.images import from_uint8, to_uint8
from ffl.training.model import Batch, Task
from ffl.training.record import read_records
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device, to_device
from scripts.runs import OpenedRun, open_run
from scripts.tables import find_run_of, read_table


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

    def __str__(self) -> str:
        several = len(read_table(self.table).rows[self.row].runs) > 1
        return f"{self.table} {self.row}" + f" {self.group}" * several


@dataclass(frozen=True)
class FoundRuns:
    """The runs of a figure that are there.

    Attributes:
        directories: by row.
        data_root: of the data sets; None for where they were when each run was made.
        missing: a line for each run that is not there or not finished, with the command that makes it.
    """

    directories: dict[TableRun, RunDirectory]
    data_root: Path | None = None
    missing: list[str] = field(default_factory=list)

    def open(self, rows: Sequence[TableRun] | None = None) -> dict[TableRun, OpenedRun]:
        """Those of ``rows``, or all, with their test images and their models, ready to generate."""
        opened = {
            row: open_run(directory.path, data_root=self.data_root)
            for row, directory in self.directories.items()
            if rows is None or row in rows
        }
        for run in opened.values():
            run.model.to(choose_device("auto")).eval()
        return opened


@dataclass
class Drawing:
    """A figure, and what a reader of it can ask for.

    Attributes:
        figure: to be saved.
        caption: what it shows, and of what.
        values: the numbers in it.
        runs: what ``about`` says of the runs that it shows, by label.
        missing: a line for each run that it does not show for want of records, with the command that makes them.
    """

    figure: Figure
    caption: str
    values: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def pair(table: str, row: str, group: str) -> tuple[TableRun, TableRun]:
    """The rows of a table without and with the focal frequency loss."""
    return TableRun(table, f"{row}_without", "w/o FFL", group), TableRun(table, f"{row}_with", "w/ FFL", group)


def command(rows: Sequence[TableRun], scale: str, overrides: Sequence[str]) -> str:
    """What makes the runs of these rows: one program for each table."""
    tables: dict[str, dict[str, None]] = {}  # a row may have runs in several groups
    for row in rows:
        tables.setdefault(row.table.removeprefix("table"), {})[row.row] = None
    shared = " ".join([f"scale={scale}", *overrides])
    return " && ".join(
        f"python scripts/reproduce.py table={table} rows={','.join(ids)} {shared}" for table, ids in tables.items()
    )


def find_runs(
    rows: Sequence[TableRun],
    scale: str,
    data_root: Path | None = None,
    output_root: Path | None = None,
    given: Sequence[str] | None = None,
) -> FoundRuns:
    """The runs of rows of tables.

    Args:
        rows: whose runs are wanted.
        scale: of configs/scale.
        data_root: of the data sets; None for where they were when each run was made.
        output_root: where the runs are; None for the folder of configs/train.yaml.
        given: run directories in the place of those of the rows, in their order.
    Raises:
        UserError: if none is there, or ``given`` are not as many as ``rows``.
    """
    if given is not None:
        # Figures 18 and 19 then take the same words as 9 and 17.
        if (len(given), len(rows)) == (2, 1):  # of a pair without and with FFL, a figure of one run shows the second
            given = given[1:]
        if len(given) != len(rows):
            labels = ", ".join(row.label for row in rows)
            raise UserError(f"runs={','.join(given)}: this figure takes {len(rows)} runs ({labels})")
        return FoundRuns({row: RunDirectory.open(Path(path)) for row, path in zip(rows, given, strict=True)}, data_root)

    folders = {"data_root": data_root, "output_root": output_root}
    overrides = [f"{key}={folder}" for key, folder in folders.items() if folder is not None]
    directories: dict[TableRun, RunDirectory] = {}
    missing: list[str] = []
    refused: list[str] = []
    for row in rows:
        # A run that is cut is drawn as it is; the JSON and the last lines printed say so.
        advice = f"run: {command([row], scale, overrides)}"
        try:
            run = find_run_of(row.table, row.row, row.group, scale, overrides)
        except UserError as error:  # a run of that name with another configuration
            refused.append(f"{row}: {error}")
            continue
        if run is None or not run.last.is_file():
            missing.append(f"{row} is not there; {advice}")
            continue
        directories[row] = run
        status = run.status()
        if status is None:
            missing.append(f"{row} does not say whether it is finished; {advice}")
        elif not status.finished:
            missing.append(f"{row} is cut at step {status.step} of {status.total}; {advice}")
    if not directories:
        raise UserError(refused[0] if refused else f"none of its runs is there; run: {command(rows, scale, overrides)}")
    return FoundRuns(directories, data_root, missing + refused)


def about(run: RunDirectory, step: int | None) -> dict[str, Any]:
    """What identifies a run, and the weights that it has at ``step``."""
    seed = run.config()["seed"]
    return {"run": run.path.name, "seed": seed, "step": step, "checkpoint_sha256": file_sha256(run.last)}


def describe(run: OpenedRun) -> str:
    """Data set, size and how far the run was trained, in words."""
    height, width = run.dataset.image_size
    return f"{run.dataset.name} {width}×{height}, seed {run.config['seed']}, step {run.step}"


def first_items(run: OpenedRun, count: int) -> Batch:
    """The first ``count`` test items on the device of the model, fewer where there are not as many."""
    batch = run.dataset.batch(np.arange(min(count, len(run.dataset))), None)
    return to_device(batch, next(run.model.parameters()).device)


def generate(run: OpenedRun, count: int, task: Task | None = None, batch_size: int = 100) -> Tensor:
    """Images of the first test items, or of the first latents: those of an evaluation with seed 0.

    Args:
        run: on its device.
        count: of images.
        task: None for what the model does first.
        batch_size: images at a time, which changes no image.
    Returns:
        float (N, 3, H, W) in [-1, 1], on the CPU.
    """
    task = task or run.model.tasks[0]
    device = next(run.model.parameters()).device
    parts = []
    # Noise goes by the index of an image, so that these are the images of an evaluation with seed 0.
    for first in range(0, count, batch_size):
        index = np.arange(first, min(first + batch_size, count))
        if task == "synthesis":
            batch: Batch = {"index": torch.from_numpy(index).to(device)}
        else:
            batch = to_device(run.dataset.batch(index, None), device)
        parts.append(run.model.generate(batch, task, 0).cpu())
    return torch.cat(parts)


def score(run: OpenedRun, metric: str) -> str | None:
    """A value that was measured of these weights on all test images, such as "FID 70.1"; None where there is none."""
    wanted = {
        "task": run.model.tasks[0],
        "reference": f"{run.dataset.name} test",
        "reference_fingerprint": run.dataset.fingerprint,
        "quantisation": "paper",
        "evaluation_seed": 0,
    }
    # A value of earlier weights, or of a part of the images, must not stand beside these pictures.
    sha256 = file_sha256(run.checkpoint)
    for record in reversed(read_records(run.directory.records)):  # the newest one counts
        if (
            record.metric == metric
            and record.value is not None
            and record.num_images == len(run.dataset)
            and record.provenance.get("checkpoint_sha256") == sha256
            and wanted.items() <= record.protocol.items()
        ):
            return f"{metric.upper()} {record.value:.2f}"
    return None


def quantised(images: Tensor) -> Tensor:
    """Images in [-1, 1] rounded to 8 bits as the metrics do."""
    return from_uint8(to_uint8(images, "paper"))
