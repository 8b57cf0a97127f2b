"""Images from a trained StyleGAN2, by seed.

python scripts/sample.py run=DIR [seeds=0-31] [psi=0.7] [noise=const] [columns=8]
                         [accelerator=auto|cpu|cuda] [out=FILE.png]
python scripts/sample.py run=DIR mixing=0-5 seeds=10-15 [layers=0-6]
"""

import sys
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.images import to_uint8
from ffl.ranges import Count
from ffl.training.command import run_script
from ffl.training.config import Accelerator
from ffl.training.logger import save_png
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device
from models import load_model
from models.stylegan2 import StyleGAN2
from models.stylegan2.sampling import image_grid, sample, style_mixing
from scripts.runs import checked_config

MOST_NUMBERS = 10_000


def sample_images(
    *,
    run: Path,
    seeds: str = "0-31",
    psi: float = 1.0,
    noise: Literal["const", "random", "none"] = "const",
    columns: Count = 8,
    mixing: str = "",
    layers: str = "0-6",
    accelerator: Accelerator = "auto",
    out: Path | None = None,
) -> None:
    """Write one picture, a grid of samples.

    Args:
        run: the run directory of a StyleGAN2, or its exported folder; train.py and export.py print theirs.
        seeds: numbers and ranges, 0-3,7; a seed gives the latent that the official programs draw from it, and the same
            image every time unless noise=random.
        psi: truncation towards the average image, 1 for none.
        noise: of the synthesis network.
        columns: images in a row, but for mixing.
        mixing: one row for each of these seeds and one column for each of seeds=; the layers named take the column's
            style.
        layers: numbers and ranges, for mixing.
        accelerator: where to run.
        out: the picture; by default in the samples of the run.
    """
    numbers = read_numbers("seeds", seeds)
    # No data set is opened: samples by seed need none, and it may not be on this machine.
    directory = RunDirectory.open(run)
    config = checked_config(directory)
    if config["model"]["name"] != "stylegan2":
        raise UserError(f"{directory.path}: holds a {config['model']['name']}; only StyleGAN2 samples by seed")
    size = config["dataset"]["image_size"]
    model, _, _ = load_model(config, (size, size), directory.weights())
    assert isinstance(model, StyleGAN2)
    # What was averaged over training makes better images than the weights of its last step.
    generator = model.to(choose_device(accelerator)).generator_ema.eval()
    if mixing:
        rows = read_numbers("mixing", mixing)
        images = style_mixing(generator, rows, numbers, read_numbers("layers", layers), psi).flatten(0, 1)
        columns = len(numbers)
    else:
        images = sample(generator, numbers, psi, noise)
    path = out or directory.path / "samples" / f"seeds_psi{psi:g}.png"
    save_png(path, to_uint8(image_grid(images, columns), "rounded"))
    print(f"{len(images)} images written to {path}")


def read_numbers(key: str, text: str) -> list[int]:
    """``0-3,7`` as [0, 1, 2, 3, 7].

    Raises:
        UserError: for anything else.
    """
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or (last and int(last) < int(first)):
            raise UserError(f"{key}={text}: expected numbers and ranges such as 0-3,7")
        span = range(int(first), int(last or first) + 1)
        if len(numbers) + len(span) > MOST_NUMBERS:
            raise UserError(f"{key}={text}: at most {MOST_NUMBERS} at a time; name fewer")
        numbers += span
    return numbers


if __name__ == "__main__":
    run_script(sample_images)
