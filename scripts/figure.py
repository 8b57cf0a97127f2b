"""A figure of the paper, or of ours, from our own runs or from real images.

    python scripts/figure.py N [scale=cpu] [out=FILE.png|DIR] [data_root=DIR] [output_root=outputs] [key=value ...]
    python scripts/figure.py bands [scale=cpu] [model=ae] [out=FILE.png|DIR]
    python scripts/figure.py gains|loss_bands [scale=cpu] [out=FILE.png|DIR]
    python scripts/figure.py all [scale=cpu] [out=DIR] …
    python scripts/figure.py comparison runs=DIR,DIR [labels=w/o,w/] [out=FILE.png|DIR]

N is 1 (spectra of models without FFL), 2 (band limiting), 3 (single-image reconstruction), 5 to 8, 10, 11, 15 and 16
(comparisons), 9 (StyleGAN2 and average spectra), 12 (sinusoidal components), 14 (spatial loss), 17 to 19 (StyleGAN2
samples). 4 and 13 are drawings. ``bands``, ``gains`` and ``loss_bands`` are ours, from the records of tables: power,
error and coherence by frequency band; what FFL gains on every model and data set beside what foretells it; and what
each frequency loss does to each band. A figure is written as PNG, as PDF, and as JSON with its caption, numbers and
runs; the default is outputs/results/<scale>/figureN.png, or bands.png and the like. Missing runs are named with the
commands that make them.
"""

import inspect
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.errors import UserError
from ffl.files import write_text
from ffl.ranges import Count
from ffl.training.command import run_script
from ffl.training.run_directory import RunDirectory
from scripts.figures.band_curves import bands_figure
from scripts.figures.comparison import BASELINES, BLOCKS, comparison, comparison_figure, figure1
from scripts.figures.gain_ranks import gains_figure
from scripts.figures.loss_bands import loss_bands_figure
from scripts.figures.loss_curve import LOSS_RUNS, figure14
from scripts.figures.one_image import figure2, figure3, figure12
from scripts.figures.runs import Drawing, TableRun, find_runs
from scripts.figures.style import save
from scripts.figures.stylegan2 import ARMS, figure9, figure17, figure18, figure19
from scripts.tables import OWN, check_scale

COMMON_KEYS = {"scale", "out", "data_root", "output_root"}


class PaperFigure(NamedTuple):
    """How a figure is made.

    Attributes:
        draw: takes the runs of ``rows``, if there are any; its keyword-only parameters are keys of the command line.
        rows: whose runs it shows; none for a figure of one image or of records.
    """

    draw: Callable[..., Drawing]
    rows: tuple[TableRun, ...] = ()

    @property
    def own_keys(self) -> set[str]:
        """The keys of the command line that ``draw`` takes."""
        parameters = inspect.signature(self.draw).parameters.values()
        return {item.name for item in parameters if item.kind is item.KEYWORD_ONLY}

    @property
    def keys(self) -> set[str]:
        """The keys of the command line that mean something to it."""
        return COMMON_KEYS | self.own_keys | ({"runs"} if self.rows else set())


OF_THE_PAPER: dict[int, PaperFigure] = {
    1: PaperFigure(figure1, BASELINES),
    2: PaperFigure(figure2),
    3: PaperFigure(figure3),
    9: PaperFigure(figure9, ARMS),
    12: PaperFigure(figure12),
    14: PaperFigure(figure14, LOSS_RUNS),
    17: PaperFigure(figure17, ARMS),
    18: PaperFigure(figure18, ARMS[1:]),
    19: PaperFigure(figure19, ARMS[1:]),
    **{
        number: PaperFigure(partial(comparison_figure, number), tuple(run for block in blocks for run in block.runs))
        for number, blocks in BLOCKS.items()
    },
}
# In the order in which they are listed and made.
FIGURES: dict[int | str, PaperFigure] = {
    **dict(sorted(OF_THE_PAPER.items())),
    "bands": PaperFigure(bands_figure),
    "gains": PaperFigure(gains_figure),
    "loss_bands": PaperFigure(loss_bands_figure),
}


