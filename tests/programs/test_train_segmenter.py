"""The segmenter from its command to the ceiling of an evaluation, on embedded images."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from tiny_runs import state_hash

import evaluate as evaluation
import train
from ffl.errors import UserError
from ffl.training.command import read_words
from ffl.training.program import compose
from scripts.train_segmenter import train_segmenter

TINY = ["dataset=photos", "dataset.image_size=32", "dataset.train_images=24", "dataset.test_images=6"]
STEPS = ["trainer.steps=40", "trainer.batch_size=8", "trainer.checkpoint_every=20"]
SMALL = ["model.channels=4", "model.levels=2", "model.lr=0.01"]
RUN = Path("outputs/segmenter-photos-32")


def segment(*words: str) -> None:
    """The program on the words of its command line."""
    train_segmenter(**read_words(train_segmenter, [*TINY, *STEPS, *SMALL, *words])[1])


def measure(*words: str) -> dict[str, dict[str, object]]:
    """Records of an evaluation by metric."""
    config = compose("evaluate", list(words))
    return {record.metric: record.to_json() for record in evaluation.evaluate(config)}


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a segmenter and SPADE have been trained for some steps on label maps of brightness."""
    folder = tmp_path_factory.mktemp("segmented")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        segment()
        spade = ["model=spade", "debug=smoke", *TINY[1:], "trainer.steps=1", "trainer.batch_size=2", "name=spade"]
        train.train(compose("train", [*spade, "model.ngf=4", "model.ndf=4", "model.vgg_weight=0"]), [])
    return folder


@pytest.fixture
def folder(segmented: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(segmented)
    return segmented


def test_it_is_a_run_like_any_other_with_its_scores_of_the_real_images(folder: Path) -> None:
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert (config["model"]["name"], config["dataset"]["label_levels"]) == ("segmenter", 8)
    assert json.loads((RUN / "status.json").read_text())["finished"]
    assert len(list((RUN / "samples").glob("*.png"))) == 1
    values = json.loads((RUN / "metrics.json").read_text())
    assert list(values) == ["miou_own", "accuracy_own", "records"]
    for record in values["records"]:
        assert 0 < record["value"] <= 1
        assert record["ceiling"] == record["value"]
        assert record["num_images"] == 6
        assert record["protocol"]["task"] == "segmentation"


def test_generated_images_are_judged_with_the_ceiling_beside(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = measure("run=outputs/spade", "metrics=[miou_own,accuracy_own,fd_effnet_lite0]", "batch_size=4")
    printed = capsys.readouterr().out
    assert "| metric | value | floor | ceiling | images |" in printed
    assert "ceiling: the score of the real images" in printed
    of_real = json.loads((RUN / "metrics.json").read_text())
    for name in ("miou_own", "accuracy_own"):
        assert records[name]["ceiling"] == of_real[name]
        assert 0 <= records[name]["value"] < of_real[name]
        assert records[name]["protocol"]["network"] == "U-Net of ours, segmenter-photos-32"
    assert "ceiling" not in records["fd_effnet_lite0"]
    named = measure("run=outputs/spade", f"segmenter={RUN}", "metrics=[miou_own]", "out=elsewhere")
    assert named["miou_own"]["value"] == records["miou_own"]["value"]


def test_a_cut_run_ends_with_the_weights_of_the_unbroken_one(folder: Path, tmp_path: Path) -> None:
    want = torch.load(RUN / "checkpoints/last.pt", weights_only=True)
    cut = tmp_path / "outputs" / RUN.name
    shutil.copytree(RUN, cut)
    (cut / "checkpoints/previous.pt").replace(cut / "checkpoints/last.pt")  # of step 20 of 40
    assert torch.load(cut / "checkpoints/last.pt", weights_only=True)["step"] == 20
    segment(f"output_root={cut.parent}")
    found = torch.load(cut / "checkpoints/last.pt", weights_only=True)
    assert found["step"] == 40
    assert state_hash(found) == state_hash(want)


def test_a_segmenter_that_is_not_there_is_missing_with_the_command(folder: Path) -> None:
    shutil.copytree("outputs/spade", "alone/spade")
    record = measure("run=alone/spade", "metrics=[miou_own]")["miou_own"]
    assert record["value"] is None
    assert str(record["missing"]).endswith(
        "run: python scripts/train_segmenter.py dataset=photos dataset.image_size=32"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run=outputs/spade", "segmenter=outputs/spade", "metrics=[miou_own]"],
            "outputs/spade: holds a spade of photos",
        ),
        (
            ["run=outputs/spade", f"segmenter={RUN}", "metrics=[psnr]"],
            "no metric takes it; ask for some of miou_own acc",
        ),
        ([f"run={RUN}", "metrics=[psnr]"], "psnr: judges generated images, and a segmenter makes none; choose among"),
        ([f"run={RUN}", "task=semantic"], "task=semantic: segmenter does segmentation"),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure(*words)


def test_another_configuration_is_not_trained_into_the_same_run(folder: Path) -> None:
    with pytest.raises(UserError, match="segmenter-photos-32 was started with another configuration: seed: 1112 -> 7"):
        segment("seed=7")
