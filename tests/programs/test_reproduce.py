"""The README's commands, and tables from nothing to their files."""

import contextlib
import fcntl
import gc
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reproduction.run_directories import finished_run

import scripts.reproduce
import scripts.tables
import train
from ffl.errors import UserError
from ffl.training.command import read_words
from ffl.training.logger import Logger
from ffl.training.program import compose
from ffl.training.record import Record
from ffl.training.run_directory import RunDirectory
from scripts.reproduction.calls import time_calls
from scripts.reproduction.pivot import head, make_pivot
from scripts.reproduction.records import state_text
from scripts.reproduction.work import Job, do, do_all, in_turn
from scripts.tables import TableResults, by_seed, make_run, parse_table, read_results

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PHOTOS = ["dataset.image_size=16", "dataset.train_images=32", "dataset.val_images=8", "dataset.test_images=12"]
TINY = [*PHOTOS, "trainer.batch_size=8", "trainer.steps=3"]
COMMAND = ["table=photos", *TINY]
RUN = "imagesize16-testimages12-trainimages32-valimages8-batchsize8-steps3"
RUN_PERCEPTUAL = RUN.replace("-batch", "-perceptual1.0-batch")
OUT = Path("outputs/results/photos")


def reproduce(words: list[str]) -> None:
    """The program with the words of a command line."""
    positional, named = read_words(scripts.reproduce.reproduce, words)
    assert not positional
    scripts.reproduce.reproduce(**named)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table in a folder of its own, without pretrained weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "no_weights"))


