"""Sweeps in parallel and by submitit, as a user starts them; submitit's local executor stands for a Slurm cluster."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from processes import write_images

import run_config
import train
from ffl.errors import UserError
from ffl.training import program
from ffl.training.checkpoint import load_checkpoint
from ffl.training.program import compose, is_installed, run_program

ROOT = Path(__file__).resolve().parents[2]


def needs(plugin: str) -> pytest.MarkDecorator:
    reason = f"{plugin} is not installed (pip install '.[parallel,slurm]')"
    return pytest.mark.skipif(not is_installed(plugin), reason=reason)


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "train.py"), "-m", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    own = ["trainer.batch_size=8", "trainer.image_every=10000", "model.hidden_dim=16", "loss.ffl=true"]
    return [*write_images(tmp_path / "images"), *own, f"cache_dir={tmp_path / 'cache'}"]


@pytest.mark.slow
@needs("hydra_joblib_launcher")
def test_a_sweep_in_parallel_makes_a_run_per_value(tmp_path: Path, settings: list[str]) -> None:
    sweep = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "loss.alpha=0.5,1,2", "trainer.steps=2"]
    process = start(tmp_path, *settings, *sweep, "output_root=runs")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("trained 2 steps") == 3
    names = [path.name for path in (tmp_path / "runs").glob("ae-*")]
    assert len(names) == 3
    assert all(any(f"alpha{value}-" in name for name in names) for value in ("0.5", "1", "2"))


@pytest.mark.slow
@needs("hydra_submitit_launcher")
def test_a_preempted_job_of_submitit_saves_itself_and_is_put_back_in_line(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*settings, "trainer.steps=300", "trainer.checkpoint_every=1000", "resume=auto", "name=run", "seed=3"]
    process = start(tmp_path, "hydra/launcher=submitit_local", *words, "output_root=runs")
    deadline = time.monotonic() + 200
    while not (tmp_path / "runs/run/log.jsonl").exists():  # written first after some steps
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (controller,) = _children(process.pid)
    (task,) = _children(controller)
    os.kill(task, signal.SIGUSR2)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    (log,) = [path.read_text() for path in (tmp_path / "runs").glob("sweep/.submitit/*/*_0_log.out")]
    assert "Requeued job" in log
    assert "resuming runs/run at step " in log
    monkeypatch.chdir(tmp_path)
    unbroken = train.train(compose("train", [*words, "output_root=unbroken"]), words)
    ours, theirs = (load_checkpoint(path / "checkpoints/last.pt") for path in (Path("runs/run"), unbroken.path))
    assert ours["step"] == theirs["step"] == 300
    assert all(torch.equal(ours["model"][key], value) for key, value in theirs["model"].items())


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_launcher_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(program.LAUNCHERS, "joblib", ("hydra_no_such_plugin", "parallel"))
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "hydra/launcher=joblib", "seed=1,2"])
    with pytest.raises(SystemExit) as stopped:
        run_program("train", train.train, run_config.check)
    assert stopped.value.code == 2
    said = "error: hydra/launcher=joblib: the launcher is not installed; pip install '.[parallel]'"
    assert capsys.readouterr().err.strip() == said


def test_the_last_word_of_a_failed_job_is_the_programs() -> None:
    class UncompletedJobError(Exception):
        __module__ = "submitit.core.utils"

    error = UncompletedJobError("Job 1 failed\nError stream produced:\n---\nerror: trainer.batch_size=9: too many\n")
    assert str(program._of_job(error)) == "trainer.batch_size=9: too many"
    assert str(program._of_job(UncompletedJobError("Job 1\nTraceback"))) == "a job of the sweep failed: Job 1"
    assert isinstance(program._of_job(error), UserError)
