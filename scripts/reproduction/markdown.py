"""A table as Markdown."""

from collections.abc import Collection

from scripts.reproduction.pivot import RUN_HEADS, Cell, head, make_pivot, run_texts
from scripts.tables import Table, TableResults


def table_markdown(table: Table, results: TableResults) -> str:
    """Ours with the paper's in brackets, in the paper's shape; differences, notes, and where each run comes from."""
    pivot = make_pivot(table, results)
    lines = [f"# {pivot.title}", ""]
    lines += ["Ours, and in brackets the paper's.", ""] if pivot.printed else []

<<<<<<< HEAD
    for block in pivot.blocks:
        lines += [f"## {block.title}", ""] if block.title else []
        lines.append(_line([*table.labels, *map(head, block.metrics)]))
        lines.append(_rule(len(table.labels), len(block.metrics)))
        for row in block.lines:
            lines.append(_line([*row.labels, *map(_cell, row.cells.values())]))
            lines += [_line([*labels, *texts]) for labels, texts in block.of_real.get(row.row, [])]
=======
    # A metric that neither side has takes a line of the notes, and no column. Where the paper alone has it, as a rule
    # because its network could not be had, the column holds the paper's numbers.
    ours_have = {
        (group, metric)
        for (_, group, metric), measured in cells.items()
        if metric in METRICS and shown_values(measured)
    }
    columns = {
        id: [metric for metric in group.all_metrics if (id, metric) in ours_have or (paper and metric in group.metrics)]
        or group.metrics
        for id, group in table.groups.items()
    }

    # Values: of ours the best among rows that are compared is bold, of the paper's what is bold in print.
    for group_id, group in table.groups.items():
        bold = {metric: best_rows(table, cells, group_id, metric) for metric in columns[group_id]}
        lines += [f"## {group.title}", ""] if group.title else []
        lines.append(_line([*table.labels, *map(head, columns[group_id])]))
        lines.append(_rule(len(table.labels), len(columns[group_id])))
        of_real = real_lines(table, cells, group_id, columns[group_id], decimals)
        for row_id, row in table.rows.items():
            printed = paper.rows.get(row_id) if paper else None
            if group_id not in row.runs and not (row.quoted and printed):
                continue
            texts = []
            for metric in columns[group_id]:
                digits, measured = digits_of(metric, decimals), cells.get((row_id, group_id, metric), {})
                ours = theirs = ""
                if values := shown_values(measured):
                    ours = number_text(list(values.values()), digits)
                    ours = f"**{ours}**" if row_id in bold[metric] else ours
                elif group_id in row.runs and ((group_id, metric) in ours_have or not paper):
                    ours = "missing" if measured else "not run"
                if printed and metric in printed.values[group_id]:
                    value = printed.values[group_id][metric]
                    theirs = "N/A" if value is None else f"{value:.{digits}f}"
                    theirs = f"(**{theirs}**)" if (group_id, metric) in printed.best else f"({theirs})"
                texts.append(f"{ours} {theirs}".strip())
            lines += [_line([*row.labels, *texts]), *of_real.get(row_id, [])]
>>>>>>> segmenter
        lines.append("")

    if any(block.differences for block in pivot.blocks):
        lines += ["## Difference", ""]
    for block in pivot.blocks:
        if block.differences:
            lines += [f"{block.title}:", ""] if block.title else []
            lines += [_line(["", *map(head, block.metrics)]), _rule(1, len(block.metrics))]
            lines += [_line([*row.labels, *map(_cell, row.cells.values())]) for row in block.differences]
            lines.append("")

    if pivot.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in pivot.notes), ""]

    if pivot.runs:
        lines += ["## Runs", "", _line(RUN_HEADS), _rule(3, 4) + " --- | ---: |"]
    for record, tested in pivot.runs:
        name, *texts = run_texts(record, tested)
        lines.append(_line([f"`{name}`", *texts]))
    lines += [""] if pivot.runs else []
    return "\n".join(lines)


<<<<<<< HEAD
def _cell(cell: Cell) -> str:
    ours = f"**{cell.ours}**" if cell.best else cell.ours
    theirs = f"(**{cell.theirs}**)" if cell.theirs_best else f"({cell.theirs})" if cell.theirs else ""
    return " ".join(filter(None, [ours, theirs]))
=======
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
    notes += results.notes
    if any(len(measured) > 1 for (_, _, metric), measured in cells.items() if metric in METRICS):
        notes.append("± is the standard deviation over seeds; a difference is taken seed by seed.")
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


def shown_values(measured: Mapping[int, Record]) -> dict[int, float]:
    """The finite values of one cell's records by seed, in the units of the tables."""
    return {
        seed: record.value * METRICS[record.metric].unit
        for seed, record in measured.items()
        if record.value is not None and math.isfinite(record.value)
    }


def real_lines(table: Table, cells: Cells, group: str, metrics: Sequence[str], decimals: int) -> dict[str, list[str]]:
    """By the last row of each data set in a group: lines of floors and of ceilings, where they are known.

    Floors are what halves of its real images are apart, ceilings what a segmenter of ours says of all of them.
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
                        bounds[title, data, metric] = bound * METRICS[metric].unit
    lines: dict[str, list[str]] = {}
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
                lines.setdefault(ids[-1], []).append(_line([*shared[:-1], title, *texts]))
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
>>>>>>> segmenter


def _line(texts: Collection[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _rule(labels: int, numbers: int) -> str:
    return "|" + " --- |" * labels + " ---: |" * numbers
