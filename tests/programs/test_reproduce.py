"""The README's commands, and tables from nothing to their files."""

import contextlib
import fcntl
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import scripts.reproduce
import train
from ffl.errors import UserError
from ffl.training.logger import Logger
from ffl.training.model import Phase
from ffl.training.program import compose, jobs
from scripts.reproduce import Request, executor, jobs_of, parse, reproduce
from scripts.reproduction.cost import due_steps, image_flops, measured_step, random_batch
from scripts.reproduction.plan import V100_FLOPS
from scripts.reproduction.report import Settings
from scripts.reproduction.runs import make_run, state_of
from scripts.tables import Table, parse_table, read_table, select
from scripts.reproduction.work import do, do_all, in_turn

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
PHOTOS = ["dataset.image_size=16", "dataset.train_images=32", "dataset.val_images=8", "dataset.test_images=12"]
TINY = [*PHOTOS, "trainer.batch_size=8", "trainer.steps=3"]
COMMAND = ["table=photos", *TINY]
RUN = "imagesize16-testimages12-trainimages32-valimages8-batchsize8-steps3"
RUN_PERCEPTUAL = RUN.replace("-batch", "-perceptual1.0-batch")


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table in a folder of its own, without pretrained weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "no_weights"))


def _commands(program: str) -> list[str]:
    lines = re.findall(rf"^python {re.escape(program)} (.*)$", README, re.MULTILINE)
    return [line.split("#")[0].strip() for line in lines if "…" not in line]


@pytest.mark.parametrize("command", _commands("train.py"))
def test_training_commands_of_the_readme_are_valid(command: str) -> None:
    arguments = command.split()
    if "--help" not in arguments:
        for overrides in jobs(arguments):
            train.check(compose("train", overrides))


@pytest.mark.parametrize("command", _commands("evaluate.py"))
def test_evaluation_commands_of_the_readme_compose(command: str) -> None:
    (overrides,) = jobs(command.split())
    assert compose("evaluate", overrides)


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert targets == {"reproduce", "test"}
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)


def test_table_is_made_once_and_read_from_its_runs_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reproduce(COMMAND)
    out = tmp_path / "results" / "photos"
    content = json.loads((out / "table.json").read_text())
    assert [row["id"] for row in content["rows"]] == ["photos_without", "photos_with"]
    markdown = (out / "table.md").read_text()
    for row in content["rows"]:
        group = row["groups"]["reconstruction"]
        (run,) = group["runs"]
        records = {record["metric"]: record for record in run["records"]}
        assert records["fid"]["value"] is None
        for metric in ("psnr", "lfd", "spectrum_distance"):
            assert group["values"][metric] == {
                "mean": records[metric]["value"],
                "spread": None,
                "n": 1,
                "values": [records[metric]["value"]],
            }
            assert f"{records[metric]['value']:.3f}" in markdown
        assert run["seed"] == 1112
        assert run["train"]["steps"] == 3
        assert run["train"]["images"] == 24
        assert run["train"]["config"]["loss"]["ffl"] == (row["id"] == "photos_with")
    first, second = (row["groups"]["reconstruction"]["values"]["psnr"]["mean"] for row in content["rows"])
    difference = next(item for item in content["differences"] if item["metric"] == "psnr")
    assert difference["ours"]["mean"] == second - first
    assert "scripts/download_weights.py inception_fid" in markdown
    assert (out / "comparison.png").stat().st_size > 10_000
    capsys.readouterr()
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    reproduce(COMMAND)
    printed = capsys.readouterr().out
    assert "trained" not in printed
    assert "evaluating" not in printed
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs").rglob("*") if path.is_file()}
    again = json.loads((out / "table.json").read_text())
    assert again["rows"] == content["rows"]


@pytest.fixture
def _no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts.reproduce, "_comparison", lambda *arguments: None)