@pytest.fixture
def _no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.reproduce, "draw_comparison", lambda *arguments: None)


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the program would do, instead of it being done: the jobs, and in what way."""
    given: list[Any] = []

    def keep(jobs: list[Job], execute: Any) -> dict[str, str]:
        given.extend([jobs, execute])
        raise UserError("kept")

    monkeypatch.setattr(scripts.reproduce, "do_all", keep)
    return given


def _jobs(wanted: list[Any], *words: str) -> list[Job]:
    wanted.clear()
    with pytest.raises(UserError, match="kept"):
        reproduce(list(words))
    jobs: list[Job] = wanted[0]
    return jobs


def _cell(row: str, metric: str, path: Path = OUT / "table.json", group: str = "reconstruction") -> dict[int, Record]:
    return by_seed(read_results(path).records, row, group, metric)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert targets == {"reproduce", "test"}
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)


def test_table_is_made_once_and_read_from_its_runs_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce(COMMAND)
    markdown, records = (OUT / "table.md").read_text(), (OUT / "table.json").read_text()
    for row in ("photos_without", "photos_with"):
        assert _cell(row, "fid")[1112].value is None
        for metric in ("psnr", "lfd", "spectrum_distance"):
            assert f"{_cell(row, metric)[1112].value:.3f}" in markdown
        about = _cell(row, "training")[1112].details
        assert (about["steps"], about["images"], about["epochs"]) == (3, 24, 0.75)
        assert about["config"]["loss"]["ffl"] == (row == "photos_with")
        assert len(_cell(row, "bands")[1112].details["error"]) == 5  # the mean, three octaves and the corners
    first, second = (_cell(row, "psnr")[1112].value for row in ("photos_without", "photos_with"))
    assert f"| photos: w/ − w/o | {second - first:+.3f} |" in markdown
    assert "scripts/download_weights.py inception_fid" in markdown
    assert (OUT / "comparison.png").stat().st_size > 10_000
    capsys.readouterr()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    reproduce(COMMAND)
    printed = capsys.readouterr().out
    assert "trained" not in printed
    assert "evaluating" not in printed
    again = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    assert {path for path in again if again[path] != made.get(path)} == {
        tmp_path / OUT / name for name in ("table.json", "table.md", "comparison.png", "comparison.pdf")
    }
    assert (OUT / "table.json").read_text() == records


@pytest.mark.usefixtures("_no_figure")
def test_a_table_may_tell_what_a_call_of_its_losses_costs() -> None:
    base = ["model=ae", "dataset=photos"]
    table = parse_table(
        "prices",
        {
            "title": "Prices",
            "labels": ["Loss"],
            "groups": {"ae": {"title": "", "task": "reconstruction", "metrics": ["psnr"]}},
            "rows": {
                "baseline": {"labels": ["baseline"], "runs": {"ae": [*base, "loss.ffl=false"]}},
                "ffl": {"labels": ["FFL"], "runs": {"ae": [*base, "loss.ffl=true", "loss.share=0.5"]}},
                "perceptual": {"labels": ["PL"], "runs": {"ae": [*base, "loss.perceptual=1.0"]}},
            },
            "compare": [["baseline", "ffl"]],
            "time_calls": True,
        },
    )
    # A model without further losses has no call, and the network of the last row is not here.
    (call,) = time_calls(table, "paper", [*TINY, "trainer.threads=1"])
    assert (call.provenance["row"], call.protocol) == ("ffl", {"shape": [8, 3, 16, 16], "threads": 1, "rounds": 5})
    assert call.value is not None
    assert 0 < call.value < 1
    psnr = replace(call, metric="psnr", value=20.0)
    (block,) = make_pivot(table, TableResults("prices", "paper", [], [psnr, call])).blocks
    assert block.metrics == ["psnr", "call"]
    assert head("call") == "ms a call ↓"
    assert block.lines[0].cells["call"].ours == ""  # the baseline has no loss to time
    assert block.lines[1].cells["call"].ours == f"{1e3 * call.value:.1f}"


def test_a_run_that_train_made_is_taken_and_the_other_row_trained(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["model=ae", "dataset=photos", *TINY]
    directory = train.train(compose("train", overrides), overrides).path
    capsys.readouterr()
    reproduce([*COMMAND, "out=results"])
    assert capsys.readouterr().out.count("trained 3 steps") == 1
    training = _cell("photos_without", "training", Path("results/photos/table.json"))[1112]
    assert training.provenance["run"] == directory.name
    assert not OUT.exists()


@pytest.mark.usefixtures("_no_figure")
def test_only_the_rows_asked_for_are_made_and_the_others_shown_as_far_as_they_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reproduce([*COMMAND, "rows=photos_with"])
    assert capsys.readouterr().out.count("trained 3 steps") == 1
    assert _cell("photos_without", "training")[1112].missing == "not there yet"
    assert "Not run: photos w/o: not there yet" in (OUT / "table.md").read_text()
    reproduce([*COMMAND, "rows=photos_without", "seeds=2"])
    # Of the row that was not asked for, the run that is there, and a second one that is not.
    seeds = {row: list(_cell(row, "psnr")) for row in ("photos_without", "photos_with")}
    assert seeds == {"photos_without": [1112, 1113], "photos_with": [1112]}
    assert "Not run: photos w/, seed 1113: not there yet" in (OUT / "table.md").read_text()
    assert sorted(path.name for path in Path("outputs").glob("ae-*")) == sorted(
        [f"ae-photos-{RUN}", f"ae-photos-{RUN.replace('-batch', '-seed1113-batch')}", f"ae-photos-ffl-{RUN}"]
    )


@pytest.mark.usefixtures("_no_figure")
def test_a_run_that_was_cut_is_resumed_and_ends_as_an_unbroken_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["table=photos", "rows=photos_with", *PHOTOS, "trainer.batch_size=8", "trainer.steps=6"]
    often = "trainer.checkpoint_every=2"
    reproduce([*command, often, "output_root=whole"])
    with monkeypatch.context() as patch:
        step = Logger.step

        def stop_at_five(self: Logger, number: int, terms: dict[str, torch.Tensor]) -> None:
            if number == 5:
                raise KeyboardInterrupt
            step(self, number, terms)

        patch.setattr(Logger, "step", stop_at_five)
        with contextlib.suppress(KeyboardInterrupt):
            reproduce([*command, often])
    gc.collect()  # the interrupted run goes, and its lock with it
    run = make_run(["model=ae", "dataset=photos", "loss.ffl=true", *command[2:]])
    assert state_text(run.find()) == "cut at step 4 of 6"
    capsys.readouterr()
    reproduce([*command, often])
    assert "at step 4 of 6" in capsys.readouterr().out
    assert state_text(run.find()) == "finished, 6 steps"
    weights = [torch.load(path, weights_only=True)["model"] for path in Path().glob("*/ae-*/checkpoints/last.pt")]
    assert len(weights) == 2
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@contextlib.contextmanager
def _held(path: Path) -> Iterator[threading.Event]:
    """Hold a lock as another process does; it is let go when the event is set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    release, file = threading.Event(), path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)

    def let_go() -> None:
        release.wait(60)
        file.close()

    thread = threading.Thread(target=let_go)
    thread.start()
    try:
        yield release
    finally:
        release.set()
        thread.join()


