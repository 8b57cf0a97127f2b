"""An evaluation that was killed goes on, to the same numbers, and takes nothing that is not its own."""

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processes import ROOT, Program, ranks, write_images

import train
from ffl.training.program import compose

PAIRS = "metrics=[psnr,ssim,lfd,mse,coherence_top,fid,kid,spectrum_distance,spectrum_distance_top]"
SETS = "metrics=[fid,kid,precision,recall,is,spectrum_distance]"
EVALUATIONS = {
    "reconstruction": ["run=outputs/vae", PAIRS],
    "synthesis": ["run=outputs/vae", "task=synthesis", "num_images=40", SETS],
    "folders": ["real=real", "fake=fake", PAIRS],
}
UNFINISHED = "*unfinished*"


def _evaluate(words: list[str], batches: int | None = None) -> None:
    """``python evaluate.py`` with stand-ins for networks, which saves often and dies before a batch of its own."""
    import sys

    sys.path.insert(0, str(ROOT / "tests/metrics"))
    from tiny_networks import tiny_features

    import evaluate
    import ffl.training.evaluation as evaluation
    from ffl.training.exits import report_user_errors

    extractor, build = tiny_features(), evaluation.build_metric
    of_networks = {"fid", "kid", "precision", "recall", "is"}

    def build_metric(name: str, verify_weights: bool, **options: Any) -> Any:
        few = {"feature": "64"} if name == "fid" else {}  # its states of 2048 features would take 100 MB
        return build(name, extractor=extractor, **few) if name in of_networks else build(name, **options)

    def die(make: Any) -> Any:
        def made(*arguments: Any) -> Any:
            for number, batch in enumerate(make(*arguments), arguments[-1]):
                if number == batches:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch

        return made

    evaluation.build_metric, evaluation.SAVE_EVERY = build_metric, 2
    evaluate.generated_images, evaluate.read_pairs = die(evaluate.generated_images), die(evaluate.read_pairs)
    with report_user_errors():
        evaluate.evaluate(compose("evaluate", words))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and two folders of images, some smaller than the others."""
    folder = tmp_path_factory.mktemp("trained")
    words = [*write_images(folder / "images"), f"cache_dir={folder / 'outputs/cache'}", "dataset.test_fraction=0.5"]
    words += ["trainer.batch_size=8", "trainer.steps=2", "model=vae", "model.channels=4", "name=vae"]
    train.train(compose("train", [*words, f"output_root={folder / 'outputs'}"]), words)
    for number in range(24):
        for name in ("real", "fake"):
            (folder / name).mkdir(exist_ok=True)
            pixels = np.random.default_rng([number, len(name), name == "real"]).integers(0, 256, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def measured(out: Path) -> list[dict[str, Any]]:
    """The records, without what no two evaluations have in common."""
    (path,) = out.glob("metrics*.json")
    records = json.loads(path.read_text())["records"]
    return [{key: value for key, value in record.items() if key not in ("utc", "seconds")} for record in records]


def run(folder: Path, words: list[str], out: Path, count: int = 1, batches: int | None = None) -> list[Program]:
    """An evaluation by ``count`` processes, which has ended."""
    words = [*words, "batch_size=3", f"out={out}", "accelerator=cpu"]
    programs = ranks(_evaluate, words, batches, cwd=folder, world_size=count, name=f"{out.name}{batches}")
    for program in programs:
        program.wait()
    return programs


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_killed_evaluation_goes_on_to_the_same_numbers(trained: Path, tmp_path: Path, name: str, count: int) -> None:
    (whole,) = run(trained, EVALUATIONS[name], tmp_path / "whole")
    assert whole.wait() == 0, whole.err
    expected = measured(tmp_path / "whole")
    assert all(record["value"] is not None for record in expected if record["metric"] != "bands")
    if count == 2:
        run(trained, EVALUATIONS[name], tmp_path / "two", count)
        expected, one = measured(tmp_path / "two"), expected
        assert [r["metric"] for r in expected] == [r["metric"] for r in one]

    # Killed after three batches, one of which no state holds; and again later.
    killed = run(trained, EVALUATIONS[name], tmp_path / "cut", count, batches=3)
    assert -signal.SIGKILL in [program.wait() for program in killed]
    assert len(list((tmp_path / "cut").glob(UNFINISHED))) == count
    assert not list((tmp_path / "cut").glob("metrics*.json*"))
    if count == 1:
        (again,) = run(trained, EVALUATIONS[name], tmp_path / "cut", count, batches=5)
        assert again.wait() == -signal.SIGKILL
        assert "going on after 6 images" in again.out
    programs = run(trained, EVALUATIONS[name], tmp_path / "cut", count)
    assert [program.wait() for program in programs] == [0] * count, programs[0].err
    assert f"going on after {6 if count == 2 else 12} images of an evaluation that was cut" in programs[0].out
    assert measured(tmp_path / "cut") == expected
    assert not list((tmp_path / "cut").glob(UNFINISHED))


def another_metric(folder: Path, words: list[str]) -> list[str]:
    return [*words, "metrics=[psnr]"]


def another_seed(folder: Path, words: list[str]) -> list[str]:
    return [*words, "seed=1"]


def other_weights(folder: Path, words: list[str]) -> list[str]:
    path = folder / "outputs/vae/checkpoints/last.pt"
    state = torch.load(path, weights_only=True)
    for weights in state["model"].values():
        if weights.is_floating_point():
            weights *= 1.5
    torch.save(state, path)
    return words


def another_file(folder: Path, words: list[str]) -> list[str]:
    Image.new("RGB", (16, 16), "red").save(folder / "fake/3.png")
    return words


def a_cut_file(folder: Path, words: list[str]) -> list[str]:
    (path,) = (folder / "out").glob(UNFINISHED)
    path.write_bytes(path.read_bytes()[:-100])
    return words


def an_altered_file(folder: Path, words: list[str]) -> list[str]:
    (path,) = (folder / "out").glob(UNFINISHED)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return words


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reconstruction", another_metric),
        ("reconstruction", another_seed),
        ("reconstruction", other_weights),
        ("folders", another_file),
        ("reconstruction", a_cut_file),
        ("reconstruction", an_altered_file),
    ],
)
def test_states_of_anything_else_are_left_alone(trained: Path, tmp_path: Path, name: str, change: Any) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    run(folder, EVALUATIONS[name], folder / "out", batches=3)
    assert list((folder / "out").glob(UNFINISHED))
    words = change(folder, EVALUATIONS[name])
    (again,) = run(folder, words, folder / "out")
    assert again.wait() == 0, again.err
    assert "going on" not in again.out
    assert ("cannot be used" in again.err) == (change in (a_cut_file, an_altered_file))
    assert not list((folder / "out").glob(UNFINISHED))
    (fresh,) = run(folder, words, folder / "fresh")
    assert fresh.wait() == 0, fresh.err
    assert measured(folder / "out") == measured(folder / "fresh")


def test_a_full_disk_costs_the_states_alone(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import evaluate
    from ffl.training import evaluation, unfinished

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(trained)
    monkeypatch.setattr(unfinished, "save_checkpoint", full)
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 2)
    words = ["run=outputs/vae", "metrics=[psnr]", "batch_size=3", f"out={tmp_path}"]
    assert evaluate.evaluate(compose("evaluate", words))[0].value is not None
    assert "if this evaluation is cut, it begins anew" in caplog.text
