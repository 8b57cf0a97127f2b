"""Measure a finished run or two folders of images: python evaluate.py run=DIR | real=DIR fake=DIR, see --help."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from datasets import ImageDataset, build_dataset
from ffl.errors import UserError
from ffl.evaluation import (
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
from ffl.files import file_sha256
from ffl.images import Protocol, from_uint8, to_uint8
from ffl.metrics import METRICS
from ffl.metrics.segmentation import LabelSetName
from ffl.model import Model, Task
from ffl.objective import Objective
from ffl.provenance import content_hash
from ffl.record import Record
from ffl.training.checkpoint import load_checkpoint, load_model_state
from ffl.training.config import check_section
from ffl.training.logger import save_png
from ffl.training.program import Config, run_program
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device, to_device
from models import build_model


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
    num_images: int | None = None,
    batch_size: int = 100,
    seed: int = 0,
    dataset_options: dict[str, Any] | None = None,
    data_root: str | None = None,
    cache_dir: str = "outputs/cache",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    save_images: bool = False,
    verify_weights: bool = True,
) -> None:
    """The keys of configs/evaluate.yaml, with their types and what they exclude."""
    if (run is None) == (real is None and fake is None) or (real is None) != (fake is None):
        raise UserError("give run=DIR (a run directory), or real=DIR fake=DIR (two folders of images)")
    if run is not None and not Path(run).is_dir():
        raise UserError(f"run={run}: no such directory; train.py prints the one it made")
    for key, value in (("batch_size", batch_size), ("num_images", num_images)):
        if value is not None and value < 1:
            raise UserError(f"{key}={value}: must be at least 1")
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
    records, path = evaluate_folders(config) if config["run"] is None else evaluate_run(config)
    write_metrics(path, records)
    print(table(records))
    print(f"\nwritten to {path}")
    return records


def evaluate_folders(config: Config) -> tuple[list[Record], Path]:
    """Records of ``real=DIR fake=DIR``, and where they go."""
    files = paired_files(Path(config["real"]), Path(config["fake"]))[: config["num_images"]]
    records = measure(
        config["metrics"] or TASK_METRICS["reconstruction"],
        read_pairs(files, config["batch_size"]),
        len(files),
        protocol={"reference": config["real"], "quantisation": "8-bit files, as they are"},
        provenance={"fake": config["fake"]},
        device=choose_device(config["device"]),
        verify_weights=config["verify_weights"],
    )
    return records, Path(config["out"] or config["fake"]) / "metrics.json"


def evaluate_run(config: Config) -> tuple[list[Record], Path]:
    """Records of ``run=DIR``, and where they go."""
    run = RunDirectory.open(Path(config["run"]))
    run_config = run.config()
    device = choose_device(config["device"])
    dataset = build_dataset(
        split=config["split"],
        data_root=Path(config["data_root"] or run_config["data_root"]),
        cache_dir=Path(config["cache_dir"]),
        **{**run_config["dataset"], **(config["dataset_options"] or {})},
    )
    weights = run.last if config["checkpoint"] == "last" else run.best
    model, step = load_model(run_config, dataset.image_size, weights)
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
    names = config["metrics"] if config["metrics"] is not None else default_metrics(task, dataset)
    if unknown := [
        name for name in names if METRICS[name].inputs == "labels" and name not in metric_options(dataset.name)
    ]:
        known = " and ".join(get_args(LabelSetName))
        raise UserError(f"{unknown[0]}: there is no segmentation network for {dataset.name}, only for {known}")
    records = measure(
        names,
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
            "step": step,
            "checkpoint": config["checkpoint"],
            "checkpoint_sha256": file_sha256(weights),
            "config_sha256": content_hash(run_config),
        },
        device=device,
        verify_weights=config["verify_weights"],
        options=metric_options(dataset.name),
        reference=Reference(real, Path(config["cache_dir"]) / "statistics") if has_photographs(dataset) else None,
    )
    name = "metrics.json" if task == model.tasks[0] else f"metrics_{task}.json"
    return records, out / name


def metric_options(dataset: str) -> dict[str, dict[str, Any]]:
    """Arguments of metrics that depend on the data set: the network and the ids of its label maps."""
    scores = [name for name, metric in METRICS.items() if metric.inputs == "labels"]
    return {name: {"label_set": dataset} for name in scores} if dataset in get_args(LabelSetName) else {}


def default_metrics(task: Task, dataset: ImageDataset) -> list[str]:
    """What is measured where nothing is named.

    Segmentation scores only where there is a network for the labels; where the data set holds label maps alone, only
    what needs no real images.
    """
    known = metric_options(dataset.name)
    kinds = {"pairs", "sets", "fakes", "labels"} if has_photographs(dataset) else {"fakes", "labels"}
    wanted = [name for name in TASK_METRICS[task] if METRICS[name].inputs in kinds]
    return [name for name in wanted if METRICS[name].inputs != "labels" or name in known]


def has_photographs(dataset: ImageDataset) -> bool:
    """Whether there are real images to compare with."""
    return "image" in dataset.batch(np.arange(1), None)


def load_model(run_config: Config, image_size: tuple[int, int], path: Path) -> tuple[Model, int | None]:
    """The model of a run with the weights of a checkpoint, and the step they are from, None for imported ones.

    The objective is left empty: evaluation needs no losses, nor the pretrained weights of perceptual ones.
    """
    model = build_model(**run_config["model"], image_size=image_size, objective=Objective())
    state = load_checkpoint(path, whole=False)
    load_model_state(model, state["model"], path, state.get("networks"))
    return model, state["step"]


@dataclass(frozen=True)
class RealImages:
    """The first images of a data set as metrics see them, in batches; can be iterated again and again."""

    dataset: ImageDataset
    count: int
    batch_size: int
    protocol: Protocol

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(0, self.count, self.batch_size):
            indices = np.arange(first, min(first + self.batch_size, self.count))
            image = self.dataset.batch(indices, None)["image"]
            assert isinstance(image, Tensor)
            yield to_uint8(from_uint8(image), self.protocol)


def paired_images(model: Model, task: Task, real: RealImages, seed: int) -> Iterator[tuple[list[str], Images]]:
    """Names, and each real image with what the model makes from the same item, both quantised alike."""
    device = next(model.parameters()).device
    for first in range(0, real.count, real.batch_size):
        indices = np.arange(first, min(first + real.batch_size, real.count))
        batch = to_device(real.dataset.batch(indices, None), device)
        fake = to_uint8(model.generate(batch, task, seed), real.protocol)
        image = to_uint8(batch["image"], real.protocol) if "image" in batch else fake[:0]
        yield [real.dataset.names[index] for index in indices], Images(image, fake, batch.get("label"))


def synthetic_images(model: Model, num_images: int, real: RealImages, seed: int) -> Iterator[tuple[list[str], Images]]:
    """Numbers for names, and batches from the prior beside real ones; the shorter set ends in empty batches."""
    device = next(model.parameters()).device
    reals = iter(real)
    height, width = real.dataset.image_size
    nothing = torch.empty(0, 3, height, width, dtype=torch.uint8)
    for first in range(0, max(num_images, real.count), real.batch_size):
        index = torch.arange(first, max(first, min(first + real.batch_size, num_images)), device=device)
        fake = to_uint8(model.generate({"index": index}, "synthesis", seed), real.protocol) if len(index) else nothing
        yield [f"{number:06d}" for number in index.tolist()], Images(next(reals, nothing), fake)


def saved(batches: Iterator[tuple[list[str], Images]], folder: Path | None) -> Iterator[Images]:
    """The images of ``batches``; generated ones are written to ``folder`` on the way, where there is one."""
    for names, images in batches:
        if folder is not None:
            for name, image in zip(names, images.fake, strict=True):
                save_png(folder / f"{name}.png", image)
        yield images


def task(config: Config, overrides: list[str]) -> None:
    """One job of the command line."""
    evaluate(config)


if __name__ == "__main__":
    run_program("evaluate", task, check)
