"""The rows of ``growth`` as one plot and one table."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from ffl.files import atomic_write, write_text
from scripts.figures.style import BLUE, GREY, PAGE_WIDTH, VERMILION

LOSSES = [
    ("ours_s", 1e3, "ours", BLUE),
    ("authors_s", 1e3, "the authors' package", VERMILION),
    ("pair_s", 1e3, "rfft2 + irfft2", GREY),
]
EPOCHS = [
    ("first_epoch_s", 1.0, "first epoch, cache included", VERMILION),
    ("later_epoch_s", 1.0, "later epochs", BLUE),
]
# For each panel what grows, the labels of its axes, and its lines: key of a row, factor, name and colour.
PANELS: list[tuple[str, str, str, list[tuple[str, float, str, str]]]] = [
    ("image size", "height and width in pixels, 8 images", "loss, forward and backward, ms", LOSSES),
    ("batch", "images of 64 x 64", "loss, forward and backward, ms", LOSSES),
    ("data set", "images in the data set", "epoch of the autoencoder, s", EPOCHS),
    ("data set", "images in the data set", "cache, MiB", [("cache_bytes", 2**-20, "", BLUE)]),
]
TABLE = """\
# How cost grows

Measured on {machine}. Medians.

![growth](growth.png)

| images | ours, ms | authors' package, ms | rfft2 + irfft2, ms | ours, MiB | authors' package, MiB |
| --- | --- | --- | --- | --- | --- |
{losses}

Loss, forward and backward, and the tensors that it needs at its height.

| data set, images | first epoch, s | later epochs, s | cache, MiB | per image, KiB |
| --- | --- | --- | --- | --- |
{epochs}

Autoencoder with the loss at 64 x 64, batch 128, JPEG files of 178 x 218. The first epoch decodes them into
the cache, which is copied into memory below 64 MiB and mapped above.
"""


def write_growth(rows: list[dict[str, Any]], machine: str, folder: Path) -> None:
    """Write ``growth.png`` and ``growth.md``.

    Args:
        rows: as ``growth.measure`` gives them.
        machine: what they were measured on, in words.
        folder: to write to.
    """
    figure, axes = plt.subplots(2, 2, figsize=(PAGE_WIDTH, 5.2), layout="constrained")
    for axis, (grows, xlabel, ylabel, lines) in zip(axes.flat, PANELS, strict=True):
        shown = [row for row in rows if row["grows"] == grows]
        counts = [row["to"] for row in shown]
        for key, factor, label, colour in lines:
            axis.loglog(counts, [row[key] * factor for row in shown], marker="o", ms=3, label=label, color=colour)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.minorticks_off()
        axis.set(xlabel=xlabel, ylabel=ylabel)
        if len(lines) > 1:
            axis.legend()
    figure.suptitle(machine, fontsize=7)
    with atomic_write(folder / "growth.png") as file:
        figure.savefig(file, format="png", dpi=160)
    plt.close(figure)

    losses = [
        f"| {' x '.join(map(str, row['shape']))} | {1e3 * row['ours_s']:.3f} | {1e3 * row['authors_s']:.3f} | "
        f"{1e3 * row['pair_s']:.3f} | {row['ours_bytes'] / 2**20:.2f} | {row['authors_bytes'] / 2**20:.2f} |"
        for row in rows
        if row["grows"] != "data set"
    ]
    epochs = [
        f"| {row['to']} | {row['first_epoch_s']:.2f} | {row['later_epoch_s']:.2f} | {row['cache_bytes'] / 2**20:.1f} | "
        f"{row['cache_bytes'] / 2**10 / row['to']:.1f} |"
        for row in rows
        if row["grows"] == "data set"
    ]
    text = TABLE.format(machine=machine, losses="\n".join(losses), epochs="\n".join(epochs))
    write_text(folder / "growth.md", text)
