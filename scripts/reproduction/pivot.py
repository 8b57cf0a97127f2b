"""A table as data: the records of a table in the paper's shape, beside the paper's numbers.

Markdown, LaTeX, CSV and the report are made from this pivot, so that they all show the same columns, numbers, best
marks and notes.
"""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ffl.metrics import METRICS
from ffl.metrics.bands import coherence
from ffl.metrics.base import ImageMetric
from ffl.training.record import Record
from scripts.reproduction.paper import paper_tables
from scripts.tables import MODEL_TITLES, PUBLISHED, Table, TableResults, split_overrides


class CallTime:
    """How a column of ``call`` records is shown; the attributes are those of metrics."""

    label = "ms a call"
    unit = 1e3
    digits = 1
    higher_is_better = False


# What a column may show, by the name of its records.
COLUMNS: dict[str, type[ImageMetric] | type[CallTime]] = {**METRICS, "call": CallTime}
# The records of each cell by (row, group of columns, metric), then by seed.
Cells = Mapping[tuple[str, str, str], Mapping[int, Record]]
RUN_HEADS = ["run", "seed", "commit", "training images", "epochs", "steps", "test images", "hardware", "wall time"]


@dataclass(frozen=True)
class Cell:
    """One metric of one row, or of the difference of two rows.

    Attributes:
        values: ours by seed, finite and in the units of the tables.
        ours: their mean with its spread as text; "missing", "not run", or "" where nothing was asked for.
        theirs: the paper's number as text, "N/A", or "" where it has none.
        printed: the paper's number; None where ``theirs`` is no number.
        best: whether ours is the best of the rows that are compared.
        theirs_best: whether the paper prints its number in bold.
        records: ours by seed, those without a value included; none for a difference.
    """

    values: Mapping[int, float]
    ours: str
    theirs: str
    printed: float | None
    best: bool = False
    theirs_best: bool = False
    records: Mapping[int, Record] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A row of a block.

    Attributes:
        row: its id, or that of the row with FFL where the line is a difference.
        labels: one for each column of labels; of a difference a single one, what is subtracted from what.
        cells: by metric.
        without: of a difference, the id of the row that is subtracted.
    """

    row: str
    labels: list[str]
    cells: dict[str, Cell]
    without: str = ""


@dataclass(frozen=True)
class Block:
    """A block of metric columns.

    Attributes:
        group: its id.
        title: above it; "" where a table has one block.
        metrics: its columns.
        lines: its rows.
        of_real: by the last row of each data set, labels and texts of lines about its real images.
        differences: its pairs of rows that are compared.
    """

    group: str
    title: str
    metrics: list[str]
    lines: list[Line]
    of_real: dict[str, list[tuple[list[str], list[str]]]]
    differences: list[Line]


@dataclass(frozen=True)
class Pivot:
    """A table in the paper's shape.

    Attributes:
        table: what configs/table says of it.
        title: with the number that the paper gives it.
        printed: whether the paper has it.
        blocks: of columns.
        notes: what a reader must know beside the numbers.
        runs: the ``training`` record of each run, with the number of test images that it was measured on.
        cells: all records by row, group and metric.
    """

    table: Table
    title: str
    printed: bool
    blocks: list[Block]
    notes: list[str]
    runs: list[tuple[Record, int | None]]
    cells: Cells


def gather_cells(records: Iterable[Record]) -> Cells:
    """The records of a table by cell, with those that follow from others."""
    cells: dict[tuple[str, str, str], dict[int, Record]] = {}
    for record in records:
        where = record.provenance
        cells.setdefault((where["row"], where["group"], record.metric), {})[where["seed"]] = record
    # Coherence follows from the bands, which were recorded before it was a metric. Beyond its octave there is one band.
    for (row_id, group_id, _), measured in [item for item in cells.items() if item[0][2] == "bands"]:
        of_pairs = {seed: record for seed, record in measured.items() if (record.details or {})["error"] is not None}
        for seed, record in of_pairs.items():
            top = replace(record, metric="coherence_top", value=coherence(record.details or {})[-2])
            cells.setdefault((row_id, group_id, "coherence_top"), {}).setdefault(seed, top)
    return cells


def make_pivot(table: Table, results: TableResults) -> Pivot:
    """The records of a table beside the paper's numbers."""
    cells = gather_cells(results.records)
    paper = paper_tables().get(table.name)
    decimals = 3 if paper is None else paper.decimals

    # A metric that neither side has takes a line of the notes, and no column. Where the paper alone has it, as a rule
    # because its network could not be had, the column holds the paper's numbers.
    ours_have = {
        (group, metric)
        for (_, group, metric), measured in cells.items()
        if metric in COLUMNS and shown_values(measured)
    }
    blocks = []
    for group_id, group in table.groups.items():
        metrics = [
            metric
            for metric in group.all_metrics
            if (group_id, metric) in ours_have or (paper and metric in group.metrics)
        ] or group.metrics
        metrics = [*metrics, *(["call"] if (group_id, "call") in ours_have else [])]

        # Values: of ours the best among rows that are compared is marked, of the paper's what is bold in print.
        best = {metric: best_rows(table, cells, group_id, metric) for metric in metrics}
        lines = []
        for row_id, row in table.rows.items():
            in_print = paper.rows.get(row_id) if paper else None
            if group_id not in row.runs and not (row.quoted and in_print):
                continue
            found: dict[str, Cell] = {}
            for metric in metrics:
                digits, measured = digits_of(metric, decimals), cells.get((row_id, group_id, metric), {})
                values = shown_values(measured)
                ours = theirs = ""
                if values:
                    ours = number_text(list(values.values()), digits)
                elif metric == "call":  # a row without losses has none
                    ours = ""
                elif group_id in row.runs and ((group_id, metric) in ours_have or not paper):
                    ours = "missing" if measured else "not run"
                printed = in_print.values[group_id].get(metric) if in_print else None
                if in_print and metric in in_print.values[group_id]:
                    theirs = "N/A" if printed is None else f"{printed:.{digits}f}"
                bold = bool(paper and in_print and (group_id, metric) in in_print.best)
                marked = bool(values) and row_id in best[metric]
                found[metric] = Cell(values, ours, theirs, printed, marked, bold, measured)
            lines.append(Line(row_id, row.labels, found))

        # Differences, taken seed by seed: the spread of a difference is smaller than those of its two values.
        differences = []
        for without, with_ in table.compare:
            found = {}
            for metric in metrics:
                before, after = (shown_values(cells.get((row, group_id, metric), {})) for row in (without, with_))
                values = {seed: after[seed] - before[seed] for seed in sorted(before.keys() & after.keys())}
                ours = number_text(list(values.values()), digits_of(metric, decimals), "+") if values else ""
                old, new = (paper.value(row, group_id, metric) if paper else None for row in (without, with_))
                change = None if old is None or new is None else new - old
                found[metric] = Cell(values, ours, "" if change is None else f"{change:+.{decimals}f}", change)
            if any(cell.values for cell in found.values()):
                # What is subtracted from what: labels that both rows share once, then the two that differ.
                shared, first, second = pair_labels(table, without, with_)
                pair = f"{shared}: {second} − {first}" if shared else f"{second} − {first}"
                differences.append(Line(with_, [pair], found, without))
        of_real = real_lines(table, cells, group_id, metrics, decimals)
        blocks.append(Block(group_id, group.title, metrics, lines, of_real, differences))

    # Every run once, in the order of the rows, with the number of images that its first metric was measured on.
    runs: dict[str, tuple[Record, int | None]] = {}
    for (row_id, group_id, metric), measured in cells.items():
        for seed, record in measured.items() if metric == "training" else ():
            if record.value is None:
                continue
            tests = [cells.get((row_id, group_id, name), {}).get(seed) for name in table.groups[group_id].all_metrics]
            tested = next((of.num_images for of in tests if of is not None), None)
            runs[record.provenance["run"]] = record, tested

    number = table.name.removeprefix("table")
    title = f"Table {number}. {table.title}" if number.isdecimal() else table.title
    notes = table_notes(table, results, cells)
    return Pivot(table, title, paper is not None, blocks, notes, list(runs.values()), cells)


