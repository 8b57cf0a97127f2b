"""Figures from our own runs: python scripts/figure.py comparison runs=DIR,DIR [labels=w/o,w/] [out=FILE]."""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from datasets import build_dataset
from evaluate import load_model
from ffl.errors import UserError
from ffl.images import to_uint8
from ffl.spectrum import log_spectrum
from ffl.training.program import user_errors
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import to_device

NUM_ROWS = 5  # the first ones: nobody picked them


def comparison(runs: list[RunDirectory], labels: list[str], path: Path) -> None:
    """The first test images as they are and as each run makes them, with their log spectra (Figures 5 to 8 in form).

    Every spectrum is log(1 + |F|) of its own image, zero frequency in the centre; a row shares one grey scale.

    Args:
        runs: runs on the same data set.
        labels: one per run.
        path: PNG to write; a PDF of the same name goes beside it.
    """
    columns: list[Tensor] = []
    index: np.ndarray | None = None
    for run in runs:
        config = run.config()
        folders: dict[str, Any] = {"data_root": Path(config["data_root"]), "cache_dir": Path(config["cache_dir"])}
        dataset = build_dataset(split="test", **folders, **config["dataset"])
        if index is None:
            index = np.arange(min(NUM_ROWS, len(dataset)))
        batch = to_device(dataset.batch(index, None), torch.device("cpu"))
        if not columns:
            columns.append(batch["image"])
        model, _ = load_model(config, dataset.image_size, run.last)
        columns.append(model.eval().generate(batch, model.tasks[0], 0))
    titles = ["real", *labels]
    grid_figure(columns, titles, path)


def grid_figure(columns: list[Tensor], titles: list[str], path: Path) -> None:
    """Images on the left, their spectra on the right, one column per title; images (N, 3, H, W) in [-1, 1]."""
    num_rows, num_columns = len(columns[0]), len(columns)
    figure, axes = plt.subplots(
        num_rows,
        2 * num_columns,
        figsize=(1.5 * 2 * num_columns, 1.5 * num_rows + 0.3),
        squeeze=False,
        layout="constrained",
    )
    for row in range(num_rows):
        spectra = [log_spectrum(images[row : row + 1]).numpy() for images in columns]
        low, high = min(map(np.min, spectra)), max(map(np.max, spectra))
        for column, images in enumerate(columns):
            picture = to_uint8(images[row], "rounded").permute(1, 2, 0).numpy()
            axes[row, column].imshow(picture, interpolation="nearest")
            axes[row, num_columns + column].imshow(
                spectra[column], cmap="gray", vmin=low, vmax=high, interpolation="nearest"
            )
    for column, title in enumerate(titles):
        axes[0, column].set_title(title, fontsize=11)
        axes[0, num_columns + column].set_title(f"{title}, log spectrum", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    figure.savefig(path.with_suffix(".pdf"))
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=["comparison"])
    parser.add_argument("settings", nargs="*", metavar="key=value", help="runs=DIR,DIR  labels=A,B  out=FILE.png")
    arguments = parser.parse_args()
    settings = dict(item.split("=", 1) for item in arguments.settings if "=" in item)
    if "runs" not in settings or settings.keys() - {"runs", "labels", "out"}:
        raise UserError("figure comparison takes runs=DIR,DIR and, if wanted, labels=A,B and out=FILE.png")
    runs = [RunDirectory.open(Path(path)) for path in settings["runs"].split(",")]
    labels = settings["labels"].split(",") if "labels" in settings else [run.path.name for run in runs]
    out = Path(settings.get("out", "results/comparison.png"))
    comparison(runs, labels, out)
    print(f"written to {out}")


if __name__ == "__main__":
    with user_errors():
        main()
