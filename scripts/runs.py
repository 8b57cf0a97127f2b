"""Runs as scripts and evaluation take them: the model with its trained weights, and the data set that it is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datasets import ImageDataset, Split, build_dataset
from ffl.errors import UserError
from ffl.training.config import Seed, describe, matches
from ffl.training.model import Model
from ffl.training.program import Config
from ffl.training.run_directory import RunDirectory
from models import load_model
from run_config import check_named


@dataclass(frozen=True)
class OpenedRun:
    """A run whose images can be generated.

    Attributes:
        directory: of the run.
        config: it was started with.
        dataset: one split of the run's data set.
        model: with the weights of ``checkpoint``, on the CPU.
        checkpoint: file that the weights are from.
        step: that they are from; None for imported ones.
    """

    directory: RunDirectory
    config: Config
    dataset: ImageDataset
    model: Model
    checkpoint: Path
    step: int | None


def open_run(
    path: Path,
    split: Split = "test",
    data_root: Path | None = None,
    cache_dir: Path | None = None,
    checkpoint: Literal["last", "best"] = "last",
    dataset_options: Mapping[str, Any] | None = None,
) -> OpenedRun:
    """Open a run directory, its data set and its model.

    Args:
        path: of the run directory, or of an exported folder.
        split: of the data set.
        data_root: folder of the data sets; None for that of the run.
        cache_dir: folder of the decoded images; None for that of the run.
        checkpoint: whose weights; where the last one is damaged, the one before it serves.
        dataset_options: options of the data set to change.
    Raises:
        UserError: if the run, its data set or its checkpoint is not there or not what our programs write.
    """
    directory = RunDirectory.open(path)
    config = checked_config(directory)
    dataset = build_dataset(
        split=split,
        data_root=data_root or Path(config["data_root"]),
        cache_dir=cache_dir or Path(str(config["cache_dir"])),
        **{**config["dataset"], **(dataset_options or {})},
    )
    # A run that was killed while it wrote, or a bad disk, leaves the checkpoint before.
    model, weights, step = load_model(config, dataset.image_size, directory.weights(checkpoint))
    return OpenedRun(directory, config, dataset, model, weights, step)


def checked_config(run: RunDirectory) -> Config:
    """The configuration of a run, whose model and data set are checked like those of a command line.

    Raises:
        UserError: if it is not what a program of ours wrote; nothing in it is ever executed.
    """
    # A run directory may be somebody else's: it is checked as a command line is, and nothing in it is executed.
    config = run.config()
    try:
        for key, hint in (("seed", Seed), ("data_root", str)):
            if not matches(config.get(key), hint):
                raise UserError(f"{key}={config.get(key)}: expected {describe(hint)}")
        for section in ("model", "dataset"):
            check_named(section, config.get(section))
    except UserError as error:
        raise UserError(f"{run.path / 'config.yaml'}: {error}") from None
    return config
