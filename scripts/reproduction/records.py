"""What run directories say for a table: which measurements are there, which are lacking, and what training took.

A run's metrics.jsonl keeps every record ever made of it. A table takes those of its last checkpoint under the protocol
of the paper; records of other checkpoints, splits, quantisations, seeds of evaluation or of a part of the test images
are left aside.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from datasets import Split, build_dataset
from datasets.listing import Listing
from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.metrics import METRICS, build_metric
from ffl.metrics.bands import SMALLEST
from ffl.training.config import FREE_KEYS, difference
from ffl.training.evaluation import metric_options
from ffl.training.loader import steps_per_epoch
from ffl.training.program import Config
from ffl.training.record import Record, read_records
from ffl.training.run_directory import RunDirectory
from ffl.weights import MissingWeights
from run_config import defaults
from scripts.tables import Run, Table, TableResults, remember, row_run

SPATIAL_TERM = "generator/mse"
USUAL_EPOCHS = 20  # a run cut by trainer.steps has no last epoch of its own: a twentieth of it stands for one


def table_results(
    table: Table,
    scale: str,
    overrides: list[str],
    seeds: range,
    reasons: dict[str, str],
    earlier: Sequence[Record] = (),
) -> TableResults:
    """The records of every cell of a table, and what no record says.

    Args:
        table: from ``read_table``.
        scale: a choice of configs/scale.
        overrides: further ones, for every run alike.
        seeds: those asked for. Runs of the seeds that follow are taken as well, as long as they are there.
        reasons: by run name, why it could not be made.
        earlier: records of the results that these replace. Those of runs that are not here are kept.
    Raises:
        UserError: if a run does not tell where it comes from: a row of a table must.
    """
    # The runs of each cell. The first seed that was not asked for and is not there ends the search.
    records: list[Record] = []
    data: dict[str, Config] = {}
    for row in table.rows:
        for group, columns in table.groups.items():
            for seed in itertools.count(seeds.start) if group in table.rows[row].runs else ():
                run = row_run(table, row, group, scale, overrides, seed)
                assert run is not None
                found = run_records(run, columns.task, columns.all_metrics, reasons.get(run.name))
                if found[0].value is None and found[0].metric == "training":
                    found = kept_records(run, row, group, earlier) or found
                    if seed not in seeds and found[0].value is None and found[0].metric == "training":
                        break
                records += [replace(r, provenance={"row": row, "group": group, **r.provenance}) for r in found]
                data[run.config["dataset"]["name"]] = run.config

    # How much of the public data sets was there, and what all runs were told.
    notes = []
    # A reader must know when a number is of fewer images than the paper's. Data that have gone since say nothing.
    for name, config in data.items():
        try:
            listing = list_images(config)
        except UserError:
            continue
        if listing is not None and listing.expected is not None and listing.found != listing.expected:
            counts = ", ".join(f"{len(paths):,} {split}" for split, paths in listing.splits.items())
            notes.append(f"{name}: {listing.found:,} of the {listing.expected:,} public images were there ({counts}).")
    if common := _lasting(overrides):
        notes.append(f"All runs with {' '.join(common)}.")
    return TableResults(table.name, scale, notes, records)


def kept_records(run: Run, row: str, group: str, earlier: Sequence[Record]) -> list[Record]:
    """The earlier records of a cell and seed, if they are of this very run; none where they are not.

    Runs of a table may be made on several machines, or deleted once they are measured. A record says what made it, so
    that results stay as long as the configuration and the number of training images do.
    """
    found = [
        record
        for record in earlier
        if record.metric != "call"  # of no run, and timed anew with every table
        and (record.provenance["row"], record.provenance["group"]) == (row, group)
        and record.provenance["seed"] == run.config["seed"]
    ]
    training = next((record for record in found if record.metric == "training" and record.value is not None), None)
    if training is None or training.details is None:
        return []
    if difference(training.details["config"], run.config, defaults(run.config)):
        return []
    try:
        images = count_images(run.config, "train")
    except UserError:  # the data are elsewhere
        return found
    return found if images == training.details["train_images"] else []


def run_records(run: Run, task: str, metrics: list[str], reason: str | None = None) -> list[Record]:
    """A run's measurements for a table and what its training took; or one record that says why there are none.

    Args:
        run: made or not.
        task: that the images were made for.
        metrics: the columns of the table.
        reason: why the run could not be made, if that was tried.
    Raises:
        UserError: if the run does not tell where it comes from.
    """
    names = {key: run.config[key]["name"] for key in ("model", "dataset")}
    provenance = {"run": run.name, **names, "seed": int(run.config["seed"])}

    # Its measurements, or the reason why there are none: it could not be made, it is not finished, not evaluated.
    measured: list[Record] = []
    try:
        directory = run.find()
        status = None if directory is None else directory.status()
        # A run that is not finished has been evaluated perhaps, but not as the table means it.
        if status is not None and status.finished:
            assert directory is not None
            known = known_records(directory, task, run.config)
            measured = [known[name] for name in (*metrics, "bands") if name in known]
            reason = reason or "not evaluated yet"
        reason = reason or ("not there yet" if directory is None else state_text(directory))
    except UserError as error:
        reason = str(error)
    if not measured:
        return [Record("training", None, 0, {}, provenance, missing=reason)]

    # Where the run comes from and what it took, without what holds for one machine, such as its folders.
    assert directory is not None
    assert status is not None
    path = directory.path / "run.json"
    try:
        origin = json.loads(path.read_text())
        machine = origin["environment"]
        threads = f"{machine['threads']} thread{'s' * (machine['threads'] > 1)}"
        details: dict[str, Any] = {
            "command": " ".join(["python train.py", *_lasting(list(run.overrides))]),
            "commit": origin["commit"],
            "dirty": origin["dirty"],
            "config": {key: value for key, value in directory.config().items() if key not in FREE_KEYS | {"recipe"}},
            "hardware": machine["gpu"] or f"{machine['cpu']}, {threads}",
            "torch": machine["torch"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path}: does not tell where the run comes from; copy it again, or train anew") from None
    try:
        train_images = count_images(run.config, "train")
    except UserError:  # the data set has gone since
        train_images = None
    details |= {"train_images": train_images, "images": status.images, "steps": status.step}
    details["epochs"] = status.images / train_images if train_images else None
    details["spatial_loss"] = final_spatial_loss(directory)
    details["gradient_share"] = next((line.get("gradient_share") for line in reversed(directory.log_lines())), None)
    provenance |= {"run": directory.path.name, "step": status.step}
    training = Record("training", status.seconds, 0, {}, provenance, details=details)
    return [*(replace(record, provenance={**record.provenance, **names}) for record in measured), training]


def known_records(directory: RunDirectory, task: str, config: Config) -> dict[str, Record]:
    """The newest fitting record of each metric, by name, those without a value included.

    Args:
        directory: of a run.
        task: that the images were made for.
        config: of the run; says where the data set is now. Where it is not there, whether records are of all its test
            images cannot be told, and they are taken as they are.
    """
    if not directory.records.is_file() or not directory.last.is_file():
        return {}
    # A record belongs to the checkpoint whose bytes it names: one that was trained further has others.
    sha256 = file_sha256(directory.last)
    test = find_test_images(config["dataset"], config["data_root"], config["cache_dir"])
    return {
        record.metric: record
        for record in read_records(directory.records)
        if record.provenance.get("checkpoint_sha256") == sha256
        and record.protocol.get("task") == task
        and record.protocol.get("quantisation") == "paper"
        and record.protocol.get("evaluation_seed") == 0
        and str(record.protocol.get("reference")).endswith(" test")
        and (test is None or (record.protocol.get("reference_fingerprint"), record.num_images) == test)
    }


def lacking_metrics(directory: RunDirectory, task: str, metrics: list[str], config: Config) -> list[str]:
    """Those of ``metrics`` that have to be measured: no record fits, or weights that were missing are here now."""
    known = known_records(directory, task, config)
    size = int(config["dataset"]["image_size"])
    options = metric_options(metrics, config["dataset"]["name"], height=size, runs=directory.path.parent)
    # What images of this size and number do not allow is left out, as evaluate.py leaves it out of its defaults.
    test = find_test_images(config["dataset"], config["data_root"], config["cache_dir"])
    metrics = [
        name
        for name in metrics
        if METRICS[name].min_size <= size and (test is None or METRICS[name].min_images <= test[1])
    ]
    # A metric that lacked its weights is measured as soon as they are there, and not again before.
    lacking = [
        name
        for name in metrics
        if name not in known or (known[name].missing and missing_weights(name, **options.get(name, {})) is None)
    ]
    # Every evaluation measures the bands too; runs of older versions were evaluated without.
    spectrum = known.get("spectrum_distance")
    without_bands = spectrum is not None and spectrum.value is not None and "bands" not in known
    if without_bands and not lacking and size >= SMALLEST and test is not None:
        lacking.append("spectrum_distance")
    return lacking


@remember
def find_test_images(options: Config, data_root: str, cache_dir: str) -> tuple[str, int] | None:
    """Fingerprint and number of a data set's test images; None where they are not there."""
    try:
        dataset = build_dataset(split="test", data_root=Path(data_root), cache_dir=Path(cache_dir), **options)
    except UserError:
        return None
    return dataset.fingerprint, len(dataset)


