"""Measure a finished run or two folders of images: python evaluate.py run=DIR | real=DIR fake=DIR, see --help."""

from ffl.training.words import answer_at_once

if __name__ == "__main__":
    answer_at_once("evaluate")  # before the imports below: they take seconds, which a typing error need not wait for

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from datasets import DATASETS, ImageDataset, build_dataset
from ffl.errors import UserError
from ffl.files import failed_writes, file_sha256
from ffl.images import Protocol, from_uint8, to_uint8
from ffl.metrics import METRICS
from ffl.metrics.segmentation import LabelSetName
from ffl.ranges import Count
from ffl.training import distributed
from ffl.training.checkpoint import load_model_state, load_newest
from ffl.training.config import Accelerator, Seed, check_section
from ffl.training.evaluation import (
    TASK_METRICS,
    Images,
    Reference,
    check_metrics,
    measure,
    paired_files,
    read_pairs,
    table,
    write_metrics,
)
from ffl.training.logger import save_png
from ffl.training.model import Model, Task
from ffl.training.objective import Objective
from ffl.training.precision import allow_tf32
from ffl.training.program import Config, run_program
from ffl.training.provenance import content_hash
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device, to_device
from models import MODELS, build_model


def check_program(
    run: str | None = None,
    real: str | None = None,
    fake: str | None = None,
    out: str | None = None,
    metrics: list[str] | None = None,
    task: Task | None = None,
    split: Literal["train", "val", "test"] = "test",
    checkpoint: Literal["last", "best"] = "last",
    protocol: Protocol = "paper",
    num_images: Count | None = None,
    batch_size: Count = 100,
    seed: Seed = 0,
    dataset_options: dict[str, Any] | None = None,
    data_root: str | None = None,
    cache_dir: str = "outputs/cache",
    accelerator: Accelerator = "auto",
    save_images: bool = False,
    verify_weights: bool = True,
) -> None:
    """The keys of configs/evaluate.yaml, with their types and what they exclude."""
    if (run is None) == (real is None and fake is None) or (real is None) != (fake is None):
        raise UserError("give run=DIR (a run directory), or real=DIR fake=DIR (two folders of images)")
    if run is not None and not Path(run).is_dir():
        raise UserError(f"run={run}: no such directory; train.py prints the one it made")
    check_metrics(metrics or [])


def check(config: Config) -> None:
    """Find every mistake in the command line before any data is read."""
    check_section("", config, check_program, provided=set())
    check_program(**config)


def evaluate(config: Config) -> list[Record]:
    """Measure what the config names, print a table and write ``metrics.json``.

    Args:
        config: the resolved configuration of configs/evaluate.yaml.
    Returns:
        One record per metric.
    """
    check(config)
    device = choose_device(config["accelerator"])
    distributed.start(device)
    allow_tf32(False)
    with distributed.report_lost_processes("Start the command again"):
        measured = evaluate_folders if config["run"] is None else evaluate_run
        records, path = measured(config, device)
        if distributed.rank() == 0:
            with failed_writes(path, "make room, or set out=DIR"):
                write_metrics(path, records)
            print(f"{table(records)}\n\nwritten to {path}")
    return records


def evaluate_folders(config: Config, device: torch.device) -> tuple[list[Record], Path]:
    """Records of ``real=DIR fake=DIR``, and where they go."""
    names = config["metrics"] if config["metrics"] is not None else TASK_METRICS["reconstruction"]
    if of_labels := [name for name in names if METRICS[name].inputs == "labels"]:
        raise UserError(f"{of_labels[0]}: compares with label maps, which folders of images have not; use run=DIR")
    files = paired_files(Path(config["real"]), Path(config["fake"]))
    if config["num_images"] is not None and config["num_images"] > len(files):
        raise UserError(f"num_images={config['num_images']}: the folders hold {len(files)} pairs")
    files = files[: config["num_images"]]
    records = measure(
        names,
        read_pairs(files, config["batch_size"]),
        len(files),
        protocol={"reference": config["real"], "quantisation": "8-bit files, as they are"},
        provenance={"fake": config["fake"]},
        device=device,
        verify_weights=config["verify_weights"],
    )
    return records, Path(config["out"] or config["fake"]) / "metrics.json"


