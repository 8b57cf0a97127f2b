"""configs/table: every table composes to runs that train.py takes, at every scale."""

import re
from typing import Any

import pytest
import yaml

from ffl.errors import UserError
from ffl.training.program import compose
from ffl.training.words import CONFIG_DIR
from models import MODELS
from run_config import check
from scripts.reproduce import choose
from scripts.tables import make_run, parse_table, read_table, row_run, table_names

SMALL: dict[str, Any] = {
    "title": "small",
    "labels": ["Loss"],
    "groups": {"g": {"title": "", "task": "reconstruction", "metrics": ["psnr"]}},
    "rows": {"a": {"labels": ["A"], "runs": {"g": ["model=ae", "dataset=photos", "loss.ffl=false"]}}},
}


def test_names_are_in_the_order_of_the_paper() -> None:
    assert table_names()[:11] == [f"table{number}" for number in range(1, 12)]
    assert "photos" in table_names()


@pytest.mark.parametrize("scale", ["paper", "cpu"])
@pytest.mark.parametrize("name", table_names())
def test_every_run_of_every_table_is_one_that_train_takes(name: str, scale: str) -> None:
    table = read_table(name)
    for row in table.rows:
        for group in table.rows[row].runs:
            run = row_run(table, row, group, scale)
            check(run.config)
            assert table.groups[group].task in MODELS[run.config["model"]["name"]].tasks
            assert ("scale=cpu" in run.overrides) == (scale == "cpu")


def test_equal_rows_are_one_run() -> None:
    names = {
        row_run(read_table(table), row, "reconstruction", "cpu").name
        for table, row in (("1", "celeba_with"), ("8", "full"), ("9", "alpha_1"), ("10", "patch_1"))
    }
    assert names == {"ae-celeba_64-ffl-scalecpu"}


@pytest.mark.parametrize(
    ("table", "row", "group", "command"),
    [
        ("1", "celeba_without", "reconstruction", "model=ae dataset=celeba_64 scale=cpu loss.ffl=false"),
        ("9", "alpha_2", "reconstruction", "model=ae dataset=celeba_64 scale=cpu loss.ffl=true loss.alpha=2"),
        ("10", "patch_2", "reconstruction", "model=ae dataset=celeba_64 scale=cpu loss.ffl=true loss.patch_factor=2"),
        (
            "8",
            "no_freq_no_mse",
            "reconstruction",
            "loss.ffl=true loss.ablation=no_freq model.mse_weight=0.0 model=ae dataset=celeba_64 scale=cpu",
        ),
        (
            "6",
            "celeba_hq_with",
            "synthesis",
            "model=stylegan2 dataset=celeba_64 dataset.image_size=32 scale=cpu model.r1_gamma=0.0128 loss.ffl=true",
        ),
    ],
)
def test_a_row_is_what_train_makes_from_the_same_overrides(table: str, row: str, group: str, command: str) -> None:
    ours, by_hand = row_run(read_table(table), row, group, "cpu"), make_run(command.split())
    assert ours.name == by_hand.name
    assert ours.config == by_hand.config


def test_seeds_and_free_keys() -> None:
    table = read_table("table1")
    first = row_run(table, "dtd_with", "reconstruction")
    moved = row_run(table, "dtd_with", "reconstruction", overrides=["data_root=/elsewhere", "trainer.threads=1"])
    second = row_run(table, "dtd_with", "reconstruction", seed=1113)
    assert first.name == moved.name == "ae-dtd-ffl"
    assert second.name == "ae-dtd-ffl-seed1113"
    assert (first.config["seed"], second.config["seed"]) == (1112, 1113)
    assert first.command == "python train.py model=ae dataset=dtd loss.ffl=true"
    assert row_run(read_table("5"), "crn", "cityscapes") is None


def test_a_scale_takes_stand_ins_for_data_sets_and_a_table_may_change_more() -> None:
    for table, row, group, scale, dataset in (
        ("1", "celeba_with", "reconstruction", "cpu", "celeba_64"),
        ("1", "celeba_with", "reconstruction", "paper", "celeba"),
        ("1", "dtd_with", "reconstruction", "cpu", "dtd"),
        ("6", "celeba_hq_with", "synthesis", "cpu", "celeba_64"),
    ):
        assert row_run(read_table(table), row, group, scale).config["dataset"]["name"] == dataset


