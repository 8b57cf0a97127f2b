"""The rows of ``growth`` as one plot and one table."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from ffl.files import atomic_write, write_text
from scripts.figures.style import BLUE, GREY, PAGE_WIDTH, VERMILION

SERIES = {
    "ours_s": ("ours", BLUE),
    "authors_s": ("the authors' package", VERMILION),
    "pair_s": ("rfft2 + irfft2", GREY),
}


def write_growth(rows: list[dict[str, Any]], machine: str, folder: Path) -> None:
    """Write ``growth.png`` and ``growth.md``.

    Args:
        rows: as ``growth.measure`` gives them.
        machine: what they were measured on, in words.
        folder: to write to.
    """
    parts = {name: [row for row in rows if row["grows"] == name] for name in ("image size", "batch", "data set")}
    figure, axes = plt.subplots(2, 2, figsize=(PAGE_WIDTH, 5.2), layout="constrained")
    for axis, name, label in (
        (axes[0, 0], "image size", "height and width in pixels, 8 images"),
        (axes[0, 1], "batch", "images of 64 x 64"),
    ):
        for key, (series, colour) in SERIES.items():
            _line(axis, parts[name], key, 1e3, series, colour)
        axis.set(xlabel=label, ylabel="loss, forward and backward, ms")
        axis.legend()
    _line(axes[1, 0], parts["data set"], "first_epoch_s", 1, "first epoch, cache included", VERMILION)
    _line(axes[1, 0], parts["data set"], "later_epoch_s", 1, "later epochs", BLUE)
    axes[1, 0].set(xlabel="images in the data set", ylabel="epoch of the autoencoder, s")
    axes[1, 0].legend()
    _line(axes[1, 1], parts["data set"], "cache_bytes", 2**-20, "", BLUE)
    axes[1, 1].set(xlabel="images in the data set", ylabel="cache, MiB")
    figure.suptitle(machine, fontsize=7)
    with atomic_write(folder / "growth.png") as file:
        figure.savefig(file, format="png", dpi=160)
    plt.close(figure)
    write_text(folder / "growth.md", _markdown(parts, machine))


def _line(axis: Axes, rows: list[dict[str, Any]], key: str, factor: float, label: str, colour: str) -> None:
    axis.loglog(
        [row["to"] for row in rows], [row[key] * factor for row in rows], marker="o", ms=3, label=label, color=colour
    )
    axis.set_xticks([row["to"] for row in rows], [str(row["to"]) for row in rows])
    axis.minorticks_off()


def _markdown(parts: dict[str, list[dict[str, Any]]], machine: str) -> str:
    lines = [
        "# How cost grows",
        "",
        f"Measured on {machine}. Medians.",
        "",
        "![growth](growth.png)",
        "",
        "| images | ours, ms | authors' package, ms | rfft2 + irfft2, ms | ours, MiB | authors' package, MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in parts["image size"] + parts["batch"]:
        times = " | ".join(f"{1e3 * row[key]:.3f}" for key in SERIES)
        memory = " | ".join(f"{row[key] / 2**20:.2f}" for key in ("ours_bytes", "authors_bytes"))
        lines.append(f"| {' x '.join(map(str, row['shape']))} | {times} | {memory} |")
    lines += [
        "",
        "Loss, forward and backward, and the tensors that it needs at its height.",
        "",
        "| data set, images | first epoch, s | later epochs, s | cache, MiB | per image, KiB |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in parts["data set"]:
        size = row["cache_bytes"]
        lines.append(
            f"| {row['to']} | {row['first_epoch_s']:.2f} | {row['later_epoch_s']:.2f} | {size / 2**20:.1f} | "
            f"{size / 2**10 / row['to']:.1f} |"
        )
    lines += [
        "",
        "Autoencoder with the loss at 64 x 64, batch 128, JPEG files of 178 x 218. The first epoch decodes them into",
        "the cache, which is copied into memory below 64 MiB and mapped above.",
        "",
    ]
    return "\n".join(lines)