def evaluate_run(config: Config, device: torch.device) -> tuple[list[Record], Path]:
    """Records of ``run=DIR``, and where they go."""
    run = RunDirectory.open(Path(config["run"]))
    run_config = stored_config(run)
    dataset = build_dataset(
        split=config["split"],
        data_root=Path(config["data_root"] or run_config["data_root"]),
        cache_dir=Path(config["cache_dir"]),
        **{**run_config["dataset"], **(config["dataset_options"] or {})},
    )
    choices = [run.last, run.previous] if config["checkpoint"] == "last" else [run.best]
    weights, state = load_newest(choices, whole=False)
    model = restored_model(run_config, dataset.image_size, weights, state)
    task = config["task"] or model.tasks[0]
    if task not in model.tasks:
        raise UserError(f"task={task}: {run_config['model']['name']} does {' and '.join(model.tasks)}")
    num_images = config["num_images"] or len(dataset)
    if task != "synthesis" and num_images > len(dataset):
        raise UserError(f"num_images={num_images}: the {config['split']} split has {len(dataset)} images")
    out = Path(config["out"] or run.path)
    model = model.to(device).eval()
    real_count = len(dataset) if task == "synthesis" else num_images
    real = RealImages(dataset, real_count, config["batch_size"], config["protocol"])
    if task == "synthesis":
        batches = synthetic_images(model, num_images, real, config["seed"])
    else:
        batches = paired_images(model, task, real, config["seed"])
    photographs = has_photographs(dataset)
    records = measure(
        choose_metrics(config["metrics"], task, dataset.name, photographs),
        saved(batches, out / f"{task}_images" if config["save_images"] else None),
        num_images,
        protocol={
            "task": task,
            **model.protocol(task),
            "reference": f"{dataset.name} {config['split']}",
            "reference_fingerprint": dataset.fingerprint,
            "reference_images": real_count,
            "size": list(dataset.image_size),
            "quantisation": config["protocol"],
            "evaluation_seed": config["seed"],
        },
        provenance={
            "run": run.path.name,
            "seed": run_config["seed"],
            "step": state["step"],
            "checkpoint": weights.stem,
            "checkpoint_sha256": file_sha256(weights),
            "config_sha256": content_hash(run_config),
        },
        device=device,
        verify_weights=config["verify_weights"],
        options=metric_options(dataset.name),
        reference=Reference(real, Path(config["cache_dir"]) / "statistics") if photographs else None,
    )
    name = "metrics.json" if task == model.tasks[0] else f"metrics_{task}.json"
    return records, out / name


def metric_options(dataset: str) -> dict[str, dict[str, Any]]:
    """Arguments of metrics that depend on the data set: the network and the ids of its label maps."""
    scores = [name for name, metric in METRICS.items() if metric.inputs == "labels"]
    return {name: {"label_set": dataset} for name in scores} if dataset in get_args(LabelSetName) else {}


def choose_metrics(requested: list[str] | None, task: Task, dataset: str, photographs: bool) -> list[str]:
    """What is measured: the metrics that were asked for, or where none were, all of the task that the data set allows.

    Args:
        requested: their names; None: none were.
        task: of the model.
        dataset: name of the data set.
        photographs: whether it holds real images to compare with.
    Raises:
        UserError: one that was asked for cannot be had.
    """
    if requested is None:
        return [name for name in TASK_METRICS[task] if obstacle(name, task, dataset, photographs) is None]
    for name in requested:
        if reason := obstacle(name, task, dataset, photographs):
            raise UserError(f"{name}: {reason}")
    return requested


def obstacle(metric: str, task: Task, dataset: str, photographs: bool) -> str | None:
    """Why a metric cannot be had for this task and data set; None if it can."""
    inputs = METRICS[metric].inputs
    if inputs == "labels" and not metric_options(dataset):
        known = " and ".join(get_args(LabelSetName))
        return f"there is no segmentation network for {dataset}, only for {known}"
    if inputs == "pairs" and task == "synthesis":
        fitting = ", ".join(name for name in METRICS if METRICS[name].inputs in ("sets", "fakes"))
        return f"compares pairs, and a synthesised image has none; choose among {fitting}"
    if inputs in ("pairs", "sets") and not photographs:
        return "compares with real images, and the data set gives none; leave it out of metrics"
    return None


def has_photographs(dataset: ImageDataset) -> bool:
    """Whether there are real images to compare with."""
    return "image" in dataset.batch(np.arange(1), None)


