"""ST-LPIPS as metrics: the published values from 8-bit images, and their mean over batches."""

import pytest
import torch
from oracles import Case, names
from tiny_networks import random_images

from ffl.metrics import METRICS, build_metric
from ffl.networks.stlpips import random_weights
from ffl.weights import WEIGHTS


@pytest.mark.parametrize("name", [*names("l_stlpips_alex_64"), *names("l_stlpips_vgg_64")])
def test_equals_official_values(name: str) -> None:
    pytest.importorskip("stlpips_pytorch")
    case = Case(name)
    metric = build_metric(f"stlpips_{case.args['net']}")
    images = {key: value.permute(0, 3, 1, 2) for key, value in case.tensors().items()}
    pairs = [key.removeprefix("img0_") for key in images if key.startswith("img0")]
    for pair in pairs:
        metric.update(images[f"img0_{pair}"], images[f"img1_{pair}"])
    values = metric.rows("values").float()
    case.check("distance", values)
    assert metric.compute().item() == pytest.approx(values.mean().item(), rel=1e-6)
    published, protocol = WEIGHTS[metric.name], metric.protocol()
    assert (protocol["weights_sha256"], protocol["weights_verified"]) == (published.sha256, True)


@pytest.mark.parametrize("name", ["stlpips_alex", "stlpips_vgg"])
def test_images_go_into_the_network_in_its_range(name: str) -> None:
    """Two 8-bit images against the network on x / 127.5 - 1; weights of one's own are said to be unverified."""
    metric = build_metric(name, state_dict=random_weights(METRICS[name].network))
    fake, real = random_images(0, 2, 24), random_images(1, 2, 24)
    metric.update(fake, real)
    expected = metric.distance(fake / 127.5 - 1, real / 127.5 - 1).mean()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-5)
    assert metric.protocol()["weights_verified"] is False


def test_what_is_refused() -> None:
    metric = build_metric("stlpips_alex", state_dict=random_weights("alex"))
    with pytest.raises(ValueError, match=r"H and W at least 21, got \(1, 3, 20, 20\)"):
        metric.update(random_images(0, 1, 20), random_images(1, 1, 20))
    with pytest.raises(TypeError, match=r"takes uint8 images, got torch\.float32"):
        metric.update(torch.zeros(1, 3, 24, 24), torch.zeros(1, 3, 24, 24))
    with pytest.raises(ValueError, match="takes pairs of one shape"):
        metric.update(random_images(0, 1, 24), random_images(1, 2, 24))
