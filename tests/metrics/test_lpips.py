"""LPIPS equals the package's, with weights by rule and with our way of putting the published files together."""

from pathlib import Path

import pytest
import torch
from oracles import Case, names
from tiny_networks import random_images

import ffl.files
import ffl.weights
from ffl.errors import UserError
from ffl.metrics.lpips import LPIPS, build_lpips

package = pytest.importorskip("lpips")


@pytest.mark.parametrize("name", names("b_lpips"))
def test_equals_official_values(name: str) -> None:
    case = Case(name)
    metric = LPIPS(state_dict=case.state_dict())
    fake, real = (image.permute(2, 0, 1)[None] for image in case.tensors().values())
    values = metric.per_image(fake, real)
    case.check("lpips", values.float())
    scaled = [image.float().div(255).sub(0.5).div(0.5) for image in (fake, real)]
    _, layers = metric.network(*scaled, retPerLayer=True)
    case.check("per_layer", torch.cat([layer.flatten() for layer in layers]))


@pytest.fixture
def alexnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with a seeded AlexNet under the published name."""
    from torchvision.models import alexnet

    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path))
    path = tmp_path / ffl.weights.WEIGHTS["alexnet"].filename
    torch.manual_seed(3)
    torch.save(alexnet(weights=None).state_dict(), path)
    return path


def test_published_files_are_assembled_as_the_package_does(alexnet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself, given the same AlexNet file in place of its download, is the reference."""
    from torchvision import models

    def seeded(pretrained: bool = False, **_: object) -> torch.nn.Module:
        network = models.AlexNet()
        network.load_state_dict(torch.load(alexnet, weights_only=True))
        return network

    monkeypatch.setattr("lpips.pretrained_networks.tv.alexnet", seeded)
    reference = package.LPIPS(net="alex", verbose=False)
    fake, real = random_images(0, 3, 64), random_images(1, 3, 64)
    with torch.no_grad():
        expected = reference(fake / 127.5 - 1, real / 127.5 - 1).flatten()
    metric = LPIPS(verify_weights=False)
    metric.update(fake[:2], real[:2])
    metric.update(fake[2:], real[2:])
    torch.testing.assert_close(metric.compute().float(), expected.mean(), rtol=1e-5, atol=0)
    protocol = metric.protocol()
    assert protocol["weights"] == "alexnet-owt-7be5be79.pth"
    assert protocol["weights_sha256"] == ffl.files.file_sha256(alexnet)
    assert protocol["weights_verified"] is False


def test_a_file_that_is_not_the_published_one_is_refused(alexnet: Path) -> None:
    with pytest.raises(UserError, match=rf"bytes, but {alexnet.name} has 244408911"):
        LPIPS()


@pytest.mark.parametrize("name", names("b_lpips"))
def test_weights_that_do_not_fit_are_named(name: str) -> None:
    state = Case(name).state_dict()
    del state["net.slice1.0.bias"]
    with pytest.raises(UserError, match=r"missing: net\.slice1\.0\.bias; unexpected: other"):
        build_lpips({**state, "other": torch.zeros(1)})
