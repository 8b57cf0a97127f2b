"""FID, KID and IS: official values, the peers end to end, one network pass, exactness over batches, errors."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Case, names
from tiny_networks import random_images, tiny_features
from torch import Tensor

from ffl.errors import UserError
from ffl.metrics import (
    FID,
    KID,
    FrechetDistance,
    GenerativePrecision,
    GenerativeRecall,
    ImageMetric,
    InceptionScore,
    KernelDistance,
    build_metric,
)
from ffl.metrics.features import InceptionFeatures
from ffl.metrics.frechet import FeatureStatistics, frechet_distance
from ffl.metrics.inception import InceptionFID, load_inception
from ffl.metrics.inception_score import inception_score
from ffl.metrics.kid import kernel_distance
from ffl.metrics.reference_cache import ReferenceCache, hash_images
from ffl.weights import WEIGHTS


@pytest.mark.parametrize("name", names("j_isc_"))
def test_inception_score_equals_official_values(name: str) -> None:
    case = Case(name)
    ((kind, values),) = case.tensors().items()
    logits = values.log() if kind == "probabilities" else values
    splits = case.args["splits"]
    for suffix, (mean, std) in {
        "in_order": inception_score(logits, splits, shuffle=False),
        "shuffled": inception_score(logits, splits),
        # The classic formula drops the rows beyond a multiple of the number of splits.
        "classic": inception_score(logits[: len(logits) // splits * splits], splits, shuffle=False),
    }.items():
        case.check(f"mean_{suffix}", np.float64(mean))
        case.check(f"std_{suffix}", np.float64(std))


def test_inception_score_closed_forms() -> None:
    """Certain and evenly spread predictions score the number of classes; equal ones score 1."""
    certain = torch.eye(4).repeat(6, 1) * 1000
    assert inception_score(certain, splits=2, shuffle=False) == (
        pytest.approx(4, rel=1e-12),
        pytest.approx(0, abs=1e-12),
    )
    assert inception_score(torch.randn(5).repeat(8, 1), splits=2)[0] == pytest.approx(1, rel=1e-12)


def test_kernel_distance_by_explicit_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffl.metrics.kid.ROWS", 3)  # several uneven blocks
    monkeypatch.setattr("ffl.metrics.kid.COLUMNS", 2)
    real, fake = torch.randn(7, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64) + 0.5

    def mean_kernel(x: Tensor, y: Tensor, distinct: bool) -> float:
        values = [
            (float(a @ b) / 5 + 1) ** 3 for i, a in enumerate(x) for j, b in enumerate(y) if not (distinct and i == j)
        ]
        return sum(values) / len(values)

    expected = mean_kernel(real, real, True) + mean_kernel(fake, fake, True) - 2 * mean_kernel(real, fake, False)
    assert kernel_distance(real, fake).item() == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match=r"M, N >= 2, got \(7, 5\) and \(1, 5\)"):
        kernel_distance(real, fake[:1])


@pytest.fixture(scope="module")
def random_weights() -> dict[str, Tensor]:
    """Inception weights that keep features alive: He-scaled convolutions, trivial normalisation."""
    torch.manual_seed(11)
    network = InceptionFID()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network.state_dict()


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_weights: dict[str, Tensor]) -> Path:
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path))
    torch.save(random_weights, tmp_path / WEIGHTS["inception_fid"].filename)
    return tmp_path


def test_equal_torch_fidelity_end_to_end(weights_folder: Path) -> None:
    """IS, KID and FID of the peer on the same images with the same weights, its defaults but for the sizes."""
    peer = pytest.importorskip("torch_fidelity")
    real, fake = random_images(0, 6, 24), random_images(1, 6, 24, 60, 200)

    class Images(torch.utils.data.Dataset):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    expected = peer.calculate_metrics(
        input1=Images(fake),
        input2=Images(real),
        isc=True,
        kid=True,
        fid=True,
        isc_splits=3,
        kid_subsets=1,
        kid_subset_size=6,
        batch_size=6,
        save_cpu_ram=True,  # no worker processes
        feature_layer_fid="64",  # the peer's eigenvalues of 2048 dimensions take half a minute
        cuda=False,
        cache=False,
        verbose=False,
        feature_extractor_weights_path=str(weights_folder / WEIGHTS["inception_fid"].filename),
    )
    options: dict[str, dict[str, Any]] = {"is": {"splits": 3}, "kid": {}, "fid": {"feature": "64"}}
    metrics = {
        name: build_metric(name, verify_weights=False, preprocess="torch_fidelity", **extra)
        for name, extra in options.items()
    }
    assert len({id(metric.extractor) for metric in metrics.values()}) == 1
    for metric in metrics.values():
        feed(metric, real, fake)
    assert metrics["is"].compute().item() == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert metrics["kid"].compute().item() == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-4)
    assert metrics["fid"].compute().item() == pytest.approx(expected["frechet_inception_distance"], rel=1e-4)
    protocol = metrics["fid"].protocol()
    assert (protocol["preprocess"], protocol["weights_verified"]) == ("torch_fidelity", False)


def test_equals_pytorch_fid_end_to_end(random_weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda *args, **kwargs: random_weights)
    network = peer.InceptionV3([0]).eval()
    real, fake = random_images(2, 3, 24), random_images(3, 2, 24, 60, 200)
    statistics = []
    for images in (real, fake):
        with torch.no_grad():
            features = network(images.float() / 255)[0].mean((2, 3)).double().numpy()
        statistics += [features.mean(0), np.cov(features, rowvar=False)]
    metric = FID(feature="64", state_dict=random_weights)
    feed(metric, real, fake)
    assert metric.compute().item() == pytest.approx(frechet_distance(*statistics), rel=1e-4)


def inception_metrics(extractor: InceptionFeatures) -> list[FID | KID | InceptionScore]:
    return [FID(extractor=extractor, feature="64"), KID(extractor=extractor), InceptionScore(4, extractor=extractor)]


def feed(metric: ImageMetric, real: Tensor, fake: Tensor) -> None:
    if metric.inputs == "fakes":
        metric.update(fake)
    else:
        metric.update(real, real=True)
        metric.update(fake, real=False)


def test_metrics_of_one_extractor_share_its_pass() -> None:
    extractor = tiny_features()
    metrics = inception_metrics(extractor)
    for seed in range(3):
        real, fake = random_images(seed, 4), random_images(seed + 10, 4)
        for metric in metrics:
            feed(metric, real.clone(), fake)
    assert extractor.network.calls == 6  # 3 batches of each set, not 3 · (2 + 2 + 1)


def test_changed_images_are_not_taken_for_the_last_ones() -> None:
    extractor = tiny_features()
    images = random_images(0, 2)
    before = extractor(images)["64"].clone()
    images += 1
    assert not torch.equal(extractor(images)["64"], before)
    assert extractor.network.calls == 2
    clone = copy.deepcopy(extractor)
    clone(images)
    assert clone.network.calls == 3  # a copy starts without remembered batches


def test_extractors_are_shared_by_weights_and_preprocessing(random_weights: dict[str, Tensor]) -> None:
    first = InceptionFeatures.load("pytorch_fid", random_weights)
    assert InceptionFeatures.load("pytorch_fid", dict(random_weights)) is first
    assert InceptionFeatures.load("torch_fidelity", random_weights) is not first
    other = {**random_weights, "fc.bias": random_weights["fc.bias"] + 1}
    assert InceptionFeatures.load("pytorch_fid", other) is not first


def test_inception_score_follows_positions() -> None:
    extractor = tiny_features()
    images, order = random_images(6, 12), torch.randperm(12)
    expected, shuffled = InceptionScore(4, extractor=extractor), InceptionScore(4, extractor=extractor)
    expected.update(images)
    shuffled.update(images[order[:5]], positions=order[:5])
    shuffled.update(images[order[5:]], positions=order[5:])
    assert shuffled.compute().item() == pytest.approx(expected.compute().item(), rel=1e-7)
    with pytest.raises(ValueError, match=r"positions must be \(2,\), got \(3,\)"):
        shuffled.update(images[:2], positions=order[:3])


def test_fid_is_the_distance_between_numpy_statistics() -> None:
    extractor = tiny_features()
    real, fake = random_images(7, 40), random_images(8, 30, 16, 0, 200)
    metric = FID(extractor=extractor, feature="64")
    metric.update(real, real=True)
    metric.update(fake, real=False)
    features = [extractor(images)["64"].double().numpy() for images in (real, fake)]
    statistics = [value for x in features for value in (x.mean(0), np.cov(x, rowvar=False))]
    assert metric.compute().item() == pytest.approx(frechet_distance(*statistics), rel=1e-9)


def test_too_few_images() -> None:
    fid, kid, score = inception_metrics(tiny_features())
    images = random_images(9, 3)
    fid.update(images, real=True)
    fid.update(images[:1], real=False)
    with pytest.raises(UserError, match=r"fid: needs at least 2 generated images, got 1; .*10,000 to 50,000"):
        fid.compute()
    kid.update(images[:1], real=True)
    with pytest.raises(UserError, match="kid: needs at least 2 real images, got 1"):
        kid.compute()
    score.update(images)
    with pytest.raises(UserError, match="is: needs at least 4 images, one per split, got 3"):
        score.compute()
    assert (fid.min_images, kid.min_images, score.min_images) == (2, 2, 4)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"feature must be one of 64, .* got '1024'"):
        FID(feature="1024", extractor=tiny_features())
    with pytest.raises(ValueError, match="splits must be at least 1, got 0"):
        InceptionScore(0, extractor=tiny_features())
    with pytest.raises(ValueError, match=r"N >= splits = 10, got \(3, 5\)"):
        inception_score(torch.zeros(3, 5))
    with pytest.raises(TypeError, match="fid takes uint8 images"):
        FID(extractor=tiny_features()).update(random_images(0, 1).float(), real=True)
    with pytest.raises(UserError, match=r"unknown metric 'fod'; expected one of miou, .*, psnr, "):
        build_metric("fod")


def test_reference_features_are_computed_once(tmp_path: Path) -> None:
    """In another order and other batches the set is the same; metrics take what is kept as if they had seen it."""
    extractor, real, fake = tiny_features(), random_images(10, 12), random_images(11, 9)
    first = ReferenceCache(tmp_path / "reference", real.split(5), 12).features(extractor, "64")
    calls = extractor.network.calls
    cache = ReferenceCache(tmp_path / "reference", real.flip(0).split(4), 12)
    again = cache.features(extractor, "64")
    assert cache.features(extractor, "64") is again
    assert extractor.network.calls == calls
    assert first.statistics.count == again.statistics.count == 12
    assert torch.equal(first.statistics.outer, again.statistics.outer)
    assert again.features is not None
    torch.testing.assert_close(again.half.total, again.features[again.first].double().sum(0))
    torch.testing.assert_close(first.statistics.covariance(), FeatureStatistics.of(extractor(real)["64"]).covariance())
    for build in (FrechetDistance, KernelDistance, GenerativePrecision, GenerativeRecall):
        seen, cached = build(output="64", extractor=extractor), build(output="64", extractor=extractor)
        seen.update(real, real=True)
        cached.set_reference(again)
        for metric in (seen, cached):
            metric.update(fake, real=False)
        assert cached.compute().item() == pytest.approx(seen.compute().item(), rel=1e-10)
        assert cached.floor() == pytest.approx(seen.floor(), rel=1e-10)


def test_features_of_many_images_are_kept_as_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ffl.metrics.reference_cache.KEPT_ROWS", 11)
    extractor, real = tiny_features(), random_images(10, 12)
    for _ in range(2):  # computed, then read
        cache = ReferenceCache(tmp_path, [real], 12)
        assert not cache.keeps_rows
        found = cache.features(extractor, "64")
        assert (found.statistics.count, found.features, found.first) == (12, None, None)
    with pytest.raises(ValueError, match="kd takes the features of each image"):
        KernelDistance(output="64", extractor=extractor).set_reference(found)


def test_reference_key_is_content_preprocessing_weights_and_output(tmp_path: Path) -> None:
    extractor, images = tiny_features(), random_images(12, 3)
    other_weights = InceptionFeatures(extractor.network, "pytorch_fid", {"weights_sha256": "other"})
    other_preprocess = InceptionFeatures(extractor.network, "torch_fidelity", {"weights_sha256": "tiny"})
    changed = images.clone()
    changed[2, 1, 5, 5] ^= 1
    cache = ReferenceCache(tmp_path, [images], 3)
    sets = [changed, images[:2], images.reshape(3, 3, 8, 32)]
    paths = {
        cache.path(extractor),
        cache.path(extractor, "64"),
        cache.path(other_weights),
        cache.path(other_preprocess),
        *(ReferenceCache(tmp_path, [other], len(other)).path(extractor) for other in sets),
    }
    assert len(paths) == 7
    assert hash_images([images]) == hash_images(images.flip(0).split(2))


def test_damaged_reference_file_is_computed_again(tmp_path: Path) -> None:
    extractor, images = tiny_features(), random_images(13, 3)
    first = ReferenceCache(tmp_path, [images], 3).features(extractor, "64")
    (stored,) = tmp_path.iterdir()
    stored.write_bytes(stored.read_bytes()[:100])
    again = ReferenceCache(tmp_path, [images], 3).features(extractor, "64")
    assert torch.equal(first.statistics.total, again.statistics.total)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    with pytest.raises(ValueError, match="at least one batch"):
        ReferenceCache(tmp_path, [], 0).features(extractor, "64")


def test_load_inception_accepts_what_it_saved(random_weights: dict[str, Tensor]) -> None:
    network = load_inception(random_weights)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, random_weights[key]) for key, value in network.state_dict().items())
    assert math.isclose(network.Mixed_7c.branch_pool.bn.eps, 1e-3)