@pytest.mark.usefixtures("_no_figure")
def test_a_run_that_train_made_is_taken_and_the_other_row_trained(capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["model=ae", "dataset=photos", *TINY]
    directory = train.train(compose("train", overrides), overrides).path
    capsys.readouterr()
    reproduce(COMMAND)
    assert capsys.readouterr().out.count("trained 3 steps") == 1
    content = json.loads(Path("results/photos/table.json").read_text())
    assert content["rows"][0]["groups"]["reconstruction"]["runs"][0]["run"] == directory.name


@pytest.mark.usefixtures("_no_figure")
def test_only_the_rows_asked_for_are_made_and_the_others_shown_as_far_as_they_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    reproduce([*COMMAND, "rows=photos_with"])
    assert capsys.readouterr().out.count("trained 3 steps") == 1
    rows = json.loads(Path("results/photos/table.json").read_text())["rows"]
    assert rows[0]["groups"]["reconstruction"]["not_run"] == "not there yet"
    assert "Not run: photos w/o: not there yet" in Path("results/photos/table.md").read_text()
    reproduce([*COMMAND, "rows=photos_without", "seeds=2"])
    rows = json.loads(Path("results/photos/table.json").read_text())["rows"]
    assert [row["groups"]["reconstruction"]["values"]["psnr"]["n"] for row in rows] == [2, 1]
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
    assert str(state_of(run)) == "cut at step 4 of 6"
    capsys.readouterr()
    reproduce([*command, often])
    assert "at step 4 of 6" in capsys.readouterr().out
    assert str(state_of(run)) == "finished, 6 steps"
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
    first, second = jobs_of(parse(COMMAND))
    if "locks" not in lock:  # a train.py by itself has made the directory, and no checkpoint yet
        from ffl.training.run_directory import RunDirectory

        RunDirectory.create(Path("outputs"), first.run.name, first.run.config)
    with _held(Path(lock.format(first.run.name))) as release:
        assert do(first, wait=False).busy

        def released_when_the_second_is_done() -> None:
            while not state_of(second.run).finished:
                time.sleep(0.05)
            release.set()

        watcher = threading.Thread(target=released_when_the_second_is_done)
        watcher.start()
        assert do_all([first, second], in_turn) == {}
        watcher.join()
    printed = capsys.readouterr().out
    assert f"{first.run.name}: another process is making it; coming back to it" in printed
    assert printed.index(f"{second.run.name}: done") < printed.index(f"{first.run.name}: done")
    assert state_of(first.run).finished


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_two_invocations_side_by_side_share_the_work(tmp_path: Path) -> None:
    # Long enough that each finds the other at work, and with all that they write in one place.
    command = [sys.executable, str(ROOT / "scripts" / "reproduce.py"), "table=photos", *PHOTOS]
    command += ["trainer.batch_size=8", "trainer.steps=150"]
    both = [
        subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=400)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(text.count("trained 150 steps") for text in printed) == 2
    runs = list((tmp_path / "outputs").glob("ae-*"))
    assert len(runs) == 2
    for run in runs:
        assert [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()] == [50, 100, 150]
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 7
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
    rows = json.loads(Path("results/photos/table.json").read_text())["rows"]
    assert all(row["groups"]["reconstruction"]["not_run"] is None for row in rows)


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
        executor(parse([*COMMAND, "launcher=slurm"]))


def test_a_cluster_that_is_not_there_or_has_no_such_parameter_is_named() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed (the optional extra slurm)")
    with pytest.raises(UserError, match=r"launcher=local: .*bogus"):
        executor(parse([*COMMAND, "launcher=local", "slurm.bogus=1"]))
    if shutil.which("srun") is None:
        with pytest.raises(UserError, match=r"launcher=slurm: .*srun"):
            executor(parse([*COMMAND, "launcher=slurm"]))


def test_it_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"reproduce\.py is one process"):
        reproduce(COMMAND)


def test_results_that_cannot_be_written_are_one_line() -> None:
    Path("file").touch()
    with pytest.raises(UserError, match=r"file/.locks: cannot be written \(.*\); set output_root=DIR"):
        reproduce([*COMMAND, "rows=photos_with", "output_root=file"])


