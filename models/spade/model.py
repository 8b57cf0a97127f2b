"""One training iteration of SPADE, and images from label maps."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses.gan import GanMode, discriminator_loss, feature_matching_loss, generator_loss
from ffl.losses.vgg import VGGFeatures
from ffl.networks.stlpips import MIN_SIZE, SCALE, SHIFT
from ffl.ranges import Count, Decay, NonNegative, Positive
from ffl.training.model import Batch, Model, Phase, Task, latent_noise
from ffl.training.objective import Objective
from ffl.weights import load_weights
from models.spade.discriminator import MultiscaleDiscriminator
from models.spade.encoder import ImageEncoder
from models.spade.generator import DOUBLINGS, SpadeGenerator, Upsampling
from models.spade.layers import init_xavier, suitable_layout
from models.vae import kl_divergence

# Deep layers count most: they compare content, where shallow ones compare pixels.
# VGG-16 has these layers too.
VGG_LAYERS = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}


VGGNetwork = Literal["vgg19", "stlpips_vgg"]


class VGGLoss(nn.Module):
    """Perceptual loss of pix2pixHD and SPADE: weighted L1 distances of VGG-19 features.

    Images go into VGG-19 as they are, in [-1, 1]: not normalised to ImageNet's statistics, as in the official code.

    With "stlpips_vgg" it is another loss, of the same form: the VGG-16 of ST-LPIPS has three convolutions instead of
    four in each of the last three stages, anti-aliased poolings and other weights. The same layers are compared, the
    first of each stage, with the same factors, and images are normalised as that network was trained.

    Args:
        state_dict: weights under the keys of the published file: torchvision's VGG-19, or ``vgg_shift_tolerant.pth``.
        network: "vgg19" or "stlpips_vgg".
        downscale: images are averaged over squares of so many pixels a side first, which the official code does not.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, state_dict: Mapping[str, Tensor], network: VGGNetwork = "vgg19", downscale: int = 1) -> None:
        super().__init__()
        self.downscale = downscale
        self.features = VGGFeatures(state_dict, network, list(VGG_LAYERS))
        shift, scale = ((0.0,), (1.0,)) if network == "vgg19" else (SHIFT, SCALE)
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1), persistent=False)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """(N, 3, H, W) twice, in [-1, 1], to a scalar; the gradient flows into ``fake`` alone."""
        if self.downscale > 1:
            fake, real = (F.avg_pool2d(images, self.downscale) for images in (fake, real))
        with torch.no_grad():
            targets = self.features((real - self.shift) / self.scale)
        features = self.features((fake - self.shift) / self.scale)
        layers = zip(VGG_LAYERS.values(), features, targets, strict=True)
        return torch.stack([weight * F.l1_loss(feature, target) for weight, feature, target in layers]).sum()


