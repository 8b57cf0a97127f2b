"""Records of run directories become a table: which of them count, and what is made of them."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reproduction.run_directories import add_records, finished_run

from ffl.errors import UserError
from ffl.training.record import Record
from scripts.reproduction.markdown import table_markdown
from scripts.reproduction.pivot import duration, number_text
from scripts.reproduction.records import known_records, lacking_metrics, state_text, table_results
from scripts.reproduction.work import Job, do
from scripts.tables import (
    PUBLISHED,
    Table,
    TableResults,
    by_seed,
    parse_table,
    read_records_of,
    read_results,
    read_table,
    results_path,
    row_run,
    table_names,
)

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
    known = known_records(directory, "reconstruction", run.config)
    assert {name: record.value for name, record in known.items()} == {"psnr": 20.0, "bands": None}
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


def test_a_run_that_was_evaluated_without_bands_is_evaluated_again(outputs: list[str]) -> None:
    run = row_run(read_table("photos"), "photos_with", "reconstruction", overrides=outputs)
    directory = finished_run(run, {"reconstruction": {"psnr": 20.0, "spectrum_distance": 1.0}}, steps=4)
    metrics = ["psnr", "spectrum_distance"]
    assert lacking_metrics(directory, "reconstruction", metrics, run.config) == []
    lines = directory.records.read_text().splitlines()
    directory.records.write_text("\n".join(line for line in lines if '"bands"' not in line) + "\n")
    assert lacking_metrics(directory, "reconstruction", metrics, run.config) == ["spectrum_distance"]


def _results(table: Table, overrides: list[str], scale: str = "paper", **reasons: str) -> tuple[TableResults, str]:
    """The results of a table for one seed, as they come back from their file, and its Markdown."""
    path = Path(overrides[-1].partition("=")[2]).parent / "table.json"
    path.write_text(table_results(table, scale, overrides, range(1112, 1113), reasons).to_json())
    results = read_results(path)
    return results, table_markdown(table, results)


def _missing(results: TableResults, row: str, group: str) -> str | None:
    """Why a cell has no run."""
    return by_seed(results.records, row, group, "training")[1112].missing


def test_values_spread_and_differences_over_seeds(outputs: list[str]) -> None:
    table = read_table("photos")
    psnr = {"photos_without": [20.0, 21.0, 22.5], "photos_with": [21.0, 21.5, 24.0]}
    for row, values in psnr.items():
        for index, value in enumerate(values):
            run = row_run(table, row, "reconstruction", overrides=outputs, seed=1112 + index)
            finished_run(run, {"reconstruction": {"psnr": value, "ssim": 0.5, "fid": "no weights here"}}, steps=4)
    results, text = _results(table, outputs)  # one seed is asked for, three are there
    for row, values in psnr.items():
        found = by_seed(results.records, row, "reconstruction", "psnr")
        assert {seed: record.value for seed, record in found.items()} == dict(enumerate(values, start=1112))
    training = by_seed(results.records, "photos_without", "reconstruction", "training")[1112]
    about = training.details
    # 4 steps of 8 images at 2 a second; 32 images make an epoch.
    assert (about["steps"], about["images"], training.value, about["epochs"]) == (4, 32, 16.0, 1.0)
    assert about["train_images"] == 32
    assert about["spatial_loss"] == 0.125
    assert about["config"]["model"]["hidden_dim"] == 256
    assert about["command"].endswith(" ".join(["loss.ffl=false", *TINY]))
    assert training.provenance["model"], training.provenance["dataset"] == ("ae", "photos")
    bands = by_seed(results.records, "photos_with", "reconstruction", "bands")
    assert list(bands) == [1112, 1113, 1114]
    assert bands[1112].details["real"] == [2.0, 1.0, 1.0]
    assert "| photos | w/o | 21.167 ± 1.258 | **0.500 ± 0.000** |" in text
    assert "| photos | w/ | **22.167 ± 1.607** | **0.500 ± 0.000** |" in text
    assert "| photos: w/ − w/o | +1.000 ± 0.500 | +0.000 ± 0.000 |" in text  # seed by seed
    # What no run has takes a line and no column.
    assert "| Dataset | FFL | PSNR ↑ | SSIM ↑ |" in text
    assert text.count("- FID is missing: no weights here") == 1
    assert "- Not measured: LPIPS, ST-LPIPS, KD-EffNet, LFD, " in text
    assert len(results.to_json().splitlines()) == len(results.records) + 6  # a record a line


def test_records_of_runs_that_are_not_here_are_kept_while_they_are_of_the_same_run(
    outputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, row = read_table("photos"), "photos_with"
    for seed in (1112, 1113):
        run = row_run(table, row, "reconstruction", overrides=outputs, seed=seed)
        directory = finished_run(run, {"reconstruction": {"psnr": 20.0 + seed - 1112}}, steps=4)
    earlier = table_results(table, "paper", outputs, range(1112, 1113), {}).records

    def psnr(overrides: list[str]) -> dict[int, float | None]:
        results = table_results(table, "paper", overrides, range(1112, 1113), {}, earlier)
        return {seed: r.value for seed, r in by_seed(results.records, row, "reconstruction", "psnr").items()}

    shutil.rmtree(directory.path)
    assert psnr(outputs) == {1112: 20.0, 1113: 21.0}
    # Another configuration is another run, and so is one on other images.
    assert psnr([*outputs, "model.lr=0.5"]) == {}
    with monkeypatch.context() as patch:
        patch.setattr("scripts.reproduction.records.count_images", lambda config, split: 31)
        assert psnr(outputs) == {1112: 20.0}
    # A run that is here counts, whatever was recorded of it before.
    finished_run(run, {"reconstruction": {"psnr": 25.0}}, steps=4)
    assert psnr(outputs) == {1112: 20.0, 1113: 25.0}


def test_the_paper_beside_ours_quoted_rows_and_units(tmp_path: Path) -> None:
    table, overrides = read_table("5"), [f"data_root={tmp_path / 'data'}", f"output_root={tmp_path / 'outputs'}"]
    for row, score in (("spade_without", 0.25), ("spade_with", 0.5)):
        run = row_run(table, row, "cityscapes", "cpu", overrides)
        scores = {"miou": score, "accuracy_all": 0.75, "fid": "no weights", "fd_effnet_lite0": 30.0}
        scores |= {"spectrum_distance": 0.5} if row == "spade_with" else {}
        finished_run(run, {"semantic": scores}, steps=10)
    results, text = _results(table, overrides, "cpu")
    assert by_seed(results.records, "spade_with", "cityscapes", "miou")[1112].value == 0.5  # as measured
    assert _missing(results, "spade_with", "ade20k") == "not there yet"
    for line in (
        "# Table 5. SPADE semantic image synthesis",
        "Ours, and in brackets the paper's.",
        "| Method | mIoU ↑ | accu ↑ | FID ↓ | FD-EffNet ↓ | spectrum distance ↓ |",
        "| CRN | (52.4) | (77.1) | (104.7) |  |  |",
        "| SIMS | (47.2) | (75.5) | (**49.7**) |  |  |",
        "| SIMS | (N/A) | (N/A) | (N/A) |",
        "| SPADE | 25.0 (62.3) | **75.0** (81.9) | (71.8) | **30.0** | not run |",  # percent, as printed
        "| SPADE + FFL | **50.0** (**64.2**) | **75.0** (**82.5**) | (**59.5**) | **30.0** | 0.500 |",
        "| SPADE + FFL | (**42.9**) | (**82.4**) | (**33.7**) |",  # nothing of ours
        "| SPADE + FFL − SPADE | +25.0 (+1.9) | +0.0 (+0.6) | (-12.3) | +0.0 |  |",
        "- FID is missing: no weights",
        "- Not run: SPADE (ADE20K); SPADE + FFL (ADE20K): not there yet",
        "scale=cpu: fewer images",
    ):
        assert line in text


def test_results_name_no_folder_of_this_machine(outputs: list[str], tmp_path: Path) -> None:
    table = read_table("photos")
    run = row_run(table, "photos_with", "reconstruction", overrides=outputs)
    finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=4)
    results, text = _results(table, outputs)
    assert by_seed(results.records, "photos_with", "reconstruction", "psnr")
    assert str(tmp_path) not in results.to_json() + text


def test_a_run_whose_data_has_gone_is_shown_as_it_is(tmp_path: Path) -> None:
    table, overrides = read_table("1"), [f"data_root={tmp_path / 'data'}", f"output_root={tmp_path / 'outputs'}"]
    run = row_run(table, "celeba_with", "reconstruction", overrides=overrides)
    metrics = dict.fromkeys(table.groups["reconstruction"].all_metrics, 20.0)
    directory = finished_run(run, {"reconstruction": metrics}, steps=7)
    assert state_text(directory) == "finished, 7 steps"
    assert do(Job(run, {"reconstruction": [*metrics]}), wait=True).reason is None
    results, _ = _results(table, overrides)
    assert by_seed(results.records, "celeba_with", "reconstruction", "psnr")[1112].value == 20.0
    assert by_seed(results.records, "celeba_with", "reconstruction", "training")[1112].details["epochs"] is None
    assert "folder" in do(Job(run, {"synthesis": ["kid"]}), wait=True).reason


def test_notes_name_stand_ins_overrides_and_what_was_cut(tmp_path: Path) -> None:
    overrides = ["trainer.steps=9", f"data_root={tmp_path / 'data'}", f"output_root={tmp_path / 'outputs'}"]
    table = read_table("1")
    run = row_run(table, "celeba_with", "reconstruction", "cpu", overrides)
    directory = finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=5, total=9)
    results, text = _results(table, overrides, "cpu", **{"ae-dtd-scalecpu-steps9": "no space left"})
    assert {record.metric for record in results.records} == {"training"}
    for note in (
        "The data set celeba_64 stands in for celeba.",
        "All runs with trainer.steps=9.",
        "Not run: CelebA w/: cut at step 5 of 9",
        "CelebA w/o: not there yet",
        "DTD w/o: no space left",
    ):
        assert note in text
    directory.status_file.unlink()  # of a version that did not say how far a run is
    assert _missing(_results(table, overrides, "cpu")[0], "celeba_with", "reconstruction") == "not finished"


def test_a_run_of_another_configuration_is_said_to_be_one(outputs: list[str]) -> None:
    table = read_table("photos")
    directory = finished_run(row_run(table, "photos_with", "reconstruction", overrides=outputs), {}, steps=4)
    config = (directory.path / "config.yaml").read_text()
    (directory.path / "config.yaml").write_text(config.replace("alpha: 1.0", "alpha: 3.0"))
    results, _ = _results(table, outputs)
    assert "loss.alpha: 3.0 -> 1.0" in _missing(results, "photos_with", "reconstruction")


def test_a_perceptual_term_of_another_network_is_noted(tmp_path: Path) -> None:
    table, overrides = read_table("7"), [f"data_root={tmp_path / 'data'}", f"output_root={tmp_path / 'outputs'}"]
    for row in ("baseline", "perceptual"):
        finished_run(row_run(table, row, "pix2pix", "cpu", overrides), {"translation": {"is": 2.0}}, steps=10)
    assert "- The perceptual term of + PL looks through the VGG-16 of ST-LPIPS" in _results(table, overrides, "cpu")[1]


def test_a_run_from_before_a_key_existed_is_found(outputs: list[str]) -> None:
    table = read_table("photos")
    run = row_run(table, "photos_with", "reconstruction", overrides=outputs)
    path = finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=4).path / "config.yaml"
    config = path.read_text()
    assert "perceptual_network: vgg16\n" in config
    path.write_text(config.replace("  perceptual_network: vgg16\n", ""))
    results, _ = _results(table, outputs)
    assert by_seed(results.records, "photos_with", "reconstruction", "psnr")[1112].value == 20.0


def test_a_run_that_does_not_tell_where_it_comes_from_is_refused(outputs: list[str]) -> None:
    table = read_table("photos")
    run = row_run(table, "photos_with", "reconstruction", overrides=outputs)
    directory = finished_run(run, {"reconstruction": {"psnr": 20.0}}, steps=4)
    (directory.path / "run.json").write_text('{"seed": 1')
    with pytest.raises(UserError, match=r"run\.json: does not tell where the run comes from"):
        _results(table, outputs)


def test_the_best_is_bold_within_rows_that_are_compared_and_ties_are_all_bold() -> None:
    content = {
        "title": "t",
        "labels": ["Loss"],
        "groups": {"g": {"title": "", "task": "reconstruction", "metrics": ["lfd"]}},
        "rows": {name: {"labels": [name], "runs": {"g": ["dataset=photos"]}} for name in ("a", "b", "c", "alone")},
        "compare": [["a", "b"], ["a", "c"]],
    }
    lfd = {"a": 9.0, "b": 8.0, "c": 8.0, "alone": 1.0}
    records = [
        Record("lfd", value, 1, {}, {"row": row, "group": "g", "seed": 1, "dataset": "photos"})
        for row, value in lfd.items()
    ]
    text = table_markdown(parse_table("own", content), TableResults("own", "paper", [], records))
    for line in ("| a | 9.000 |", "| b | **8.000** |", "| c | **8.000** |", "| alone | 1.000 |"):
        assert line in text


def _made_up(table: Table, values: dict[str, dict[str, float]], dataset: str, **of_records: Any) -> list[Record]:
    """Records of a table's first group, by row and metric."""
    (group, *_) = table.groups
    return [
        Record(metric, value, 9, {}, {"row": row, "group": group, "seed": 1, "dataset": dataset}, **of_records)
        for row, metrics in values.items()
        for metric, value in metrics.items()
    ]


