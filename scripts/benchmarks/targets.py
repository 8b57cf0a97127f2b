"""What a measurement should come to, beside what it came to."""

from typing import Any


def at_least(name: str, value: float, bound: float) -> dict[str, Any]:
    """A target that larger values meet."""
    return {"target": name, "value": value, "bound": f">= {bound:g}", "holds": value >= bound}


def at_most(name: str, value: float, bound: float) -> dict[str, Any]:
    """A target that smaller values meet."""
    return {"target": name, "value": value, "bound": f"<= {bound:g}", "holds": value <= bound}


def shown(target: dict[str, Any]) -> str:
    """One target in words, such as "speed-up 4.31 (>= 4: holds)"."""
    verdict = "holds" if target["holds"] else "missed"
    return f"{target['target']} {target['value']:.3g} ({target['bound']}: {verdict})"
