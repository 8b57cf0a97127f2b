"""Run directories with made-up measurements, for tests of what is read from them."""

import json
from pathlib import Path
from typing import Any

import torch

from ffl.files import file_sha256
from ffl.training.checkpoint import save_checkpoint
from ffl.training.record import Record, append_records
from ffl.training.run_directory import RunDirectory
from scripts.reproduction.records import _test_images
from scripts.reproduction.runs import Run


def finished_run(run: Run, values: dict[str, dict[str, float | str]], steps: int) -> RunDirectory:
    """A directory for ``run`` as if it had been trained for ``steps`` steps, at two images a second, and evaluated.

    ``values`` are by task and metric; a text is the reason why there is none.
    """
    directory = RunDirectory.create(Path(run.config["output_root"]), run.name, run.config)
    save_checkpoint(directory.last, {"step": steps, "model": {"weight": torch.tensor([float(run.seed)])}})
    batch_size = run.config["trainer"]["batch_size"]
    for step in (steps // 2, steps):
        directory.append_log({"step": step, "images": step * batch_size, "losses": {}, "images_per_second": 2.0})
    for task, metrics in values.items():
        add_records(directory, run, task, metrics)
    return directory


def add_records(directory: RunDirectory, run: Run, task: str, values: dict[str, float | str], **changes: Any) -> None:
    """Add records that fit the run's checkpoint and data, but for ``changes`` of their protocol."""
    config = run.config
    images = _test_images(json.dumps(config["dataset"]), config["data_root"], config["cache_dir"])
    fingerprint, count = images or ("elsewhere", 7)
    protocol = {
        "task": task,
        "quantisation": "paper",
        "evaluation_seed": 0,
        "reference": f"{run.dataset} test",
        "reference_fingerprint": fingerprint,
        "num_images": count,
        "checkpoint_sha256": file_sha256(directory.last),
        **changes,
    }
    sha256, number = protocol.pop("checkpoint_sha256"), protocol.pop("num_images")
    append_records(
        directory.records,
        [
            Record(
                metric=name,
                value=value if isinstance(value, float) else None,
                num_images=number,
                protocol=protocol,
                provenance={"checkpoint_sha256": sha256, "seed": run.seed},
                missing=value if isinstance(value, str) else None,
            )
            for name, value in values.items()
        ],
    )
