"""From the cells of a table to runs: their overrides, configuration and name, and whether they are there.

The only place that knows how a table's row becomes a training command. ``train.py`` with the overrides of a ``Run``
makes that run, and a run made that way is found here.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from datasets import DATASETS, Split
from datasets.files import FileImages
from datasets.listing import Listing
from ffl.errors import UserError
from ffl.training.checkpoint import load_newest
from ffl.training.loader import steps_per_epoch
from ffl.training.program import Config, compose
from ffl.training.run_directory import RunDirectory, find_run, run_name
from scripts.tables import Scale, Table, read_table
from train import defaults

BASE_SEED = 1112  # the authors', and the default of train.py


@dataclass(frozen=True)
class Run:
    """A training run that a table needs, made or not.

    Attributes:
        overrides: of ``train.py``.
        config: what they compose to.
        name: of its directory.
        stand_ins: (data set of the paper, data set here) where they differ.
    """

    overrides: tuple[str, ...]
    config: Config
    name: str
    stand_ins: tuple[tuple[str, str], ...] = ()

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def dataset(self) -> str:
        return str(self.config["dataset"]["name"])

    @property
    def command(self) -> str:
        """The command that makes it."""
        return f"python train.py {' '.join(self.overrides)}"

    def find(self) -> RunDirectory | None:
        """Its directory, whole or cut; None where there is none.

        Raises:
            UserError: if a directory of its name holds another configuration.
        """
        return find_run(self.config, list(self.overrides), defaults(self.config))


@dataclass(frozen=True)
class State:
    """How far a run is.

    Attributes:
        run: its directory; None where there is none.
        step: of its last checkpoint.
        total: steps that it has in all; None where its training images cannot be counted.
    """

    run: RunDirectory | None
    step: int
    total: int | None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.run is not None and self.total is not None and self.step >= self.total

    def __str__(self) -> str:
        if self.run is None:
            return "not there"
        if self.total is None:
            return f"at step {self.step}, of how many its data would say"
        return f"finished, {self.step} steps" if self.finished else f"cut at step {self.step} of {self.total}"


def split_overrides(overrides: list[str]) -> dict[str, str]:
    """Overrides by key."""
    return {key: value for key, _, value in (item.lstrip("+~").partition("=") for item in overrides)}


def make_run(overrides: list[str]) -> Run:
    """The run that ``train.py`` would make from these overrides.

    Raises:
        UserError: for an override that cannot be composed.
    """
    return _make_run(tuple(overrides))


@cache
def _make_run(overrides: tuple[str, ...]) -> Run:
    config = compose("train", [*overrides, "resume=auto"])
    return Run(overrides, config, run_name(config, list(overrides)))


@cache
def stand_ins(scale: str) -> dict[str, str]:
    """Data sets that runs at a scale take instead of the paper's."""
    named: dict[str, str] = compose("train", [f"scale={scale}"])["recipe"].get("stand_ins", {})
    return named


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
    own = table.rows[row].runs.get(group)
    if own is None:
        return None
    change = table.scales.get(scale, Scale())
    items = [*(_at_scale(item, scale, change) for item in own), *change.add]
    if scale != "paper":  # the default of train.py
        items.append(f"scale={scale}")
    if seed != BASE_SEED:
        items.append(f"seed={seed}")
    was, now = split_overrides(own)["dataset"], split_overrides(items)["dataset"]
    return replace(make_run([*items, *(overrides or [])]), stand_ins=((was, now),) if was != now else ())


def _at_scale(override: str, scale: str, change: Scale) -> str:
    """An override of the paper's scale as it is at another one."""
    key, _, value = override.partition("=")
    if key in change.replace:
        return f"{key}={change.replace[key]}"
    return f"{key}={stand_ins(scale).get(value, value)}" if key == "dataset" else override


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


def list_images(config: Config) -> Listing | None:
    """The files of a configuration's data set, without decoding any; None where it is not made of files.

    Raises:
        UserError: if the data set is not there; the message says where it comes from.
    """
    options = {key: value for key, value in config["dataset"].items() if key != "name"}
    dataset = DATASETS[config["dataset"]["name"]]
    if not issubclass(dataset, FileImages):
        return None
    return dataset.find_files(Path(config["data_root"]), **options)


def count_images(config: Config, split: Split) -> int:
    """Images of a split; raises as ``list_images`` does."""
    listing = list_images(config)
    return int(config["dataset"][f"{split}_images"]) if listing is None else len(listing.splits.get(split, []))


def total_steps(config: Config) -> int:
    """Steps of a run.

    Raises:
        UserError: if its data set is not there, or smaller than a batch.
    """
    trainer = config["trainer"]
    if trainer["steps"] is not None:
        return int(trainer["steps"])
    return int(trainer["epochs"]) * steps_per_epoch(count_images(config, "train"), int(trainer["batch_size"]))


def state_of(run: Run) -> State:
    """How far a run is; reads its last checkpoint."""
    try:
        total: int | None = total_steps(run.config)
    except UserError:
        total = None
    directory = run.find()
    step = 0
    if directory is not None and any(path.is_file() for path in (directory.last, directory.previous)):
        step = int(load_newest([directory.last, directory.previous], whole=False)[1]["step"] or 0)
    return State(directory, step, total)
