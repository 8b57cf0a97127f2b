"""The README's commands, and a table from nothing to its figure."""

import json
import re
from pathlib import Path

import pytest

import train
from ffl.errors import UserError
from ffl.training.program import CONFIG_DIR, compose, jobs
from scripts.reproduce import read_table, reproduce

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TINY = ["dataset.image_size=16", "dataset.train_images=32", "dataset.val_images=8", "dataset.test_images=12"]


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


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIG_DIR / "table").glob("*.yaml")))
def test_every_run_of_every_table_is_valid(name: str) -> None:
    for row in read_table(name).runs:
        train.check(compose("train", row["overrides"]))


def test_table_is_made_once_and_read_from_its_runs_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "no_weights"))
    command = ["table=photos", *TINY, "trainer.batch_size=8", "trainer.steps=3"]
    reproduce(command)
    out = tmp_path / "results" / "photos"
    content = json.loads((out / "table.json").read_text())
    assert [row["ffl"] for row in content["rows"]] == ["w/o", "w/"]
    markdown = (out / "table.md").read_text()
    for row in content["rows"]:
        values = {record["metric"]: record["value"] for record in row["records"]}
        assert values["fid"] is None
        assert f"{values['psnr']:.3f}" in markdown
        assert f"{values['lfd']:.3f}" in markdown
        assert all(record["provenance"]["seed"] == 1112 for record in row["records"])
    assert "scripts/download_weights.py inception_fid" in markdown
    assert (out / "comparison.png").stat().st_size > 10_000
    capsys.readouterr()
    runs = sorted(path.name for path in (tmp_path / "outputs").iterdir())
    reproduce(command)
    assert capsys.readouterr().out.count("is finished already") == 2
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == runs
    again = json.loads((out / "table.json").read_text())
    for before, after in zip(content["rows"], again["rows"], strict=True):
        assert [record["value"] for record in before["records"]] == [record["value"] for record in after["records"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no table given"),
        (["table=99"], "table=99: no such table; expected one of "),
        (["photos"], "cannot read photos; expected key=value"),
        (["table=photos", "loss.ffl=true"], "loss.ffl=true: set by the table"),
        (["table=photos", "trainer.epoch=1"], "unknown key trainer.epoch: did you mean trainer.epochs?"),
    ],
)
def test_mistakes_are_named_before_anything_runs(
    tmp_path: Path, monkeypatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)):
        reproduce(arguments)
    assert list(tmp_path.iterdir()) == []
