"""Builds segmentation networks from official weight files; files that do not fit are refused, keys named."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from ffl.errors import UserError
from ffl.metrics.segmenters.drn import DRN, DRNSeg, infer_arch
from ffl.metrics.segmenters.upernet import ResNetEncoder, UPerNet, UPerNetDecoder

# Bookkeeping of batch normalisation, not read in evaluation. Files older than PyTorch 0.4.1 lack the counter,
# those of CSAIL have three more entries per layer.
BOOKKEEPING = (".num_batches_tracked", "._tmp_running_mean", "._tmp_running_var", "._running_iter")
FIXED_KERNEL = "up.weight"
NAMES_SHOWN = 4

Network = TypeVar("Network", bound=nn.Module)


def drn_from_state_dict(
    state_dict: Mapping[str, Tensor], *, torch_up: bool | None = None, pool_size: int = 28
) -> DRNSeg | DRN:
    """A dilated residual network in evaluation mode, its shape read from the weights.

    Args:
        state_dict: official weights: keys ``base.<i>...``, ``seg`` (segmentation) or ``layer<i>...``, ``fc``
            (classification).
        torch_up: which upsampling a segmentation network uses, see ``DRNSeg``. None decides by whether there
            is an ``up.weight``; False also takes weights without it, since that kernel is a constant.
        pool_size: see ``DRN``; classification only.
    Raises:
        UserError: the keys or shapes are not those of a DRN-D.
    """
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    classifier = "layer0.0.weight" in shapes
    head = "fc.weight" if classifier else "seg.weight"
    try:
        arch = infer_arch(shapes, "layer" if classifier else "base.")
        num_classes = shapes[head][0]
    except KeyError as missing:
        raise UserError(
            f"these are not the weights of a DRN-D: key {missing.args[0]!r} is missing; take an official file"
        ) from None
    if classifier:
        return _load(DRN(arch, num_classes, pool_size), state_dict, "DRN-D classifier")
    if torch_up is None:
        torch_up = FIXED_KERNEL not in shapes
    return _load(DRNSeg(arch, num_classes, torch_up), state_dict, "DRN-D segmentation network", (FIXED_KERNEL,))


def upernet_from_state_dict(state_dicts: Mapping[str, Mapping[str, Tensor]]) -> UPerNet:
    """UPerNet on a ResNet with bottlenecks, in evaluation mode, its shape read from the weights.

    Args:
        state_dicts: the two official files under "encoder" and "decoder".
    Raises:
        UserError: a part is missing, or its keys or shapes are not those of this network.
    """
    if set(state_dicts) != {"encoder", "decoder"}:
        raise UserError(f'UPerNet takes weights under "encoder" and "decoder", got {sorted(state_dicts)}')
    encoder_shapes = {key: tuple(value.shape) for key, value in state_dicts["encoder"].items()}
    decoder_shapes = {key: tuple(value.shape) for key, value in state_dicts["decoder"].items()}
    depths = [0, 0, 0, 0]
    for stage in range(4):
        while f"layer{stage + 1}.{depths[stage]}.conv1.weight" in encoder_shapes:
            depths[stage] += 1
    try:
        channels = [encoder_shapes[f"layer{stage}.0.conv1.weight"][0] for stage in (1, 2, 3, 4)]
        num_classes = decoder_shapes["conv_last.1.weight"][0]
        ppm_dim = decoder_shapes["ppm_conv.0.0.weight"][0]
        fpn_dim = decoder_shapes["ppm_last_conv.0.weight"][0]
    except KeyError as missing:
        raise UserError(
            f"these are not the weights of UPerNet on ResNet: key {missing.args[0]!r} is missing; "
            "take encoder and decoder of ade20k-resnet101-upernet"
        ) from None
    encoder = _load(ResNetEncoder(depths, channels), state_dicts["encoder"], "UPerNet encoder")
    in_channels = [4 * width for width in channels]
    decoder = UPerNetDecoder(num_classes, in_channels, ppm_dim, fpn_dim)
    return UPerNet(encoder, _load(decoder, state_dicts["decoder"], "UPerNet decoder")).eval()


def _load(
    network: Network,
    state_dict: Mapping[str, Tensor],
    name: str,
    optional: tuple[str, ...] = (),
) -> Network:
    own = network.state_dict()
    given = {key: value for key, value in state_dict.items() if not key.endswith(BOOKKEEPING)}
    complaints = []
    for kind, keys in (
        ("missing", [key for key in own if key not in given and not key.endswith((*BOOKKEEPING, *optional))]),
        ("unexpected", [key for key in given if key not in own]),
        ("misshapen", [key for key in given if key in own and given[key].shape != own[key].shape]),
    ):
        if keys:
            more = f" and {len(keys) - NAMES_SHOWN} more" if len(keys) > NAMES_SHOWN else ""
            complaints.append(f"{kind} keys: {', '.join(keys[:NAMES_SHOWN])}{more}")
    if complaints:
        raise UserError(f"these weights do not fit the {name}; {'; '.join(complaints)}")
    network.load_state_dict({**own, **given})
    return network.requires_grad_(False).eval()
