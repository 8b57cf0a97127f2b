"""A table as CSV, one number a line, and as LaTeX with the rules of booktabs."""

import csv
import io
import re
import statistics

from scripts.reproduction.pivot import Block, Cell, Line, Pivot, head

LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "±": "$\\pm$",
    "−": "$-$",
    "×": "$\\times$",
    "→": "$\\rightarrow$",
    "α": "$\\alpha$",
    "↑": "$\\uparrow$",
    "↓": "$\\downarrow$",
}


def table_csv(pivot: Pivot) -> str:
    """One line for each metric of each row and difference: our mean, spread and seeds, and the paper's number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = ["kind", "group", "row", *pivot.table.labels, "metric", "ours", "standard deviation", "seeds", "best"]
    writer.writerow([*heads, "paper", "best in paper"])
    for block in pivot.blocks:
        for kind, lines in (("value", block.lines), ("difference", block.differences)):
            for line in lines:
                # A difference has one label, what is subtracted from what, in the first of the columns of labels.
                labels = [*line.labels, *[""] * (len(pivot.table.labels) - len(line.labels))]
                row = f"{line.row} - {line.without}" if line.without else line.row
                for metric, cell in line.cells.items():
                    values = list(cell.values.values())
                    mean = statistics.fmean(values) if values else ""
                    spread = statistics.stdev(values) if len(values) > 1 else ""
                    numbers = [mean, spread, len(values), int(cell.best)]
                    printed = ["" if cell.printed is None else cell.printed, int(cell.theirs_best)]
                    writer.writerow([kind, block.group, row, *labels, metric, *numbers, *printed])
    return out.getvalue()


def table_latex(pivot: Pivot) -> str:
    """A tabular for the values of each block and one for its differences; ours, and in brackets the paper's."""
    parts = [f"% {pivot.title}", "% \\usepackage{booktabs}"]
    for block in pivot.blocks:
        parts.append(_tabular(pivot.table.labels, block, block.lines))
        if block.differences:
            parts.append(_tabular([""], block, block.differences))
    return "\n".join(parts) + "\n"


def _tabular(labels: list[str], block: Block, lines: list[Line]) -> str:
    heads = [escape(head(metric)) for metric in block.metrics]
    rows = [" & ".join([*map(escape, line.labels), *map(_cell, line.cells.values())]) + " \\\\" for line in lines]
    title = [f"% {block.title}"] if block.title else []
    columns = "l" * len(labels) + "r" * len(heads)
    first = " & ".join([*map(escape, labels), *heads]) + " \\\\"
    begin, end = f"\\begin{{tabular}}{{{columns}}}", "\\end{tabular}"
    return "\n".join([*title, begin, "\\toprule", first, "\\midrule", *rows, "\\bottomrule", end])


def _cell(cell: Cell) -> str:
    # A hyphen is too short for a minus sign.
    ours, theirs = (escape(re.sub(r"^-", "−", text)) for text in (cell.ours, cell.theirs))
    ours = f"\\textbf{{{ours}}}" if cell.best else ours
    theirs = f"\\textbf{{{theirs}}}" if cell.theirs_best else theirs
    return f"{ours} ({theirs})".strip() if theirs else ours


def escape(text: str) -> str:
    """Text whose letters LaTeX takes for themselves."""
    # On one line: a line break in a name would begin a row of the table, or end a comment.
    return "".join(LATEX.get(letter, letter) for letter in re.sub(r"\s+", " ", text))
