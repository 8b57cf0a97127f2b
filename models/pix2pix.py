"""pix2pix (Isola et al., 2017): paired image-to-image translation with a U-Net and a PatchGAN.

Keys and shapes of the networks' state dicts are those of the official PyTorch release, so that its checkpoints load.

At evaluation the original normalises with the statistics of the batch, one image at a time, and keeps dropout
active. ``Pix2Pix.generate`` does the same for any batch size: each image is normalised by its own statistics,
and its dropout masks derive from its index and the seed.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses.gan import GanMode, discriminator_loss, generator_loss
from ffl.ranges import Count, Decay, NonNegative, Positive
from ffl.state_dicts import Architecture, StateDict
from ffl.training.model import Batch, Model, Phase, Task, init_normal, latent_noise
from ffl.training.objective import Objective

Norm = Literal["batch", "instance"]
Statistics = Literal["batch", "running"]
MOST_DOWNS = 8  # blocks of the generator for 256x256, "unet_256"


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that can use each image's own statistics in evaluation mode.

    Those are the statistics of a batch of one image, whatever the batch size. Training mode is that of any
    batch norm.

    Args:
        num_features: channels.
        statistics: of the evaluation mode: "running", or "batch" for each image's own.
    """

    def __init__(self, num_features: int, statistics: Statistics) -> None:
        super().__init__(num_features)
        self.statistics = statistics

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.statistics == "running":
            return super().forward(x)
        # The batch norm of one image is an instance norm with weight and bias.
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def make_norm(norm: Norm, num_features: int, statistics: Statistics = "running") -> nn.Module:
    """A normalisation layer; "instance" has neither weights nor running statistics, as officially."""
    return BatchNorm(num_features, statistics) if norm == "batch" else nn.InstanceNorm2d(num_features)


class SkipBlock(nn.Module):
    """One level of the U-Net: halves the resolution, runs the levels inside, doubles it, and appends to the input.

    Args:
        depth: 0 for the outermost block.
        channels: (outside, inside), of what the block appends to its input and of what the levels inside take.
        inside: the next level, None for the innermost block.
        norm: kind of normalisation.
        statistics: of batch normalisation in evaluation mode.
        dropout: whether the block ends with dropout of one half.
        in_channels: of the source image, for the outermost block only.
    """

    def __init__(
        self,
        depth: int,
        channels: tuple[int, int],
        inside: "SkipBlock | None",
        norm: Norm,
        statistics: Statistics,
        dropout: bool,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.depth = depth
        self.outermost = in_channels is not None
        outer, inner = channels
        biased = norm == "instance"  # batch norm has a bias of its own
        # LeakyReLU overwrites the input that is skipped. As officially: a ReLU follows the concatenation, and
        # ReLU(LeakyReLU(x)) is ReLU(x).
        layers: list[nn.Module] = [] if self.outermost else [nn.LeakyReLU(0.2, inplace=True)]
        layers.append(nn.Conv2d(outer if in_channels is None else in_channels, inner, 4, 2, 1, bias=biased))
        if inside is not None:
            if not self.outermost:
                layers.append(make_norm(norm, inner, statistics))
            layers.append(inside)
        merged = inner if inside is None else 2 * inner  # the level inside appends to its input
        layers.append(nn.ReLU(inplace=True))
        layers.append(nn.ConvTranspose2d(merged, outer, 4, 2, 1, bias=biased or self.outermost))
        layers.append(nn.Tanh() if self.outermost else make_norm(norm, outer, statistics))
        # Dropout is last, so that the keys of the state dict are the same with and without it.
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor, masks: Mapping[int, Tensor] | None = None) -> Tensor:
        out = x
        for layer in self.model:
            if isinstance(layer, SkipBlock):
                out = layer(out, masks)
            elif isinstance(layer, nn.Dropout) and masks is not None:
                out = out * masks[self.depth]
            else:
                out = layer(out)
        return out if self.outermost else torch.cat([x, out], 1)