def test_below_the_rows_of_a_data_set_stands_what_its_real_images_are_apart() -> None:
    table = read_table("1")
    records = _made_up(table, {"dtd_without": {"psnr": 19.0}, "dtd_with": {"psnr": 18.0}}, "dtd")
    faces = {"celeba_without": {"psnr": 20.0}, "celeba_with": {"psnr": 21.0}}
    records += _made_up(table, faces, "celeba")
    text = table_markdown(table, TableResults("table1", "paper", [], records))
    assert "real halves" not in text.lower()
    for row, distance in (("dtd_without", 50.0), ("dtd_with", 40.0)):
        records += _made_up(table, {row: {"fd_effnet_lite0": distance}}, "dtd", floor=12.5, warning="few images")
    records += _made_up(table, {"celeba_without": {"fd_effnet_lite0": 107.0}}, "celeba", floor=10.0)
    text = table_markdown(table, TableResults("table1", "paper", [], records))
    lines = [re.sub(r" \(.*?\)", "", line) for line in text.splitlines() if line.startswith("| ")]
    assert lines[:8] == [
        "| Dataset | FFL | PSNR ↑ | SSIM ↑ | LPIPS ↓ | FID ↓ | FD-EffNet ↓ | LFD ↓ |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| DTD | w/o | **19.000** | | | | 50.000 | |",
        "| DTD | w/ | 18.000 | | | | **40.000** | |",
        "| DTD | real halves |  |  |  |  | 12.500 |  |",
        "| CelebA | w/o | 20.000 | | | | 107.000 | |",
        "| CelebA | w/ | **21.000** | | | | not run | |",
        "| CelebA | real halves |  |  |  |  | 10.000 |  |",
    ]
    assert text.count("- Real halves: ") == text.count("- FD-EffNet: few images") == 1


