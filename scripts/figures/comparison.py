"""Real images beside those of several runs, with their spectra: Figures 1, 5 to 8, 10, 11, 15 and 16.

The images are the first of the test split, or those of the first latents: nobody picked them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ffl.errors import UserError
from ffl.images import from_uint8
from ffl.spectrum import log_spectrum
from ffl.training.logger import label_colours
from ffl.training.model import Task
from ffl.training.run_directory import RunDirectory
from scripts.figures.sources import Drawing, Settings, Source, TableRun, find_all, pair
from scripts.figures.style import BODY, GAP, PAGE_WIDTH, SMALL, TITLE, Sheet, limits, save

NUM_IMAGES = 4
LABEL_WIDTH = 0.2
MODELS = {"ae": "autoencoder", "vae": "VAE", "pix2pix": "pix2pix", "spade": "SPADE", "stylegan2": "StyleGAN2"}
TASKS: dict[Task, str] = {
    "reconstruction": "reconstruction",
    "synthesis": "synthesis",
    "translation": "translation",
    "semantic": "semantic synthesis",
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


@dataclass(frozen=True)
class Line:
    """Pictures of one kind in a block.

    Attributes:
        label: to their left.
        images: float (N, 3, H, W) in [-1, 1].
        spectra: whether they have any.
    """

    label: str
    images: Tensor
    spectra: bool = True


def ablations(table: str, group: str) -> tuple[TableRun, ...]:
    """The rows of Table 8, or of another of its form."""
    rows = {
        "baseline": "baseline",
        "full": "full FFL",
        "no_freq": "w/o freq",
        "no_phase": "w/o phase",
        "no_ampli": "w/o ampli",
        "no_focal": "w/o focal",
    }
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


def figure(number: int, settings: Settings) -> Drawing:
    """A figure of ``BLOCKS``; a block none of whose runs is there is left out.

    Raises:
        UserError: if no run of any block is there.
    """
    blocks = BLOCKS[number]
    found, missing = find_all([run for block in blocks for run in block.runs], settings)
    sheet, captions, y = Sheet(), [], 0.02
    drawn: dict[str, dict[str, Any]] = {}
    for block in blocks:
        sources = {run.label: Source(found[run], settings) for run in block.runs if run in found}
        drawn |= {f"{run.table} {run.row}": sources[run.label].about for run in block.runs if run in found}
        if sources:
            y, caption = draw_runs(sheet, y, sources, block.task, block.scores)
            captions.append(caption)
    caption = f"{' '.join(captions)} Spectra: {SPECTRA}."
    sheet.caption(caption, gap=0.04)
    return Drawing(sheet.finish(), caption, runs=drawn, missing=missing)


def draw_runs(
    sheet: Sheet, y: float, sources: dict[str, Source], task: Task | None = None, scores: Sequence[str] = ()
) -> tuple[float, str]:
    """Draw a block from its runs, by label; returns where the next one begins, and a caption.

    Raises:
        UserError: if the runs are not of the same images.
    """
    first = next(iter(sources.values()))
    lines = [] if task == "synthesis" else given(first)
    for label, source in sources.items():
        if source.dataset.fingerprint != first.dataset.fingerprint:
            paths = f"{source.run.path} and {first.run.path}"
            raise UserError(f"{paths} are of different images; compare runs on the same data")
        measured = [text for name in scores if (text := source.score(name)) is not None]
        count = min(NUM_IMAGES, len(source.dataset))
        lines.append(Line("\n".join([label, *measured]), source.generate(count, task)))
    height, width = first.dataset.image_size
    name = MODELS[first.config["model"]["name"]]
    title = f"{name}, {TASKS[task or first.model.tasks[0]]}, {first.dataset.name} {width}×{height}"
    shown = "first latents" if task == "synthesis" else "first test images"
    steps = ", ".join(f"{label} step {source.step}" for label, source in sources.items())
    caption = f"{title}: {shown}, seed {first.config['seed']}, {steps}."
    return draw_lines(sheet, y, title, lines), caption


def given(source: Source) -> list[Line]:
    """What the model starts from, and the real images."""
    batch = {key: value for key, value in source.batch(NUM_IMAGES).items() if key in source.model.inputs | {"image"}}
    lines = []
    if "label" in batch:
        lines.append(Line("labels", from_uint8(label_colours(batch["label"].cpu())), spectra=False))
    if "source" in batch:
        lines.append(Line("input", batch["source"].cpu(), spectra=False))
    if "image" in batch:
        lines.append(Line("real", batch["image"].cpu()))
    return lines


def draw_lines(sheet: Sheet, y: float, title: str, lines: list[Line]) -> float:
    """Pictures on the left, their spectra on the right, a line each; returns the y below.

    Spectra in a column share one grey scale, so that they can be compared.
    """
    columns = len(lines[-1].images)
    lines_of_text = max(line.label.count("\n") for line in lines)
    left, middle = LABEL_WIDTH + lines_of_text * 0.12, 0.1
    cell = (PAGE_WIDTH - left - middle) / (2 * columns)
    height, width = lines[-1].images.shape[-2:]
    pitch = (cell - GAP) * height / width + GAP
    spectra_x = left + columns * cell + middle
    sheet.text(left + columns * cell / 2, y, title, TITLE)
    y += 0.19
    first = next(number for number, line in enumerate(lines) if line.spectra)
    sheet.text(spectra_x + columns * cell / 2, y + first * pitch - 0.19, "log spectra", TITLE)
    spectra = {line.label: [log_spectrum(image[None]) for image in line.images] for line in lines if line.spectra}
    scales = [limits(*column) for column in zip(*spectra.values(), strict=True)]
    for line in lines:
        size = label_size(line, pitch)
        sheet.text(left - 0.1 - lines_of_text * 0.06, y + (pitch - GAP) / 2, line.label, size, rotation=90)
        for column, image in enumerate(line.images):
            sheet.picture(left + column * cell, y, cell - GAP, image)
            if line.spectra:
                sheet.map(spectra_x + column * cell, y, cell - GAP, spectra[line.label][column], scales[column])
        y += pitch
    return y + 0.08


def label_size(line: Line, pitch: float) -> float:
    """Points at which the label of a line fits its height."""
    longest = max(map(len, line.label.split("\n")))
    return min(BODY + 0.5, max(SMALL - 1.5, pitch * 72 / (0.6 * longest)))


def figure1(settings: Settings) -> Drawing:
    """Real images and those of models without the focal frequency loss, with the spectra of both."""
    found, missing = find_all(BASELINES, settings)
    each = MOST_COLUMNS // len(found)
    cell = (PAGE_WIDTH - LABEL_WIDTH) / (each * len(found))
    sheet, top = Sheet(), 0.34
    titles: list[str] = []
    drawn: dict[str, dict[str, Any]] = {}
    for number, (run, directory) in enumerate(found.items()):
        source = Source(directory, settings)
        drawn[f"{run.table} {run.row}"] = source.about
        titles.append(f"{run.label} on {source.describe()}")
        height, width = source.dataset.image_size
        x = LABEL_WIDTH + number * each * cell
        sheet.text(x + (each * cell - GAP) / 2, 0.02, f"{run.label}\n{source.dataset.name} {width}×{height}", BODY)
        for real, fake in zip(source.batch(each)["image"].cpu(), source.generate(each), strict=True):
            spectra = [log_spectrum(image[None]) for image in (real, fake)]
            for line, image in enumerate((real, fake)):
                sheet.picture(x, top + line * cell, cell - GAP, image)
                sheet.map(x, top + (2 + line) * cell, cell - GAP, spectra[line], limits(*spectra))
            x += cell
    for line, label in enumerate(("real", "generated", "real, spectrum", "generated, spectrum")):
        sheet.text(0.1, top + (line + 0.5) * cell, label, BODY, rotation=90)
    caption = f"Without FFL, first test images: {'; '.join(titles)}. Spectra: {SPECTRA}."
    sheet.caption(caption)
    return Drawing(sheet.finish(), caption, runs=drawn, missing=missing)


def comparison(runs: list[RunDirectory], labels: list[str], path: Path) -> None:
    """Real test images and those of each run, with their spectra.

    Args:
        runs: runs on the same data set.
        labels: one per run.
        path: PNG to write; a PDF of the same name goes beside it.
    """
    sheet = Sheet()
    sources = {label: Source(run, Settings()) for label, run in zip(labels, runs, strict=True)}
    _, caption = draw_runs(sheet, 0.02, sources)
    sheet.caption(f"{caption} Spectra: {SPECTRA}.", gap=0.04)
    save(sheet.finish(), path)
