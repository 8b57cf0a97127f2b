"""Records of run directories become a table: which of them count, and what is made of them."""

import json
import math
from pathlib import Path

import pytest
from run_directories import add_records, finished_run

from scripts.reproduction.markdown import duration, number, table_markdown
from scripts.reproduction.records import known_records, lacking_metrics
from scripts.reproduction.report import Settings, has_values, json_text, table_json, training_seconds
from scripts.reproduction.runs import row_run, state_of
from scripts.tables import parse_table, read_table
from scripts.reproduction.work import Job, do

PHOTOS = ["dataset.image_size=16", "dataset.train_images=32", "dataset.val_images=8", "dataset.test_images=12"]
TINY = [*PHOTOS, "trainer.batch_size=8", "trainer.steps=4"]


@pytest.fixture
def outputs(tmp_path: Path) -> list[str]:
    return [*TINY, f"output_root={tmp_path}", f"cache_dir={tmp_path / 'cache'}", f"data_root={tmp_path / 'data'}"]


def test_only_records_of_this_checkpoint_and_protocol_count(outputs: list[str]) -> None:
    run = row_run(read_table("photos"), "photos_with", "reconstruction", overrides=outputs)
    directory = finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=4)
    changes = [
        {"checkpoint_sha256": "0" * 64},
        {"quantisation": "rounded"},
        {"evaluation_seed": 1},
        {"reference": "photos val"},
        {"reference_fingerprint": "other images"},
        {"num_images": 5},
    ]
    for change in changes:
        add_records(directory, run, "reconstruction", {"psnr": 99.0}, **change)
    add_records(directory, run, "synthesis", {"psnr": 98.0})
    assert {name: record.value for name, record in known_records(directory, "reconstruction", run.config).items()} == {
        "psnr": 20.0
    }
    assert lacking_metrics(directory, "reconstruction", ["psnr", "lfd"], run.config) == ["lfd"]
    add_records(directory, run, "reconstruction", {"psnr": 21.0, "lfd": math.inf})
    known = known_records(directory, "reconstruction", run.config)
    assert (known["psnr"].value, known["lfd"].value) == (21.0, math.inf)


def test_a_missing_value_is_measured_again_only_when_its_weights_have_come(
    outputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = row_run(read_table("photos"), "photos_with", "reconstruction", overrides=outputs)
    directory = finished_run(run, {"reconstruction": {"lpips": "no weights", "ssim": "was not there"}}, steps=4)
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "none"))
    # SSIM needs no weights: whatever was missing then is there now.
    assert lacking_metrics(directory, "reconstruction", ["lpips", "ssim"], run.config) == ["ssim"]


def test_values_spread_and_differences_over_seeds(outputs: list[str]) -> None:
    table = read_table("photos")
    psnr = {"photos_without": [20.0, 21.0, 22.5], "photos_with": [21.0, 21.5, 24.0]}
    for row, values in psnr.items():
        for index, value in enumerate(values):
            run = row_run(table, row, "reconstruction", overrides=outputs, seed=1112 + index)
            finished_run(run, {"reconstruction": {"psnr": value, "ssim": 0.5, "fid": "no weights here"}}, steps=4)
    content = table_json(table, Settings(overrides=outputs))  # one seed is asked for, three are there
    without, with_ = (row["groups"]["reconstruction"] for row in content["rows"])
    assert without["values"]["psnr"] == {
        "mean": pytest.approx(21.166666666666668),
        "spread": pytest.approx(1.2583057392117916),
        "n": 3,
        "values": [20.0, 21.0, 22.5],
    }
    assert with_["values"]["fid"] == {"missing": "no weights here"}
    assert [run["seed"] for run in without["runs"]] == [1112, 1113, 1114]
    train = without["runs"][0]["train"]
    # 4 steps of 8 images at 2 a second; 32 images make an epoch.
    assert (train["steps"], train["images"], train["wall_s"], train["epochs"]) == (4, 32, 16.0, 1.0)
    assert train["train_images"] == 32
    assert train["config"]["model"]["hidden_dim"] == 256
    difference = next(item for item in content["differences"] if item["metric"] == "psnr")
    assert difference["ours"] == {"mean": pytest.approx(1.0), "spread": pytest.approx(0.5), "n": 3}
    assert difference["paper"] is None
    text = table_markdown(content)
    assert "| photos | w/o | 21.167 ± 1.258 | **0.500 ± 0.000** | not run | missing | not run |" in text
    assert "| photos | w/ | **22.167 ± 1.607** |" in text
    assert "| photos: w/ − w/o | +1.000 ± 0.500 | +0.000 ± 0.000 |" in text
    assert "- FID is missing: no weights here" in text
    assert text.count("no weights here") == 1
    assert json.loads(json_text(content)) == content
    assert max(map(len, json_text(content).splitlines())) > 500  # a record or a run's training
    assert train["command"].endswith(" ".join(["loss.ffl=false", *TINY]))


