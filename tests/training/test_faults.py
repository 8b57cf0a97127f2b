"""What a run survives, tried by really doing it: kills, signals, full disks, broken files, NaN."""

import errno
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import Program, ranks, train_program, wait_until, write_images
from tiny_runs import state_hash

import train
from ffl.errors import Preempted, UserError
from ffl.training import checkpoint
from ffl.training.checkpoint import load_checkpoint
from ffl.training.config import TrainerConfig
from ffl.training.exits import EXIT_PREEMPTED
from ffl.training.loader import Loader
from ffl.training.objective import Objective
from ffl.training.preemption import StopSignals
from ffl.training.program import compose
from ffl.training.run_directory import RunDirectory, Status
from ffl.training.trainer import Trainer
from models.ae import VanillaAutoencoder

STEPS = 40


def tensors_hash(path: Path) -> str:
    """Digest of all that a checkpoint holds."""
    return state_hash(load_checkpoint(path))


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a short run whose cache is there."""
    folder = tmp_path_factory.mktemp("data")
    own = [f"cache_dir={folder / 'cache'}", f"trainer.steps={STEPS}", "trainer.batch_size=8"]
    # A loss that joins after the first checkpoints, with a weight that sets itself: their state has to go on too.
    own += ["loss.ffl=true", "loss.share=0.5", "loss.share_every=3", "loss.start_step=5"]
    often = ["trainer.checkpoint_every=2", "trainer.log_every=5", "trainer.image_every=1000", "model.hidden_dim=64"]
    return [*write_images(folder / "images"), *own, *often, "resume=auto", "name=run"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, command: list[str]) -> str:
    """What the last checkpoint of the run holds where nothing happens to it."""
    folder = tmp_path_factory.mktemp("unbroken")
    program = Program(train_program, command, cwd=folder)
    assert program.wait(300) == 0, program.err
    return tensors_hash(folder / "outputs/run/checkpoints/last.pt")


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, command: list[str], unbroken: str
) -> None:
    """Most of the time goes into checkpoints here, so that most kills meet one that is being written."""
    last = tmp_path / "outputs/run/checkpoints/last.pt"
    dice, kills, steps = random.Random(7), 0, [0]
    while not steps or steps[-1] < STEPS:
        program = Program(train_program, command, cwd=tmp_path)
        before = last.stat().st_mtime_ns if last.exists() else 0
        if kills < 10:
            wait_until(lambda before=before: last.exists() and last.stat().st_mtime_ns != before, program)
            time.sleep(dice.random() * 0.05)
            program.send(signal.SIGKILL)
            kills += program.wait() == -signal.SIGKILL
        else:
            assert program.wait() == 0, program.err
        steps.append(load_checkpoint(last)["step"])  # whole, whatever it was killed in
        assert steps[-1] >= steps[-2]
        status = RunDirectory(tmp_path / "outputs/run").status()
        assert status is None or steps[-1] - 2 <= status.step <= steps[-1]  # a kill may come between the two files
    assert kills >= 8
    assert status is not None
    assert (status.step, status.finished) == (STEPS, True)
    assert tensors_hash(last) == unbroken
    assert not list(last.parent.glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_preempted_run_saves_itself_and_goes_on(
    tmp_path: Path, command: list[str], unbroken: str, number: signal.Signals
) -> None:
    rarely = [*command, "trainer.checkpoint_every=1000"]
    program = Program(train_program, rarely, cwd=tmp_path)
    wait_until((tmp_path / "outputs/run/log.jsonl").exists, program)  # written first after five steps
    assert program.send(number)
    assert program.wait() == EXIT_PREEMPTED
    step = load_checkpoint(tmp_path / "outputs/run/checkpoints/last.pt")["step"]
    assert 3 <= step < STEPS
    line = program.err.strip().splitlines()[-1]
    assert line.startswith(f"stopped by {number.name} at step {step} of {STEPS}, which outputs/run/checkpoints/last.pt")
    assert line.endswith("the same command with resume=auto continues")
    assert not (tmp_path / "outputs/run/checkpoints/best.pt").exists()
    again = Program(train_program, rarely, cwd=tmp_path)
    assert again.wait() == 0, again.err
    assert f"resuming outputs/run at step {step} of {STEPS}" in again.out
    assert tensors_hash(tmp_path / "outputs/run/checkpoints/last.pt") == unbroken


def test_signals_are_forwarded_to_the_handlers_that_they_had_before() -> None:
    """A launcher such as submitit puts the job back in line when its signal comes, and ignores SIGTERM."""
    seen: list[int] = []
    former = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGUSR2)
            assert seen == []  # not yet: nothing is saved
            asked = signals.asked()
            assert asked == [signal.SIGUSR2]
            signals.forward(asked, "unused")
            assert seen == [signal.SIGUSR2]
            assert signals.asked() == []
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Preempted, match="saved"):
                signals.forward(signals.asked(), "saved")
        signal.raise_signal(signal.SIGUSR2)
        assert seen == [signal.SIGUSR2] * 2
    finally:
        signal.signal(signal.SIGUSR2, former)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def _finished(tmp_path: Path, command: list[str]) -> RunDirectory:
    """A run of half the steps, in this process."""
    words = [*command, f"output_root={tmp_path}", f"trainer.steps={STEPS // 2}"]
    return train.train(compose("train", words), words)


def test_a_run_killed_between_its_last_checkpoint_and_status_says_so_when_resumed(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = RunDirectory.write_status

    def killed(run: RunDirectory, status: Status) -> None:
        if status.finished:
            raise KeyboardInterrupt
        write(run, status)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "write_status", killed)
        with pytest.raises(KeyboardInterrupt):
            _finished(tmp_path, command)
    run = RunDirectory(tmp_path / "run")
    before = run.status()
    assert before is not None
    assert (load_checkpoint(run.last)["step"], before.step, before.finished) == (STEPS // 2, STEPS // 2 - 2, False)
    _finished(tmp_path, command)
    assert "is finished already" in capsys.readouterr().out
    after = run.status()
    assert after == Status(STEPS // 2, STEPS // 2, True, STEPS // 2 * 8, before.seconds, shards=1)


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_run_counts_the_time_of_all_its_sessions(tmp_path: Path, command: list[str], lost: bool) -> None:
    """Also that of sessions whose status is lost, which the log still tells."""
    run = _finished(tmp_path, command)
    first = run.status()
    assert first is not None
    run.last.unlink()  # so that it goes on from the checkpoint before
    run.rewind_log(STEPS // 2 - 2)
    earlier = run.logged_seconds() if lost else first.seconds
    if lost:
        run.status_file.write_text("{")
    _finished(tmp_path, command)
    second = run.status()
    assert second is not None
    assert second.seconds > earlier > 0


def test_processes_that_share_a_run_write_one_status(tmp_path: Path, command: list[str]) -> None:
    words = [*command, "trainer.steps=2", "trainer.accumulate=2"]
    programs = ranks(train_program, words, cwd=tmp_path)
    assert [program.wait() for program in programs] == [0, 0], programs[0].err
    status = RunDirectory(tmp_path / "outputs/run").status()
    assert status is not None
    assert status == Status(2, 2, True, 16, status.seconds, shards=4)
    (alone,) = ranks(train_program, [*command, "trainer.steps=2"], cwd=tmp_path, world_size=1)
    assert alone.wait() == 0, alone.err
    assert RunDirectory(tmp_path / "outputs/run").status() == status  # of the checkpoint, not of who looked at it


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    tmp_path: Path, command: list[str], how: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = _finished(tmp_path, command)
    want = tensors_hash(run.last)
    content = bytearray(run.last.read_bytes())
    content[len(content) // 2] ^= 16
    run.last.write_bytes(content if how == "flipped" else content[:-1000])
    assert _finished(tmp_path, command).path == run.path
    assert "last.pt: " in caplog.text
    assert f"going on from previous.pt, step {STEPS // 2 - 2}" in caplog.text
    assert f"resuming {run.path} at step {STEPS // 2 - 2}" in capsys.readouterr().out
    assert tensors_hash(run.last) == want


def test_a_full_disk_loses_nothing_that_was_saved(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third checkpoint does not fit; half of it was written already."""
    save, calls = torch.save, []

    def full(content: dict, file: object) -> None:
        calls.append(content["step"])
        if content["step"] == 6:
            file.write(b"half of it")  # type: ignore[attr-defined]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file)

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(
        UserError, match=r"run: cannot be written \(No space left on device\); what was saved before is"
    ):
        _finished(tmp_path, command)
    assert calls[-1] == 6
    folder = tmp_path / "run/checkpoints"
    assert {path.name for path in folder.iterdir()} == {"last.pt", "previous.pt", "best.pt"}
    assert (load_checkpoint(folder / "last.pt")["step"], load_checkpoint(folder / "previous.pt")["step"]) == (4, 2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs the rights of root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_really_fills_up(small_disk: Path, tmp_path: Path, command: list[str], unbroken: str) -> None:
    words = [*command, f"output_root={small_disk}"]
    filler = small_disk / "filler"
    program = Program(train_program, words, cwd=tmp_path)
    wait_until((small_disk / "run/checkpoints/previous.pt").exists, program)
    while program.running():
        try:
            with filler.open("ab") as file:
                file.write(bytes(1 << 14))
        except OSError:
            time.sleep(0.01)
    assert program.wait() == 2, program.err
    line = program.err.strip().splitlines()[-1]
    assert line.startswith(f"error: {small_disk}/run: cannot be written (No space left on device); what was saved")
    assert "Traceback" not in program.err
    saved = load_checkpoint(small_disk / "run/checkpoints/last.pt")["step"]
    assert 0 < saved < STEPS
    filler.unlink()
    again = Program(train_program, words, cwd=tmp_path)
    assert again.wait() == 0, again.err
    assert tensors_hash(small_disk / "run/checkpoints/last.pt") == unbroken


class _Faces:
    """Random images; from the ``broken`` one on they hold a NaN."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken
        self.served = 0

    def __len__(self) -> int:
        return 16

    def batch(self, indices: np.ndarray, seed: int | None) -> dict:
        images = torch.from_numpy(np.random.default_rng(0).random((len(indices), 3, 8, 8), dtype=np.float32))
        if seed is not None:
            self.served += 1
            if self.broken is not None and self.served >= self.broken:
                images[0, 0, 0, 0] = torch.nan
        return {"image": images, "index": torch.from_numpy(indices)}


def test_nan_in_the_images_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "run", {"seed": 0})
    config = TrainerConfig(epochs=1, batch_size=4, steps=20, log_every=10, checkpoint_every=5, image_every=100)
    model = VanillaAutoencoder((8, 8), Objective(ffl=True), hidden_dim=8)
    trainer = Trainer(model, Loader(_Faces(broken=7), 4, 0), None, config, seed=0)
    with pytest.raises(UserError, match=r"loss generator/mse became nan at step 7; the last checkpoint before it is"):
        trainer.fit(run)
    state = load_checkpoint(run.last)
    assert state["step"] == 5
    assert all(weight.isfinite().all() for weight in state["model"].values())


def test_the_library_leaves_signals_as_they_were(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "run", {"seed": 0})
    config = TrainerConfig(epochs=1, batch_size=4, steps=2)
    Trainer(VanillaAutoencoder((8, 8), Objective(), hidden_dim=8), Loader(_Faces(), 4, 0), None, config, 0).fit(run)
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


OLD_CONFIG = """\
model: {name: ae, hidden_dim: 16, num_layers: 2, mse_weight: 1.0, lr: 0.001, betas: [0.9, 0.999]}
loss: {ffl: true, weight: 100.0, alpha: 1.0, patch_factor: 1, ave_spectrum: false, log_matrix: false,
  batch_matrix: false, transform: dft, ablation: none, perceptual: 0.0, spectral_regularization: 0.0,
  spectral_form: paper}
trainer: {epochs: 20, steps: 6, batch_size: 8, accumulate: 1, lr_decay_epochs: 0, device: auto, threads: null,
  log_every: 50, image_every: 1000, checkpoint_every: 3, val_images: 500}
recipe: {epochs: {default: 20}, gone: 1}
seed: 1112
data_root: data
output_root: outputs
name: null
resume: null
"""


def test_a_clock_that_jumps_changes_neither_result_nor_times(
    tmp_path: Path, command: list[str], unbroken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is set while a run is at work, years forth and back."""
    now, dice = time.time(), random.Random(5)
    monkeypatch.setattr(time, "time", lambda: now + dice.choice([-1, 1]) * dice.random() * 3e8)
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    run = train.train(compose("train", command), command)
    assert tensors_hash(run.last) == unbroken
    status = run.status()
    assert status is not None
    assert 0 < status.seconds < time.monotonic() - began
    assert all(line["images_per_second"] > 0 for line in run.log_lines())


def test_a_run_of_the_first_version_goes_on(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its config has ``trainer.device`` and none of the keys that came later; its checkpoint no scalers, no shards."""
    words = [*command[:4], "model.hidden_dim=16", "loss.ffl=true", "trainer.steps=6"]
    words += ["trainer.batch_size=8", "trainer.checkpoint_every=3", "name=old", f"output_root={tmp_path}"]
    run = train.train(compose("train", words), words)
    want = tensors_hash(run.last)
    dataset = run.config()["dataset"]
    section = "\n".join(f"  {key}: {value!r}" for key, value in dataset.items() if value is not None)
    (run.path / "config.yaml").write_text(f"dataset:\n{section}\ncache_dir: {tmp_path}\n{OLD_CONFIG}")
    state = torch.load(run.previous, weights_only=True)
    del state["scalers"], state["num_shards"]
    torch.save(state, run.last)
    run.previous.unlink()
    capsys.readouterr()
    again = train.train(compose("train", [*words, "resume=auto"]), words)
    assert again.path == run.path
    assert "at step 3 of 6" in capsys.readouterr().out
    assert tensors_hash(run.last) == want
    with pytest.raises(UserError, match=r"another configuration: trainer.precision: fp32 -> bf16"):
        train.train(compose("train", [*words, "resume=auto", "trainer.precision=bf16"]), words)


def test_copies_of_a_run_are_whole(tmp_path: Path, command: list[str]) -> None:
    """Hard links between checkpoints are an economy, not a dependence: a copy without them resumes."""
    run = _finished(tmp_path / "a", command)
    shutil.copytree(run.path, tmp_path / "b/run")
    assert tensors_hash(tmp_path / "b/run/checkpoints/last.pt") == tensors_hash(run.last)
    run.last.unlink()
    assert load_checkpoint(run.previous)["step"] == STEPS // 2 - 2