@pytest.mark.parametrize("lock", ["outputs/.locks/{}", "outputs/{}/.lock"], ids=["reproduce", "train"])
def test_a_run_that_another_process_has_is_left_for_last(lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (
        Job(make_run(["model=ae", "dataset=photos", ffl, *TINY]), {"reconstruction": ["psnr"]})
        for ffl in ("loss.ffl=false", "loss.ffl=true")
    )
    if "locks" not in lock:  # a train.py by itself has made the directory, and no checkpoint yet
        RunDirectory.create(Path("outputs"), first.run.name, first.run.config)
    with _held(Path(lock.format(first.run.name))) as release:
        assert do(first, wait=False).busy

        def released_when_the_second_is_done() -> None:
            while not state_text(second.run.find()).startswith("finished"):
                time.sleep(0.05)
            release.set()

        watcher = threading.Thread(target=released_when_the_second_is_done)
        watcher.start()
        assert do_all([first, second], in_turn) == {}
        watcher.join()
    printed = capsys.readouterr().out
    assert f"{first.run.name}: another process is making it; coming back to it" in printed
    assert printed.index(f"{second.run.name}: done") < printed.index(f"{first.run.name}: done")
    assert state_text(first.run.find()) == "finished, 3 steps"


def test_two_invocations_side_by_side_share_the_work(tmp_path: Path) -> None:
    # Long enough that each finds the other at work, and with all that they write in one place.
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), "table=photos", *PHOTOS]
    command += ["trainer.batch_size=8", "trainer.steps=150"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("trained 150 steps") for text in printed) == 2
    runs = list((tmp_path / "outputs").glob("ae-*"))
    assert len(runs) == 2
    for run in runs:
        assert [line["step"] for line in RunDirectory(run).log_lines()] == [50, 100, 150]
        # Nine metrics, since 16 pixels are too few for ST-LPIPS, and the bands.
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 10
    tables = [text[text.index("# Vanilla") : text.index("\nwritten to")] for text in printed]
    assert tables[0] == tables[1]
    assert "not run" not in tables[0]


@pytest.mark.usefixtures("_no_figure")
def test_jobs_run_side_by_side_in_processes_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    reproduce([*COMMAND, "jobs=2"])
    printed = capsys.readouterr().out
    assert printed.count(": done") == 2
    assert "trained" not in printed
    logs = [path.read_text() for path in Path("outputs/.jobs").glob("*.log")]
    assert sum(text.count("trained 3 steps") for text in logs) == 2
    assert all(_cell(row, "psnr")[1112].value for row in ("photos_without", "photos_with"))