def _mixed(monkeypatch: pytest.MonkeyPatch) -> Table:
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
    return table


OPTIONS = ["trainer.batch_size=8", "trainer.steps=3"]


def test_rows_without_data_or_weights_are_reported_and_the_others_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _mixed(monkeypatch)
    reproduce(["table=mixed", *OPTIONS, "data_root=nowhere", "out=here"])
    rows = {row["id"]: row for row in json.loads(Path("here/paper/mixed.json").read_text())["rows"]}
    reasons = {name: row["groups"].get("g", {}).get("not_run") for name, row in rows.items()}
    assert reasons["here"] is reasons["quoted"] is None
    assert reasons["no_data"].startswith("dataset celeba: folder nowhere/celeba is missing")
    assert reasons["no_weights"].startswith("vgg16-397923af.pth (perceptual loss) is not in")
    text = Path("here/paper/mixed.md").read_text()
    assert "| no_data | not run | not run |" in text
    assert "- Not run: no_data: dataset celeba: folder nowhere/celeba is missing" in text
    assert not list(tmp_path.glob("outputs/ae-celeba*"))


def test_where_nothing_can_run_the_program_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    _mixed(monkeypatch)
    with pytest.raises(UserError, match="dataset celeba: folder nowhere/celeba is missing"):
        reproduce(["table=mixed", "rows=no_data", *OPTIONS, "data_root=nowhere"])
    assert not Path("results").exists()


def test_the_plan_says_what_would_run_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _mixed(monkeypatch)
    command = ["table=mixed", *OPTIONS, "data_root=nowhere"]
    reproduce([*command, "plan=true"])
    text = capsys.readouterr().out
    assert not (tmp_path / "outputs").exists()
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("ae-")}
    assert lines.keys() == {f"ae-photos-{RUN}", "ae-celeba-batchsize8-steps3", f"ae-photos-{RUN_PERCEPTUAL}"}
    assert re.search(r"not there +3 +\S+ s +measured +0\.00", lines[f"ae-photos-{RUN}"])
    assert "celeba: nothing" in text
    assert "photos: embedded" in text
    assert "dataset celeba: folder nowhere/celeba is missing" in text
    assert "vgg16-397923af.pth (perceptual loss) is not in" in text
    assert f"python train.py model=ae dataset=photos loss.ffl=false {' '.join(PHOTOS)} trainer.batch_size=8" in text
    reproduce([*command, "rows=here"])
    capsys.readouterr()
    reproduce([*command, "rows=here", "plan=true"])
    assert "finished, 3 steps" in capsys.readouterr().out


def test_operations_are_counted_as_by_hand_and_make_the_papers_timing() -> None:
    # Two layers of 12288 x 256 for each image: forward and both gradients, but for the images, which need none.
    layer = 2 * 3 * 64 * 64 * 256
    assert image_flops(compose("train", ["model=ae", "dataset=celeba"])) == 5 * layer
    facades = image_flops(compose("train", ["model=pix2pix", "dataset=facades"]))
    assert facades / V100_FLOPS == pytest.approx(0.064, rel=0.005)


def test_phases_that_are_not_due_in_every_step_count_by_their_share() -> None:
    phases = [Phase(name, [], 0.1, (0.0, 0.9), interval=interval) for name, interval in (("g", 1), ("r1", 8), ("p", 4))]
    assert due_steps(phases) == {0: 1, 4: 1, 1: 6}


@pytest.mark.parametrize("model", ["ae", "vae", "pix2pix", "spade", "stylegan2"])
def test_every_model_takes_the_random_batches_that_it_is_timed_on(model: str) -> None:
    dataset = {"spade": "cityscapes", "pix2pix": "facades"}.get(model, "celeba_64")
    config = compose("train", [f"model={model}", f"dataset={dataset}", "scale=cpu", "dataset.image_size=32"])
    batch = random_batch(config, 2, torch.device("cpu"))
    assert batch["image"].shape == (2, 3, 32, 64 if dataset == "cityscapes" else 32)
    assert train.MODELS[model].inputs <= batch.keys()
    assert image_flops(config) > 1e6


