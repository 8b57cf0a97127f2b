"""Measure a finished run or two folders of images: python evaluate.py run=DIR | real=DIR fake=DIR, see --help."""

from ffl.training.words import answer_at_once

if __name__ == "__main__":
    answer_at_once("evaluate")  # before the imports below: they take seconds, which a typing error need not wait for

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from ffl.errors import UserError
from ffl.files import file_sha256, report_failed_writes
from ffl.metrics.reference_cache import ReferenceCache
from ffl.training import distributed
from ffl.training.evaluation import (
    EvaluationBatch,
    band_power_of,
    check_evaluation,
    choose_metrics,
    measure,
    metric_options,
    results_table,
    write_metrics,
)
from ffl.training.generation import RealImages, generated_images, has_real_images, save_images
from ffl.training.image_folders import image_size, paired_files, read_pairs
from ffl.training.precision import allow_tf32
from ffl.training.program import Config, run_program
from ffl.training.provenance import content_hash
from ffl.training.record import Record
from ffl.training.trainer import choose_device
from ffl.training.unfinished import UnfinishedEvaluation
from scripts.runs import open_run


def evaluate(config: Config) -> list[Record]:
    """Measure what the config names, print a table and write ``metrics.json``.

    Args:
        config: composed from configs/evaluate.yaml, and found right by ``check_evaluation``.
    Returns:
        One record per metric, and one of the power by frequency band where the images have one size.
    """
    device = choose_device(config["accelerator"])
    # A value must not depend on the GPU, and TensorFloat-32 would keep 10 of 23 bits of the mantissa on some.
    allow_tf32(False)
    with distributed.join_processes(device, "Start the command again"):
        records, unfinished = (_measure_folders if config["run"] is None else _measure_run)(config, device)
        # All processes have the values, since metrics add up over them; one writes.
        if distributed.rank() == 0:
            path = unfinished.record
            with report_failed_writes(path, "make room, or set out=DIR"):
                write_metrics(path, records)
            unfinished.remove()
            print(f"{results_table(records)}\n\nwritten to {path}")
    return records


def _measure_folders(config: Config, device: torch.device) -> tuple[list[Record], UnfinishedEvaluation]:
    """Records of ``real=DIR fake=DIR``, and where they go."""
    # Mistakes before anything is measured: metrics that folders cannot have, images without partners, too few of them.
    with distributed.share_errors():
        files = paired_files(Path(config["real"]), Path(config["fake"]))
        if config["num_images"] is not None and config["num_images"] > len(files):
            raise UserError(f"num_images={config['num_images']}: the folders hold {len(files)} pairs")
        files = files[: config["num_images"]]
        sizes = [image_size(real) for real, _ in files]
        smallest = min(min(size) for size in sizes)
        names = choose_metrics(config["metrics"], "reconstruction", None, len(files), len(files), smallest)
        options = metric_options(names, None, config["features"])

    # Files are known by path, size and time of change: reading all of them twice would take as long as measuring.
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for pair in files for path in pair]
    path = Path(config["out"] or config["fake"]) / "metrics.json"
    unfinished = UnfinishedEvaluation(path, {"config": config, "device": device.type, "files": stats})

    # Images of several sizes are measured too, in batches of one size; bands need one size for all of them.
    records = measure(
        names,
        partial(read_pairs, files, sizes, config["batch_size"]),
        len(files),
        protocol={"reference": config["real"], "quantisation": "8-bit files, as they are"},
        provenance={"fake": config["fake"]},
        device=device,
        verify_weights=config["verify_weights"],
        options=options,
        bands=band_power_of(set(sizes), paired=True, device=device),
        unfinished=unfinished,
    )
    return records, unfinished


def _measure_run(config: Config, device: torch.device) -> tuple[list[Record], UnfinishedEvaluation]:
    """Records of ``run=DIR``, and where they go."""
    # Mistakes before anything is generated: what is asked of the run must be what its model and its data set can do.
    with distributed.share_errors():
        run = open_run(
            Path(config["run"]),
            config["split"],
            None if config["data_root"] is None else Path(config["data_root"]),
            Path(config["cache_dir"]),
            config["checkpoint"],
            config["dataset_options"],
        )
        model, dataset = run.model.to(device).eval(), run.dataset
        task = config["task"] or model.tasks[0]
        if task not in model.tasks:
            raise UserError(f"task={task}: {run.config['model']['name']} does {' and '.join(model.tasks)}")
        num_images = config["num_images"] or len(dataset)
        if task != "synthesis" and num_images > len(dataset):
            raise UserError(f"num_images={num_images}: the {config['split']} split has {len(dataset)} images")
        # Each image is generated beside its real one; in synthesis, which has no pairs, beside all of the split.
        real_count = len(dataset) if task == "synthesis" else num_images
        has_real, makes_images = has_real_images(dataset), task != "segmentation"
        if not has_real and not makes_images:
            raise UserError("dataset_options: a segmenter labels photographs; leave labels_only=true out")
        num_real = real_count if has_real else 0
        smallest = min(dataset.image_size)
        names = choose_metrics(config["metrics"], task, dataset.name, num_images, num_real, smallest)
        options = metric_options(
            names,
            dataset.name,
            config["features"],
            height=dataset.image_size[0],
            runs=run.directory.path.parent,
            # A run that is a segmenter shows what it makes of the real images.
            segmenter=config["segmenter"] or (None if makes_images else str(run.directory.path)),
        )

    real = RealImages(dataset, real_count, config["batch_size"], config["protocol"])
    out = Path(config["out"] or run.directory.path)
    # A second task of the model, such as synthesis by a VAE, has a file of its own beside that of the first.
    path = out / ("metrics.json" if task == model.tasks[0] else f"metrics_{task}.json")
    unfinished = UnfinishedEvaluation(path, {"config": config, "device": device.type})

    def batches(done: int) -> Iterator[EvaluationBatch]:
        generated = generated_images(model, task, num_images, real, config["seed"], done)
        return save_images(generated, out / f"{task}_images") if config["save_images"] else generated

    # The protocol says what the values mean, the provenance what they are of: enough to repeat them elsewhere.
    records = measure(
        names,
        batches,
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
            "run": run.directory.path.name,
            "model": run.config["model"]["name"],
            "dataset": dataset.name,
            "seed": run.config["seed"],
            "step": run.step,
            "checkpoint": run.checkpoint.stem,
            "checkpoint_sha256": file_sha256(run.checkpoint),
            "config_sha256": content_hash(run.config),
        },
        device=device,
        verify_weights=config["verify_weights"],
        options=options,
        reference=ReferenceCache(Path(config["cache_dir"]) / "statistics", real, real_count) if has_real else None,
        bands=band_power_of({dataset.image_size}, task != "synthesis", device) if makes_images and has_real else None,
        unfinished=unfinished,
    )
    return records, unfinished


if __name__ == "__main__":
    run_program("evaluate", lambda config, overrides: evaluate(config), check_evaluation)
