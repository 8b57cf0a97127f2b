"""Official weights of SPADE: the networks that they belong to, with options under the names of the official program."""

from collections.abc import Mapping
from typing import Any

from ffl.errors import UserError
from ffl.state_dicts import Architecture, StateDict
from models.spade.discriminator import MultiscaleDiscriminator
from models.spade.encoder import ImageEncoder
from models.spade.generator import DOUBLINGS, SpadeGenerator, Upsampling

# What the official data set classes select, by channels of the semantic map: 35 labels and instance edges, or 150
# classes and unknown.
DATA_SETS = {36: "cityscapes", 151: "ade20k"}
SIZES: dict[int, tuple[int | None, float, Upsampling]] = {36: (512, 2.0, "more"), 151: (256, 1.0, "normal")}


def official_data_set(state_dict: Mapping[str, Any]) -> str | None:
    """The data set that a generator was trained on, None where its semantic channels don't tell."""
    weights = StateDict("spade_generator", state_dict)
    return DATA_SETS.get(weights.shape("head_0.norm_0.mlp_shared.0.weight")[1])


def official_generator(
    state_dict: Mapping[str, Any],
    crop_size: int | None = None,
    aspect_ratio: float | None = None,
    num_upsampling_layers: Upsampling | None = None,
    **options: Any,
) -> Architecture:
    """The generator that official weights belong to.

    Args:
        state_dict: of the generator.
        crop_size: width of the images; None, here and below, for what the official data set has.
        aspect_ratio: width over height.
        num_upsampling_layers: "normal", "more" or "most", of which the weights only tell "most".
        options: further options of the official program.
    """
    weights = StateDict("spade_generator", state_dict)
    hidden, semantic_channels = weights.shape("head_0.norm_0.mlp_shared.0.weight")[:2]
    ngf = weights.shape("head_0.conv_0.weight_orig")[0] // 16
    start = weights.shape("fc.weight", (2, 4))
    latent_dim = start[1] if len(start) == 2 else None
    most = any(key.startswith("up_4.") for key in weights.tensors)

    # The image size and "normal" or "more" are in no tensor: the same weights make images of several sizes. Only the
    # published networks have sizes that can be told, by their label channels.
    official_width, official_ratio, official_upsampling = SIZES.get(semantic_channels, (None, 1.0, "normal"))
    width = official_width if crop_size is None else crop_size
    ratio = official_ratio if aspect_ratio is None else aspect_ratio
    upsampling = num_upsampling_layers or ("most" if most else official_upsampling)
    if width is None:
        raise UserError(
            f"spade_generator: {semantic_channels} semantic channels don't tell the image size; give crop_size "
            "(the width), aspect_ratio and num_upsampling_layers"
        )
    if upsampling not in DOUBLINGS or (upsampling == "most") != most:
        fitting = "most" if most else "normal or more"
        raise UserError(f"spade_generator: num_upsampling_layers={upsampling}, by its weights it is {fitting}")
    first_width = width >> DOUBLINGS[upsampling]
    size = tuple(side << DOUBLINGS[upsampling] for side in (round(first_width / ratio), first_width))
    if not all(size):
        raise UserError(f"spade_generator: crop_size={width} and aspect_ratio={ratio} leave no first feature map")

    known = {"ngf": ngf, "semantic_nc": semantic_channels, "use_vae": latent_dim is not None}
    known |= {"z_dim": latent_dim} if latent_dim is not None else {}
    check_options(weights, semantic_channels, known, options, of_others=("ndf",))
    arguments = {"image_size": size, "semantic_channels": semantic_channels, "ngf": ngf, "hidden": hidden}
    return Architecture(weights, SpadeGenerator, {**arguments, "upsampling": upsampling, "latent_dim": latent_dim})


def official_discriminator(state_dict: Mapping[str, Any], **options: Any) -> Architecture:
    """The discriminators of all scales that official weights belong to."""
    weights = StateDict("spade_discriminator", state_dict)
    ndf, in_channels = weights.shape("discriminator_0.model0.0.weight")[:2]
    num_scales = weights.count("discriminator_{}.model0.0.weight")
    num_layers = weights.count("discriminator_0.model{}.0.0.weight_orig")
    known = {"ndf": ndf, "num_D": num_scales, "n_layers_D": num_layers}
    of_generator = ("ngf", "crop_size", "aspect_ratio", "num_upsampling_layers", "use_vae", "z_dim")
    check_options(weights, in_channels - 3, known, options, of_generator)
    arguments = {"in_channels": in_channels, "ndf": ndf, "num_scales": num_scales, "num_layers": num_layers}
    return Architecture(weights, MultiscaleDiscriminator, arguments)


def official_encoder(state_dict: Mapping[str, Any], **options: Any) -> Architecture:
    """The image encoder that official weights belong to."""
    weights = StateDict("spade_encoder", state_dict)
    ngf, latent_dim = weights.shape("layer1.0.weight_orig")[0], weights.shape("fc_mu.weight", (2,))[0]
    weights.check_options({"ngf": ngf, "z_dim": latent_dim}, options)
    return Architecture(weights, ImageEncoder, {"ngf": ngf, "latent_dim": latent_dim})


def check_options(
    weights: StateDict,
    semantic_channels: int,
    known: Mapping[str, Any],
    options: dict[str, Any],
    of_others: tuple[str, ...],
) -> None:
    """Compare options with the weights, where several make up the number of semantic channels.

    Args:
        weights: of the network.
        semantic_channels: by the weights.
        known: as of ``StateDict.check_options``.
        options: likewise.
        of_others: options of another network, which are passed over: one ``opt.txt`` holds those of all.
    """
    rest = {name: value for name, value in options.items() if name not in of_others}
    label_nc = rest.pop("label_nc", None)
    extra = int(rest.pop("contain_dontcare_label", False)) + int(not rest.pop("no_instance", False))
    if label_nc is not None and label_nc + extra != semantic_channels:
        raise UserError(
            f"{weights.kind}: label_nc={label_nc} with its other label options makes {label_nc + extra} semantic "
            f"channels, but by its weights there are {semantic_channels}"
        )
    weights.check_options(known, rest)
