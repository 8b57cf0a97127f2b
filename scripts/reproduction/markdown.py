"""A table as Markdown, made from its JSON alone."""

from typing import Any

from ffl.metrics import METRICS

Json = dict[str, Any]

HEADS = {
    "miou": "mIoU",
    "accuracy": "accu",
    "accuracy_all": "accu",
    "spectrum_distance": "spectrum distance",
    "spectrum_distance_top": "its top octave",
}


def table_markdown(content: Json) -> str:
    """Ours above the paper's in the paper's shape, differences, notes, and where each run comes from."""
    lines = [f"# {_heading(content)}", ""]
    for key, group in content["groups"].items():
        if group["title"]:
            lines += [f"## {group['title']}", ""]
        lines += [*_values_table(content, key), ""]
    if any(_shown(item) for item in content["differences"]):
        lines += ["## Difference", ""]
        for key, group in content["groups"].items():
            if any(_shown(item) for item in content["differences"] if item["group"] == key):
                lines += [f"{group['title']}:", ""] if group["title"] else []
                lines += [*_difference_table(content, key), ""]
    if content["notes"]:
        lines += ["## Notes", "", *(f"- {note}" for note in content["notes"]), ""]
    if runs := _runs(content):
        lines += ["## Runs", "", *_run_table(runs), ""]
    return "\n".join(lines)


def _heading(content: Json) -> str:
    number = content["table"].removeprefix("table")
    return f"Table {number}. {content['title']}" if number.isdecimal() else str(content["title"])


def head(metric: str) -> str:
    """A column's head with the direction of improvement."""
    return f"{HEADS.get(metric, metric.upper())} {'↑' if METRICS[metric].higher_is_better else '↓'}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(labels: int, numbers: int) -> str:
    return "|" + " --- |" * labels + " ---: |" * numbers


def _values_table(content: Json, key: str) -> list[str]:
    group = content["groups"][key]
    metrics = [*group["metrics"], *group["extra"]]
    whose = [""] if content["of_paper"] else []
    lines = [
        _row([*content["labels"], *whose, *map(head, metrics)]),
        _rule(len(content["labels"]) + len(whose), len(metrics)),
    ]
    best = {metric: _best_rows(content, key, metric) for metric in metrics}
    for row in content["rows"]:
        if (cell := row["groups"].get(key)) is None:
            continue
        labels = row["labels"]
        if not row["quoted"]:
            values = [_ours(cell, metric, digits(content, metric), row["id"] in best[metric]) for metric in metrics]
            lines.append(_row([*labels, *(["ours"] if whose else []), *values]))
            labels = [""] * len(labels)
        if cell["paper"]:
            values = [_printed(cell, metric, digits(content, metric)) for metric in metrics]
            lines.append(_row([*labels, "quoted" if row["quoted"] else "paper", *values]))
    return lines


def digits(content: Json, metric: str) -> int:
    """Digits after the point: the paper's for its metrics, which print too few for spectrum distances in Table 5."""
    return 3 if metric.startswith("spectrum_distance") else int(content["decimals"])


def _ours(cell: Json, metric: str, decimals: int, best: bool) -> str:
    value = cell["values"].get(metric)
    if value is None:
        return "not run"
    if "missing" in value:
        return "missing"
    text = number(value, decimals)
    return f"**{text}**" if best else text


def number(value: Json, decimals: int, sign: str = "") -> str:
    """A mean with its spread, where there is one."""
    text = f"{value['mean']:{sign}.{decimals}f}"
    return text if value["spread"] is None else f"{text} ± {value['spread']:.{decimals}f}"


def _printed(cell: Json, metric: str, decimals: int) -> str:
    if metric not in cell["paper"]:
        return ""
    value = cell["paper"][metric]
    if value is None:
        return "N/A"
    return f"**{value:.{decimals}f}**" if metric in cell["paper_best"] else f"{value:.{decimals}f}"


def _best_rows(content: Json, key: str, metric: str) -> set[str]:
    """Of each block of rows that are compared with each other, those with the best value of ours."""
    means = {
        row["id"]: row["groups"][key]["values"].get(metric, {}).get("mean")
        for row in content["rows"]
        if key in row["groups"]
    }
    choose = max if METRICS[metric].higher_is_better else min
    best: set[str] = set()
    for block in _blocks(content["compare"]):
        present = {row: means[row] for row in block if means.get(row) is not None}
        if len(present) > 1:
            top = choose(present.values())
            best |= {row for row, mean in present.items() if mean == top}
    return best


def _blocks(pairs: list[list[str]]) -> list[set[str]]:
    """Rows joined by pairs."""
    blocks: list[set[str]] = []
    for pair in pairs:
        joined = set(pair).union(*(block for block in blocks if block & set(pair)))
        blocks = [*(block for block in blocks if not block & set(pair)), joined]
    return blocks


def _shown(item: Json) -> bool:
    return item["ours"] is not None


def _difference_table(content: Json, key: str) -> list[str]:
    group = content["groups"][key]
    metrics = [*group["metrics"], *group["extra"]]
    whose = [""] if content["of_paper"] else []
    lines = [_row(["", *whose, *map(head, metrics)]), _rule(1 + len(whose), len(metrics))]
    labels = {row["id"]: row["labels"] for row in content["rows"]}
    for without, with_ in content["compare"]:
        items = {
            item["metric"]: item
            for item in content["differences"]
            if (item["without"], item["with"], item["group"]) == (without, with_, key)
        }
        if not any(map(_shown, items.values())):
            continue
        ours = [
            number(item["ours"], digits(content, metric), "+") if _shown(item) else "" for metric, item in items.items()
        ]
        lines.append(_row([_pair(labels[without], labels[with_]), *(["ours"] if whose else []), *ours]))
        printed = [item["paper"] for item in items.values()]
        if any(value is not None for value in printed):
            cells = ["" if value is None else f"{value:+.{content['decimals']}f}" for value in printed]
            lines.append(_row(["", "paper", *cells]))
    return lines


def _pair(without: list[str], with_: list[str]) -> str:
    """What is subtracted from what: labels that both share once, then the two that differ."""
    shared = [a for a, b in zip(without, with_, strict=True) if a == b]
    first, second = (" ".join(label for label in labels if label not in shared) for labels in (without, with_))
    return f"{' '.join(shared)}: {second} − {first}" if shared else f"{second} − {first}"


def _runs(content: Json) -> list[Json]:
    """Every run once, in the order of the rows."""
    runs = [run for row in content["rows"] for group in row["groups"].values() for run in group["runs"]]
    return list({run["run"]: run for run in runs}.values())


def _run_table(runs: list[Json]) -> list[str]:
    heads = ["run", "seed", "commit", "training images", "epochs", "steps", "test images", "hardware", "wall time"]
    lines = [_row(heads), _rule(3, 4) + " --- | ---: |"]
    for run in runs:
        train = run["train"]
        cells = [
            f"`{run['run']}`",
            str(run["seed"]),
            str(train["commit"])[:10] + (" and changes" if train["dirty"] else ""),
            _count(train["train_images"]),
            "?" if train["epochs"] is None else f"{train['epochs']:.4g}",
            _count(train["steps"]),
            _count(run["records"][0]["num_images"]),
            train["hardware"],
            duration(train["wall_s"]),
        ]
        lines.append(_row(cells))
    return lines


def _count(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, three digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