@pytest.mark.usefixtures("_no_figure")
def test_jobs_go_through_submitit(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (the optional extra slurm)")
    reproduce([*COMMAND, "rows=photos_with", "launcher=local", "slurm.timeout_min=5"])
    printed = capsys.readouterr().out
    assert "submitted 1 jobs" in printed
    assert f"ae-photos-ffl-{RUN}: done" in printed
    assert any("trained 3 steps" in path.read_text() for path in Path("outputs/.jobs").glob("*.out"))


def test_a_cluster_without_submitit_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="launcher=slurm: needs submitit; run: pip install submitit"):
        reproduce([*COMMAND, "launcher=slurm"])


def test_a_cluster_that_is_not_there_or_has_no_such_parameter_is_named() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (the optional extra slurm)")
    with pytest.raises(UserError, match=r"launcher=local: .*bogus"):
        reproduce([*COMMAND, "launcher=local", "slurm.bogus=1"])
    if shutil.which("srun") is None:
        with pytest.raises(UserError, match=r"launcher=slurm: .*srun"):
            reproduce([*COMMAND, "launcher=slurm"])


def test_it_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"reproduce\.py is one process"):
        reproduce(COMMAND)


def test_results_that_cannot_be_written_are_one_line() -> None:
    Path("file").touch()
    with pytest.raises(UserError, match=r"file/.locks: cannot be written \(.*\); set output_root=DIR"):
        reproduce([*COMMAND, "rows=photos_with", "output_root=file"])


