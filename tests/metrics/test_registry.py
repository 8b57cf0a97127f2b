"""Every metric has what programs rely on."""

import pytest

from ffl.metrics import METRICS, build_metric

DIRECTIONS = {
    "psnr": True,
    "ssim": True,
    "lpips": False,
    "fid": False,
    "is": True,
    "kid": False,
    "lfd": False,
    "mse": False,
    "spectrum_distance": False,
    "spectrum_distance_top": False,
}


def test_names_and_directions() -> None:
    assert {name: METRICS[name].higher_is_better for name in DIRECTIONS} == DIRECTIONS
    assert all(METRICS[name].name == name for name in DIRECTIONS)
    assert {name: METRICS[name].inputs for name in ("psnr", "fid", "is")} == {
        "psnr": "pairs",
        "fid": "sets",
        "is": "fakes",
    }


@pytest.mark.parametrize("name", ["psnr", "ssim", "lfd", "mse", "spectrum_distance", "spectrum_distance_top"])
def test_metrics_without_weights_build_with_the_same_call(name: str) -> None:
    metric = build_metric(name, verify_weights=False, preprocess="torch_fidelity")
    assert metric.name == name
    assert metric.min_images == 1
    assert all(isinstance(value, str | int | float | bool | None) for value in metric.protocol().values())


def test_options_reach_the_metric() -> None:
    assert build_metric("psnr", crop_border=3).protocol()["crop_border"] == 3
