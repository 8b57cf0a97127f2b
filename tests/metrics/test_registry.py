"""Every metric has what programs and tables rely on."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from ffl.errors import UserError
from ffl.metrics import METRICS, build_metric, task_metrics
from ffl.weights import WEIGHTS, MissingWeights

ALL = ("reconstruction", "synthesis", "translation", "semantic")
# What a metric takes, the direction of improvement, and how tables show it: head, factor, digits (None: the table's).
ATTRIBUTES = {
    "miou": ("labels", True, "mIoU", 100, None),
    "miou_own": ("labels", True, "own mIoU", 100, None),
    "accuracy": ("labels", True, "accu", 100, None),
    "accuracy_all": ("labels", True, "accu", 100, None),
    "accuracy_own": ("labels", True, "own accu", 100, None),
    "psnr": ("pairs", True, "PSNR", 1, None),
    "ssim": ("pairs", True, "SSIM", 1, None),
    "lpips": ("pairs", False, "LPIPS", 1, None),
    "stlpips_alex": ("pairs", False, "ST-LPIPS", 1, 3),
    "stlpips_vgg": ("pairs", False, "ST-LPIPS (VGG)", 1, 3),
    "fid": ("sets", False, "FID", 1, None),
    "fd_effnet_lite0": ("sets", False, "FD-EffNet", 1, None),
    "fd": ("sets", False, "FD", 1, None),
    "is": ("fakes", True, "IS", 1, None),
    "is_effnet_lite0": ("fakes", True, "IS-EffNet", 1, None),
    "kid": ("sets", False, "KID", 1, 4),
    "kd_effnet_lite0": ("sets", False, "KD-EffNet", 1, 4),
    "kd": ("sets", False, "KD", 1, 4),
    "precision": ("sets", True, "precision", 1, 3),
    "recall": ("sets", True, "recall", 1, 3),
    "lfd": ("pairs", False, "LFD", 1, None),
    "mse": ("pairs", False, "MSE", 1, None),
    "spectrum_distance": ("sets", False, "spectrum distance", 1, 3),
    "spectrum_distance_top": ("sets", False, "its top octave", 1, 3),
    "coherence_top": ("pairs", True, "coherence, top octave", 1, 3),
}
# What the paper's tables report for each task, what stands beside it, and the spectrum distance.
SPECTRUM = ["spectrum_distance", "spectrum_distance_top"]
SCORES = ["fid", "fd_effnet_lite0", "is", "is_effnet_lite0"]
TASK_METRICS = {
    "reconstruction": [
        *("psnr", "ssim", "lpips", "stlpips_alex", "fid", "fd_effnet_lite0", "lfd"),
        *SPECTRUM,
        "coherence_top",
    ],
    "synthesis": [*SCORES, "kid", "kd_effnet_lite0", "precision", "recall", *SPECTRUM],
    "translation": ["stlpips_alex", *SCORES, "kd_effnet_lite0", *SPECTRUM],
    "semantic": [
        *("miou", "miou_own", "accuracy", "accuracy_all", "accuracy_own", "stlpips_alex"),
        *("fid", "fd_effnet_lite0", "kd_effnet_lite0"),
        *SPECTRUM,
    ],
    "segmentation": ["miou_own", "accuracy_own"],
}


def test_every_metric_says_what_it_takes_and_how_it_is_shown() -> None:
    found = {
        name: (metric.inputs, metric.higher_is_better, metric.label, metric.unit, metric.digits)
        for name, metric in METRICS.items()
    }
    assert found == ATTRIBUTES
    assert all(metric.name == name for name, metric in METRICS.items())


def test_default_metrics_of_each_task_in_their_order() -> None:
    assert {task: task_metrics(task) for task in TASK_METRICS} == TASK_METRICS
    assert {task for metric in METRICS.values() for task in metric.tasks} == TASK_METRICS.keys()


@pytest.mark.parametrize(
    "name", ["psnr", "ssim", "lfd", "mse", "spectrum_distance", "spectrum_distance_top", "coherence_top"]
)
def test_metrics_without_weights_build_with_the_same_call(name: str) -> None:
    metric = build_metric(name, verify_weights=False, preprocess="torch_fidelity")
    assert metric.name == name
    assert metric.min_images == 1
    assert all(isinstance(value, str | int | float | bool | None) for value in metric.protocol().values())


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("fid", {}, "inception_fid"),
        ("kid", {}, "inception_fid"),
        ("is", {}, "inception_fid"),
        ("lpips", {}, "alexnet"),
        ("miou", {"label_set": "cityscapes"}, "drn_d_105_cityscapes"),
        ("accuracy", {"label_set": "ade20k"}, "upernet101_encoder"),
    ],
)
def test_missing_weights_say_how_to_get_them(
    name: str, options: dict[str, str], weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights, match=rf"^{re.escape(WEIGHTS[weights].filename)} .* {weights}$"):
        build_metric(name, **options)


@pytest.mark.parametrize("name", ["stlpips_alex", "stlpips_vgg"])
def test_an_absent_package_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    with pytest.raises(
        MissingWeights, match=r"^stlpips_pytorch/.* is not installed; run: pip install stlpips-pytorch$"
    ):
        build_metric(name)


def test_options_reach_the_metric() -> None:
    assert build_metric("psnr", crop_border=3).protocol()["crop_border"] == 3


@pytest.mark.parametrize("module", ["torchmetrics", "scipy.linalg", "lpips"])
def test_a_missing_package_names_its_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for loaded in [name for name in sys.modules if name.startswith("ffl.metrics")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    with pytest.raises(UserError, match=rf"^{package} .* pip install 'focal-frequency\[metrics\]'$"):
        importlib.import_module("ffl.metrics")