@pytest.fixture
def _mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of a data set that is there, one that is not, a model that needs weights, and a quoted row."""
    runs = {
        "here": ["model=ae", "dataset=photos", "loss.ffl=false", *PHOTOS],
        "no_data": ["model=ae", "dataset=celeba", "loss.ffl=false"],
        "no_weights": ["model=ae", "dataset=photos", "loss.perceptual=1.0", *PHOTOS],
    }
    rows = {name: {"labels": [name], "runs": {"g": overrides}} for name, overrides in runs.items()}
    content = {
        "title": "Mixed",
        "labels": ["Row"],
        "groups": {"g": {"title": "", "task": "reconstruction", "metrics": ["psnr", "lpips"]}},
        "rows": {**rows, "quoted": {"labels": ["quoted"], "quoted": True}},
        "compare": [["here", "no_data"]],
    }
    table = parse_table("mixed", content)
    monkeypatch.setattr(scripts.reproduce, "read_table", lambda name: table)


OPTIONS = ["trainer.batch_size=8", "trainer.steps=3"]


@pytest.mark.usefixtures("_mixed")
def test_rows_without_data_or_weights_are_reported_and_the_others_made(tmp_path: Path) -> None:
    reproduce(["table=mixed", *OPTIONS, "data_root=nowhere", "out=here"])
    path = Path("here/paper/mixed.json")
    assert _cell("here", "psnr", path, "g")[1112].value
    reasons = {row: _cell(row, "training", path, "g")[1112].missing for row in ("no_data", "no_weights")}
    assert reasons["no_data"].startswith("dataset celeba: folder nowhere/celeba is missing")
    assert reasons["no_weights"].startswith("vgg16-397923af.pth (perceptual loss) is not in")
    text = path.with_suffix(".md").read_text()
    assert "| no_data | not run |" in text
    assert "- LPIPS is missing: " in text
    assert "- Not run: no_data: dataset celeba: folder nowhere/celeba is missing" in text
    assert "| quoted |" not in text  # what the paper quotes is not in this table
    assert not list(tmp_path.glob("outputs/ae-celeba*"))


@pytest.mark.usefixtures("_mixed")
def test_where_nothing_can_run_the_program_ends_with_the_reason() -> None:
    with pytest.raises(UserError, match="dataset celeba: folder nowhere/celeba is missing"):
        reproduce(["table=mixed", "rows=no_data", *OPTIONS, "data_root=nowhere"])
    assert not Path("outputs/results").exists()


@pytest.mark.usefixtures("_mixed")
def test_the_plan_says_what_would_run_and_runs_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["table=mixed", *OPTIONS, "data_root=nowhere"]
    reproduce([*command, "plan=true"])
    text = capsys.readouterr().out
    assert not (tmp_path / "outputs").exists()
    states = {line.split()[0]: line.split("  ", 1)[1].strip() for line in text.splitlines() if line.startswith("ae-")}
    assert states == {
        f"ae-photos-{RUN}": "not there  3",
        "ae-celeba-batchsize8-steps3": "not there  ?",
        f"ae-photos-{RUN_PERCEPTUAL}": "not there  3",
    }
    assert "celeba: nothing" in text
    assert "photos: embedded" in text
    assert "dataset celeba: folder nowhere/celeba is missing" in text
    assert "vgg16-397923af.pth (perceptual loss) is not in" in text
    assert re.search(r"Cannot be measured here\n  alexnet.*download_weights.py alexnet\n    LPIPS\n", text)
    assert f"python train.py model=ae dataset=photos loss.ffl=false {' '.join(PHOTOS)} trainer.batch_size=8" in text
    reproduce([*command, "rows=here"])
    capsys.readouterr()
    reproduce([*command, "rows=here", "plan=true"])
    assert "finished, 3 steps  0" in capsys.readouterr().out


def test_the_plan_of_all_tables_needs_neither_hydra_nor_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(["model=ae", "dataset=dtd", "loss.ffl=true", "scale=cpu"])
    finished_run(run, {}, steps=2200).last.write_bytes(b"not a checkpoint")
    monkeypatch.setattr(scripts.tables, "compose", None)
    reproduce(["table=all", "scale=cpu", "plan=true"])
    printed = capsys.readouterr().out
    assert re.search(r"ae-dtd-ffl-scalecpu +finished, 2200 steps +0$", printed, re.MULTILINE)
    assert printed.count("python train.py") == 43


def test_all_means_the_eleven_tables_and_shared_runs_are_made_once(wanted: list[Any]) -> None:
    jobs = {job.run.name: job.metrics for job in _jobs(wanted, "table=all", "scale=cpu")}
    assert len(jobs) == 43
    pairs = ["psnr", "ssim", "lpips", "stlpips_alex", "fid", "fd_effnet_lite0", "lfd"]
    scores = ["fid", "fd_effnet_lite0", "is", "is_effnet_lite0"]
    spectra = ["spectrum_distance", "spectrum_distance_top"]
    assert jobs["vae-celeba_64-scalecpu"] == {
        "reconstruction": [*pairs, *spectra, "coherence_top"],
        "synthesis": [*scores, "kid", "kd_effnet_lite0", "precision", "recall", *spectra],
    }
    assert jobs["pix2pix-edges2shoes-scalecpu"] == {
        "translation": ["stlpips_alex", *scores, "kd_effnet_lite0", *spectra]
    }


def test_the_command_line_is_read(wanted: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(scripts.reproduce, "side_by_side", counts.append)
    found = _jobs(wanted, "-m", "table=8", "rows=full", "seeds=3", "seed=5", "scale=cpu", "data_root=d", "out=o")
    assert counts == [torch.cuda.device_count() or os.cpu_count()]
    assert [job.run.config["seed"] for job in found] == [5, 6, 7]
    assert {job.run.config["data_root"] for job in found} == {"d"}
    assert _jobs(wanted, "table=8") == _jobs(wanted, "table=table8")
    assert wanted[1] is in_turn
    (job,) = _jobs(wanted, "table=7", "rows=ffl", "groups=vae_synthesis")
    assert (job.run.name, list(job.metrics)) == ("vae-celeba-ffl", ["synthesis"])
    found = _jobs(wanted, "table=7", "rows=ffl", "groups=pix2pix,vae_synthesis")
    assert [job.run.name for job in found] == ["vae-celeba-ffl", "pix2pix-edges2shoes-ffl"]
