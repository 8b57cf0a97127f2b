"""A table as Markdown: the records of a table, turned into the paper's shape beside the paper's numbers."""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence

from ffl.metrics import METRICS
from ffl.training.record import Record
from scripts.reproduction.paper import paper_tables
from scripts.tables import Table, TableResults, split_overrides

# The records of each cell by (row, group of columns, metric), then by seed.
Cells = Mapping[tuple[str, str, str], Mapping[int, Record]]


def table_markdown(table: Table, results: TableResults) -> str:
    """Ours above the paper's in the paper's shape, differences, notes, and where each run comes from."""
    cells: dict[tuple[str, str, str], dict[int, Record]] = {}
    for record in results.records:
        where = record.provenance
        cells.setdefault((where["row"], where["group"], record.metric), {})[where["seed"]] = record
    paper = paper_tables().get(table.name)
    decimals = 3 if paper is None else paper.decimals
    whose = [] if paper is None else [""]  # a column that says whose numbers a line holds
    number = table.name.removeprefix("table")
    lines = [f"# Table {number}. {table.title}" if number.isdecimal() else f"# {table.title}", ""]

    # Values: of ours the best among rows that are compared is bold, of the paper's what is bold in print.
    for group_id, group in table.groups.items():
        digits = {metric: digits_of(metric, decimals) for metric in group.all_metrics}
        bold = {metric: best_rows(table, cells, group_id, metric) for metric in group.all_metrics}
        lines += [f"## {group.title}", ""] if group.title else []
        lines.append(_line([*table.labels, *whose, *map(head, group.all_metrics)]))
        lines.append(_rule(len(table.labels) + len(whose), len(group.all_metrics)))
        for row_id, row in table.rows.items():
            labels = row.labels
            if group_id in row.runs:
                texts = []
                for metric in group.all_metrics:
                    measured = cells.get((row_id, group_id, metric), {})
                    values = shown_values(measured)
                    text = number_text(list(values.values()), digits[metric]) if values else "missing"
                    text = text if measured else "not run"
                    texts.append(f"**{text}**" if row_id in bold[metric] else text)
                lines.append(_line([*labels, *(["ours"] if whose else []), *texts]))
                labels = [""] * len(labels)
            if paper is not None and row_id in paper.rows and (row.quoted or group_id in row.runs):
                printed, marks = paper.rows[row_id].values[group_id], paper.rows[row_id].best
                texts = []
                for metric in group.all_metrics:
                    value = printed.get(metric)
                    text = f"{value:.{digits[metric]}f}" if value is not None else "N/A" if metric in printed else ""
                    texts.append(f"**{text}**" if (group_id, metric) in marks else text)
                lines.append(_line([*labels, "quoted" if row.quoted else "paper", *texts]))
        lines.append("")

    # Differences, taken seed by seed: the spread of a difference is smaller than those of its two values.
    sections = []
    for group_id, group in table.groups.items():
        section = []
        for without, with_ in table.compare:
            ours, theirs = [], []
            for metric in group.all_metrics:
                before, after = (shown_values(cells.get((row, group_id, metric), {})) for row in (without, with_))
                numbers = [after[seed] - before[seed] for seed in sorted(before.keys() & after.keys())]
                ours.append(number_text(numbers, digits_of(metric, decimals), "+") if numbers else "")
                old, new = (paper.value(row, group_id, metric) if paper else None for row in (without, with_))
                theirs.append("" if old is None or new is None else f"{new - old:+.{decimals}f}")
            if any(ours):
                # What is subtracted from what: labels that both rows share once, then the two that differ.
                both = table.rows[without].labels, table.rows[with_].labels
                shared = [label for label, other in zip(*both, strict=True) if label == other]
                first, second = (" ".join(label for label in labels if label not in shared) for labels in both)
                pair = f"{' '.join(shared)}: {second} − {first}" if shared else f"{second} − {first}"
                section.append(_line([pair, *(["ours"] if whose else []), *ours]))
                section += [_line(["", "paper", *theirs])] if any(theirs) else []
        if section:
            columns = [
                _line(["", *whose, *map(head, group.all_metrics)]),
                _rule(1 + len(whose), len(group.all_metrics)),
            ]
            sections += [*([f"{group.title}:", ""] if group.title else []), *columns, *section, ""]
    lines += ["## Difference", "", *sections] if sections else []

    if notes := table_notes(table, results, cells):
        lines += ["## Notes", "", *(f"- {note}" for note in notes), ""]

    # Every run once, in the order of the rows, with the number of images that its first metric was measured on.
    runs = {
        record.provenance["run"]: (record, where)
        for where, measured in cells.items()
        for record in measured.values()
        if where[2] == "training" and record.value is not None
    }
    if runs:
        heads = ["run", "seed", "commit", "training images", "epochs", "steps", "test images", "hardware", "wall time"]
        lines += ["## Runs", "", _line(heads), _rule(3, 4) + " --- | ---: |"]
    for name, (record, (row_id, group_id, _)) in runs.items():
        about, seed = record.details or {}, record.provenance["seed"]
        tested = next(
            (
                cells[row_id, group_id, metric][seed].num_images
                for metric in table.groups[group_id].all_metrics
                if seed in cells.get((row_id, group_id, metric), {})
            ),
            None,
        )
        texts = [
            f"`{name}`",
            str(seed),
            str(about["commit"])[:10] + (" and changes" if about["dirty"] else ""),
            _count(about["train_images"]),
            "?" if about["epochs"] is None else f"{about['epochs']:.4g}",
            _count(about["steps"]),
            _count(tested),
            about["hardware"],
            duration(record.value or 0.0),
        ]
        lines.append(_line(texts))
    lines += [""] if runs else []
    return "\n".join(lines)


