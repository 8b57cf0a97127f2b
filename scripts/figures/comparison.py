"""Real images beside those of several runs, with their spectra: Figures 1, 5 to 8, 10, 11, 15 and 16.

The images are the first of the test split, or those of the first latents: nobody picked them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.images import from_uint8
from ffl.spectrum import log_spectrum, mean_power, radii
from ffl.training.logger import label_colours
from ffl.training.model import Task
from ffl.training.run_directory import RunDirectory
from scripts.figures.runs import Drawing, FoundRuns, TableRun, about, describe, first_items, generate, pair, score
from scripts.figures.style import BODY, GAP, PAGE_WIDTH, SMALL, TITLE, Sheet, limits, save
from scripts.runs import OpenedRun
from scripts.tables import MODEL_TITLES

NUM_IMAGES = 4
LABEL_WIDTH = 0.2
TASKS: dict[Task, str] = {
    "reconstruction": "reconstruction",
    "synthesis": "synthesis",
    "translation": "translation",
    "semantic": "semantic synthesis",
    "segmentation": "segmentation",
}
SPECTRA = "log(1 + |F|), mean of the channels, one grey scale for the spectra of a column"


@dataclass(frozen=True)
class Block:
    """Runs on the same images.

    Attributes:
        runs: one line of pictures each, below the real one.
        task: what they generate; None for what the model does first.
        scores: metrics to print beside a line, where they have been measured.
    """

    runs: tuple[TableRun, ...]
    task: Task | None = None
    scores: tuple[str, ...] = ()


def ablations(table: str, group: str) -> tuple[TableRun, ...]:
    """The rows of Table 8, or of another of its form."""
    without = {f"no_{part}": f"w/o {part}" for part in ("freq", "phase", "ampli", "focal")}
    rows = {"baseline": "baseline", "full": "full FFL", **without}
    return tuple(TableRun(table, row, label, group) for row, label in rows.items())


BLOCKS: dict[int, tuple[Block, ...]] = {
    5: (Block(pair("table1", "dtd", "reconstruction")), Block(pair("table1", "celeba", "reconstruction"))),
    6: (
        Block(pair("table2", "celeba", "reconstruction")),
        Block(pair("table3", "celeba", "synthesis"), "synthesis"),
    ),
    7: (
        Block(pair("table2", "celeba_hq", "reconstruction")),
        Block(pair("table3", "celeba_hq", "synthesis"), "synthesis"),
    ),
    8: (Block(pair("table4", "facades", "translation")), Block(pair("table4", "edges2shoes", "translation"))),
    10: (Block(pair("table5", "spade", "cityscapes")), Block(pair("table5", "spade", "ade20k"))),
    11: (Block(ablations("table8", "reconstruction")),),
    15: (Block(pair("table2", "celeba", "reconstruction")),),
    16: (Block(ablations("pix2pix_ablations", "translation"), scores=("fid", "is")),),
}

# Figure 1: what typical models lack without the focal frequency loss.
BASELINES = (
    TableRun("table1", "dtd_without", "autoencoder", "reconstruction"),
    TableRun("table1", "celeba_without", "autoencoder", "reconstruction"),
    TableRun("table2", "celeba_without", "VAE", "reconstruction"),
    TableRun("table4", "edges2shoes_without", "pix2pix", "translation"),
    TableRun("table4", "facades_without", "pix2pix", "translation"),
)
MOST_COLUMNS = 6
PATTERN_IMAGES = 50  # enough that single images do not make the peaks of a mean spectrum


def periodic_peaks(power: Tensor) -> float:
    """How far power that repeats every 2, 4 or 8 pixels stands out of its surroundings, mean in dB.

    Layers that double the resolution leave such patterns, as peaks at multiples of an eighth of the sampling rate.

    Args:
        power: (H, W), zero frequency centred; H and W multiples of 8.
    """
    height, width = power.shape
    decibels = 10 * power.clamp_min(1e-20).log10()
    around = F.unfold(F.pad(decibels[None, None], (2, 2, 2, 2), mode="circular"), 5)[0]
    # The middle of the 25 is the frequency itself.
    excess = decibels - torch.cat([around[:12], around[13:]]).median(0).values.reshape(height, width)
    lattice = excess[:: height // 8, :: width // 8]
    zero = excess[height // 2, width // 2]  # one of them, and no pattern
    return float((lattice.sum() - zero) / (lattice.numel() - 1))


def mean_radius(power: Tensor) -> float:
    """Mean distance to zero frequency of the power (H, W) beside it, as a fraction of the Nyquist frequency."""
    height, width = power.shape
    power = power.clone()
    power[height // 2, width // 2] = 0
    radius = torch.fft.fftshift(radii((height, width), "fft", power.dtype, power.device))
    return float((radius * power).sum() / power.sum())


def figure1(found: FoundRuns) -> Drawing:
    """Figure 1: real images and those of models without the focal frequency loss, with the spectra of both."""
    runs = found.open()
    values: dict[str, Any] = {}
    # Fewer runs have more images each, so that the page stays full.
    each = MOST_COLUMNS // len(runs)
    cell = (PAGE_WIDTH - LABEL_WIDTH) / (each * len(runs))
    sheet, top = Sheet(), 0.34
    for number, (row, run) in enumerate(runs.items()):
        height, width = run.dataset.image_size
        x = LABEL_WIDTH + number * each * cell
        sheet.text(x + (each * cell - GAP) / 2, 0.02, f"{row.label}\n{run.dataset.name} {width}×{height}", BODY)
        count = min(PATTERN_IMAGES, len(run.dataset)) if row.group == "translation" else each
        reals, fakes = first_items(run, count)["image"].cpu(), generate(run, count)
        if row.group == "translation":  # what the paper says of generative adversarial networks
            powers = [mean_power(images.double()) for images in (reals, fakes)]
            peaks, radius = ([measure(power) for power in powers] for measure in (periodic_peaks, mean_radius))
            values[str(row)] = {
                "images": count,
                "periodic_peaks": peaks[1] - peaks[0],
                "mean_radius": radius[1] / radius[0] - 1,
            }
        for real, fake in zip(reals[:each], fakes[:each], strict=True):
            # Real and generated spectrum have one grey scale: what is darker below has less power.
            spectra = [log_spectrum(image[None]) for image in (real, fake)]
            for line, image in enumerate((real, fake)):
                sheet.picture(x, top + line * cell, cell - GAP, image)
                sheet.map(x, top + (2 + line) * cell, cell - GAP, spectra[line], limits(*spectra))
            x += cell
    for line, label in enumerate(("real", "generated", "real, spectrum", "generated, spectrum")):
        sheet.text(0.1, top + (line + 0.5) * cell, label, BODY, rotation=90)
    titles = "; ".join(f"{row.label} on {describe(run)}" for row, run in runs.items())
    caption = f"Without FFL, first test images: {titles}. Spectra: {SPECTRA}."
    sheet.caption(caption)
    drawn = {str(row): about(run.directory, run.step) for row, run in runs.items()}
    return Drawing(sheet.finish(), caption, values, drawn)


def comparison_figure(number: int, found: FoundRuns) -> Drawing:
    """A figure of ``BLOCKS``; a block none of whose runs is there is left out."""
    sheet, captions, y = Sheet(), [], 0.02
    drawn: dict[str, dict[str, Any]] = {}
    for block in BLOCKS[number]:
        if runs := found.open(block.runs):
            drawn |= {str(row): about(run.directory, run.step) for row, run in runs.items()}
            y, caption = draw_runs(sheet, y, {row.label: run for row, run in runs.items()}, block.task, block.scores)
            captions.append(caption)
    caption = f"{' '.join(captions)} Spectra: {SPECTRA}."
    sheet.caption(caption, gap=0.04)
    return Drawing(sheet.finish(), caption, runs=drawn)


def comparison(runs: Sequence[RunDirectory], labels: Sequence[str], path: Path) -> None:
    """Write a figure of real test images and those of any runs on the same data, with their spectra.

    Args:
        runs: their directories.
        labels: one per run.
        path: PNG to write; a PDF of the same name goes beside it.
    Raises:
        UserError: if the runs are of different images.
    """
    rows = [TableRun("", "", label, "") for label in labels]
    opened = FoundRuns(dict(zip(rows, runs, strict=True))).open()
    sheet = Sheet()
    _, caption = draw_runs(sheet, 0.02, {row.label: run for row, run in opened.items()})
    sheet.caption(f"{caption} Spectra: {SPECTRA}.", gap=0.04)
    save(sheet.finish(), path)


def draw_runs(
    sheet: Sheet, y: float, runs: Mapping[str, OpenedRun], task: Task | None = None, scores: Sequence[str] = ()
) -> tuple[float, str]:
    """Draw a block: what the models start from, the real images, then a line for each run.

    Pictures are on the left and their spectra on the right. Spectra in a column share one grey scale, so that they can
    be compared.

    Args:
        sheet: to draw on.
        y: where the block begins.
        runs: by label, on the same data.
        task: what they generate; None for what the model does first.
        scores: metrics to print beside a line, where they have been measured.
    Returns:
        Where the next block begins, and a caption.
    Raises:
        UserError: if the runs are not of the same images.
    """
    # Images of one column must show the same thing; a fingerprint stands for the files and what is made of them.
    first = next(iter(runs.values()))
    for run in runs.values():
        if run.dataset.fingerprint != first.dataset.fingerprint:
            paths = f"{run.directory.path} and {first.directory.path}"
            raise UserError(f"{paths} are of different images; compare runs on the same data")

    # The lines by label; label maps and other inputs have no spectra to show.
    lines: dict[str, Tensor] = {}
    if task != "synthesis":
        batch = first_items(first, NUM_IMAGES)
        if "label" in batch and "label" in first.model.inputs:
            lines["labels"] = from_uint8(label_colours(batch["label"].cpu()))
        if "source" in batch and "source" in first.model.inputs:
            lines["input"] = batch["source"].cpu()
        if "image" in batch:
            lines["real"] = batch["image"].cpu()
    for label, run in runs.items():
        measured = [text for name in scores if (text := score(run, name)) is not None]
        lines["\n".join([label, *measured])] = generate(run, min(NUM_IMAGES, len(run.dataset)), task)
    spectra = {
        label: [log_spectrum(image[None]) for image in images]
        for label, images in lines.items()
        if label not in ("labels", "input")
    }
    scales = [limits(*column) for column in zip(*spectra.values(), strict=True)]

    # Where everything goes: columns of equal cells, wider margins for labels of several lines.
    columns, (height, width) = len(scales), first.dataset.image_size
    lines_of_text = max(label.count("\n") for label in lines)
    left, middle = LABEL_WIDTH + lines_of_text * 0.12, 0.1
    cell = (PAGE_WIDTH - left - middle) / (2 * columns)
    pitch = (cell - GAP) * height / width + GAP
    spectra_x = left + columns * cell + middle

    name = MODEL_TITLES[first.config["model"]["name"]]
    title = f"{name}, {TASKS[task or first.model.tasks[0]]}, {first.dataset.name} {width}×{height}"
    sheet.text(left + columns * cell / 2, y, title, TITLE)
    first_spectra = list(lines).index(next(iter(spectra)))
    sheet.text(spectra_x + columns * cell / 2, y + first_spectra * pitch, "log spectra", TITLE)
    y += 0.19
    for label, images in lines.items():
        longest = max(map(len, label.split("\n")))
        size = min(BODY + 0.5, max(SMALL - 1.5, pitch * 72 / (0.6 * longest)))  # points at which it fits the line
        sheet.text(left - 0.1 - lines_of_text * 0.06, y + (pitch - GAP) / 2, label, size, rotation=90)
        for column, image in enumerate(images):
            sheet.picture(left + column * cell, y, cell - GAP, image)
            if label in spectra:
                sheet.map(spectra_x + column * cell, y, cell - GAP, spectra[label][column], scales[column])
        y += pitch

    shown = "first latents" if task == "synthesis" else "first test images"
    steps = ", ".join(f"{label} step {run.step}" for label, run in runs.items())
    return y + 0.08, f"{title}: {shown}, seed {first.config['seed']}, {steps}."