def pair_labels(table: Table, without: str, with_: str) -> tuple[str, str, str]:
    """What the labels of two rows share, and what is left of each."""
    both = table.rows[without].labels, table.rows[with_].labels
    shared = [label for label, other in zip(*both, strict=True) if label == other]
    first, second = (" ".join(label for label in labels if label not in shared) for labels in both)
    return " ".join(shared), first, second


def table_notes(table: Table, results: TableResults, cells: Cells) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = []
    # What makes the numbers incomparable with the paper's comes first.
    if results.scale != "paper":
        notes.append(
            f"scale={results.scale}: fewer images, epochs, channels or pixels than in the paper, as configs/scale "
            "states. Compare the differences, not the values."
        )
    if results.scale in table.scales and table.scales[results.scale].why:
        notes.append(f"This table at scale={results.scale}: {table.scales[results.scale].why}.")
    stand_ins = {
        (split_overrides(table.rows[row].runs[group])["dataset"], record.provenance["dataset"])
        for (row, group, _), measured in cells.items()
        for record in measured.values()
    }
    notes += [f"The data set {now} stands in for {was}." for was, now in sorted(stand_ins) if was != now]

    # Whose perceptual term is not the paper's.
    embedded: dict[str, None] = {}
    for (row, _, _), measured in [item for item in cells.items() if item[0][2] == "training"]:
        for config in [record.details["config"] for record in measured.values() if record.details]:
            model, loss = config["model"], config["loss"]
            networks = {loss.get("perceptual_network") if loss.get("perceptual") else None}
            networks |= {model.get("vgg_network") if model.get("vgg_weight") else None}
            if "stlpips_vgg" in networks:
                embedded[" ".join(table.rows[row].labels)] = None
    if embedded:
        notes.append(
            f"The perceptual term of {', '.join(embedded)} looks through the VGG-16 of ST-LPIPS, whose weights come "
            "with a package, in the place of the paper's VGG."
        )

    # How to read the numbers: what was said when they were made, spreads, lines of real images, warnings.
    notes += results.notes
    if any(len(measured) > 1 for (_, _, metric), measured in cells.items() if metric in METRICS):
        notes.append("± is the standard deviation over seeds; a difference is taken seed by seed.")
    notes.append(machines_note())
    if any(record.floor is not None for measured in cells.values() for record in measured.values()):
        notes.append(
            "Real halves: the same metric between two halves of the real test images, about what a perfect model would "
            "have with half as many images."
        )
    if any(record.ceiling is not None for measured in cells.values() for record in measured.values()):
        notes.append(
            "Real images: the score of the real test images by the same segmenter of our own "
            "(`scripts/train_segmenter.py`). Own scores compare with each other alone, not with official ones."
        )
    warnings: dict[str, dict[str, None]] = {}
    for (_, _, metric), measured in cells.items():
        for record in measured.values():
            if record.warning:
                warnings.setdefault(record.warning, {})[METRICS[metric].label] = None
    notes += [f"{', '.join(labels)}: {warning}" for warning, labels in warnings.items()]
    notes += table.notes

    # Metrics that nobody has measured; those whose weights were not there, and rows without a run, by reason: one is
    # often that of many.
    tried = {(group, metric) for _, group, metric in cells if metric in METRICS}
    evaluated = {group for group, _ in tried}
    untried = {
        METRICS[metric].label: None
        for id, group in table.groups.items()
        for metric in group.all_metrics
        if id in evaluated and (id, metric) not in tried
    }
    if untried:
        command = f"python scripts/reproduce.py table={table.name.removeprefix('table')}"
        command += f" scale={results.scale}" * (results.scale != "paper")
        notes.append(
            f"Not measured: {', '.join(untried)}; `{command}` does where the runs are, unless their images are too "
            "small or too few."
        )
    gaps: dict[str, list[str]] = {}
    idle: dict[str, list[str]] = {}
    for (row, group, metric), measured in cells.items():
        for seed, record in measured.items():
            if record.missing is None:
                continue
            if metric != "training":
                gaps.setdefault(record.missing, []).append(METRICS[metric].label)
                continue
            title = f" ({table.groups[group].title})" if len(table.groups) > 1 else ""
            which = f", seed {seed}" if len(measured) > 1 else ""
            idle.setdefault(record.missing, []).append(" ".join(table.rows[row].labels) + title + which)
    for reason, names in gaps.items():
        *others, last = dict.fromkeys(names)
        notes.append(f"{', '.join(others)} and {last} are" if others else f"{last} is")
        notes[-1] += f" missing: {reason}"
    notes += [f"Not run: {'; '.join(where)}: {reason}" for reason, where in idle.items()]
    return notes