def table_notes(table: Table, results: TableResults, cells: Cells) -> list[str]:
    """What a reader must know beside the numbers."""
    notes = []
    # What makes the numbers incomparable with the paper's comes first.
    if results.scale != "paper":
        notes.append(
            f"scale={results.scale}: fewer images, epochs, channels or pixels than in the paper, as configs/scale "
            "states. Compare the differences, not the values."
        )
    if results.scale in table.scales:
        notes.append(f"This table at scale={results.scale}: {table.scales[results.scale].why}.")
    stand_ins = {
        (split_overrides(table.rows[row].runs[group])["dataset"], record.provenance["dataset"])
        for (row, group, _), measured in cells.items()
        for record in measured.values()
    }
    notes += [f"The data set {now} stands in for {was}." for was, now in sorted(stand_ins) if was != now]
    notes += results.notes
    if any(len(measured) > 1 for (_, _, metric), measured in cells.items() if metric in METRICS):
        notes.append("± is the standard deviation over seeds; a difference is taken seed by seed.")
    notes += table.notes

    # Metrics whose weights were not there, and rows without a run, by reason: one is often that of many.
    gaps: dict[str, list[str]] = {}
    idle: dict[str, list[str]] = {}
    for (row, group, metric), measured in cells.items():
        for seed, record in measured.items():
            if record.missing is None:
                continue
            if metric != "training":
                gaps.setdefault(record.missing, []).append(metric.upper())
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


def shown_values(measured: Mapping[int, Record]) -> dict[int, float]:
    """The finite values of one cell's records by seed, in the units of the tables."""
    return {
        seed: record.value * METRICS[record.metric].unit
        for seed, record in measured.items()
        if record.value is not None and math.isfinite(record.value)
    }


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
            top = (max if METRICS[metric].higher_is_better else min)(means.values())
            best |= {row for row, mean in means.items() if mean == top}
    return best


def head(metric: str) -> str:
    """A column's head with the direction of improvement."""
    return f"{METRICS[metric].label} {'↑' if METRICS[metric].higher_is_better else '↓'}"


def digits_of(metric: str, decimals: int) -> int:
    """Digits after the point: the metric's own, or else those of the table."""
    own = METRICS[metric].digits
    return decimals if own is None else own


def number_text(values: Sequence[float], digits: int, sign: str = "") -> str:
    """The mean over seeds, with the sample standard deviation where there are several."""
    text = f"{statistics.fmean(values):{sign}.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.{digits}f}"


def _line(texts: Collection[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _rule(labels: int, numbers: int) -> str:
    return "|" + " --- |" * labels + " ---: |" * numbers


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, three digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
