"""The FID Inception network and both ways of preparing its input give the official outputs."""

from collections.abc import Callable

import pytest
import torch
from oracles import Case, names
from torch import Tensor
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.metrics.inception import InceptionFID, load_inception, preprocess_images, resize_tensorflow

NETWORK_CASES = [*names("j_inception_pytorchfid"), *names("j_inception_torchfidelity")]
OUTPUTS = {
    "pooled_64": "64",
    "pooled_192": "192",
    "pooled_768": "768",
    "pool3": "2048",
    "logits": "logits",
    "logits_unbiased": "logits_unbiased",
}


@pytest.fixture(scope="module")
def official() -> Callable[[Case], InceptionFID]:
    """The network with the weights by rule, which all cases share."""
    networks: list[InceptionFID] = []

    def load(case: Case) -> InceptionFID:
        if not networks:
            networks.append(load_inception(case.state_dict()))
        return networks[0]

    return load


def images_of(case: Case) -> Tensor:
    return case.tensors()["images"].permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", NETWORK_CASES)
def test_features_equal_official_ones(name: str, official: Callable[[Case], InceptionFID]) -> None:
    case = Case(name)
    network = official(case)
    maps: list[Tensor] = []
    handle = network.Mixed_6e.register_forward_hook(lambda module, inputs, output: maps.append(output))
    preprocess = "pytorch_fid" if "pytorchfid" in name else "torch_fidelity"
    features = network.features(images_of(case), preprocess)
    handle.remove()
    for output in case.entry["outputs"]:
        case.check(output, maps[0] if output == "block2" else features[OUTPUTS[output]])


@pytest.mark.parametrize("name", names("j_inception_resize"))
def test_preprocessing_equals_official_one(name: str) -> None:
    case = Case(name)
    images = images_of(case)
    case.check("tensorflow", resize_tensorflow(images.float(), 299))
    case.check("tensorflow_normalised", preprocess_images(images, "torch_fidelity"))
    case.check("pytorch_fid_normalised", preprocess_images(images, "pytorch_fid"))


def test_tensorflow_resize_by_hand() -> None:
    """Two pixels to four: positions 0, 0.5, 1, 1.5, the last beyond the last pixel."""
    images = torch.tensor([[0.0, 10.0], [20.0, 30.0]])[None, None]
    expected = torch.tensor([[0, 5, 10, 10], [10, 15, 20, 20], [20, 25, 30, 30], [20, 25, 30, 30]]).float()
    assert torch.equal(resize_tensorflow(images, 4)[0, 0], expected)


@pytest.mark.parametrize("name", names("j_inception_pytorchfid_64x64_noise"))
def test_keys_and_shapes_are_the_official_ones(name: str) -> None:
    expected = {key: list(value.shape) for key, value in InceptionFID().state_dict().items()}
    assert Case(name).key_shapes() == expected


def test_equals_pytorch_fid_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = pytest.importorskip("pytorch_fid.inception")
    network = InceptionFID()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # keeps features alive
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    monkeypatch.setattr(peer, "load_state_dict_from_url", lambda *args, **kwargs: network.state_dict())
    reference = peer.InceptionV3([0, 1, 2, 3], normalize_input=False, resize_input=False).eval()
    inputs = preprocess_images(torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8), "pytorch_fid")
    with torch.no_grad():
        features, maps = network.eval()(inputs), reference(inputs)
    for name, expected in zip(("64", "192", "768", "2048"), maps, strict=True):
        assert features[name].std() > 0
        assert torch.equal(features[name], F.adaptive_avg_pool2d(expected, 1).flatten(1)), name


def test_weights_that_do_not_fit_are_named() -> None:
    state = InceptionFID().state_dict()
    bias = state.pop("fc.bias")
    with pytest.raises(UserError, match=r"Inception .* missing: fc\.bias; unexpected: fc\.offset"):
        load_inception({**state, "fc.offset": bias})
    with pytest.raises(UserError, match=r"wrong shape: fc\.bias \(1000,\) for \(1008,\)"):
        load_inception({**state, "fc.bias": bias[:1000]})


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, 3, H, W\), got \(1, 1, 8, 8\)"):
        preprocess_images(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "pytorch_fid")
    with pytest.raises(ValueError, match="pytorch_fid, torch_fidelity, got 'clean'"):
        preprocess_images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "clean")  # type: ignore[arg-type]