def draw(
    *words: str,
    scale: str | None = None,
    out: Path | None = None,
    data_root: Path | None = None,
    output_root: Path | None = None,
    runs: list[str] | None = None,
    image: Path | None = None,
    images: Count | None = None,
    labels: list[str] | None = None,
    model: str | None = None,
) -> None:
    """Draw what the first word names.

    Args:
        words: number of a figure, bands, gains, loss_bands, all, or comparison.
        scale: whose runs are meant: cpu, which is the default, or paper.
        out: FILE.png, or a folder of results, in which figures go to <scale>/figureN.png, bands.png and the like;
            outputs/results by default.
        data_root: where the data sets are now; otherwise where they were when each run was made.
        output_root: folder of the runs; that of configs/train.yaml by default.
        runs: these runs instead of those of the tables, in the order of the figure: without FFL, with FFL, ...
        image: for 2, 3 and 12: another image than the embedded photograph.
        images: for 9: how many images to average over; as many as there are test images by default.
        labels: for a comparison: what to call each run; the names of their directories by default.
        model: for bands: whose runs to show; those of all models by default.
    """
    given = {key: value for key, value in locals().items() if key != "words" and value is not None}

    # Which figure, and which of the keys mean something to it.
    known = ", ".join([*map(str, FIGURES), "all or comparison"])
    if not words:
        raise UserError(f"no figure given; expected one of {known}")
    name, *more = words
    if more:
        raise UserError(f"cannot read {more[0]}; expected key=value, such as scale=cpu")
    key_of_name = int(name) if name.isdecimal() else name
    figures: list[int | str]
    if name == "all":
        allowed, figures = COMMON_KEYS, list(FIGURES)
    elif name == "comparison":
        allowed, figures = {"runs", "labels", "out"}, []
    elif key_of_name in FIGURES:
        allowed, figures = FIGURES[key_of_name].keys, [key_of_name]
    else:
        raise UserError(f"figure {name}: no such figure; expected one of {known}")
    for key, value in given.items():
        if key not in allowed:
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            who = name if name == "all" else f"figure {name}"
            raise UserError(f"{key}={shown}: {who} does not take it; it takes {', '.join(sorted(allowed))}")
    scale = scale or "cpu"
    check_scale(scale)

    # Where it goes: to a file, or to its place in a folder of results.
    out = out or OWN
    to_file = out.suffix == ".png" and not out.is_dir()
    if (to_file and name == "all") or (out.suffix and not to_file and not out.is_dir()):
        raise UserError(f"out={out}: expected a folder or a name that ends in .png; the PDF and JSON go beside it")

    if name == "comparison":
        compare(runs, labels, out if to_file else out / "comparison.png")
    for number in figures:
        file_name = f"figure{number}.png" if isinstance(number, int) else f"{number}.png"
        figure, path = FIGURES[number], out if to_file else out / scale / file_name
        # One figure that cannot be made does not keep the others from being made.
        own = {key: value for key, value in {**given, "scale": scale}.items() if key in figure.own_keys}
        missing: list[str] = []
        try:
            if figure.rows:
                found = find_runs(figure.rows, scale, data_root, output_root, runs)
                missing = found.missing
                drawing = figure.draw(found, **own)
            else:
                drawing = figure.draw(**own)
                missing = drawing.missing
        except UserError as error:
            if name != "all":
                raise
            print(f"figure {number}: not made: {error}")
            continue

        # The picture, and beside it what it shows in words and numbers, without the folders of this machine.
        written = save(drawing.figure, path)
        lasting = missing
        for folder in (f" data_root={data_root}", f" output_root={output_root}"):
            lasting = [line.replace(folder, "") for line in lasting]
        about = {"caption": drawing.caption, "values": drawing.values, "runs": drawing.runs, "missing": lasting}
        content = {"figure": number, "scale": scale, **about}
        write_text(path.with_suffix(".json"), json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        print(f"figure {number}: written to {', '.join(map(str, written))} and {path.with_suffix('.json').name}")
        for line in missing:
            print(f"  missing: {line}")


def compare(runs: list[str] | None, labels: list[str] | None, path: Path) -> None:
    """Draw real test images and those of any runs on the same data."""
    if runs is None:
        raise UserError("figure comparison takes runs=DIR,DIR and, if wanted, labels=A,B and out=FILE.png")
    directories = [RunDirectory.open(Path(run)) for run in runs]
    labels = labels or [run.path.name for run in directories]
    if len(labels) != len(runs) or len(set(labels)) != len(labels):
        raise UserError(f"labels={','.join(labels)}: expected a different label for each of the {len(runs)} runs")
    comparison(directories, labels, path)
    print(f"written to {path}")


if __name__ == "__main__":
    run_script(draw)
