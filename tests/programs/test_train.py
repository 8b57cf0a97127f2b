"""python train.py as a user runs it: one process per command."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import state_hash

import run_config
from ffl.training.program import compose
from models import MODELS

ROOT = Path(__file__).resolve().parents[2]
# Small enough to take seconds, large enough that several checkpoints are written.
TINY = [
    "dataset.image_size=16",
    "dataset.train_images=64",
    "dataset.val_images=8",
    "dataset.test_images=16",
    "trainer.batch_size=8",
    "trainer.log_every=2",
    "trainer.image_every=10",
    "trainer.checkpoint_every=5",
]


def run(*arguments: str, cwd: Path, program: str = "train.py") -> subprocess.CompletedProcess:
    """The finished command, with its output."""
    command = [sys.executable, str(ROOT / program), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def weights_hash(path: Path) -> str:
    """Digest of a run's last checkpoint: weights and optimiser state."""
    return state_hash(torch.load(path / "checkpoints" / "last.pt", weights_only=True))


def read_log(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_everything_a_reader_needs(tmp_path: Path) -> None:
    done = run(*TINY, "trainer.steps=10", "loss.ffl=true", "name=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "outputs" / "run"
    for name in ("config.yaml", "run.json", "log.jsonl", "checkpoints/last.pt", "checkpoints/best.pt"):
        assert (path / name).is_file(), name
    assert (path / "samples" / "step_0000010.png").is_file()
    assert list((path / "tensorboard").glob("events.*"))
    assert "python evaluate.py run=outputs/run" in done.stdout
    last = read_log(path)[-1]
    assert last["step"] == 10
    assert last["images"] == 80
    assert set(last["losses"]) == set(last["gradient_share"]) == {"generator/mse", "generator/ffl"}
    assert sum(last["gradient_share"].values()) == pytest.approx(1)
    about = json.loads((path / "run.json").read_text())
    assert about["seed"] == 1112
    assert about["environment"]["torch"] == torch.__version__


def test_arms_with_and_without_ffl_start_alike_and_see_the_same_images(tmp_path: Path) -> None:
    for ffl in ("false", "true"):
        done = run(*TINY, "trainer.steps=1", "trainer.log_every=1", f"loss.ffl={ffl}", f"name=ffl_{ffl}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    without, with_ffl = (read_log(tmp_path / "outputs" / name)[0]["losses"] for name in ("ffl_false", "ffl_true"))
    assert without["generator/mse"] == with_ffl["generator/mse"]
    assert weights_hash(tmp_path / "outputs" / "ffl_false") != weights_hash(tmp_path / "outputs" / "ffl_true")


@pytest.mark.parametrize("model", ["ae", "vae"])
def test_killed_and_resumed_is_bit_for_bit_the_unbroken_run(tmp_path: Path, model: str) -> None:
    command = [*TINY, f"model={model}", "loss.ffl=true", "trainer.steps=120"]
    whole = run(*command, "name=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    want = weights_hash(tmp_path / "outputs" / "whole")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *command, "name=cut", "resume=auto"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = tmp_path / "outputs" / "cut" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = run(*command, "name=cut", "resume=auto", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resuming outputs/cut at step" in done.stdout
    assert weights_hash(tmp_path / "outputs" / "cut") == want
    steps = [line["step"] for line in read_log(tmp_path / "outputs" / "cut")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 120
    again = run(*command, "name=cut", "resume=auto", cwd=tmp_path)
    assert "finished already" in again.stdout


def test_sweep_makes_one_run_per_value(tmp_path: Path) -> None:
    done = run(*TINY, "-m", "trainer.steps=2", "loss.ffl=true", "loss.alpha=0.5,1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "outputs").glob("ae-*"))
    assert ["alpha0.5" in name for name in names] == [True, False]
    assert ["alpha1" in name for name in names] == [False, True]


def test_non_finite_loss_stops_with_step_and_term(tmp_path: Path) -> None:
    done = run(*TINY, "trainer.steps=20", "model.lr=1e38", "name=run", cwd=tmp_path)
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: loss generator/mse became ")
    assert " at step " in line


def test_help_names_groups_keys_and_examples(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    for text in ("model: ae", "vae", "photos", "alpha: 1.0", "resume", "python train.py model=vae loss.ffl=true"):
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("debug", ["smoke", "overfit"])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_debug_words_compose_for_every_model(model: str, debug: str) -> None:
    config = compose("train", [f"model={model}", f"debug={debug}"])
    run_config.check(config)
    assert config["dataset"]["name"] == "photos"
    assert config["trainer"]["steps"] <= 300
