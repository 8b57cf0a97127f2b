"""Which measurements of a run are there already: those of its last checkpoint under the protocol of the tables.

A run's metrics.jsonl keeps every record ever made of it. Records of other checkpoints, splits, quantisations, seeds of
evaluation or of a part of the test images are left aside.
"""

import json
from functools import cache
from pathlib import Path

from datasets import build_dataset
from evaluate import metric_options
from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.metrics import build_metric
from ffl.training.program import Config
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory
from ffl.weights import MissingWeights


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
    sha256 = file_sha256(directory.last)
    test = _test_images(json.dumps(config["dataset"]), config["data_root"], config["cache_dir"])
    found: dict[str, Record] = {}
    for line in directory.records.read_text(errors="replace").splitlines():
        try:
            record = read_record(line)
        except (ValueError, KeyError, TypeError):  # cut off while it was written, or of another version
            continue
        protocol = record.protocol
        fits = (
            record.provenance.get("checkpoint_sha256") == sha256
            and protocol.get("task") == task
            and protocol.get("quantisation") == "paper"
            and protocol.get("evaluation_seed") == 0
            and str(protocol.get("reference")).endswith(" test")
        )
        if fits and (test is None or (protocol.get("reference_fingerprint"), record.num_images) == test):
            found[record.metric] = record
    return found


def lacking_metrics(directory: RunDirectory, task: str, metrics: list[str], config: Config) -> list[str]:
    """Those of ``metrics`` that have to be measured: no record fits, or weights that were missing are here now."""
    known = known_records(directory, task, config)
    options = metric_options(config["dataset"]["name"])
    lacking = []
    for name in metrics:
        record = known.get(name)
        if record is None or (record.missing is not None and _has_weights(name, json.dumps(options.get(name, {})))):
            lacking.append(name)
    return lacking


def read_record(line: str) -> Record:
    """A record from its JSON."""
    values = json.loads(line)
    if values["value"] is not None:
        values["value"] = float(values["value"])  # infinities are strings
    return Record(**values)


@cache
def _test_images(options: str, data_root: str, cache_dir: str) -> tuple[str, int] | None:
    """Fingerprint and number of a data set's test images; None where they are not there."""
    try:
        dataset = build_dataset(
            split="test", data_root=Path(data_root), cache_dir=Path(cache_dir), **json.loads(options)
        )
    except UserError:
        return None
    return dataset.fingerprint, len(dataset)


@cache
def _has_weights(metric: str, options: str) -> bool:
    """Whether a metric's pretrained weights are there."""
    try:
        build_metric(metric, **json.loads(options))
    except MissingWeights:
        return False
    return True