def stored_config(run: RunDirectory) -> Config:
    """The configuration of a run, whose model and data set are checked like those of a command line.

    Raises:
        UserError: if it is not what a program of ours wrote; nothing in it is ever executed.
    """
    config, path = run.config(), run.path / "config.yaml"
    registries: dict[str, Mapping[str, Any]] = {"model": MODELS, "dataset": DATASETS}
    provided = {"model": {"image_size", "objective"}, "dataset": {"split", "data_root", "cache_dir"}}
    try:
        check_section("", {key: config.get(key) for key in ("seed", "data_root")}, _stored_keys, provided=set())
        for section, registry in registries.items():
            chosen = config.get(section)
            name = str(chosen.get("name")) if isinstance(chosen, dict) else ""
            if not isinstance(chosen, dict) or name not in registry:
                raise UserError(f"{section}.name={name}: expected one of {', '.join(sorted(registry))}")
            options = {key: value for key, value in chosen.items() if key != "name"}
            check_section(section, options, registry[name], provided=provided[section])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def _stored_keys(seed: Seed, data_root: str) -> None:
    """Keys besides the sections that an evaluation reads from a run's configuration, with their types."""


def load_model(run_config: Config, image_size: tuple[int, int], path: Path) -> tuple[Model, int | None]:
    """The model of a run with the weights of a checkpoint, and the step they are from, None for imported ones."""
    path, state = load_newest([path], whole=False)
    return restored_model(run_config, image_size, path, state), state["step"]


def restored_model(run_config: Config, image_size: tuple[int, int], path: Path, state: dict[str, Any]) -> Model:
    """The model of a run with the weights of ``state``, which was read from ``path``.

    The objective is left empty: evaluation needs no losses, nor the pretrained weights of perceptual ones.
    """
    model = build_model(**run_config["model"], image_size=image_size, objective=Objective())
    load_model_state(model, state["model"], path, state.get("networks"))
    return model


@dataclass(frozen=True)
class RealImages:
    """The first images of a data set as metrics see them, in batches; can be iterated again and again."""

    dataset: ImageDataset
    count: int
    batch_size: int
    protocol: Protocol

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(0, self.count, self.batch_size):
            yield self.batch(first)

    def batch(self, first: int) -> Tensor:
        """uint8 (N, 3, H, W) from the ``first`` on; empty beyond the last."""
        indices = np.arange(first, max(first, min(first + self.batch_size, self.count)))
        image = self.dataset.batch(indices, None)["image"]
        assert isinstance(image, Tensor)
        return to_uint8(from_uint8(image), self.protocol)


def paired_images(model: Model, task: Task, real: RealImages, seed: int) -> Iterator[tuple[list[str], Images]]:
    """Names, and each real image with what the model makes from the same item, both quantised alike.

    Of several processes each gives its share of the batches.
    """
    device = next(model.parameters()).device
    for first in distributed.share(range(0, real.count, real.batch_size)):
        indices = np.arange(first, min(first + real.batch_size, real.count))
        batch = to_device(real.dataset.batch(indices, None), device)
        fake = quantised(model.generate(batch, task, seed), real.protocol)
        image = to_uint8(batch["image"], real.protocol) if "image" in batch else fake[:0]
        images = Images(image, fake, batch.get("label"), torch.from_numpy(indices))
        yield [real.dataset.names[index] for index in indices], images


def synthetic_images(model: Model, num_images: int, real: RealImages, seed: int) -> Iterator[tuple[list[str], Images]]:
    """Numbers for names, and batches from the prior beside real ones; the shorter set ends in empty batches.

    Of several processes each gives its share of the batches.
    """
    device = next(model.parameters()).device
    height, width = real.dataset.image_size
    nothing = torch.empty(0, 3, height, width, dtype=torch.uint8)
    for first in distributed.share(range(0, max(num_images, real.count), real.batch_size)):
        index = torch.arange(first, max(first, min(first + real.batch_size, num_images)), device=device)
        fake = quantised(model.generate({"index": index}, "synthesis", seed), real.protocol) if len(index) else nothing
        yield [f"{number:06d}" for number in index.tolist()], Images(real.batch(first), fake, positions=index.cpu())


def quantised(images: Tensor, protocol: Protocol) -> Tensor:
    """Generated images as metrics see them.

    Raises:
        UserError: if the model makes NaN or infinities.
    """
    if not images.isfinite().all():
        raise UserError("the model's images hold NaN or infinities: its weights have diverged; take another checkpoint")
    return to_uint8(images, protocol)


def saved(batches: Iterator[tuple[list[str], Images]], folder: Path | None) -> Iterator[Images]:
    """The images of ``batches``; generated ones are written to ``folder`` on the way, where there is one."""
    for names, images in batches:
        if folder is not None:
            with failed_writes(folder, "make room, or set out=DIR"):
                for name, image in zip(names, images.fake, strict=True):
                    save_png(folder / f"{name}.png", image)
        yield images


def task(config: Config, overrides: list[str]) -> None:
    """One job of the command line."""
    try:
        evaluate(config)
    finally:
        distributed.stop()


if __name__ == "__main__":
    run_program("evaluate", task, check)
