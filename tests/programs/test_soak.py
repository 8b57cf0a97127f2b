"""The soak program on rounds of a second, and its slope against closed forms."""

import json
from pathlib import Path

import pytest

from ffl.errors import UserError
from scripts.soak import main, slope_per_hour

TINY = ["model.channels=4", "dataset.image_size=16", "dataset.train_images=16", "dataset.val_images=2"]
SHORT = ["dataset.test_images=4", "trainer.steps=2", "trainer.batch_size=8", "trainer.log_every=1"]


def test_slope_is_that_of_the_later_half() -> None:
    seconds = [float(second) for second in range(0, 7201, 600)]
    steep_then_flat = [900.0 + min(second, 3000) for second in seconds]
    assert slope_per_hour(seconds, steep_then_flat) == pytest.approx(0, abs=1e-6)
    assert slope_per_hour(seconds, [100 + 12 * second / 3600 for second in seconds]) == pytest.approx(12)
    assert slope_per_hour([5.0], [1.0]) is None


def test_rounds_are_trained_evaluated_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["minutes=0.0001", "out=soak.json", *TINY, *SHORT])
    result = json.loads((tmp_path / "soak.json").read_text())
    assert (result["rounds"], result["steps"]) == (1, 2)
    assert result["resident_mib"] == [result["start_mib"]] == [result["end_mib"]]
    assert 100 < result["start_mib"] < 10_000
    assert "1 rounds, 2 steps" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["soak.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["minutes=0"], "minutes=0: expected a number above 0"),
        (["minutes=long"], "minutes=long: expected a number"),
        (["60"], "60: expected key=value"),
        (["model.width=3"], "unknown key model.width"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(words)