class Spade(Model):
    """Semantic image synthesis of Table 5.

    One iteration updates the generator first, then the discriminator on an image that the updated generator
    makes anew; generated and real images pass the discriminator in one batch. Batch normalisation sees the batches of
    all processes.

    Args:
        image_size: (H, W) of the images.
        objective: extra terms of the generator, built from ``configs/loss``.
        label_channels: labels are 0 to label_channels - 1: 35 for Cityscapes, 151 for ADE20K (150 classes and
            unknown).
        instance_edges: whether the borders between instances are a further input; needs ``instance`` in the
            batch.
        upsampling: see ``SpadeGenerator``; None for the official choice, "more" from a width of 512 up
            (Cityscapes), "normal" below (ADE20K).
        ngf: channels of the generator.
        ndf: channels of the discriminator.
        hidden_channels: between the label map and each modulation of the generator.
        use_vae: start from a latent vector that an encoder draws from the real image, and learn the encoder.
        latent_dim: of that vector.
        style: what a generator with an encoder starts from at evaluation: "image", the posterior of the real
            image as in the official code, or "prior", noise.
        gan_mode: see ``ffl.losses.gan``.
        gan_weight: of the adversarial term of the generator; 0 leaves it out.
        feature_weight: of feature matching; 0 leaves it out.
        vgg_weight: of ``VGGLoss``; 0 leaves it out, and then no weight file is needed.
        vgg_network: its network: "vgg19" as in the paper, or "stlpips_vgg", which installs with pip.
        vgg_downscale: divides the sides of the images that it compares; 1 as in the paper.
        kl_weight: of the KL divergence, summed over the batch of a process as in the official code.
        lr_generator: learning rate of Adam; with ``lr_discriminator`` the two time-scale update rule.
        lr_discriminator: likewise.
        betas: of Adam.
    """

    tasks = ("semantic",)
    inputs = frozenset({"label", "image"})
    generates_with = ("generator", "encoder")

    def __init__(
        self,
        image_size: tuple[int, int],
        objective: Objective,
        label_channels: int,
        instance_edges: bool,
        upsampling: Upsampling | None = None,
        ngf: Count = 64,
        ndf: Count = 64,
        hidden_channels: Count = 128,
        use_vae: bool = False,
        latent_dim: Count = 256,
        style: Literal["image", "prior"] = "image",
        gan_mode: GanMode = "hinge",
        gan_weight: NonNegative = 1.0,
        feature_weight: NonNegative = 10.0,
        vgg_weight: NonNegative = 10.0,
        vgg_network: VGGNetwork = "vgg19",
        vgg_downscale: Count = 1,
        kl_weight: NonNegative = 0.05,
        lr_generator: Positive = 1e-4,
        lr_discriminator: Positive = 4e-4,
        betas: tuple[Decay, Decay] = (0.0, 0.9),
    ) -> None:
        super().__init__()
        # The official default for Cityscapes is "more", for ADE20K "normal". Both load the same weights and make other
        # images, so that the size decides and not the weights.
        if upsampling is None:
            upsampling = "more" if image_size[1] >= 512 else "normal"
        check_size(image_size, upsampling)
        side, least = min(image_size), MIN_SIZE["vgg"]
        if vgg_weight and side // vgg_downscale < least:
            raise UserError(
                f"model.vgg_downscale={vgg_downscale}: leaves {side // vgg_downscale} pixels of a side of {side}, "
                f"and the perceptual term takes {least} at least; choose {side // least} at most"
            )
        self.label_channels = label_channels
        self.instance_edges = instance_edges
        semantic_channels = label_channels + int(instance_edges)
        self.generator = SpadeGenerator(
            image_size, semantic_channels, ngf, upsampling, latent_dim if use_vae else None, hidden_channels
        )
        self.discriminator = MultiscaleDiscriminator(semantic_channels + 3, ndf)
        self.encoder = ImageEncoder(ngf, latent_dim) if use_vae else None
        init_xavier(self)
        self.vgg: VGGLoss | None = None  # loaded by ``phases``: evaluation needs no weights of it
        self.objective = objective
        self.latent_dim = latent_dim
        self.style = style
        self.gan_mode: GanMode = gan_mode
        self.gan_weight = gan_weight
        self.feature_weight = feature_weight
        self.vgg_weight = vgg_weight
        self.vgg_network: VGGNetwork = vgg_network
        self.vgg_downscale = vgg_downscale
        self.kl_weight = kl_weight
        self.lr_generator = lr_generator
        self.lr_discriminator = lr_discriminator
        self.betas = betas

    def phases(self) -> list[Phase]:
        """The two updates. Loads the network of ``VGGLoss``, which training alone needs.

        Raises:
            MissingWeights: if ``vgg_weight`` is not zero and its weights are absent.
        """
        if self.vgg_weight and self.vgg is None:
            loss = VGGLoss(load_weights(self.vgg_network), self.vgg_network, self.vgg_downscale)
            self.vgg = loss.to(next(self.parameters()).device)
        encoder = self.encoder.parameters() if self.encoder is not None else []
        return [
            Phase("generator", [*self.generator.parameters(), *encoder], self.lr_generator, self.betas),
            Phase("discriminator", self.discriminator.parameters(), self.lr_discriminator, self.betas),
        ]

    def prepare(self, batch: Batch) -> Batch:
        return self._synthesise({**batch, "semantics": self.semantics(batch)})

    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        real = batch["image"]
        if phase == "discriminator":
            # The generator has moved since ``prepare``: the discriminator learns from an image that it makes now.
            with torch.no_grad():
                fake = self._synthesise(batch)["fake"]
            fake_outputs, real_outputs = self._discriminate(batch, fake)
            return {
                name: discriminator_loss([layers[-1] for layers in outputs], name == "real", self.gan_mode)
                for name, outputs in (("fake", fake_outputs), ("real", real_outputs))
            }

        fake, own = batch["fake"], {}
        # The sum over the batch, not its mean, is official: the weight of the divergence grows with the batch.
        if self.encoder is not None and self.kl_weight:
            own["kl"] = self.kl_weight * kl_divergence(batch["mean"], batch["log_variance"]).sum()
        if self.gan_weight or self.feature_weight:
            fake_outputs, real_outputs = self._discriminate(batch, fake)
            if self.gan_weight:
                logits = [layers[-1] for layers in fake_outputs]
                own["gan"] = self.gan_weight * generator_loss(logits, self.gan_mode)
            if self.feature_weight:
                hidden = [[layers[:-1] for layers in outputs] for outputs in (fake_outputs, real_outputs)]
                own["feature_matching"] = self.feature_weight * feature_matching_loss(*hidden)
        if self.vgg is not None:
            own["vgg"] = self.vgg_weight * self.vgg(fake, real)
        return self.objective(fake, real, own)

    def _synthesise(self, batch: Batch) -> Batch:
        """Add ``fake``, and with an encoder the posterior that its latent vector was drawn from."""
        if self.encoder is None:
            return {**batch, "fake": self.generator(batch["semantics"])}
        mean, log_variance = self.encoder(batch["image"])
        # The reparameterisation trick; float32 draws the same noise whatever the precision.
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean, dtype=torch.float32)
        fake = self.generator(batch["semantics"], z)
        return {**batch, "fake": fake, "mean": mean, "log_variance": log_variance}

    def _discriminate(self, batch: Batch, fake: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Layer outputs of each scale for generated and for real images, from one pass over both."""
        # One pass also lets statistics of a batch, where a norm has any, be of both kinds together (official code).
        outputs = self.discriminator(batch["semantics"], torch.cat([fake, batch["image"]]))
        count = len(fake)
        return (
            [[layer[:count] for layer in layers] for layers in outputs],
            [[layer[count:] for layer in layers] for layers in outputs],
        )

    def semantics(self, batch: Batch) -> Tensor:
        """The generator's input: one-hot labels, then instance edges where they are used.

        Args:
            batch: ``label`` int64 (N, H, W), values below ``label_channels``; ``instance`` int64 (N, H, W).
        Returns:
            float (N, label_channels or one more, H, W) on the device of the labels, in the dtype of the
            weights.
        Raises:
            UserError: if instance edges are used and the batch has no instances.
        """
        label = batch["label"]
        shape = (label.shape[0], self.label_channels, *label.shape[1:])
        one_hot = torch.zeros(shape, dtype=self.generator.conv_img.weight.dtype, device=label.device)
        one_hot = suitable_layout(one_hot).scatter_(1, label.unsqueeze(1), 1.0)
        if not self.instance_edges:
            return one_hot
        if "instance" not in batch:
            raise UserError(
                "model.instance_edges=true: the data set has no instance maps; set model.instance_edges=false"
            )
        return torch.cat([one_hot, edges(batch["instance"]).unsqueeze(1).to(one_hot)], 1)

    def protocol(self, task: Task) -> dict[str, str | float | bool]:
        start = "label map" if self.encoder is None else self.style
        return {"norm_statistics": "running", "generator_starts_from": start}

    @torch.no_grad()
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        semantics = self.semantics(batch)
        if self.encoder is None:
            return self.generator(semantics)
        # The official evaluation draws from the posterior of the real image too, rather than take its mean.
        noise = latent_noise(batch["index"], seed, (self.latent_dim,)).to(semantics)
        if self.style == "prior":
            return self.generator(semantics, noise)
        if "image" not in batch:
            raise UserError("model.style=image: the data set has no photographs; set model.style=prior")
        mean, log_variance = self.encoder(batch["image"])
        return self.generator(semantics, mean + (0.5 * log_variance).exp() * noise)


def edges(instance: Tensor) -> Tensor:
    """Where an instance borders another: integers (N, H, W) to bool (N, H, W).

    True for a pixel that differs from its left, right, upper or lower neighbour, so on both sides of a
    border.
    """
    border = torch.zeros_like(instance, dtype=torch.bool)
    across = instance[:, :, 1:] != instance[:, :, :-1]
    down = instance[:, 1:] != instance[:, :-1]
    border[:, :, 1:] |= across
    border[:, :, :-1] |= across
    border[:, 1:] |= down
    border[:, :-1] |= down
    return border


def check_size(image_size: tuple[int, int], upsampling: Upsampling) -> None:
    """Raise UserError unless the image size is a multiple of what the generator's doublings give."""
    height, width = image_size
    factor = 2 ** DOUBLINGS[upsampling]
    if height % factor or width % factor or not height or not width:
        raise UserError(
            f"dataset.image_size={height}x{width}: SPADE with model.upsampling={upsampling} makes sides that "
            f"are multiples of {factor}"
        )
