"""Tables of sweeps from run directories written by hand: columns, order, files, and what is refused."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ffl.errors import UserError
from ffl.training.command import read_words
from scripts.collect import (
    collect,
    csv_text,
    draw,
    draw_map,
    find_runs,
    plotted_keys,
    read_run,
    sorted_runs,
    swept_keys,
)

ROOT = Path(__file__).resolve().parents[2]


def make_run(root: Path, name: str, metrics: dict | None = None, loss: float = 0.5, **settings: object) -> Path:
    path = root / name
    path.mkdir(parents=True)
    config = {
        "model": {"name": "ae"},
        "loss": {"alpha": settings.get("alpha", 1.0), "ffl": settings.get("ffl", True)},
        "trainer": {"lr": settings.get("lr", 1e-3)},
        "seed": settings.get("seed", 0),
        "name": name,
        "recipe": {"epochs": {"default": name}},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    known = {"images_per_second": 9.5, "gradient_share": {"generator/mse": 0.25}}
    lines = [{"step": step, "losses": {"generator/mse": loss + 10 / step}, **known} for step in (5, 10)]
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1')
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps({**metrics, "records": []}))
    return path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs", "a", {"psnr": 20.123456789, "lfd": 14.0, "fid": None}, alpha=0.5)
    make_run(tmp_path / "runs", "b", {"psnr": "inf", "lfd": 13.0}, loss=0.1, alpha=1.0)
    make_run(tmp_path / "runs", "c", {"psnr": 22.5, "lfd": 15.0}, alpha=2)
    make_run(tmp_path / "runs", "d", alpha=20.0)
    (tmp_path / "runs/cache").mkdir()
    return tmp_path / "runs"


def collect_words(*words: str) -> None:
    """``python scripts/collect.py`` with these words."""
    positional, named = read_words(collect, list(words))
    collect(*positional, **named)


def rows_of(*patterns: str) -> list:
    return [read_run(run) for run in find_runs(patterns)]


def test_a_row_holds_what_differs_and_what_came_of_it(runs: Path) -> None:
    table = list(csv.DictReader(io.StringIO(csv_text(rows_of("runs/*")))))
    columns = ["psnr", "lfd", "loss/generator/mse", "images_per_second", "share/generator/mse", "step"]
    assert list(table[0]) == ["run", "loss.alpha", *columns]
    assert table[0] == {
        "run": "a",
        "loss.alpha": "0.5",
        "psnr": "20.123456789",
        "lfd": "14.0",
        "loss/generator/mse": "1.5",
        "images_per_second": "9.5",
        "share/generator/mse": "0.25",
        "step": "10",
    }
    assert table[3]["psnr"] == ""


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("psnr", "bcad"),  # higher is better; a run without it comes last
        ("lfd", "bacd"),
        ("loss/generator/mse", "bacd"),
        ("loss.alpha", "abcd"),
        ("images_per_second", "abcd"),
    ],
)
def test_sorting_puts_the_best_first(runs: Path, column: str, order: str) -> None:
    assert "".join(row.name for row in sorted_runs(rows_of("runs/*"), column)) == order


def test_metrics_of_a_second_task_have_its_name(runs: Path) -> None:
    (runs / "a/metrics_synthesis.json").write_text('{"fid": 3.5, "records": []}')
    assert read_run(find_runs(("runs/a",))[0]).results["synthesis:fid"] == 3.5
    assert sorted_runs(rows_of("runs/*"), "synthesis:fid")[0].name == "a"


def test_the_files(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect_words("runs/*", "sort=psnr", "out=out/sweep.csv")
    shown = capsys.readouterr().out
    markdown = Path("out/sweep.md").read_text()
    assert markdown in shown
    lines = markdown.splitlines()
    assert (
        lines[0]
        == "| run | loss.alpha | psnr ↑ | lfd ↓ | loss/generator/mse | images_per_second | share/generator/mse | step |"
    )
    assert lines[2] == "| b | 1.0 | inf | 13 | 1.1 | 9.5 | 0.25 | 10 |"
    assert lines[5] == "| d | 20.0 | – | – | 1.5 | 9.5 | 0.25 | 10 |"
    table = csv.DictReader(io.StringIO(Path("out/sweep.csv").read_text()))
    assert [row["run"] for row in table] == ["b", "c", "a", "d"]
    with Image.open("out/sweep.png") as picture:
        assert picture.width > 400
    assert Path("out/sweep.pdf").read_bytes().startswith(b"%PDF")
    assert "written to out/sweep.csv, out/sweep.md, out/sweep.png, out/sweep.pdf" in shown


def test_there_is_a_plot_for_one_number_seeds_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (alpha, seed, ffl) in enumerate([(1, 0, True), (2, 1, True), (2, 0, False)]):
        make_run(tmp_path / "runs", f"r{number}", {"psnr": 20.0 + number}, alpha=alpha, seed=seed, ffl=ffl)
    assert swept_keys(rows_of("runs/*")) == ["loss.alpha", "loss.ffl", "seed"]
    assert plotted_keys(rows_of("runs/*")) == ["loss.alpha"]
    collect_words("runs/*", "out=sweep.csv")
    assert Path("sweep.png").exists()
    assert plotted_keys(rows_of("runs/r1", "runs/r2")) == []  # they differ in a switch and in the seed


def test_two_numbers_make_a_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grid = [(0.5, 0.1, True), (0.5, 0.2, True), (2, 0.1, True), (1, 0.1, False), (1, 0.1, False)]
    for number, (alpha, lr, ffl) in enumerate(grid):
        make_run(tmp_path / "runs", f"r{number}", {"psnr": 20.0 + number}, alpha=alpha, lr=lr, ffl=ffl, seed=number)
    rows = rows_of("runs/*")
    (axes,) = draw_map(rows, plotted_keys(rows), ["psnr"]).axes
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("trainer.lr", "loss.alpha")
    shown = {(text.get_position()): text.get_text() for text in axes.texts}
    # Without the loss its exponent is off: first along x, the mean of two seeds. Nothing ran where a cell has a dash.
    assert shown == {(0, 0): "23.5", (1, 0): "20", (2, 0): "22", (0, 1): "–", (1, 1): "21", (2, 1): "–"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["off", "0.5", "2"]
    collect_words("runs/*", "out=grid.csv")
    assert Path("grid.png").exists()


def test_options_of_a_loss_that_is_off_are_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (alpha, ffl) in enumerate([(0.5, True), (2, True), (1, False)]):
        make_run(tmp_path / "runs", f"r{number}", {"psnr": 20.0 + number}, alpha=alpha, ffl=ffl)
    rows = rows_of("runs/*")
    assert [row["loss.alpha"] for row in csv.DictReader(io.StringIO(csv_text(rows)))] == ["0.5", "2", "–"]
    assert [row.name for row in sorted_runs(rows, "loss.alpha")] == ["r0", "r1", "r2"]
    assert swept_keys(rows_of("runs/r1", "runs/r2")) == ["loss.ffl"]
    psnr, step = draw(rows, "loss.alpha", ["psnr", "step"]).axes
    for axes, level in ((psnr, 22.0), (step, 10.0)):
        dashed = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
        assert [np.asarray(line.get_ydata()).tolist() for line in dashed] == [[level, level]]


def test_a_folder_without_a_run_is_passed_over_or_named(runs: Path) -> None:
    """Other mistakes are in bad_input."""
    assert [run.name for run in rows_of("runs/cache", "runs/a")] == ["a"]
    with pytest.raises(UserError, match="runs/cache: no run directories there"):
        rows_of("runs/cache")


def test_as_a_user_calls_it(runs: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/collect.py"), "runs/*", "sort=psnr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=runs.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| run | loss.alpha |")
