"""Convolutional variational autoencoder (Kingma and Welling, 2014) as in Appendix B.1.

No code of it has been published. Where the text leaves something open, this file decides:

- "After an input layer the number of feature channels is 64": the input layer is the first of the stride-2 blocks,
  since four blocks bring 64x64 to 4x4 and every convolution has stride 2. Channels at 64x64: 64, 128, 256, 512.
- Batch normalisation follows every convolution except the last.
- The loss is MSE + c KL, the mean squared error over values and the KL divergence summed over latent dimensions. Its
  weight c is not printed. The default, 6.4e-4, is the batch over the training images of CelebA, 128 / 199,599, as in
  public VAE code. The evidence lower bound of a Gaussian decoder of unit variance would have c = 2 / (C H W): 1.6e-4 at
  64x64, a sixteenth of that at 256x256. At 6.4e-4 the baseline of CelebA has the paper's PSNR (results/cpu/table2.md).
- Reconstructions at evaluation use the mean of the posterior, not a sample.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.ranges import Count, Decay, NonNegative, Positive
from ffl.training.model import Batch, Model, Phase, Task, init_normal, latent_noise
from ffl.training.objective import Objective

BOTTOM = 4  # height and width of the innermost feature map


def block_channels(image_size: int, base: int, largest: int) -> list[int]:
    """Channels after each encoder block: doubled from ``base``, at most ``largest``, until the map is 4x4."""
    num_blocks = int(math.log2(image_size // BOTTOM))
    return [min(base * 2**i, largest) for i in range(num_blocks)]


class ConvEncoder(nn.Module):
    """Convolutions (4x4, stride 2, padding 1) down to 4x4, then two linear layers for the posterior's μ and log σ²."""

    def __init__(self, channels: list[int], latent_dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip([3, *channels[:-1]], channels, strict=True):
            layers += [
                nn.Conv2d(before, after, 4, 2, 1),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.blocks = nn.Sequential(*layers)
        num_features = channels[-1] * BOTTOM * BOTTOM
        self.mean = nn.Linear(num_features, latent_dim)
        self.log_variance = nn.Linear(num_features, latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] to μ and log σ², each (N, latent_dim)."""
        features = self.blocks(images).flatten(1)
        return self.mean(features), self.log_variance(features)


class ConvDecoder(nn.Module):
    """The encoder inverted: a linear layer, then transposed convolutions (4x4, stride 2, padding 1) and Tanh."""

    def __init__(self, channels: list[int], latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, channels[-1] * BOTTOM * BOTTOM)
        layers: list[nn.Module] = []
        for before, after in zip(channels[:0:-1], channels[-2::-1], strict=True):
            layers += [
                nn.ConvTranspose2d(before, after, 4, 2, 1),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.blocks = nn.Sequential(*layers, nn.ConvTranspose2d(channels[0], 3, 4, 2, 1), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        """(N, latent_dim) to images (N, 3, H, W) in [-1, 1]."""
        return self.blocks(self.linear(latent).unflatten(1, (-1, BOTTOM, BOTTOM)))


class VariationalAutoencoder(Model):
    """The autoencoder of Tables 2, 3 and 7: reconstruction, and synthesis from the standard normal prior.

    Args:
        image_size: (H, W), equal, a power of two from 16 up.
        objective: extra terms, built from ``configs/loss``.
        latent_dim: size of the latent vector.
        channels: after the first block; each block doubles them.
        max_channels: limit of the doubling.
        mse_weight: of the reconstruction term; 0 leaves it out.
        kl_weight: of the KL divergence (Eq. 10 of Kingma and Welling) beside the mean squared error.
        lr: learning rate of Adam.
        betas: of Adam.
    """

    tasks = ("reconstruction", "synthesis")

    def __init__(
        self,
        image_size: tuple[int, int],
        objective: Objective,
        latent_dim: Count = 256,
        channels: Count = 64,
        max_channels: Count = 512,
        mse_weight: NonNegative = 1.0,
        kl_weight: NonNegative = 6.4e-4,
        lr: Positive = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        height, width = image_size
        if height != width or height < 16 or height & (height - 1):
            raise UserError(
                f"dataset.image_size={height}x{width}: the VAE takes square images, a power of two from 16 up"
            )
        if not 1 <= channels <= max_channels:
            raise UserError(f"model.channels={channels}: must be from 1 to model.max_channels={max_channels}")
        blocks = block_channels(height, channels, max_channels)
        self.encoder = ConvEncoder(blocks, latent_dim)
        self.decoder = ConvDecoder(blocks, latent_dim)
        init_normal(self.encoder)
        init_normal(self.decoder)
        self.objective = objective
        self.latent_dim = latent_dim
        self.mse_weight = mse_weight
        self.kl_weight = kl_weight
        self.lr = lr
        self.betas = betas

    def phases(self) -> list[Phase]:
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        return [Phase("generator", parameters, self.lr, self.betas)]

    def prepare(self, batch: Batch) -> Batch:
        mean, log_variance = self.encoder(batch["image"])
        # The reparameterisation trick; float32 draws the same noise whatever the precision.
        latent = mean + (0.5 * log_variance).exp() * torch.randn_like(mean, dtype=torch.float32)
        return {**batch, "fake": self.decoder(latent), "mean": mean, "log_variance": log_variance}

    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        real, fake = batch["image"], batch["fake"]
        own = {"mse": self.mse_weight * F.mse_loss(fake, real)} if self.mse_weight else {}
        if self.kl_weight:
            own["kl"] = self.kl_weight * kl_divergence(batch["mean"], batch["log_variance"]).mean()
        return self.objective(fake, real, own)

    def protocol(self, task: Task) -> dict[str, str | float | bool]:
        latent = "standard normal" if task == "synthesis" else "mean of the posterior"
        return {"norm_statistics": "running", "latent": latent}

    @torch.no_grad()
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        if task == "synthesis":
            return self.decoder(latent_noise(batch["index"], seed, (self.latent_dim,)))
        mean, _ = self.encoder(batch["image"])
        return self.decoder(mean)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, σ²) ‖ N(0, 1)) summed over latent dimensions: (N, D), (N, D) to (N,)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