@remember
def missing_weights(metric: str, **options: Any) -> str | None:
    """How to get a metric's pretrained weights; None where they are there or it needs none."""
    try:
        build_metric(metric, **options)
    except MissingWeights as error:
        return str(error)
    return None


def state_text(directory: RunDirectory | None) -> str:
    """How far a run is, in words."""
    if directory is None:
        return "not there"
    status = directory.status()
    if status is None:  # cut before its first checkpoint, or of a version that did not say
        return "not finished"
    if status.finished:
        return f"finished, {status.step} steps"
    return f"cut at step {status.step} of {status.total}"


def list_images(config: Config) -> Listing | None:
    """The files of a configuration's data set, without decoding any; None where it is not made of files.

    Raises:
        UserError: if the data set is not there; the message says where it comes from.
    """
    return list_once(data_root=Path(config["data_root"]), **config["dataset"])


list_once = remember(datasets.list_images)  # runs share data sets, and some have 300,000 files


def count_images(config: Config, split: Split) -> int:
    """Images of a split; raises as ``list_images`` does."""
    listing = list_images(config)
    return int(config["dataset"][f"{split}_images"]) if listing is None else len(listing.splits.get(split, []))


def total_steps(config: Config) -> int:
    """Steps of a run.

    Raises:
        UserError: if its data set is not there, or smaller than a batch.
    """
    # Epochs are the paper's unit and steps the loop's; trainer.steps overrides both.
    trainer = config["trainer"]
    steps = steps_per_epoch(count_images(config, "train"), int(trainer["batch_size"]))
    return int(trainer["epochs"]) * steps if trainer["steps"] is None else int(trainer["steps"])