def test_ceilings_of_own_scores_stand_in_a_line_of_their_own() -> None:
    table = read_table("5")
    records = [
        record
        for row, value in (("spade_without", 0.25), ("spade_with", 0.3))
        for record in (
            *_made_up(table, {row: {"miou_own": value}}, "cityscapes", ceiling=0.5),
            *_made_up(table, {row: {"fd_effnet_lite0": 100.0}}, "cityscapes", floor=9.5),
        )
    ]
    text = table_markdown(table, TableResults("table5", "cpu", [], records))
    lines = [re.sub(r" \(.*?\)", "", line) for line in text.splitlines() if line.startswith("| ")]
    assert "| Method | mIoU ↑ | own mIoU ↑ | accu ↑ | FID ↓ | FD-EffNet ↓ |" in lines
    start = next(number for number, line in enumerate(lines) if line.startswith("| SPADE + FFL"))
    assert lines[start : start + 3] == [
        "| SPADE + FFL | | **30.0** | | | **100.0** |",
        "| real halves |  |  |  |  | 9.5 |",
        "| real images |  | 50.0 |  |  |  |",
    ]
    assert text.count("- Real images: the score of the real test images") == 1


def test_coherence_of_older_runs_comes_from_their_bands() -> None:
    table, row = read_table("photos"), "photos_with"
    bands = {"edges": [0.5, 2.0], "real": [9.0, 4.0, 1.0], "fake": [9.0, 4.0, 1.0], "error": [0.0, 4.0, 0.5]}
    records = _made_up(table, {row: {"psnr": 20.0}}, "photos")
    records += [replace(records[0], metric="bands", value=None, details=bands)]
    for measured, shown in (([], "0.500"), (_made_up(table, {row: {"coherence_top": 0.25}}, "photos"), "0.250")):
        text = table_markdown(table, TableResults("photos", "paper", [], [*records, *measured]))
        assert f"| photos | w/ | 20.000 | {shown} |" in text