def test_a_scale_may_change_one_row_alone() -> None:
    table = read_table("7")
    for row, scale, changed in (("perceptual", "cpu", True), ("perceptual", "paper", False), ("ffl", "cpu", False)):
        run = row_run(table, row, "vae_synthesis", scale)
        assert ("loss.perceptual_network=stlpips_vgg" in run.overrides) == changed


EMBEDDED = {"lpips": "stlpips_alex", "fid": "fd_effnet_lite0", "is": "is_effnet_lite0"}
FEW_IMAGES = {"photos", "photos_vae"}  # too few for a Fréchet distance


@pytest.mark.parametrize("name", table_names())
def test_an_embedded_metric_stands_beside_each_official_one_that_needs_a_download(name: str) -> None:
    embedded = EMBEDDED | ({"fid": "kd_effnet_lite0"} if name in FEW_IMAGES else {})
    for group in read_table(name).groups.values():
        columns = group.all_metrics
        assert [column for column in columns if column in group.metrics] == group.metrics  # the paper's order
        for official in set(group.metrics) & embedded.keys():
            assert columns[columns.index(official) + 1] == embedded[official]


@pytest.mark.parametrize(
    "words",
    [
        "model=ae dataset=celeba_64 loss.ffl=true scale=cpu trainer.steps=3 data_root='a b' loss.alpha=1e-1",
        "model=vae dataset=photos debug=smoke recipe.epochs={default:3} model.betas=[0.5,0.9]",
        "model=spade dataset=cityscapes scale=cpu ++trainer.threads=1 name=x",
        "model=stylegan2 dataset=celeba_hq trainer=gpu seed=0 model.noise=none",
    ],
)
def test_a_run_is_composed_as_hydra_does(words: str) -> None:
    overrides = re.findall(r"\S+='[^']*'|\S+", words)
    assert make_run(overrides).config == compose("train", [*overrides, "resume=auto"])


def test_the_paper_scale_reduces_nothing() -> None:
    """It has no settings; what runs have without any is compared with the paper in tests/test_paper_settings.py."""
    assert yaml.safe_load((CONFIG_DIR / "scale" / "paper.yaml").read_text()) is None
    assert not list((CONFIG_DIR / "scale").rglob("paper_*"))
    for name, row, size, epochs in (("1", "dtd_with", 64, 200), ("6", "celeba_hq_with", 256, 926)):
        table = read_table(name)
        (group,) = table.groups
        assert "paper" not in table.scales
        run = row_run(table, row, group, "paper")
        assert (run.config["dataset"]["image_size"], run.config["trainer"]["epochs"]) == (size, epochs)
        assert not any(item.startswith("scale") for item in run.overrides)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, "unknown key table t.titel: did you mean table t.title?"),
        ({"groups": {"g": {"title": "", "task": "painting", "metrics": ["psnr"]}}}, "groups.g.task=painting"),
        ({"groups": {"g": {"title": "", "task": "synthesis", "metrics": ["psnrr"]}}}, "unknown metric psnrr"),
        ({"rows": {"a": {"labels": ["A", "B"], "quoted": True}}}, "rows.a.labels: expected 1"),
        ({"rows": {"a": {"labels": ["A"], "runs": {"h": []}}}}, "rows.a.runs: no group h; groups are g"),
        ({"rows": {"a": {"labels": ["A"]}}}, "rows.a: give it either runs or quoted: true"),
        ({"compare": [["a", "b"]]}, "compare: no row b; rows are a"),
        ({"scales": {"cpu": {"rows": {"c": []}}}}, "scales.cpu.rows: no row c; rows are a"),
        ({"scales": {"cpu": {"groups": {"c": []}}}}, "scales.cpu.groups: no group c; groups are "),
    ],
)
def test_mistakes_in_a_table_file_are_named(change: dict[str, Any], message: str) -> None:
    assert parse_table("t", SMALL).rows["a"].labels == ["A"]
    with pytest.raises(UserError, match=re.escape(message)):
        parse_table("t", {**SMALL, **change})


def test_rows_are_chosen_in_the_order_of_the_table() -> None:
    rows = list(read_table("8").rows)
    assert choose("table8", "rows", rows, ["full", "baseline"]) == ["baseline", "full"]
    assert choose("table8", "rows", rows, None) == rows
    with pytest.raises(UserError, match=r"rows=ful: table8 has no such row; its rows are baseline, full, no_freq"):
        choose("table8", "rows", rows, ["ful"])