class LossPoint(NamedTuple):
    """The mean of a loss over the steps after ``first`` up to and with ``last``."""

    first: int
    last: int
    mean: float


def spatial_loss(run: RunDirectory) -> list[LossPoint]:
    """The mean squared error in training, without the weight that the model gives it, for each line of ``log.jsonl``.

    A line holds the mean over the steps since the line before it. Models without this term have no points.
    """
    lines = [line for line in run.log_lines() if SPATIAL_TERM in line.get("losses", {})]
    weight = run.config()["model"].get("mse_weight", 1.0)
    steps = [0, *(line["step"] for line in lines)]
    return [
        LossPoint(first, last, line["losses"][SPATIAL_TERM] / weight)
        for (first, last), line in zip(itertools.pairwise(steps), lines, strict=True)
    ]


def final_spatial_loss(run: RunDirectory) -> float | None:
    """Mean of the spatial loss over the last epoch of training; None where the run has no such term."""
    points = spatial_loss(run)
    if not points:
        return None
    trainer, last = run.config()["trainer"], points[-1].last
    epochs = trainer["epochs"] if trainer["steps"] is None else USUAL_EPOCHS
    first = last - max(1, round(last / epochs))
    # Lines don't end where epochs do: the first of them counts by the steps that are in the last epoch.
    inside = [max(0, point.last - max(point.first, first)) for point in points]
    return float(sum(steps * point.mean for steps, point in zip(inside, points, strict=True)) / sum(inside))


def _lasting(overrides: list[str]) -> list[str]:
    """Overrides that mean the same on another machine."""
    return [item for item in overrides if item.lstrip("+~").partition("=")[0] not in FREE_KEYS]
