"""StyleGAN2: samples beside average spectra (Figure 9), samples without and with truncation (17 to 19)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.metrics.spectrum_distance import POWER_FLOOR, spectrum_distance
from ffl.ranges import Count
from ffl.spectrum import mean_power, minibatch_averages, radial_power
from models.stylegan2 import StyleGAN2
from models.stylegan2.sampling import image_grid, sample
from scripts.figures.runs import Drawing, FoundRuns, about, describe, first_items, generate, pair, quantised, score
from scripts.figures.style import BLACK, COLOURS, DIVERGING, GAP, GREY, PAGE_WIDTH, SMALL, TITLE, Sheet, limits
from scripts.reproduction.paper import read_paper
from scripts.runs import OpenedRun

ARMS = pair("table6", "celeba_hq", "synthesis")
HALVES = "real halves"
DECIBEL = 10 / torch.log(torch.tensor(10.0, dtype=torch.float64)).item()  # of a natural logarithm of power
NUM_SAMPLES = 6
KINDS = ("images", "averages")


@dataclass(frozen=True)
class Spectra:
    """Mean power spectra of a set of images; each image in [0, 1], so that the numbers are those of the metric.

    Attributes:
        average: (H, W), mean over minibatches of |average of F|², zero frequency centred.
        average_profile: (R + 1,) the same by radius.
        single_profile: (R + 1,) of images instead of averages: what ``SpectrumDistance`` compares.
    """

    average: Tensor
    single_profile: Tensor
    average_profile: Tensor

    @classmethod
    def of(cls, images: Tensor, minibatch: int) -> "Spectra":
        """Spectra of (N, 3, H, W) in [-1, 1]."""
        scaled = (images.double() + 1) / 2
        averages = minibatch_averages(scaled, minibatch)
        return cls(mean_power(averages), radial_power(scaled).mean(0), radial_power(averages).mean(0))

    def profile(self, kind: str) -> Tensor:
        """One of ``KINDS``."""
        return self.single_profile if kind == "images" else self.average_profile


def decibels(power: Tensor) -> Tensor:
    """10 log10 of power."""
    return power.clamp_min(POWER_FLOOR).log() * DECIBEL


def open_stylegan2(found: FoundRuns) -> dict[str, tuple[OpenedRun, StyleGAN2]]:
    """Runs and their models, ready to generate, by label.

    Raises:
        UserError: if one is of another model.
    """
    opened: dict[str, tuple[OpenedRun, StyleGAN2]] = {}
    for row, run in found.open().items():
        if not isinstance(run.model, StyleGAN2):
            name = run.config["model"]["name"]
            raise UserError(f"{run.directory.path}: a run of {name}; this figure takes stylegan2")
        opened[row.label] = run, run.model
    return opened


def figure9(found: FoundRuns, *, images: Count | None = None) -> Drawing:
    """Figure 9: samples, minibatch average spectra, and how far they are from real ones at each radius."""
    runs = open_stylegan2(found)
    first, _ = next(iter(runs.values()))
    minibatch = int(first.config["trainer"]["batch_size"])
    count = images or len(first.dataset)
    # Each half of the real images needs a minibatch of its own.
    if count < 2 * minibatch:
        raise UserError(f"images={count}: average spectra need at least two minibatches of {minibatch} images")

    # Real images and those of each run, without truncation, as the metrics see them.
    pictures = {"real": quantised(first_items(first, count)["image"].cpu())}
    for label, (run, model) in runs.items():
        model.psi = 1.0
        pictures[label] = quantised(generate(run, count))
    spectra = {label: Spectra.of(pixels, minibatch) for label, pixels in pictures.items()}
    # Two halves of the real images differ by chance alone: no model can be expected to come nearer.
    halves = [Spectra.of(half, minibatch) for half in pictures["real"].tensor_split(2)]
    gaps = {HALVES: gap(*halves), **{label: gap(spectra["real"], spectra[label]) for label in runs}}
    maps = {label: decibels(spectra[label].average) for label in pictures}
    offsets = {label: maps[label] - maps["real"] for label in runs}
    offsets["real"] = decibels(halves[1].average) - decibels(halves[0].average)

    sheet = Sheet()
    bottom = draw_rows(sheet, pictures, maps, offsets)
    draw_profiles(sheet, bottom + 0.3, spectra, halves, gaps, minibatch)
    steps = "; ".join(f"{label}: {describe(run)}" for label, (run, _) in runs.items())
    caption = (
        f"StyleGAN2 without truncation, the first images of an evaluation; {steps}. "
        f"Average spectrum: mean over minibatches of |average of F over {minibatch} images|², of {count} images each, "
        "in dB. Gap: fake minus real, in dB; in the row of real images, one half of them minus the other, which shows "
        "what chance alone makes."
    )
    sheet.caption(caption)
    values = {"images": count, "minibatch": minibatch, "mean_absolute_gap_db": gaps}
    drawn = {label: about(run.directory, run.step) for label, (run, _) in runs.items()}
    return Drawing(sheet.finish(), caption, values, drawn)


def gap(real: Spectra, fake: Spectra) -> dict[str, float]:
    """Mean absolute difference of log profiles in dB over radii from 1: of single images, and of averages."""
    return {kind: float(spectrum_distance(real.profile(kind), fake.profile(kind))) * DECIBEL for kind in KINDS}


def draw_rows(sheet: Sheet, pictures: dict[str, Tensor], maps: dict[str, Tensor], offsets: dict[str, Tensor]) -> float:
    """A row for real images and for each run: samples, average spectrum, gap. Returns where it ends."""
    left, top = 0.22, 0.32
    cell = (PAGE_WIDTH - left - 0.52) / (NUM_SAMPLES + 2)
    spectrum_x = left + NUM_SAMPLES * cell + 0.06
    gap_x = spectrum_x + cell + 0.06
    sheet.text(spectrum_x + cell / 2, 0.02, "average\nspectrum", SMALL)
    sheet.text(gap_x + cell / 2, 0.02, "gap to real\nspectrum", SMALL)
    sheet.text(left + NUM_SAMPLES * cell / 2, 0.08, "images", TITLE)
    y = top
    scale = limits(*maps.values())
    # A few extreme frequencies would leave the rest without contrast.
    reach = max(float(offset.abs().quantile(0.995)) for offset in offsets.values())
    for label in pictures:
        sheet.text(0.1, y + cell / 2, label, TITLE, rotation=90)
        for column in range(NUM_SAMPLES):
            sheet.picture(left + column * cell, y, cell - GAP, pictures[label][column])
        sheet.map(spectrum_x, y, cell - GAP, maps[label], scale)
        gaps = sheet.map(gap_x, y, cell - GAP, offsets[label], (-reach, reach), DIVERGING)
        y += cell
    bar = sheet.axes(gap_x + cell, top, 0.07, 3 * cell - GAP)
    colours = sheet.figure.colorbar(gaps, cax=bar)
    colours.outline.set_linewidth(0.4)
    bar.set_title("dB", fontsize=SMALL, pad=2)
    return y


def draw_profiles(
    sheet: Sheet,
    y: float,
    spectra: dict[str, Spectra],
    halves: list[Spectra],
    gaps: dict[str, dict[str, float]],
    minibatch: int,
) -> None:
    """Radial profiles of the average spectra, and the gaps to the real ones with their means."""
    left, width, height, space = 0.5, 1.82, 1.5, 0.57
    radii = torch.arange(1, len(spectra["real"].average_profile))
    across = "spatial frequency (cycles / image)"
    panel = sheet.axes(left, y, width, height)
    for label, of in spectra.items():
        panel.plot(radii, decibels(of.average_profile)[1:], color=COLOURS[label], label=label)
    panel.set(title=f"averages of {minibatch} images", ylabel="power (dB)", xlabel=across)
    panel.legend()
    pairs = {HALVES: halves} | {label: [spectra["real"], of] for label, of in spectra.items() if label != "real"}
    titles = {"images": "gap of single images", "averages": f"gap of averages of {minibatch} images"}
    for column, (kind, title) in enumerate(titles.items(), 1):
        panel = sheet.axes(left + column * (width + space), y, width, height)
        for label, (real, fake) in pairs.items():
            difference = decibels(fake.profile(kind)) - decibels(real.profile(kind))
            panel.plot(
                radii, difference[1:], color=COLOURS.get(label, GREY), label=f"{label}: {gaps[label][kind]:.2f} dB"
            )
        panel.axhline(0, color=BLACK, lw=0.6)
        panel.set(title=title, ylabel="fake − real (dB)", xlabel=across)
        # Curves of gaps fill the panel from left to right, so that the legend gets a place above them.
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.7 * (high - low))  # room for the legend
        panel.legend(title="mean absolute gap", title_fontsize=SMALL, loc="upper left")
    sheet.height += 0.36  # the labels below the panels


def figure17(found: FoundRuns) -> Drawing:
    """Figure 17: samples of both runs from the same latents, without truncation."""
    fid = read_paper()["figure17"]["fid"]
    printed = f"The paper, at 1024×1024, has FID {fid['without']} w/o FFL and {fid['with']} w/ FFL."
    return samples(found, 1.0, range(36), columns=6, remark=printed)


def figure18(found: FoundRuns) -> Drawing:
    """Figure 18: more samples with the focal frequency loss, without truncation."""
    return samples(found, 1.0, range(100, 196), columns=12)


def figure19(found: FoundRuns) -> Drawing:
    """Figure 19: more samples with the focal frequency loss, drawn half way towards the mean style."""
    return samples(found, 0.5, range(100, 196), columns=12)


def samples(found: FoundRuns, psi: float, seeds: range, columns: int, remark: str = "") -> Drawing:
    """A block of samples for each run, side by side, row by row in the order of the seeds.

    Args:
        found: the runs by row.
        psi: truncation.
        seeds: one sample each.
        columns: samples in a row.
        remark: ends the caption.
    """
    runs = open_stylegan2(found)
    sheet = Sheet()
    space = 0.16
    width = (PAGE_WIDTH - space * (len(runs) - 1) - 0.04) / len(runs)
    for number, (label, (run, model)) in enumerate(runs.items()):
        images = sample(model.generator_ema, seeds, psi)
        x = 0.02 + number * (width + space)
        sheet.text(x + width / 2, 0.02, ", ".join(filter(None, [label, score(run, "fid")])), TITLE)
        sheet.picture(x, 0.2, width, image_grid(images, columns))
    steps = "; ".join(f"{label}: {describe(run)}" for label, (run, _) in runs.items())
    truncation = "without truncation" if psi == 1 else f"with truncation, ψ = {psi}"
    caption = f"StyleGAN2 samples {truncation}, seeds {seeds[0]} to {seeds[-1]}. {steps}. {remark}".strip()
    sheet.caption(caption)
    drawn = {label: about(run.directory, run.step) for label, (run, _) in runs.items()}
    return Drawing(sheet.finish(), caption, {"psi": psi, "seeds": [seeds[0], seeds[-1]]}, drawn)