def test_the_paper_beside_ours_quoted_rows_and_units(tmp_path: Path) -> None:
    table = read_table("5")
    overrides = [f"output_root={tmp_path}", f"data_root={tmp_path / 'data'}"]
    for row, score in (("spade_without", 0.25), ("spade_with", 0.5)):
        run = row_run(table, row, "cityscapes", "cpu", overrides)
        finished_run(run, {"semantic": {"miou": score, "accuracy_all": 0.75, "fid": 100.0}}, steps=10)
    content = table_json(table, Settings("cpu", overrides))
    rows = {row["id"]: row for row in content["rows"]}
    assert rows["spade_with"]["groups"]["cityscapes"]["values"]["miou"]["mean"] == 50.0  # percent, as printed
    assert rows["spade_with"]["groups"]["cityscapes"]["runs"][0]["records"][0]["value"] == 0.5  # as measured
    assert rows["spade_with"]["groups"]["ade20k"]["not_run"] == "not there yet"
    assert rows["crn"]["quoted"]
    assert rows["sims"]["groups"]["ade20k"]["paper"] == {"miou": None, "accuracy": None, "fid": None}
    difference = next(i for i in content["differences"] if (i["group"], i["metric"]) == ("cityscapes", "miou"))
    assert difference["paper"] == 1.9
    assert difference["ours"]["mean"] == 25.0
    text = table_markdown(content)
    assert "# Table 5. SPADE semantic image synthesis" in text
    assert "| CRN | quoted | 52.4 | 77.1 | 104.7 |" in text
    assert "| SIMS | quoted | 47.2 | 75.5 | **49.7** |" in text
    assert "| SIMS | quoted | N/A | N/A | N/A |" in text
    assert "| SPADE + FFL | ours | **50.0** | **75.0** | **100.0** |" in text
    assert "|  | paper | **64.2** | **82.5** | **59.5** |" in text
    assert "| SPADE + FFL − SPADE | ours | +25.0 | +0.0 | +0.0 |" in text
    assert "|  | paper | +1.9 | +0.6 | -12.3 |" in text
    assert "- Not run: SPADE (ADE20K); SPADE + FFL (ADE20K): not there yet" in text
    assert "scale=cpu: fewer images" in text


def test_results_name_no_folder_of_this_machine(outputs: list[str], tmp_path: Path) -> None:
    table = read_table("photos")
    run = row_run(table, "photos_with", "reconstruction", overrides=outputs)
    finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=4)
    content = table_json(table, Settings(overrides=outputs))
    assert has_values(content)
    assert str(tmp_path) not in json_text(content) + table_markdown(content)


