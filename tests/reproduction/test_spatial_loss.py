"""The spatial loss at the end of training, which a table's record of a run keeps."""

import json
from pathlib import Path

import pytest
import yaml

from ffl.training.run_directory import RunDirectory
from scripts.reproduction.records import final_spatial_loss


def _run(folder: Path, steps: int | None, weight: float) -> RunDirectory:
    """A run of 4 epochs with 30 steps each, of which three lines are logged."""
    config = {"trainer": {"epochs": 4, "steps": steps}, "model": {"mse_weight": weight}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [{"step": step, "losses": {"generator/mse": value}} for step, value in ((50, 9.0), (100, 4.0), (120, 1.0))]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RunDirectory.open(folder)


def test_final_spatial_loss_is_the_mean_over_the_last_epoch(tmp_path: Path) -> None:
    # The last epoch is steps 91 to 120: 10 of them are in the mean at step 100, 20 in that at step 120.
    run = _run(tmp_path, steps=None, weight=2.0)
    assert final_spatial_loss(run) == pytest.approx((10 * 4.0 + 20 * 1.0) / 30 / 2.0)
    # A run cut by trainer.steps: a twentieth of its 120 steps.
    run = _run(tmp_path, steps=120, weight=1.0)
    assert final_spatial_loss(run) == pytest.approx(1.0)
    run.log.write_text('{"step": 1, "losses": {"generator/l1": 1.0}}\n')
    assert final_spatial_loss(run) is None
