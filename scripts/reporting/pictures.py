"""Pictures of runs for the report: what they generate, its spectrum, and how far that is from the real one, in dB."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ffl.errors import UserError
from ffl.files import atomic_write, file_sha256
from ffl.images import to_uint8
from ffl.spectrum import mean_power
from ffl.training.config import difference
from ffl.training.logger import label_colours
from ffl.training.model import Task
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device
from run_config import defaults
from scripts.figures.runs import first_items, generate, quantised
from scripts.figures.style import DIVERGING
from scripts.figures.stylegan2 import decibels
from scripts.runs import open_run

# One scale for every spectrum of a site, in dB of the power of an image in [0, 1]: the detail of photographs, their
# brightness, and what 8 bits leave of nothing fit in.
SPECTRUM_SCALE = (-50.0, 10.0)
DIFFERENCE_SCALE = 20.0  # dB, as much above as below
REFERENCES = 64  # real images whose mean spectrum stands for all, where generated ones have no partner


@dataclass(frozen=True)
class Picture:
    """One image as files of the site, named by their paths in it.

    Attributes:
        image: as the metrics see it, in 8 bits.
        spectrum: its power in dB on ``SPECTRUM_SCALE``, zero frequency in the middle.
        gap: its power over that of the real image in dB, on ``DIFFERENCE_SCALE``; "" for a real image, and where there
            is none to compare with.
        size: (H, W) in pixels.
    """

    image: str
    spectrum: str
    gap: str
    size: tuple[int, int]


@dataclass(frozen=True)
class RunPictures:
    """The first test images of a run.

    Attributes:
        run: name of its directory.
        about: data set, size, seed and step, in words.
        generated: one for each item or latent.
        real: the partner of each; the mean spectrum's alone, without an image, where there are no partners.
        inputs: what the model starts from, where that is an image or a label map.
        paired: whether ``real`` are partners.
        checkpoint_sha256: of the weights that generated them.
    """

    run: str
    about: str
    generated: list[Picture]
    real: list[Picture]
    inputs: list[str]
    paired: bool
    checkpoint_sha256: str

    def remark(self, measured: Record | None) -> str:
        """What a reader must know beside a number: pictures and number may be of different weights. "" for nothing."""
        sha256 = None if measured is None else measured.provenance.get("checkpoint_sha256")
        if sha256 in (None, self.checkpoint_sha256):
            return ""
        return "The pictures are of another training with the same settings than the numbers."


@dataclass
class Album:
    """The pictures of a site; each run and task is drawn once.

    Attributes:
        site: the folder of the site.
        runs: the folder of the run directories.
        count: images of each run.
        data_root, cache_dir: of the data sets; None for those of each run.
        problems: why runs have no pictures, by their names.
    """

    site: Path
    runs: Path
    count: int
    data_root: Path | None = None
    cache_dir: Path | None = None
    problems: dict[str, str] = field(default_factory=dict)
    _drawn: dict[tuple[str, Task | None], RunPictures | None] = field(default_factory=dict)

    def directory_of(self, training: Record) -> RunDirectory | None:
        """The directory of the run that a ``training`` record is of; None where it is not there or is another run."""
        if training.details is None:  # there never was one
            return None
        name = str(training.provenance["run"])
        # A record may be somebody else's: its name of a run must not lead out of the folder.
        path = self.runs / name
        if Path(name).name != name or not (path / "config.yaml").is_file():
            return None
        directory = RunDirectory(path)
        try:
            config = directory.config()
            changed = difference(training.details["config"], config, defaults(config))
        except (UserError, KeyError, TypeError):
            changed = ["an unreadable configuration"]
        if changed:
            self.problems[name] = f"{path}: another run than that of the numbers ({'; '.join(changed)})"
            return None
        return directory

    def of_run(self, directory: RunDirectory, task: Task | None = None) -> RunPictures | None:
        """The pictures of a run, by default of the task that its model does first.

        None where it cannot generate; ``problems`` then says why.
        """
        key = (directory.path.name, task)
        if key not in self._drawn:
            print(f"pictures of {directory.path}", flush=True)
            try:
                self._drawn[key] = self._draw(directory, task)
            except UserError as error:
                self.problems[directory.path.name] = f"{directory.path} has no pictures: {error}"
                self._drawn[key] = None
        return self._drawn[key]

    def _draw(self, directory: RunDirectory, task: Task | None) -> RunPictures:
        run = open_run(directory.path, data_root=self.data_root, cache_dir=self.cache_dir)
        run.model.to(choose_device("auto")).eval()
        task = task or run.model.tasks[0]
        paired = task != "synthesis"
        count = min(self.count, len(run.dataset))
        fake = quantised(generate(run, count, task))
        batch = first_items(run, count if paired else max(count, REFERENCES))
        real = quantised(batch["image"].cpu()) if "image" in batch else None

        # What a generated image is compared with: its partner, or the mean of real spectra where it has none.
        references: list[Tensor | None] = [None] * count
        real_pictures: list[Picture] = []
        data = f"pictures/{run.dataset.name}-{run.dataset.fingerprint[:8]}"
        if real is not None and paired:
            references = [spectrum_of(image) for image in real]
            real_pictures = [self._save(f"{data}/{index}", image, None) for index, image in enumerate(real)]
        elif real is not None:
            mean = decibels(mean_power((real.double() + 1) / 2))
            references = [mean] * count
            real_pictures = [
                Picture("", self._save_spectrum(f"{data}/mean-spectrum.webp", mean), "", run.dataset.image_size)
            ]
        folder = f"pictures/{directory.path.name}/{task}"
        generated = [
            self._save(f"{folder}/{index}", image, reference)
            for index, (image, reference) in enumerate(zip(fake, references, strict=True))
        ]
        inputs: list[str] = []
        if "label" in batch and "label" in run.model.inputs:
            shown = label_colours(batch["label"].cpu())
        elif "source" in batch and "source" in run.model.inputs:
            shown = to_uint8(batch["source"].cpu(), "rounded")
        else:
            shown = torch.empty(0)
        for index, image in enumerate(shown[:count] if paired else ()):
            inputs.append(f"{data}/{index}-input.webp")
            save_webp(self.site / inputs[-1], image.permute(1, 2, 0).numpy())

        height, width = run.dataset.image_size
        sha256 = file_sha256(run.checkpoint)
        about = f"{run.dataset.name} {width}×{height}, seed {run.config['seed']}, step {run.step}"
        return RunPictures(directory.path.name, about, generated, real_pictures, inputs, paired, sha256)

    def _save(self, stem: str, image: Tensor, reference: Tensor | None) -> Picture:
        spectrum = spectrum_of(image)
        save_webp(self.site / f"{stem}.webp", to_uint8(image, "rounded").permute(1, 2, 0).numpy())
        shown = self._save_spectrum(f"{stem}-spectrum.webp", spectrum)
        gap = ""
        if reference is not None:
            gap = f"{stem}-gap.webp"
            unit = ((spectrum - reference) / DIFFERENCE_SCALE / 2 + 0.5).clamp(0, 1)
            save_webp(self.site / gap, matplotlib.colormaps[DIVERGING](unit.numpy(), bytes=True)[..., :3])
        return Picture(f"{stem}.webp", shown, gap, (image.shape[-2], image.shape[-1]))

    def _save_spectrum(self, name: str, spectrum: Tensor) -> str:
        low, high = SPECTRUM_SCALE
        grey = ((spectrum - low) / (high - low)).clamp(0, 1) * 255
        save_webp(self.site / name, grey.round().byte().numpy())
        return name


def spectrum_of(image: Tensor) -> Tensor:
    """Power of one image (3, H, W) in [-1, 1] in dB, zero frequency centred; the image is scaled to [0, 1] for it."""
    return decibels(mean_power((image.double()[None] + 1) / 2))


def save_webp(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3) pixels without loss, atomically."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, method=4)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def gradient_css(steps: int = 9) -> str:
    """The colours of ``gap`` from too little to too much power, as stops of a CSS gradient."""
    colours = matplotlib.colormaps[DIVERGING](np.linspace(0, 1, steps), bytes=True)
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue, _ in colours)
