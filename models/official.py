"""Official checkpoints: networks built and loaded from published state dicts.

What the shapes of the weights tell about the architecture is read from them. Options that are given all the
same, under the names of the official programs (as in the ``opt.txt`` beside a checkpoint), must agree with
it.
"""

import argparse
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ffl.errors import UserError
from ffl.tensor_files import UnreadableTensors, read_tensors
from models.ae import MLP
from models.pix2pix import Norm, PatchDiscriminator, PixelDiscriminator, UNetGenerator
from models.spade import ImageEncoder, MultiscaleDiscriminator, SpadeGenerator
from models.spade.generator import DOUBLINGS, Upsampling

Network = TypeVar("Network", bound=nn.Module)
State = Mapping[str, Any]

MAX_LISTED = 5  # keys that a message names before it only counts
DATA_PARALLEL = "module."

# SPADE: what the official data set classes select, by channels of the semantic map.
SPADE_DATA_SETS: dict[int, tuple[int, float, Upsampling]] = {
    36: (512, 2.0, "more"),  # Cityscapes: 35 labels and instance edges
    151: (256, 1.0, "normal"),  # ADE20K: 150 classes and unknown
}


def load_official(kind: str, state_dict: State, **arch: Any) -> nn.Module:
    """The network of an official checkpoint, in evaluation mode.

    Args:
        kind: a key of ``KINDS``.
        state_dict: keys to tensors; for "upernet" a dict of two such under "encoder" and "decoder". A
            ``module.`` before every key, from ``DataParallel``, is dropped. "stylegan2_rosinality" takes whole
            checkpoints too.
        arch: options of the official program. Only these can't be read from shapes: ``use_dropout`` of
            "pix2pix_generator"; ``crop_size``, ``aspect_ratio`` and ``num_upsampling_layers`` of
            "spade_generator", which are those of the official data set where the label channels are those of
            Cityscapes or ADE20K; ``part`` ("g_ema", "g" or "d") and ``mbstd_group`` of "stylegan2_rosinality";
            ``conv_clamp``, ``num_fp16_res`` and ``mbstd_group_size`` of "stylegan2_nvlabs"; ``torch_up`` and
            ``pool_size`` of "drn".
    Raises:
        UserError: for an unknown kind or option, an option that contradicts the weights, or a file of another
            network, naming missing, unexpected and wrongly shaped keys.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of checkpoint {kind!r}; it is one of {', '.join(KINDS)}")
    build = KINDS[kind]
    parameters = inspect.signature(build).parameters
    if "options" not in parameters:
        for name in arch.keys() - parameters.keys():
            raise UserError(f"{kind}: unknown option {name}; it takes {', '.join(list(parameters)[1:]) or 'none'}")
    return build(state_dict, **arch).eval()


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


def load_strict(network: Network, state_dict: Mapping[str, Tensor], kind: str) -> Network:
    """Copy a state dict into a network of exactly its keys and shapes.

    The counters of batch norm may be absent, as before PyTorch 0.4.1, and scalars may have one dimension, as
    before 0.4; torch's own loading takes them so too.

    Raises:
        UserError: one line with the missing, unexpected and wrongly shaped keys.
    """
    own = network.state_dict()
    state_dict = {
        key: value.reshape(()) if value.shape == (1,) and key in own and own[key].dim() == 0 else value
        for key, value in state_dict.items()
    }
    wrong = [
        f"{key} {tuple(value.shape)} for {tuple(own[key].shape)}"
        for key, value in state_dict.items()
        if key in own and own[key].shape != value.shape
    ]
    counter = ".num_batches_tracked"
    missing = [key for key in own if key not in state_dict and not key.endswith(counter)]
    unexpected = [key for key in state_dict if key not in own]
    refuse(kind, {"missing": missing, "unexpected": unexpected, "wrong shape": wrong})
    network.load_state_dict({**own, **state_dict})
    return network


def refuse(kind: str, complaints: Mapping[str, list[str]]) -> None:
    """Raise UserError with the complaints, each about some keys, unless none is about any."""
    if any(complaints.values()):
        lines = [f"{what}: {shorten(keys)}" for what, keys in complaints.items() if keys]
        raise UserError(f"this is no complete {kind} checkpoint: {'; '.join(lines)}")


def shorten(keys: list[str]) -> str:
    """The first few keys and the number of the others."""
    rest = len(keys) - MAX_LISTED
    return ", ".join(keys[:MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")


class Checkpoint:
    """A state dict and what is known about it while its network is being built.

    Args:
        kind: of network, for messages.
        state_dict: as ``load_official`` got it.
    Raises:
        UserError: if it holds anything but tensors.
    """

    def __init__(self, kind: str, state_dict: State) -> None:
        for key, value in state_dict.items():
            if not isinstance(value, Tensor):
                raise UserError(f"{kind}: {key} is a {type(value).__name__}, expected a state dict of tensors")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                # A network of that shape could need any amount of memory, however small the file is.
                raise UserError(f"{kind}: {key} claims more values than the file holds; download it again")
        self.kind = kind
        self.state: dict[str, Tensor] = without_prefix(state_dict)

    def shape(self, key: str, dims: Collection[int] = (4,)) -> tuple[int, ...]:
        """Shape of a tensor that every checkpoint of this kind has, with one of the numbers of dimensions ``dims``."""
        if key not in self.state:
            found = shorten(list(self.state)) or "no keys"
            raise UserError(f"this is no complete {self.kind} checkpoint: missing: {key}; found: {found}")
        shape = tuple(self.state[key].shape)
        if len(shape) not in dims or 0 in shape:
            raise UserError(f"this is no {self.kind} checkpoint: {key} has the shape {shape}; give the official file")
        return shape

    def norm(self) -> Norm:
        """Batch norm leaves statistics in the checkpoint, instance norm nothing."""
        return "batch" if any(key.endswith("running_mean") for key in self.state) else "instance"

    def count(self, pattern: str) -> int:
        """How many of ``pattern.format(0)``, ``pattern.format(1)`` … the checkpoint has, up to the last."""
        found = [i for i in range(len(self.state)) if pattern.format(i) in self.state]
        return max(found, default=-1) + 1

    def load(self, network: Network, known: dict[str, Any], options: dict[str, Any]) -> Network:
        """Load the weights, after a check of the user's options against what the weights say.

        Args:
            network: of the architecture that the checkpoint calls for.
            known: official option names to values that follow from the weights.
            options: what the user gave.
        """
        self.check_options(known, options)
        return load_strict(network, self.state, self.kind)

    def check_options(self, known: dict[str, Any], options: dict[str, Any]) -> None:
        """Raise UserError for an option that is unknown or not what the weights say; arguments as of ``load``."""
        for name, value in options.items():
            if name not in known:
                raise UserError(f"{self.kind}: unknown option {name}; it is one of {', '.join(known)}")
            if value != known[name]:
                raise UserError(f"{self.kind}: {name}={value}, but by its weights it is {known[name]}")


def without_prefix(state_dict: State) -> dict[str, Any]:
    """Keys without the ``module.`` that ``DataParallel`` puts before each."""
    if state_dict and all(key.startswith(DATA_PARALLEL) for key in state_dict):
        return {key.removeprefix(DATA_PARALLEL): value for key, value in state_dict.items()}
    return dict(state_dict)


def _vanilla_ae(state_dict: State, **options: Any) -> nn.Module:
    file = Checkpoint("vanilla_ae", state_dict)
    hidden_dim, num_values = file.shape("model.0.fc.weight", (2,))
    num_layers = file.count("model.{}.fc.weight")
    if num_layers < 2:
        file.shape("model.1.fc.weight", (2,))
    known = {"input_dim": num_values, "output_dim": num_values, "dim": hidden_dim, "n_blk": num_layers}
    # The perceptron flattens its images: their number of values is all that matters.
    network = MLP((1, 1, num_values), hidden_dim, num_layers)
    return file.load(network, known | {"norm": "none", "activ": "relu"}, options)


def _pix2pix_generator(state_dict: State, use_dropout: bool = True, **options: Any) -> nn.Module:
    file = Checkpoint("pix2pix_generator", state_dict)
    ngf, in_channels = file.shape("model.model.0.weight")[:2]
    out_channels = file.shape("model.model.3.weight")[1]
    num_downs = max(key.count("model.") for key in file.state) - 1
    known = {"input_nc": in_channels, "output_nc": out_channels, "ngf": ngf, "norm": file.norm()}
    network = UNetGenerator(in_channels, out_channels, num_downs, ngf, file.norm(), use_dropout)
    return file.load(network, known | {"net": f"unet_{2**num_downs}"}, options)


def _pix2pix_discriminator(state_dict: State, **options: Any) -> nn.Module:
    file = Checkpoint("pix2pix_discriminator", state_dict)
    network: nn.Module
    if "net.0.weight" in file.state:
        ndf, in_channels = file.shape("net.0.weight")[:2]
        network = PixelDiscriminator(in_channels, ndf, file.norm())
        known: dict[str, Any] = {"net": "pixel"}
    else:
        ndf, in_channels = file.shape("model.0.weight")[:2]
        convolutions = [key for key, value in file.state.items() if value.dim() == 4]
        num_layers = len(convolutions) - 2
        network = PatchDiscriminator(in_channels, ndf, num_layers, file.norm())
        known = {"net": "basic" if num_layers == 3 else "n_layers", "n_layers_D": num_layers}
    return file.load(network, known | {"input_nc": in_channels, "ndf": ndf, "norm": file.norm()}, options)


def _spade_generator(
    state_dict: State,
    crop_size: int | None = None,
    aspect_ratio: float | None = None,
    num_upsampling_layers: Upsampling | None = None,
    **options: Any,
) -> nn.Module:
    file = Checkpoint("spade_generator", state_dict)
    hidden, semantic_channels = file.shape("head_0.norm_0.mlp_shared.0.weight")[:2]
    ngf = file.shape("head_0.conv_0.weight_orig")[0] // 16
    start = file.shape("fc.weight", (2, 4))
    latent_dim = start[1] if len(start) == 2 else None
    most = any(key.startswith("up_4.") for key in file.state)
    official = SPADE_DATA_SETS.get(semantic_channels, (None, 1.0, "normal"))
    crop_size = official[0] if crop_size is None else crop_size
    aspect_ratio = official[1] if aspect_ratio is None else aspect_ratio
    upsampling = num_upsampling_layers or ("most" if most else official[2])
    if crop_size is None:
        raise UserError(
            f"spade_generator: {semantic_channels} semantic channels don't tell the image size; give crop_size "
            "(the width), aspect_ratio and num_upsampling_layers"
        )
    if upsampling not in DOUBLINGS or (upsampling == "most") != most:
        fitting = "most" if most else "normal or more"
        raise UserError(f"spade_generator: num_upsampling_layers={upsampling}, by its weights it is {fitting}")
    first_width = crop_size >> DOUBLINGS[upsampling]
    size = tuple(side << DOUBLINGS[upsampling] for side in (round(first_width / aspect_ratio), first_width))
    if not all(size):
        raise UserError(
            f"{file.kind}: crop_size={crop_size} and aspect_ratio={aspect_ratio} leave no first feature map"
        )
    known = {"ngf": ngf, "semantic_nc": semantic_channels, "use_vae": latent_dim is not None}
    known |= {"z_dim": latent_dim} if latent_dim is not None else {}
    options = _spade_options(file.kind, semantic_channels, options, ("ndf",))
    network = SpadeGenerator((size[0], size[1]), semantic_channels, ngf, upsampling, latent_dim, hidden)
    return file.load(network, known, options)


def _spade_discriminator(state_dict: State, **options: Any) -> nn.Module:
    file = Checkpoint("spade_discriminator", state_dict)
    ndf, in_channels = file.shape("discriminator_0.model0.0.weight")[:2]
    num_scales = file.count("discriminator_{}.model0.0.weight")
    num_layers = file.count("discriminator_0.model{}.0.0.weight_orig")
    others = ("ngf", "crop_size", "aspect_ratio", "num_upsampling_layers", "use_vae", "z_dim")
    options = _spade_options(file.kind, in_channels - 3, options, others)
    network = MultiscaleDiscriminator(in_channels, ndf, num_scales, num_layers)
    return file.load(network, {"ndf": ndf, "num_D": num_scales, "n_layers_D": num_layers}, options)


def _spade_encoder(state_dict: State, **options: Any) -> nn.Module:
    file = Checkpoint("spade_encoder", state_dict)
    ngf = file.shape("layer1.0.weight_orig")[0]
    latent_dim = file.shape("fc_mu.weight", (2,))[0]
    return file.load(ImageEncoder(ngf, latent_dim), {"ngf": ngf, "z_dim": latent_dim}, options)


def _spade_options(
    kind: str, semantic_channels: int, options: dict[str, Any], others: tuple[str, ...]
) -> dict[str, Any]:
    """Options that are left after those of the labels, checked, and those of the other network, passed over."""
    options = {name: value for name, value in options.items() if name not in others}
    label_nc = options.pop("label_nc", None)
    extra = int(options.pop("contain_dontcare_label", False)) + int(not options.pop("no_instance", False))
    if label_nc is not None and label_nc + extra != semantic_channels:
        raise UserError(
            f"{kind}: label_nc={label_nc} with its other label options makes {label_nc + extra} semantic "
            f"channels, but by its weights there are {semantic_channels}"
        )
    return options


# Imported where it is used: it builds on this module.
def _stylegan2_rosinality(state_dict: State, **options: Any) -> nn.Module:
    from models.stylegan2.official import rosinality_from_state_dict

    return rosinality_from_state_dict(state_dict, **options)


def _stylegan2_nvlabs(state_dict: State, **options: Any) -> nn.Module:
    from models.stylegan2.official import nvlabs_from_state_dict

    return nvlabs_from_state_dict(state_dict, **options)


# The networks of metrics are imported where they are used: a generator's checkpoint needs none of them.
def _drn(state_dict: State, torch_up: bool | None = None, pool_size: int = 28) -> nn.Module:
    from ffl.metrics.segmenters import drn_from_state_dict

    return drn_from_state_dict(without_prefix(state_dict), torch_up=torch_up, pool_size=pool_size)


def _upernet(state_dict: State) -> nn.Module:
    from ffl.metrics.segmenters import upernet_from_state_dict

    parts = {part: without_prefix(state) for part, state in state_dict.items() if isinstance(state, Mapping)}
    return upernet_from_state_dict(parts)


def _inception_fid(state_dict: State) -> nn.Module:
    from ffl.metrics.inception import load_inception

    return load_inception(without_prefix(state_dict))


KINDS: dict[str, Callable[..., nn.Module]] = {
    "vanilla_ae": _vanilla_ae,
    "pix2pix_generator": _pix2pix_generator,
    "pix2pix_discriminator": _pix2pix_discriminator,
    "spade_generator": _spade_generator,
    "spade_discriminator": _spade_discriminator,
    "spade_encoder": _spade_encoder,
    "stylegan2_rosinality": _stylegan2_rosinality,
    "stylegan2_nvlabs": _stylegan2_nvlabs,
    "drn": _drn,
    "upernet": _upernet,
    "inception_fid": _inception_fid,
}