@pytest.mark.parametrize("name", table_names())
def test_published_tables_are_made_from_their_records(name: str) -> None:
    table = read_table(name)
    path = results_path(PUBLISHED, "cpu", table)
    results = read_results(path.with_suffix(".json"))
    assert (results.table, results.scale) == (name, "paper" if name in ("photos", "photos_vae", "presets") else "cpu")
    assert results.to_json() == path.with_suffix(".json").read_text()
    assert table_markdown(table, results) == path.with_suffix(".md").read_text()


def test_notes_say_what_another_machine_makes_of_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"model": model, "spread_over_machines": {"psnr": spread}, "spread_over_seeds": {"psnr": 2 * spread}}
        for model, spread in (("ae", 0.125), ("ae", 0.25), ("vae", 0.5))
    ]
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "machines.json").write_text(json.dumps({"machines": rows}))
    monkeypatch.setattr("scripts.reproduction.pivot.PUBLISHED", tmp_path)
    text = table_markdown(read_table("photos"), TableResults("photos", "paper", [], []))
    assert "up to 0.25 dB over imitated processors and 0.50 dB over seeds for the autoencoder, of 0.50 dB" in text


def test_own_results_go_before_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    published = read_results(PUBLISHED / "cpu" / "table1.json").records
    assert read_records_of(None, "cpu", "1") == published
    assert read_records_of(tmp_path, "cpu", "1") == []
    own = Path("outputs/results/cpu/table1.json")
    own.parent.mkdir(parents=True)
    own.write_text(TableResults("table1", "cpu", [], published[:1]).to_json())
    assert read_records_of(None, "cpu", "table1") == published[:1]
    own.write_text('{"table": "table1", "rows": []}')  # as older versions wrote it
    with pytest.raises(UserError, match=r"table1\.json: not a readable JSON table; make it again"):
        read_records_of(None, "cpu", "table1")


def test_numbers_and_durations_as_text(outputs: list[str]) -> None:
    assert number_text([-1.25], 1, "+") == "-1.2"
    assert number_text([0.5, 1.0, 1.5], 2) == "1.00 ± 0.50"
    assert [duration(seconds) for seconds in (12.4, 600, 7200)] == ["12 s", "10 min", "2.0 h"]
