"""Images from a trained StyleGAN2, by seed.

    python scripts/sample.py run=DIR [seeds=0-31] [psi=0.7] [noise=const] [columns=8]
                             [accelerator=auto|cpu|cuda] [out=FILE.png]
    python scripts/sample.py run=DIR mixing=0-5 seeds=10-15 [layers=0-6]

seeds: numbers and ranges, 0-3,7; a seed gives the latent that the official programs draw from it, and the same image
every time unless noise=random. psi: truncation towards the average image, 1 for none. mixing: one row for each of
these seeds, one column for each of seeds=; the layers named take the column's style.
"""

import math
import sys
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.images import to_uint8
from ffl.training.logger import save_png
from ffl.training.program import run_script
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import choose_device
from models import load_model
from models.stylegan2 import StyleGAN2
from models.stylegan2.sampling import image_grid, sample, style_mixing

MOST_NUMBERS = 10_000
NOISES: dict[str, Literal["const", "random", "none"]] = {"const": "const", "random": "random", "none": "none"}
DEFAULTS = {
    "run": "",
    "seeds": "0-31",
    "psi": "1.0",
    "noise": "const",
    "columns": "8",
    "mixing": "",
    "layers": "0-6",
    "accelerator": "auto",
    "out": "",
}


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


def main(arguments: list[str]) -> None:
    """The program; ``arguments`` are its key=value words."""
    settings = DEFAULTS | dict(item.partition("=")[::2] for item in arguments)
    if unknown := [item for item in arguments if item.partition("=")[0] not in DEFAULTS or "=" not in item]:
        raise UserError(f"cannot read {unknown[0]}: expected key=value with a key of {', '.join(DEFAULTS)}")
    if not settings["run"]:
        raise UserError("give run=DIR, the run directory of a StyleGAN2; train.py prints the one it makes")
    seeds, columns = read_numbers("seeds", settings["seeds"]), read_numbers("columns", settings["columns"])[0]
    try:
        psi = float(settings["psi"])
    except ValueError:
        psi = math.nan
    if not math.isfinite(psi):
        raise UserError(f"psi={settings['psi']}: expected a number, 1 for no truncation")
    if columns < 1:
        raise UserError("columns=0: must be at least 1")
    if settings["noise"] not in NOISES:
        raise UserError(f"noise={settings['noise']}: expected one of {', '.join(NOISES)}")

    run = RunDirectory.open(Path(settings["run"]))
    config = run.config()
    if config["model"]["name"] != "stylegan2":
        raise UserError(f"{run.path}: holds a {config['model']['name']}; only StyleGAN2 samples by seed")
    size = int(config["dataset"]["image_size"])
    model, _ = load_model(config, (size, size), run.last)
    assert isinstance(model, StyleGAN2)
    generator = model.to(choose_device(settings["accelerator"])).generator_ema.eval()
    if settings["mixing"]:
        rows = read_numbers("mixing", settings["mixing"])
        images = style_mixing(generator, rows, seeds, read_numbers("layers", settings["layers"]), psi).flatten(0, 1)
        columns = len(seeds)
    else:
        images = sample(generator, seeds, psi, NOISES[settings["noise"]])
    out = Path(settings["out"] or run.path / "samples" / f"seeds_psi{psi:g}.png")
    save_png(out, to_uint8(image_grid(images, columns), "rounded"))
    print(f"{len(images)} images written to {out}")


if __name__ == "__main__":
    run_script(main, __doc__)
