"""Error and energy of a run's images by band of spatial frequency.

The paper says in words and pictures that the focal frequency loss closes the gap at high frequencies, and prints no
number that could tell: PSNR, and LFD with it, is governed by low frequencies, where natural images have their power.
"""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datasets import build_dataset
from ffl.files import file_sha256, write_text
from ffl.spectrum import band_power
from ffl.training.evaluation import EvaluationBatch
from ffl.training.generation import RealImages, generated_images
from ffl.training.model import Task
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device
from models import load_model

HIGH = {"top octave": -2, "corners": -1}  # the high frequencies: from half the Nyquist frequency on, and beyond it
BATCH_SIZE = 100
USUAL_EPOCHS = 20  # a run cut by trainer.steps has no last epoch of its own: a twentieth of it stands for one


@dataclass(frozen=True)
class Bands:
    """Mean power by band, in squared grey levels of 0 to 255; all bands add up to the mean square.

    Attributes:
        edges: radii between the bands, in cycles per image.
        real: of the real images.
        fake: of the generated images.
        error: of their difference, which adds up to the mean squared error; None where images have no partner.
        images: generated images that entered.
    """

    edges: list[float]
    real: list[float]
    fake: list[float]
    error: list[float] | None
    images: int

    @property
    def labels(self) -> list[str]:
        """One per band, in cycles per image."""
        inner = [f"{low:g} to {high:g}" for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)]
        return ["mean", f"1 to {self.edges[1]:g}", *inner[1:], f"{self.edges[-1]:g} and more"]

    @property
    def energy_ratio(self) -> list[float]:
        """Power of generated over power of real images, by band; 1 is no gap."""
        return [fake / real if real else math.nan for fake, real in zip(self.fake, self.real, strict=True)]


def octave_edges(height: int, width: int) -> list[float]:
    """Radii between bands: 0.5, which splits off the mean, then octaves up to the Nyquist frequency min(H, W) / 2."""
    nyquist = min(height, width) / 2
    if nyquist < 4:
        raise ValueError(f"octave_edges needs at least 8x8 images, got {height}x{width}")
    octaves = int(math.log2(nyquist) - 1e-9)  # those whose lower edge is above 1
    return [0.5, *(nyquist / 2**k for k in range(octaves, -1, -1))]


def measure_bands(batches: Iterable[EvaluationBatch], paired: bool) -> Bands:
    """Mean power by band.

    Args:
        batches: real and generated images; of one size.
        paired: whether each real image belongs to the generated one beside it.
    """
    edges: list[float] = []
    sums: dict[str, Tensor] = {}
    counts = {"real": 0, "fake": 0}
    for batch in batches:
        edges = edges or octave_edges(*batch.fake.shape[-2:])
        kinds = {"real": batch.real.float(), "fake": batch.fake.float()}
        for kind, images in kinds.items():
            counts[kind] += len(images)
        if paired:
            kinds["error"] = kinds["fake"] - kinds["real"]
        for kind, images in kinds.items():
            if len(images):
                power = band_power(images, edges).double().sum(0).cpu()
                sums[kind] = sums[kind] + power if kind in sums else power
    means = {kind: (total / counts["real" if kind == "real" else "fake"]).tolist() for kind, total in sums.items()}
    return Bands(edges, means["real"], means["fake"], means.get("error"), counts["fake"])


def run_bands(run: RunDirectory, task: Task, data_root: Path | None, cache_dir: Path) -> Bands:
    """Bands of a run over its test split, kept in the run directory until its last checkpoint changes.

    Args:
        run: a finished run.
        task: reconstruction, translation or semantic, whose images have partners, or synthesis.
        data_root: of the data sets; None: as in the run.
        cache_dir: of the decoded images.
    Raises:
        UserError: if the data set or the checkpoint is not there.
    """
    path, weights = run.path / "bands.json", run.last
    kept = _kept(path)
    if task in kept and weights.is_file() and kept[task].get("checkpoint_sha256") == file_sha256(weights):
        return Bands(**kept[task]["bands"])
    config = run.config()
    root = data_root or Path(config["data_root"])
    dataset = build_dataset(split="test", data_root=root, cache_dir=cache_dir, **config["dataset"])
    model, _ = load_model(config, dataset.image_size, weights)
    model = model.to(choose_device("auto")).eval()
    real = RealImages(dataset, len(dataset), BATCH_SIZE, "paper")
    with torch.no_grad():
        bands = measure_bands(generated_images(model, task, len(dataset), real, 0), paired=task != "synthesis")
    kept[task] = {
        "bands": dataclasses.asdict(bands),
        "checkpoint_sha256": file_sha256(weights),
        "reference": f"{dataset.name} test",
        "reference_fingerprint": dataset.fingerprint,
        "quantisation": "paper",
        "unit": "squared grey levels of 0 to 255, mean over channels and images",
    }
    with contextlib.suppress(PermissionError):  # somebody else's run can be measured, only not kept
        write_text(path, json.dumps(kept, indent=2) + "\n")
    return bands


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    """What was measured before, by task; nothing where the file was cut off or is of another version."""
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    fields = {field.name for field in dataclasses.fields(Bands)}
    tasks = kept.items() if isinstance(kept, dict) else ()
    return {
        task: value
        for task, value in tasks
        if isinstance(value, dict) and isinstance(value.get("bands"), dict) and value["bands"].keys() == fields
    }


def final_spatial_loss(run: RunDirectory, term: str = "generator/mse") -> float | None:
    """Mean of a spatial loss over the last epoch of training, from ``log.jsonl``.

    A line holds the mean over the steps since the line before it.

    Returns:
        The mean, divided by the term's weight where the model has one; None where the run has no such term.
    """
    lines = [line for line in run.log_lines() if term in line.get("losses", {})]
    if not lines:
        return None
    config = run.config()
    last = lines[-1]["step"]
    epochs = config["trainer"]["epochs"] if config["trainer"]["steps"] is None else USUAL_EPOCHS
    first = last - max(1, round(last / epochs))
    total, steps = 0.0, 0
    for before, line in zip([0, *(line["step"] for line in lines)], lines, strict=False):
        inside = line["step"] - max(before, first)
        if inside > 0:
            total += inside * line["losses"][term]
            steps += inside
    return total / steps / config["model"].get("mse_weight", 1.0)