def test_a_run_whose_data_has_gone_is_shown_as_it_is(tmp_path: Path) -> None:
    table, overrides = read_table("1"), [f"output_root={tmp_path}", f"data_root={tmp_path / 'data'}"]
    run = row_run(table, "celeba_with", "reconstruction", overrides=overrides)
    metrics = dict.fromkeys(table.groups["reconstruction"].columns, 20.0)
    finished_run(run, {"reconstruction": metrics}, steps=7)
    assert str(state_of(run)) == "at step 7, of how many its data would say"
    assert do(Job(run, {"reconstruction": [*metrics]}), wait=True).reason is None
    group = table_json(table, Settings(overrides=overrides))["rows"][3]["groups"]["reconstruction"]
    assert group["values"]["psnr"]["mean"] == 20.0
    assert group["runs"][0]["train"]["epochs"] is None
    assert "folder" in do(Job(run, {"synthesis": ["kid"]}), wait=True).reason


def test_notes_name_stand_ins_overrides_and_what_was_cut(tmp_path: Path) -> None:
    overrides = ["trainer.steps=9", f"output_root={tmp_path}", f"data_root={tmp_path / 'data'}"]
    table = read_table("1")
    run = row_run(table, "celeba_with", "reconstruction", "cpu", overrides)
    finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=5)
    content = table_json(table, Settings("cpu", overrides, reasons={"ae-dtd-steps9-scalecpu": "no space left"}))
    assert not has_values(content)
    text = "\n".join(content["notes"])
    assert "The data set celeba_64 stands in for celeba." in text
    assert "All runs with trainer.steps=9." in text
    assert "Not run: CelebA w/: cut at step 5 of 9" in text
    assert "CelebA w/o: not there yet" in text
    assert len(table_markdown(content).splitlines()) > 10


def test_a_run_of_another_configuration_is_said_to_be_one(outputs: list[str], tmp_path: Path) -> None:
    table = read_table("photos")
    run = row_run(table, "photos_with", "reconstruction", overrides=outputs)
    directory = finished_run(run, {}, steps=4)
    config = (directory.path / "config.yaml").read_text()
    (directory.path / "config.yaml").write_text(config.replace("alpha: 1.0", "alpha: 3.0"))
    content = table_json(table, Settings(overrides=outputs))
    assert "loss.alpha: 3.0 -> 1.0" in content["rows"][1]["groups"]["reconstruction"]["not_run"]


def test_the_best_is_bold_within_rows_that_are_compared_and_ties_are_all_bold(outputs: list[str]) -> None:
    rows = {
        name: {"labels": [name], "runs": {"g": ["model=ae", "dataset=photos", f"loss.alpha={alpha}"]}}
        for name, alpha in (("a", 1), ("b", 2), ("c", 3), ("alone", 4))
    }
    content = {
        "title": "t",
        "labels": ["Loss"],
        "groups": {"g": {"title": "", "task": "reconstruction", "metrics": ["lfd"]}},
        "rows": rows,
        "compare": [["a", "b"], ["a", "c"]],
    }
    table = parse_table("own", content)
    for name, value in (("a", 9.0), ("b", 8.0), ("c", 8.0), ("alone", 1.0)):
        finished_run(row_run(table, name, "g", overrides=outputs), {"reconstruction": {"lfd": value}}, steps=4)
    text = table_markdown(table_json(table, Settings(overrides=outputs)))
    assert "| a | 9.000 |" in text
    assert "| b | **8.000** |" in text
    assert "| c | **8.000** |" in text
    assert "| alone | 1.000 |" in text


def test_small_things() -> None:
    assert number({"mean": -1.25, "spread": None}, 1, "+") == "-1.2"
    assert number({"mean": 1.0, "spread": 0.5}, 2) == "1.00 ± 0.50"
    assert [duration(seconds) for seconds in (12.4, 600, 7200)] == ["12 s", "10 min", "2.0 h"]
    assert training_seconds([]) == 0.0
    # 100 images at 50 a second, then, after a resume, 100 at 25.
    lines = [{"images": 100, "images_per_second": 50.0}, {"images": 200, "images_per_second": 25.0}]
    assert training_seconds(lines) == 6.0
