"""python scripts/export.py: folders with the weights of a run that evaluate.py and sample.py take like the run."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import evaluate
from ffl.files import write_text
from ffl.training.checkpoint import load_checkpoint, model_state, save_checkpoint
from ffl.training.command import read_words
from ffl.training.objective import Objective
from ffl.training.program import compose
from ffl.training.run_directory import RunDirectory
from models import build_model
from run_config import check
from scripts import export as program
from scripts.import_checkpoint import image_size
from scripts.sample import sample_images

# Each model at its smallest, with metrics that need no weight files.
SMALL: dict[str, tuple[list[str], list[str]]] = {
    "ae": (["dataset.image_size=16"], ["psnr", "ssim", "spectrum_distance"]),
    "vae": (["dataset.image_size=16", "model.channels=4", "model.latent_dim=8"], ["psnr", "spectrum_distance"]),
    "pix2pix": (["dataset.image_size=32", "model.ngf=4", "model.ndf=4"], ["psnr"]),
    "spade": (["dataset.image_size=64", "model.ngf=4", "model.ndf=4", "model.use_vae=true"], ["psnr"]),
    "stylegan2": (["dataset.image_size=16", "model.channel_max=8"], ["spectrum_distance"]),
}

# What each needs to make images: no discriminator, and of StyleGAN2 the average alone.
NETWORKS = {
    "ae": ["network"],
    "vae": ["encoder", "decoder"],
    "pix2pix": ["generator"],
    "spade": ["generator", "encoder"],
    "stylegan2": ["generator_ema"],
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_run(name: str, *overrides: str) -> RunDirectory:
    """A run whose weights are the initial ones, as training would leave it after four steps."""
    small = ["debug=smoke", "dataset.test_images=6", f"cache_dir={Path.cwd()}/cache", "loss.ffl=true"]
    config = compose("train", [f"model={name}", *small, *SMALL[name][0], *overrides])
    check(config)
    run = RunDirectory.create(Path("outputs"), name, config)
    model = build_model(**config["model"], image_size=image_size(config), objective=Objective())
    save_checkpoint(run.last, {"step": 4, "model": model_state(model), "optimizers": {}, "best_error": None})
    return run


def export(*words: str) -> Path:
    """The program on the words of its command line."""
    return program.export(**read_words(program.export, list(words))[1])


def measure(folder: Path, *overrides: str) -> dict[str, float | None]:
    records = evaluate.evaluate(compose("evaluate", [f"run={folder}", *overrides]))
    return {record.metric: record.value for record in records if record.metric != "bands"}


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_measures_like_its_run(name: str) -> None:
    """Exactly, from the weights that generation needs and no others."""
    run = make_run(name)
    metrics = f"metrics=[{','.join(SMALL[name][1])}]"
    values = measure(run.path, metrics)
    folder = export(f"run={run.path}")
    assert folder == Path("outputs/export") / name
    assert measure(folder, metrics) == values
    state = load_checkpoint(folder / "model.safetensors", whole=False)
    whole = load_checkpoint(run.last)["model"]
    assert state["networks"] == NETWORKS[name]
    assert {key.partition(".")[0] for key in state["model"]} == set(NETWORKS[name])
    assert all(torch.equal(value, whole[key]) for key, value in state["model"].items())
    assert state["step"] == 4
    for records in (run.records, folder / "metrics.jsonl"):
        assert json.loads(records.read_text().splitlines()[0])["provenance"]["step"] == 4


def test_a_second_task_is_exported_too() -> None:
    run = make_run("vae")
    metrics = "metrics=[spectrum_distance]"
    values = [measure(run.path, metrics), measure(run.path, metrics, "task=synthesis")]
    folder = export(f"run={run.path}", "out=folder")
    assert [measure(folder, metrics), measure(folder, metrics, "task=synthesis")] == values
    files = {path.stem: yaml.safe_load(path.read_text()) for path in (folder / ".eval_results").iterdir()}
    assert {task: entries[0]["value"] for task, entries in files.items()} == {
        "reconstruction": values[0]["spectrum_distance"],
        "synthesis": values[1]["spectrum_distance"],
    }


def test_samples_of_a_folder_are_those_of_its_run() -> None:
    run = make_run("stylegan2")
    folder = export(f"run={run.path}")
    for path in (run.path, folder):
        sample_images(run=path, seeds="0-3", columns=2, accelerator="cpu", out=path / "grid.png")
    assert np.array_equal(*(np.asarray(Image.open(path / "grid.png")) for path in (run.path, folder)))


def test_the_checkpoint_that_is_asked_for() -> None:
    run = make_run("ae")
    state = load_checkpoint(run.last)
    best = {key: value + 1 for key, value in state["model"].items()}
    save_checkpoint(run.best, {"step": 2, "model": best, "validation_error": 0.5})
    for checkpoint, step, weights in (("last", 4, state["model"]), ("best", 2, best)):
        folder = export(f"run={run.path}", f"checkpoint={checkpoint}", f"out={checkpoint}")
        exported = load_checkpoint(folder / "model.safetensors", whole=False)
        assert exported["step"] == step
        assert exported["model"].keys() == weights.keys()
        assert all(torch.equal(value, weights[key]) for key, value in exported["model"].items())


def test_an_imported_network_alone_is_exported() -> None:
    """Without the encoder that the file of an official generator does not hold."""
    run = make_run("spade", "model.style=prior")
    weights = {k: v for k, v in load_checkpoint(run.last)["model"].items() if k.startswith("generator.")}
    save_checkpoint(run.last, {"step": None, "model": weights, "networks": ["generator"]})
    about = json.loads((run.path / "run.json").read_text())
    about["imported"] = {"kind": "spade_generator", "file": "latest_net_G.pth", "sha256": "ab" * 32}
    write_text(run.path / "run.json", json.dumps(about))
    folder = export(f"run={run.path}")
    state = load_checkpoint(folder / "model.safetensors", whole=False)
    assert (state["networks"], state["step"]) == (["generator"], None)
    assert measure(folder, "metrics=[psnr]") == measure(run.path, "metrics=[psnr]")
    card = (folder / "README.md").read_text()
    assert "imported from `latest_net_G.pth`" in card
    assert "- step of these weights: unknown" in card
    assert "## Measured\n\nNothing yet." in card


def test_the_card_says_what_the_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("ae", f"data_root={Path.cwd()}/data")
    values = measure(run.path, "metrics=[psnr,ssim,spectrum_distance]")
    measure(run.path, "metrics=[psnr]", "num_images=3")  # of fewer images, later
    measure(run.path, "metrics=[ssim]", "split=val")
    folder = export(f"run={run.path}")
    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    fields: dict[str, Any] = yaml.safe_load(head)
    assert fields["pipeline_tag"] == "image-to-image"
    assert (fields["datasets"], fields["metrics"]) == (["photos"], ["psnr", "ssim", "spectrum_distance"])
    assert {"license", "library_name", "tags"} <= fields.keys()
    row = next(line for line in text.splitlines() if line.startswith("| 6 reconstruction images |"))
    assert row.split(" | ")[1:] == [
        f"{value:.3f}{' |' * (name == 'spectrum_distance')}" for name, value in values.items()
    ]
    assert "| photos test | PSNR ↑ | SSIM ↑ | spectrum distance ↓ |" in text
    origin = json.loads((run.path / "run.json").read_text())
    assert f"- commit: {origin['commit']}" in text
    assert "- seed: 1112" in text
    assert "loss.ffl=true" in text

    # Nothing of this machine in the files: whoever gets the folder need not know where it was made.
    for path in (folder / "README.md", folder / "config.yaml", *folder.glob(".eval_results/*")):
        assert str(Path.cwd()) not in path.read_text()
    assert RunDirectory.open(folder).config()["data_root"] == "data"

    # The lines of Python are true.
    (lines,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.syspath_prepend(Path(program.__file__).parents[1])
    found: dict[str, Any] = {}
    exec(lines.replace("FOLDER", str(folder)), found)
    assert found["images"].shape == (4, 3, 16, 16)
    assert found["images"].abs().max() <= 1


def test_evaluation_results_have_the_form_of_the_hub() -> None:
    run = make_run("ae")
    values = measure(run.path, "metrics=[psnr,spectrum_distance]")
    entries = yaml.safe_load((run.path / "eval_results.yaml").read_text())
    assert {entry["dataset"]["task_id"]: entry["value"] for entry in entries} == values
    for entry in entries:
        assert entry.keys() == {"dataset", "value", "date", "source", "notes"}
        assert entry["dataset"].keys() == {"id", "task_id"}
        assert entry["dataset"]["id"] == "photos"
        assert entry["source"].keys() == {"url", "name"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", entry["date"])
        assert "quantisation paper" in entry["notes"]
        assert "\n" not in entry["notes"]
