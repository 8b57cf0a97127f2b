"""Run directories with made-up measurements, for tests of what is read from them."""

from pathlib import Path
from typing import Any

import torch

from ffl.files import file_sha256
from ffl.training.checkpoint import save_checkpoint
from ffl.training.record import Record, append_records
from ffl.training.run_directory import RunDirectory, Status
from scripts.reproduction.records import find_test_images
from scripts.tables import Run


def finished_run(
    run: Run | None, values: dict[str, dict[str, float | str]], steps: int, total: int | None = None
) -> RunDirectory:
    """A directory for ``run`` as if it had been trained for ``steps`` steps, at two images a second, and evaluated.

    ``values`` are by task and metric; a text is the reason why there is none.
    """
    assert run is not None
    directory = RunDirectory.create(Path(run.config["output_root"]), run.name, run.config)
    save_checkpoint(directory.last, {"step": steps, "model": {"weight": torch.tensor([float(run.config["seed"])])}})
    images, total = steps * run.config["trainer"]["batch_size"], total or steps
    directory.write_status(Status(steps, total, steps == total, images, images / 2, 1))
    for step, loss in ((steps // 2, 0.25), (steps, 0.125)):
        line = {"step": step, "images": step * images // steps, "losses": {"generator/mse": loss}}
        directory.append_log({**line, "images_per_second": 2.0})
    for task, metrics in values.items():
        add_records(directory, run, task, metrics)
    return directory


def add_records(directory: RunDirectory, run: Run, task: str, values: dict[str, float | str], **changes: Any) -> None:
    """Add records that fit the run's checkpoint and data, but for ``changes`` of their protocol."""
    config = run.config
    images = find_test_images(config["dataset"], config["data_root"], config["cache_dir"])
    fingerprint, count = images or ("elsewhere", 7)
    protocol = {
        "task": task,
        "quantisation": "paper",
        "evaluation_seed": 0,
        "reference": f"{config['dataset']['name']} test",
        "reference_fingerprint": fingerprint,
        "num_images": count,
        "checkpoint_sha256": file_sha256(directory.last),
        **changes,
    }
    sha256, number = protocol.pop("checkpoint_sha256"), protocol.pop("num_images")
    provenance = {"run": directory.path.name, "checkpoint_sha256": sha256, "seed": config["seed"]}
    records = [
        Record(name, value, number, protocol, provenance)
        if isinstance(value, float)
        else Record(name, None, number, protocol, provenance, missing=value)
        for name, value in values.items()
    ]
    power = {"edges": [0.5, 2.0], "real": [2.0, 1.0, 1.0], "fake": [1.0, 1.0, 1.0], "error": None}
    append_records(directory.records, [*records, Record("bands", None, number, protocol, provenance, details=power)])