def machines_note() -> str:
    """What another processor makes of PSNR, beside what another seed makes; of each model the row that varies most."""
    rows = json.loads((PUBLISHED / "benchmark" / "machines.json").read_text())["machines"]
    parts = []
    for model in dict.fromkeys(row["model"] for row in rows):
        of_model = [row for row in rows if row["model"] == model]
        machines, seeds = (max(row[f"spread_over_{of}"]["psnr"] for row in of_model) for of in ("machines", "seeds"))
        parts.append(
            f"{machines:.2f} dB over imitated processors and {seeds:.2f} dB over seeds for the {MODEL_TITLES[model]}"
        )
    return (
        "The same seed gives other digits on another processor: on photographs PSNR has a standard deviation of up to "
        f"{', of '.join(parts)} (`results/benchmark/machines.json`)."
    )


def shown_values(measured: Mapping[int, Record]) -> dict[int, float]:
    """The finite values of one cell's records by seed, in the units of the tables."""
    return {
        seed: record.value * COLUMNS[record.metric].unit
        for seed, record in measured.items()
        if record.value is not None and math.isfinite(record.value)
    }


def real_lines(
    table: Table, cells: Cells, group: str, metrics: Sequence[str], decimals: int
) -> dict[str, list[tuple[list[str], list[str]]]]:
    """By the last row of each data set in a group: labels and texts of lines about its real images.

    Floors are what halves of its real images are apart, ceilings what a segmenter of ours says of all of them, where
    they are known.
    """
    rows: dict[str, list[str]] = {}
    bounds: dict[tuple[str, str, str], float] = {}
    for row in table.rows:
        for metric in metrics:
            for record in cells.get((row, group, metric), {}).values():
                data = record.provenance["dataset"]
                rows[data] = list(dict.fromkeys([*rows.get(data, []), row]))
                for title, bound in (("real halves", record.floor), ("real images", record.ceiling)):
                    if bound is not None:
                        bounds[title, data, metric] = bound * COLUMNS[metric].unit
    lines: dict[str, list[tuple[list[str], list[str]]]] = {}
    for data, ids in rows.items():
        # Labels that all rows of the data set share, such as its name.
        shared = [
            labels[0] if len(set(labels)) == 1 else ""
            for labels in zip(*(table.rows[id].labels for id in ids), strict=True)
        ]
        for title in ("real halves", "real images"):
            known = {metric: bounds[title, data, metric] for metric in metrics if (title, data, metric) in bounds}
            if known:
                texts = [number_text([known[m]], digits_of(m, decimals)) if m in known else "" for m in metrics]
                lines.setdefault(ids[-1], []).append(([*shared[:-1], title], texts))
    return lines


