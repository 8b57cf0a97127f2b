"""DRN and UPerNet against the official implementations, and what happens with weights that do not fit."""

from typing import Any

import pytest
import torch
from oracles import Case, names
from tiny_networks import SMALL_DRN, small_upernet
from torch import Tensor, nn
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.metrics.segmenters import DRN, DRNArch, DRNSeg, UPerNet, drn_from_state_dict, upernet_from_state_dict


def check_prediction(case: Case, scores: Tensor, margin: float) -> None:
    """The official class wherever our two best scores are further apart than rounding can move them."""
    rows, columns = (slice(*bounds) for bounds in case.entry["outputs"]["prediction"]["slices"][1:])
    best = scores.topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1] > margin)[:, rows, columns]
    official = torch.from_numpy(case.arrays["prediction"]).long()
    assert clear.float().mean() > 0.99
    assert torch.equal(scores.argmax(1)[:, rows, columns][clear], official[clear])


@pytest.mark.parametrize("name", names("h_drnseg"))
def test_drn_segmentation_equals_official(name: str) -> None:
    case = Case(name)
    torch_up = case.args.get("use_torch_up", False)
    network = drn_from_state_dict(case.state_dict(), torch_up=torch_up)
    assert isinstance(network, DRNSeg)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == case.key_shapes()
    with torch.inference_mode():
        logits = network.logits(case.tensors()["image"])
        log_probabilities = torch.log_softmax(network.up(logits), dim=1)
    case.check("logits", logits)
    case.check("log_softmax", log_probabilities)
    check_prediction(case, log_probabilities, 2 * case.entry["tolerance"]["log_softmax"]["atol"])
    if not torch_up:
        kernel = network.get_parameter("up.weight")
        case.check("up_kernel", kernel[0, 0])
        assert torch.equal(kernel, kernel[:1].expand_as(kernel))


def test_drn_forward_is_log_softmax_of_upsampled_logits() -> None:
    network = DRNSeg(SMALL_DRN, 3).eval()
    images = torch.randn(1, 3, 16, 24)
    with torch.inference_mode():
        assert torch.equal(network(images), F.log_softmax(network.up(network.logits(images)), 1))


@pytest.mark.parametrize("name", names("h_drn_d22_classify"))
def test_drn_classification_equals_official(name: str) -> None:
    case = Case(name)
    network = drn_from_state_dict(case.state_dict(), pool_size=case.args["pool_size"])
    assert isinstance(network, DRN)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == case.key_shapes()
    with torch.inference_mode():
        case.check("scores", network(case.tensors()["image"]))
        for index, feature in enumerate(network.features(case.tensors()["image"])):
            case.check(f"middle{index}", feature)


@pytest.mark.parametrize("name", names("h_upernet101"))
def test_upernet_equals_official(name: str) -> None:
    case = Case(name)
    network = upernet_from_state_dict({part: case.state_dict(part) for part in ("encoder", "decoder")})
    bookkeeping = ("_tmp_running_mean", "_tmp_running_var", "_running_iter")
    for part in ("encoder", "decoder"):
        official = {k: s for k, s in case.key_shapes(part).items() if not k.endswith(bookkeeping)}
        assert {k: list(v.shape) for k, v in network.get_submodule(part).state_dict().items()} == official
    images = case.tensors()["image"]
    with torch.inference_mode():
        features = network.encoder(images)
        for index, feature in enumerate(features):
            case.check(f"conv{index + 2}", feature)
        scores = network.decoder(features)
        if case.args["use_softmax"]:
            probabilities = network.probabilities(images, tuple(case.args["segSize"]))
            case.check("probabilities", probabilities)
            check_prediction(case, probabilities, 2 * case.entry["tolerance"]["probabilities"]["atol"])
        else:
            case.check("log_softmax", torch.log_softmax(scores, dim=1))


@pytest.mark.parametrize(
    ("bottleneck", "depths"),
    [(False, (2, 2, 2, 2)), (False, (3, 4, 6, 3)), (True, (3, 4, 6, 3)), (True, (3, 4, 23, 3))],
    ids=["drn_d_22", "drn_d_38", "drn_d_54", "drn_d_105"],
)
def test_drn_arch_is_read_from_weights(bottleneck: bool, depths: tuple[int, ...]) -> None:
    arch = DRNArch(bottleneck, depths)
    with torch.device("meta"):
        state = DRNSeg(arch, 19).state_dict()
    built = drn_from_state_dict({key: torch.empty(value.shape, dtype=value.dtype) for key, value in state.items()})
    assert isinstance(built, DRNSeg)
    expansion = 4 if arch.bottleneck else 1
    assert [len(built.base[stage]) for stage in (3, 4, 5, 6)] == list(arch.depths)
    assert built.base[7][0].in_channels == 512 * expansion


def test_loaded_weights_are_used_and_frozen() -> None:
    drn, upernet = DRNSeg(SMALL_DRN, 3), small_upernet()
    loaded: list[tuple[nn.Module, nn.Module]] = [
        (drn, drn_from_state_dict(drn.state_dict())),
        (upernet.encoder, upernet_from_state_dict(parts(upernet)).encoder),
        (upernet.decoder, upernet_from_state_dict(parts(upernet)).decoder),
    ]
    for source, copy in loaded:
        assert not copy.training
        assert not any(parameter.requires_grad for parameter in copy.parameters())
        for key, value in source.state_dict().items():
            assert torch.equal(copy.state_dict()[key], value), key


def test_files_older_than_batch_counters_load() -> None:
    network = DRNSeg(SMALL_DRN, 3)
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    images = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(drn_from_state_dict(state)(images), network.eval()(images))


def test_drn_without_up_weight() -> None:
    state = DRNSeg(SMALL_DRN, 3).state_dict()
    del state["up.weight"]
    assert isinstance(drn_from_state_dict(state).get_submodule("up"), nn.UpsamplingBilinear2d)
    assert isinstance(drn_from_state_dict(state, torch_up=False).get_submodule("up"), nn.ConvTranspose2d)


def parts(network: UPerNet) -> dict[str, dict[str, Any]]:
    return {"encoder": network.encoder.state_dict(), "decoder": network.decoder.state_dict()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("base.3.0.bn1.weight"), "segmentation checkpoint: missing: base.3.0.bn1.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "unexpected: extra.weight"),
        (lambda s: s.update({"seg.bias": torch.zeros(4)}), "wrong shape: seg.bias \\(4,\\)"),
        (lambda s: s.pop("seg.weight"), "DRN-D segmentation checkpoint: missing: seg.weight"),
        (lambda s: s.clear(), "no complete DRN-D segmentation checkpoint"),
    ],
)
def test_wrong_drn_weights_are_named(change: Any, message: str) -> None:
    state = DRNSeg(SMALL_DRN, 3).state_dict()
    change(state)
    with pytest.raises(UserError, match=message) as error:
        drn_from_state_dict(state)
    assert "\n" not in str(error.value)


def test_wrong_upernet_weights_are_named() -> None:
    good = parts(small_upernet())
    with pytest.raises(UserError, match=r"encoder.*decoder.*got \['encoder'\]"):
        upernet_from_state_dict({"encoder": good["encoder"]})
    with pytest.raises(UserError, match=r"UPerNet decoder checkpoint: missing: conv_last.1.weight"):
        upernet_from_state_dict({**good, "decoder": {}})
    broken = {k: v for k, v in good["encoder"].items() if k != "bn3.bias"}
    with pytest.raises(UserError, match=r"UPerNet encoder checkpoint: missing: bn3\.bias"):
        upernet_from_state_dict({**good, "encoder": broken})
