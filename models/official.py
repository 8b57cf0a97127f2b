"""Official checkpoints: networks built and loaded from published state dicts.

The architecture is read from the shapes of the weights, by a function that stands beside each network. Options under
the names of the official programs (as in the ``opt.txt`` beside a checkpoint) are needed only for what shapes do not
tell; the others may be given, and must then agree with the weights.
"""

import argparse
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ffl.errors import UserError
from ffl.state_dicts import Architecture, StateDict
from ffl.tensor_files import UnreadableTensors, read_tensors
from models import ae, pix2pix
from models.spade import official as spade
from models.stylegan2 import official as stylegan2
from models.stylegan2.pickles import read_official_network

KINDS: dict[str, Callable[..., Architecture]] = {
    "vanilla_ae": ae.official_autoencoder,
    "pix2pix_generator": pix2pix.official_generator,
    "pix2pix_discriminator": pix2pix.official_discriminator,
    "spade_generator": spade.official_generator,
    "spade_discriminator": spade.official_discriminator,
    "spade_encoder": spade.official_encoder,
    "stylegan2_rosinality": stylegan2.rosinality_network,
    "stylegan2_nvlabs": stylegan2.nvlabs_network,
}


METRIC_NETWORKS = ("drn", "upernet", "inception_fid")


def load_official(kind: str, state_dict: Mapping[str, Any], **options: Any) -> nn.Module:
    """The network of an official checkpoint, in evaluation mode.

    Args:
        kind: a key of ``KINDS`` or ``METRIC_NETWORKS``.
        state_dict: keys to tensors; for "upernet" a dict of two such under "encoder" and "decoder". A
            ``module.`` before every key, from ``DataParallel``, is dropped. "stylegan2_rosinality" takes whole
            checkpoints too.
        options: of the official program. Only these can't be read from shapes: ``use_dropout`` of
            "pix2pix_generator"; ``crop_size``, ``aspect_ratio`` and ``num_upsampling_layers`` of
            "spade_generator", which are those of the official data set where the label channels are those of
            Cityscapes or ADE20K; ``part`` ("g_ema", "g" or "d") and ``mbstd_group`` of "stylegan2_rosinality";
            ``conv_clamp``, ``num_fp16_res`` and ``mbstd_group_size`` of "stylegan2_nvlabs"; ``torch_up`` and
            ``pool_size`` of "drn".
    Raises:
        UserError: for an unknown kind or option, an option that contradicts the weights, or a file of another
            network, naming missing, unexpected and wrongly shaped keys.
    """
    if kind in METRIC_NETWORKS:
        load = metric_loaders()[kind]
        allowed = list(inspect.signature(load).parameters)[1:]
        for name in options.keys() - set(allowed):
            raise UserError(f"{kind}: unknown option {name}; it takes {', '.join(allowed) or 'none'}")
        return load(state_dict, **options).eval()
    if kind not in KINDS:
        raise UserError(f"unknown kind of checkpoint {kind!r}; it is one of {', '.join([*KINDS, *METRIC_NETWORKS])}")
    found = KINDS[kind](state_dict, **options)
    return found.load(found.network(**found.arguments)).eval()


def metric_loaders() -> dict[str, Callable[..., nn.Module]]:
    """The functions that make the networks of metrics from their official weights."""
    # Imported here: they need the packages of the extra "metrics", and a generator's checkpoint needs none of them.
    from ffl.metrics.inception import load_inception
    from ffl.metrics.segmenters import drn_from_state_dict, upernet_from_state_dict

    def load_upernet(state_dict: Mapping[str, Any]) -> nn.Module:
        return upernet_from_state_dict(
            {part: state for part, state in state_dict.items() if isinstance(state, Mapping)}
        )

    def load_checked_inception(state_dict: Mapping[str, Any]) -> nn.Module:
        return load_inception(StateDict("inception_fid", state_dict).tensors)

    loaders = (drn_from_state_dict, load_upernet, load_checked_inception)
    return dict(zip(METRIC_NETWORKS, loaders, strict=True))


def read_official(kind: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The state dict in a file and the options that are stored beside it, which only official pickles have.

    Raises:
        UserError: as ``read_state_dict`` and ``read_official_network``.
    """
    if kind == "stylegan2_nvlabs" and path.suffix == ".pkl":
        network = read_official_network(path)
        return network.state_dict, network.options
    return read_state_dict(path), {}


def read_state_dict(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint file, on the CPU.

    Nothing is unpickled but tensors, plain containers and the parsed command line that some official programs
    store beside the weights, an ``argparse.Namespace`` of such values.

    Raises:
        UserError: if the file is absent, unreadable, holds other objects, or no state dict.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of an official checkpoint")
    try:
        content = read_tensors(path, known=[argparse.Namespace])
    except (UnreadableTensors, OSError) as error:
        raise UserError(f"{path}: cannot be read as a file of tensors ({error}); download it again") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, expected a state dict of tensors")
    if strange := [key for key in content if not isinstance(key, str)]:
        raise UserError(f"{path}: has a key {strange[0]!r}, expected a state dict, whose keys are names of weights")
    return dict(content)