def best_rows(table: Table, cells: Cells, group: str, metric: str) -> set[str]:
    """Rows with the best mean of ours, one or more for each block of rows that are compared with each other."""
    blocks: list[set[str]] = []
    for pair in table.compare:
        # Pairs that share a row make one block, such as a baseline with each of its variants.
        joined = set(pair).union(*(block for block in blocks if block & set(pair)))
        blocks = [*(block for block in blocks if not block & set(pair)), joined]
    best: set[str] = set()
    # A single row is the best of its block whatever it is worth.
    for block in blocks:
        values = {row: shown_values(cells.get((row, group, metric), {})) for row in block}
        means = {row: statistics.fmean(numbers.values()) for row, numbers in values.items() if numbers}
        if len(means) > 1:
            top = (max if COLUMNS[metric].higher_is_better else min)(means.values())
            best |= {row for row, mean in means.items() if mean == top}
    return best


def head(metric: str) -> str:
    """A column's head with the direction of improvement."""
    return f"{COLUMNS[metric].label} {'↑' if COLUMNS[metric].higher_is_better else '↓'}"


def digits_of(metric: str, decimals: int) -> int:
    """Digits after the point: the metric's own, or else those of the table."""
    own = COLUMNS[metric].digits
    return decimals if own is None else own


def number_text(values: Sequence[float], digits: int, sign: str = "") -> str:
    """The mean over seeds, with the sample standard deviation where there are several."""
    text = f"{statistics.fmean(values):{sign}.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def run_texts(training: Record, tested: int | None) -> list[str]:
    """What ``RUN_HEADS`` are of a run, from its ``training`` record and the number of its test images."""
    about = training.details or {}
    return [
        training.provenance["run"],
        str(training.provenance["seed"]),
        str(about["commit"])[:10] + (" and changes" if about["dirty"] else ""),
        count_text(about["train_images"]),
        "?" if about["epochs"] is None else f"{about['epochs']:.4g}",
        count_text(about["steps"]),
        count_text(tested),
        about["hardware"],
        duration(training.value or 0.0),
    ]


def count_text(value: int | None) -> str:
    """A whole number with commas; "?" where it is not known."""
    return "?" if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, three digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
