"""The benchmark runs, says where it ran, and refuses what it does not know."""

import json
from pathlib import Path

import pytest

from ffl.errors import UserError
from scripts.benchmark import main


def test_overhead_of_a_step_is_measured_and_recorded(tmp_path: Path) -> None:
    main(["overhead", "models=ae", "rounds=1", "threads=1", "device=cpu", f"json={tmp_path / 'out.json'}"])
    content = json.loads((tmp_path / "out.json").read_text())
    (row,) = content["overhead"]
    assert row["model"] == "ae"
    assert 0 < row["without_s"] < 60
    assert row["ratio"] == pytest.approx(row["with_s"] / row["without_s"])
    assert content["environment"]["cpu"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "speed: no such measurement; expected some of"),
        (["overhead", "model=ae"], "unknown key model; allowed: rounds"),
        (["overhead", "models=resnet"], "no resnet; expected some of ae"),
        (["overhead", "rounds=many"], "expected whole numbers"),
        (["overhead", "rounds=0"], "expected whole numbers from 1 up"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments)
