"""A figure of the paper, from our own runs or from real images.

    python scripts/figure.py N [scale=cpu] [out=FILE.png|DIR] [data_root=DIR] [output_root=outputs] [key=value ...]
    python scripts/figure.py all [scale=cpu] [out=DIR] …
    python scripts/figure.py comparison runs=DIR,DIR [labels=w/o,w/] [out=FILE.png|DIR]

N is 1 (spectra of models without FFL), 2 (band limiting), 3 (single-image reconstruction), 5 to 8, 10, 11, 15 and 16
(comparisons), 9 (StyleGAN2 and average spectra), 12 (sinusoidal components), 14 (spatial loss), 17 to 19 (StyleGAN2
samples). 4 and 13 are drawings. A figure is written as PNG, as PDF, and as JSON with its caption, numbers and runs; the
default is results/<scale>/figureN.png. Missing runs are named with the commands that make them.

  scale=S          paper or cpu: whose runs are meant (cpu)
  data_root=DIR    where the data sets are now; otherwise where they were when each run was made
  output_root=DIR  folder of the runs (outputs)
  image=FILE       for 2, 3 and 12: another image than the embedded photograph
  runs=DIR,DIR     these runs instead of those of the tables, in the order of the figure: without FFL, with FFL, …
  images=N         for 9: how many images to average over (as many as there are test images)
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import write_text
from ffl.training.config import unknown_key
from ffl.training.program import CONFIG_DIR, run_script
from ffl.training.run_directory import RunDirectory
from scripts.figures.bandlimits import figure2
from scripts.figures.comparison import BLOCKS, comparison, figure, figure1
from scripts.figures.loss_curve import figure14
from scripts.figures.single_image import figure3
from scripts.figures.sources import Drawing, Settings
from scripts.figures.style import save
from scripts.figures.stylegan2 import figure9, figure17, figure18, figure19
from scripts.figures.waves import figure12

__all__ = ["comparison"]

FIGURES: dict[int, Callable[[Settings], Drawing]] = {
    1: figure1,
    2: figure2,
    3: figure3,
    9: figure9,
    12: figure12,
    14: figure14,
    17: figure17,
    18: figure18,
    19: figure19,
    **{number: partial(figure, number) for number in BLOCKS},
}
KEYS: dict[str, frozenset[int]] = {  # which figures a key means something to
    "scale": frozenset(FIGURES),
    "out": frozenset(FIGURES),
    "data_root": frozenset(FIGURES),
    "output_root": frozenset(FIGURES),
    "image": frozenset({2, 3, 12}),
    "runs": frozenset(FIGURES) - {2, 3, 12},
    "images": frozenset({9}),
}


def main(arguments: list[str]) -> None:
    """The program; ``arguments`` are a figure and its key=value words.

    Raises:
        UserError: for a figure or a key that does not exist, or a figure none of whose runs is there.
    """
    if not arguments:
        raise UserError(f"no figure given; expected one of {known_figures()}")
    wanted, *words = arguments
    if malformed := [word for word in words if "=" not in word]:
        raise UserError(f"cannot read {malformed[0]}; expected key=value, such as scale=cpu")
    given = dict(word.split("=", 1) for word in words)
    if wanted == "comparison":
        compare(given)
    elif wanted == "all":
        make_all(given)
    elif wanted.isdecimal() and int(wanted) in FIGURES:
        number = int(wanted)
        settings = read_settings(given, {key for key, numbers in KEYS.items() if number in numbers}, f"figure {number}")
        make(number, settings, target(given, Path(f"results/{settings.scale}/figure{number}.png")))
    else:
        raise UserError(f"figure {wanted}: no such figure; expected one of {known_figures()}")


def known_figures() -> str:
    """What can be made, in words."""
    return f"{', '.join(map(str, sorted(FIGURES)))}, all or comparison"


def read_settings(given: dict[str, str], allowed: set[str], what: str) -> Settings:
    """Settings from words.

    Args:
        given: values by key.
        allowed: keys that the figure takes.
        what: the figure, for messages.
    Raises:
        UserError: for a key that the figure doesn't take, or an impossible value.
    """
    for key in given:
        if key not in allowed:
            if key in KEYS:
                raise UserError(f"{key}={given[key]}: {what} does not take it; it takes {', '.join(sorted(allowed))}")
            raise unknown_key(key, sorted(allowed))
    scale = given.get("scale", "cpu")
    if not (CONFIG_DIR / "scale" / f"{scale}.yaml").is_file():
        scales = ", ".join(sorted(path.stem for path in (CONFIG_DIR / "scale").glob("*.yaml")))
        raise UserError(f"scale={scale}: no such scale; expected one of {scales}")
    images = given.get("images")
    if images is not None and not (images.isdecimal() and int(images) > 0):
        raise UserError(f"images={images}: expected a number from 1 up")
    return Settings(
        scale=scale,
        data_root=Path(given["data_root"]) if "data_root" in given else None,
        output_root=Path(given["output_root"]) if "output_root" in given else None,
        image=Path(given["image"]) if "image" in given else None,
        runs=tuple(map(Path, given["runs"].split(","))) if "runs" in given else (),
        images=None if images is None else int(images),
    )


def target(given: dict[str, str], default: Path) -> Path:
    """The PNG to write: ``out``, a file or a folder that is there, in which it takes the default's name.

    Raises:
        UserError: if it is neither.
    """
    out = Path(given.get("out", default))
    if out.is_dir():
        return out / default.name
    if out.suffix not in (".png", ""):
        raise UserError(f"out={out}: expected a folder or a name that ends in .png; the PDF and JSON go beside it")
    return out.with_suffix(".png")


def make(number: int, settings: Settings, path: Path) -> None:
    """Draw a figure, write it, and say what it lacks."""
    drawing = FIGURES[number](settings)
    written = save(drawing.figure, path)
    content = {"figure": number, "scale": settings.scale, **drawing.to_json()}
    write_text(path.with_suffix(".json"), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"figure {number}: written to {', '.join(map(str, written))} and {path.with_suffix('.json').name}")
    for line in drawing.missing:
        print(f"  missing: {line}")


def make_all(given: dict[str, str]) -> None:
    """Every figure that can be made, and why the others cannot."""
    settings = read_settings(given, {"scale", "out", "data_root", "output_root"}, "all")
    folder = Path(given.get("out", f"results/{settings.scale}"))
    for number in sorted(FIGURES):
        try:
            make(number, settings, folder / f"figure{number}.png")
        except UserError as error:
            print(f"figure {number}: not made: {error}")


def compare(given: dict[str, str]) -> None:
    """Real test images and those of any runs on the same data."""
    if "runs" not in given or given.keys() - {"runs", "labels", "out"}:
        raise UserError("figure comparison takes runs=DIR,DIR and, if wanted, labels=A,B and out=FILE.png")
    runs = [RunDirectory.open(Path(path)) for path in given["runs"].split(",")]
    labels = given["labels"].split(",") if "labels" in given else [run.path.name for run in runs]
    if len(labels) != len(runs) or len(set(labels)) != len(labels):
        raise UserError(f"labels={','.join(labels)}: expected a different label for each of the {len(runs)} runs")
    out = target(given, Path("results/comparison.png"))
    comparison(runs, labels, out)
    print(f"written to {out}")


if __name__ == "__main__":
    run_script(main, __doc__)
