"""Rows of results: the targets that they are held to, and how they are printed."""

from typing import Any


def at_least(name: str, value: float, bound: float) -> dict[str, Any]:
    """A target that larger values meet."""
    return {"target": name, "value": value, "bound": f">= {bound:g}", "holds": value >= bound}


def at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    """A target that smaller values meet."""
    return {"target": name, "value": value, "bound": f"<= {bound:g}", "holds": value <= bound}


def describe_target(target: dict[str, Any]) -> str:
    """A target in words, such as "speed-up 4.31 (>= 4: holds)"."""
    verdict = "holds" if target["holds"] else "missed"
    return f"{target['target']} {target['value']:.3g} ({target['bound']}: {verdict})"


def describe_row(row: dict[str, Any]) -> str:
    """A row in words: a line of its values and one for each part of it, with the targets last.

    The end of a key tells the unit: ``_s`` is seconds, ``_bytes`` is bytes.
    """
    targets = row.get("targets", [])
    in_targets = [target["value"] for target in targets]
    words, lines = [], []
    for key, value in row.items():
        if key == "targets" or value in in_targets:
            continue
        if isinstance(value, list) and isinstance(value[0], dict):
            lines += [f"    {describe_row(part)}" for part in value]
        elif isinstance(value, list):
            parts = [f"{item:.4g}" if isinstance(item, float) else str(item) for item in value]
            words.append(f"{key} {('x' if key == 'shape' else ' to ' if key.endswith('_range') else ',').join(parts)}")
        elif isinstance(value, dict):
            words.append(f"{key} {describe_row(value)}")
        elif key.endswith("_s"):
            words.append(f"{key[:-2]} {1e3 * value:.4g} ms")
        elif key.endswith("_bytes"):
            words.append(f"{key[:-6]} {value / 2**20:.4g} MiB")
        else:
            words.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    if targets:
        lines.append("    " + "  ".join(map(describe_target, targets)))
    return "\n".join(["  ".join(words), *lines])
