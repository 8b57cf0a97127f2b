"""A table as Markdown."""

from collections.abc import Collection

from scripts.reproduction.pivot import RUN_HEADS, Cell, head, make_pivot, run_texts
from scripts.tables import Table, TableResults


def table_markdown(table: Table, results: TableResults) -> str:
    """Ours with the paper's in brackets, in the paper's shape; differences, notes, and where each run comes from."""
    pivot = make_pivot(table, results)
    lines = [f"# {pivot.title}", ""]
    lines += ["Ours, and in brackets the paper's.", ""] if pivot.printed else []

    for block in pivot.blocks:
        lines += [f"## {block.title}", ""] if block.title else []
        lines.append(_line([*table.labels, *map(head, block.metrics)]))
        lines.append(_rule(len(table.labels), len(block.metrics)))
        for row in block.lines:
            lines.append(_line([*row.labels, *map(_cell, row.cells.values())]))
            lines += [_line([*labels, *texts]) for labels, texts in block.of_real.get(row.row, [])]
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


def _cell(cell: Cell) -> str:
    ours = f"**{cell.ours}**" if cell.best else cell.ours
    theirs = f"(**{cell.theirs}**)" if cell.theirs_best else f"({cell.theirs})" if cell.theirs else ""
    return " ".join(filter(None, [ours, theirs]))


def _line(texts: Collection[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _rule(labels: int, numbers: int) -> str:
    return "|" + " --- |" * labels + " ---: |" * numbers