class UNetGenerator(nn.Module):
    """U-Net of ``num_downs`` skip blocks; the official "unet_256" has 8, "unet_128" 7.

    Args:
        in_channels: of the source.
        out_channels: of the result.
        num_downs: blocks, each halving the resolution, at least 2.
        ngf: channels of the outermost block; doubled inwards up to 8 ngf.
        norm: "batch" or "instance".
        dropout: dropout in the blocks with 8 ngf channels on both sides, the innermost excepted.
        statistics: what batch normalisation uses in evaluation mode, see ``BatchNorm``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        num_downs: int = MOST_DOWNS,
        ngf: int = 64,
        norm: Norm = "batch",
        dropout: bool = True,
        statistics: Statistics = "running",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.num_downs, self.ngf, self.norm = num_downs, ngf, norm
        widths = [out_channels, *(ngf * min(2**depth, 8) for depth in range(num_downs))]
        # The generator learns to ignore a noise input (Isola et al., Section 3.1): dropout is its only randomness.
        self.dropout_widths = {depth: widths[depth] for depth in range(4, num_downs - 1)} if dropout else {}
        # From the inside out, since each block holds the next one.
        block: SkipBlock | None = None
        for depth in range(num_downs - 1, 0, -1):
            channels = (widths[depth], widths[depth + 1])
            block = SkipBlock(depth, channels, block, norm, statistics, depth in self.dropout_widths)
        self.model = SkipBlock(0, (widths[0], widths[1]), block, norm, statistics, False, in_channels)

    def forward(self, source: Tensor, masks: Mapping[int, Tensor] | None = None) -> Tensor:
        """(N, in_channels, H, W) in [-1, 1] to (N, out_channels, H, W) in [-1, 1].

        Args:
            source: H and W multiples of 2**num_downs.
            masks: dropout masks to use instead of random ones, from ``dropout_masks``.
        """
        return self.model(source, masks)

    def dropout_masks(self, source: Tensor, index: Tensor, seed: int) -> dict[int, Tensor]:
        """Dropout masks that depend on (seed, image index) alone: 0 or 2 with equal odds, by depth of the block.

        Args:
            source: (N, in_channels, H, W), for its size and dtype.
            index: int64 (N,).
            seed: of the evaluation.
        """
        height, width = source.shape[-2:]
        shapes = {depth: (c, height >> depth, width >> depth) for depth, c in self.dropout_widths.items()}
        sizes = [c * h * w for c, h, w in shapes.values()]
        # The sign of a normal variable is a fair coin. One draw for all blocks: a second would repeat its numbers.
        masks = 2 * (latent_noise(index, seed, (sum(sizes),)) > 0).to(source)
        parts = zip(shapes.items(), masks.split(sizes, 1), strict=True)
        return {depth: part.unflatten(1, shape) for (depth, shape), part in parts}


class PatchDiscriminator(nn.Module):
    """PatchGAN: a logit for each overlapping patch; with 3 layers the patches are 70x70 pixels.

    Args:
        in_channels: of source and image together.
        ndf: channels of the first layer; doubled by each layer up to 8 ndf.
        num_layers: hidden layers after the first.
        norm: "batch" or "instance".
    """

    def __init__(self, in_channels: int = 6, ndf: int = 64, num_layers: int = 3, norm: Norm = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        widths = [ndf * min(2**layer, 8) for layer in range(num_layers + 1)]
        for layer in range(1, num_layers + 1):
            stride = 1 if layer == num_layers else 2
            layers += [
                nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, 1, bias=norm == "instance"),
                make_norm(norm, widths[layer]),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.model = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, pair: Tensor) -> Tensor:
        """(N, in_channels, H, W), source and image concatenated, to logits (N, 1, h, w)."""
        return self.model(pair)


class PixelDiscriminator(nn.Module):
    """PatchGAN with 1x1 patches: a logit for each pixel. Arguments as of ``PatchDiscriminator``."""

    def __init__(self, in_channels: int = 6, ndf: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        biased = norm == "instance"
        self.net = nn.Sequential(
            nn.Conv2d(in_channels, ndf, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(ndf, 2 * ndf, 1, bias=biased),
            make_norm(norm, 2 * ndf),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * ndf, 1, 1, bias=biased),
        )

    def forward(self, pair: Tensor) -> Tensor:
        """(N, in_channels, H, W), source and image concatenated, to logits (N, 1, H, W)."""
        return self.net(pair)


class Pix2Pix(Model):
    """Image-to-image translation of Tables 4, 7 and Figure 16.

    One iteration updates the discriminator first, then the generator against the updated discriminator; the
    generator runs once. Batch normalisation is never synchronised, as in the original.

    Args:
        image_size: (H, W) of the images.
        objective: extra terms of the generator, built from ``configs/loss``.
        ngf: channels of the generator's outermost block.
        ndf: channels of the discriminator's first layer.
        num_downs: skip blocks; None for as many as the image size allows, 8 at most (8 at 256x256).
        norm: normalisation of both networks.
        dropout: dropout in the generator while training, its only source of noise.
        discriminator: "patch" (70x70) or "pixel".
        gan_mode: see ``ffl.losses.gan``.
        gan_weight: of the adversarial term of the generator; 0 leaves it out.
        l1_weight: of the L1 distance; 0 leaves it out.
        norm_statistics: what batch normalisation uses at evaluation. "batch", as the original: each image's
            own statistics. "running": the averages of training, the original's ``--eval``.
        test_dropout: dropout at evaluation too, as the original; False goes with its ``--eval``.
        lr: learning rate of Adam.
        betas: of Adam.
    """

    tasks = ("translation",)
    inputs = frozenset({"source", "image"})
    generates_with = ("generator",)

    def __init__(
        self,
        image_size: tuple[int, int],
        objective: Objective,
        ngf: Count = 64,
        ndf: Count = 64,
        num_downs: Count | None = None,
        norm: Norm = "batch",
        dropout: bool = True,
        discriminator: Literal["patch", "pixel"] = "patch",
        gan_mode: GanMode = "vanilla",
        gan_weight: NonNegative = 1.0,
        l1_weight: NonNegative = 100.0,
        norm_statistics: Statistics = "batch",
        test_dropout: bool = True,
        lr: Positive = 2e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
    ) -> None:
        super().__init__()
        num_downs = checked_downs(image_size, num_downs)
        self.generator = UNetGenerator(3, 3, num_downs, ngf, norm, dropout, norm_statistics)
        self.discriminator = (
            PatchDiscriminator(6, ndf, norm=norm) if discriminator == "patch" else PixelDiscriminator(6, ndf, norm)
        )
        init_normal(self.generator)
        init_normal(self.discriminator)
        self.objective = objective
        self.gan_mode: GanMode = gan_mode
        self.gan_weight = gan_weight
        self.l1_weight = l1_weight
        self.norm_statistics: Statistics = norm_statistics
        self.test_dropout = test_dropout
        self.lr = lr
        self.betas = betas

    def phases(self) -> list[Phase]:
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        return [Phase(name, network.parameters(), self.lr, self.betas) for name, network in networks.items()]

    def prepare(self, batch: Batch) -> Batch:
        return {**batch, "fake": self.generator(batch["source"])}

    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        source, real, fake = batch["source"], batch["image"], batch["fake"]
        if phase == "discriminator":
            terms = {}
            # One half slows the discriminator down relative to the generator (Isola et al., Section 3.3). Generated
            # images come first, as officially: the running statistics of its batch norm depend on the order.
            for name, image in (("fake", fake.detach()), ("real", real)):
                logits = self.discriminator(torch.cat([source, image], 1))
                terms[name] = 0.5 * discriminator_loss(logits, name == "real", self.gan_mode)
            return terms
        own = {}
        if self.gan_weight:
            logits = self.discriminator(torch.cat([source, fake], 1))
            own["gan"] = self.gan_weight * generator_loss(logits, self.gan_mode)
        if self.l1_weight:
            own["l1"] = self.l1_weight * F.l1_loss(fake, real)
        return self.objective(fake, real, own)

    def protocol(self, task: Task) -> dict[str, str | float | bool]:
        statistics = {"batch": "each image's own", "running": "running"}[self.norm_statistics]
        return {"norm_statistics": statistics, "test_dropout": self.test_dropout}

    @torch.no_grad()
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        source = batch["source"]
        drops = self.test_dropout and self.generator.dropout_widths
        return self.generator(source, self.generator.dropout_masks(source, batch["index"], seed) if drops else None)


def checked_downs(image_size: tuple[int, int], num_downs: int | None) -> int:
    """Number of skip blocks for an image size.

    Raises:
        UserError: if the size is no multiple of 2**num_downs, or allows fewer than 2 blocks.
    """
    height, width = image_size
    halvings = [(side & -side).bit_length() - 1 for side in image_size]  # factors of two in each side
    most = min(MOST_DOWNS, *halvings)
    if num_downs is None and most >= 2:
        return most
    if num_downs is None or num_downs < 2 or height % 2**num_downs or width % 2**num_downs:
        needed = f"model.num_downs={num_downs}: " if num_downs is not None else ""
        raise UserError(
            f"{needed}dataset.image_size={height}x{width}: each skip block halves the image, so both sides "
            "must be multiples of 2**num_downs, with num_downs at least 2"
        )
    return num_downs


def official_generator(state_dict: Mapping[str, Any], use_dropout: bool = True, **options: Any) -> Architecture:
    """The U-Net that official weights belong to; options under the names of the official program."""
    weights = StateDict("pix2pix_generator", state_dict)
    ngf, in_channels = weights.shape("model.model.0.weight")[:2]
    out_channels = weights.shape("model.model.3.weight")[1]
    norm = official_norm(weights)
    # Blocks lie within blocks. Each has tensors of its own, which bounds what a damaged file can ask for.
    num_downs = min(max(key.count("model.") for key in weights.tensors) - 1, len(weights.tensors))
    known = {"input_nc": in_channels, "output_nc": out_channels, "ngf": ngf, "norm": norm}
    weights.check_options(known | {"net": f"unet_{2**num_downs}"}, options)
    channels = {"in_channels": in_channels, "out_channels": out_channels, "ngf": ngf}
    arguments = {**channels, "num_downs": num_downs, "norm": norm, "dropout": use_dropout}
    return Architecture(weights, UNetGenerator, arguments)


def official_discriminator(state_dict: Mapping[str, Any], **options: Any) -> Architecture:
    """The PatchGAN that official weights belong to; options under the names of the official program."""
    weights = StateDict("pix2pix_discriminator", state_dict)
    norm = official_norm(weights)
    pixel = "net.0.weight" in weights.tensors
    ndf, in_channels = weights.shape("net.0.weight" if pixel else "model.0.weight")[:2]
    known: dict[str, Any] = {"input_nc": in_channels, "ndf": ndf, "norm": norm}
    arguments: dict[str, Any] = {"in_channels": in_channels, "ndf": ndf, "norm": norm}
    if pixel:
        weights.check_options({"net": "pixel"} | known, options)
        return Architecture(weights, PixelDiscriminator, arguments)
    num_layers = sum(value.dim() == 4 for value in weights.tensors.values()) - 2  # convolutions but the first and last
    net = "basic" if num_layers == 3 else "n_layers"
    weights.check_options({"net": net, "n_layers_D": num_layers} | known, options)
    return Architecture(weights, PatchDiscriminator, arguments | {"num_layers": num_layers})


def official_norm(weights: StateDict) -> Norm:
    """Batch norm leaves statistics in a state dict, instance norm nothing."""
    return "batch" if any(key.endswith("running_mean") for key in weights.tensors) else "instance"