def test_a_step_is_timed() -> None:
    config = compose("train", ["model=ae", "dataset=photos", "dataset.image_size=8"])
    seconds, origin = measured_step(config)
    assert 0 < seconds < 10
    assert origin == "measured"


SHARED = {"2": "celeba_without", "3": "celeba_without", "7": "baseline"}


def test_all_means_the_eleven_tables_and_shared_runs_are_made_once() -> None:
    request = parse(["table=all", "scale=cpu"])
    assert [part.table.name for part in request.tables] == [f"table{number}" for number in range(1, 12)]
    shared = [select(read_table(name), [row], None) for name, row in SHARED.items()]
    jobs = {job.run.name: job.metrics for job in jobs_of(Request(shared, Settings()))}
    assert jobs == {
        "vae-celeba": {
            "reconstruction": ["psnr", "ssim", "lpips", "fid", "lfd", "spectrum_distance", "spectrum_distance_top"],
            "synthesis": ["fid", "is", "kid", "spectrum_distance", "spectrum_distance_top"],
        },
        "pix2pix-edges2shoes": {"translation": ["fid", "is", "spectrum_distance", "spectrum_distance_top"]},
    }


def test_the_command_line_is_read() -> None:
    request = parse(["-m", "table=8", "rows=full", "seeds=3", "seed=5", "scale=cpu", "data_root=d", "out=o"])
    assert request.jobs == (torch.cuda.device_count() or os.cpu_count())
    assert request.settings == Settings("cpu", ["data_root=d"], 5, 3)
    assert [run.run.seed for run in jobs_of(request)] == [5, 6, 7]
    assert request.out == Path("o")
    table = read_table("table8")
    assert parse(["table=8"]) == parse(["table=table8"]) == Request([select(table, None, None)], Settings())
    (part,) = parse(["table=7", "rows=ffl", "groups=pix2pix,vae_synthesis"]).tables
    assert (part.rows, part.groups) == (["ffl"], ["vae_synthesis", "pix2pix"])
    assert [job.run.name for job in jobs_of(parse(["table=7", "rows=ffl", "groups=pix2pix"]))] == [
        "pix2pix-edges2shoes-ffl"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no table given"),
        (["table=99"], "table=99: no such table; expected one of table1, "),
        (["photos"], "cannot read photos; expected key=value"),
        (["table=photos", "loss.ffl=true"], "loss.ffl=true: set by the table"),
        (["table=photos", "dataset=celeba"], "dataset=celeba: set by the table"),
        (["table=6", "scale=cpu", "dataset.image_size=64"], "dataset.image_size=64: set by the table"),
        (["table=photos", "resume=auto"], "resume=auto: set by the table"),
        (["table=photos", "trainer.epoch=1"], "unknown key trainer.epoch: did you mean trainer.epochs?"),
        (["table=photos", "trainer.epochs=0"], "trainer.epochs=0: "),
        (["table=1", "rows=celeb_with"], "rows=celeb_with: table1 has no such row; its rows are dtd_without"),
        (["table=7", "groups=vae"], "groups=vae: table7 has no such group; its groups are vae_reconstruction, "),
        (["table=all", "rows=full"], "rows: goes with one table"),
        (["table=all", "groups=pix2pix"], "groups: goes with one table"),
        (["table=1", "scale=gpu"], "scale=gpu: expected one of cpu, paper"),
        (["table=1", "seeds=0"], "seeds=0: expected a whole number, 1 or more"),
        (["table=1", "seeds=two"], "seeds=two: expected a whole number"),
        (["table=1", "plan=yes"], "plan=yes: expected true or false"),
        (["table=1", "launcher=sun"], "launcher=sun: expected slurm or local"),
        (["table=1", "slurm.timeout_min=3"], "goes with launcher=slurm"),
    ],
)
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        reproduce(arguments)
    assert list(tmp_path.iterdir()) == []
