"""Vanilla autoencoder (Hinton and Salakhutdinov, 2006) as in Appendix B.1: a 2-layer perceptron, no normalisation."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.ranges import Count, Decay, NonNegative, Positive
from ffl.state_dicts import Architecture, StateDict
from ffl.training.model import Batch, Model, Phase, Task, init_normal
from ffl.training.objective import Objective


class LinearBlock(nn.Module):
    """Linear layer and activation; ``fc`` is the name that official checkpoints use."""

    def __init__(self, in_dim: int, out_dim: int, activation: nn.Module) -> None:
        super().__init__()
        self.fc = nn.Linear(in_dim, out_dim)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.fc(x))


class MLP(nn.Module):
    """Perceptron from flattened images to images of the same shape.

    Args:
        image_shape: (C, H, W) of an image.
        hidden_dim: width of the hidden layers.
        num_layers: linear layers in all, at least 2; ReLU after each, Tanh after the last.
    """

    def __init__(self, image_shape: tuple[int, int, int], hidden_dim: int = 256, num_layers: int = 2) -> None:
        super().__init__()
        num_values = image_shape[0] * image_shape[1] * image_shape[2]
        widths = [num_values, *[hidden_dim] * (num_layers - 1), num_values]
        blocks = [LinearBlock(m, n, nn.ReLU(inplace=True)) for m, n in pairwise(widths[:-1])]
        self.model = nn.Sequential(*blocks, LinearBlock(widths[-2], widths[-1], nn.Tanh()))

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) in [-1, 1] to reconstructions of the same shape and range."""
        return self.model(images.flatten(1)).view_as(images)


class VanillaAutoencoder(Model):
    """The autoencoder of Tables 1, 8, 9, 10 and 11.

    Args:
        image_size: (H, W) of the images.
        objective: extra terms, built from ``configs/loss``.
        hidden_dim: latent width.
        num_layers: linear layers.
        mse_weight: of the spatial loss; 0 leaves it out.
        lr: learning rate of Adam.
        betas: of Adam.
    """

    tasks = ("reconstruction",)

    def __init__(
        self,
        image_size: tuple[int, int],
        objective: Objective,
        hidden_dim: Count = 256,
        num_layers: Count = 2,
        mse_weight: NonNegative = 1.0,
        lr: Positive = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        if num_layers < 2:
            raise UserError(f"model.num_layers={num_layers}: an autoencoder needs at least 2 layers")
        self.network = MLP((3, *image_size), hidden_dim, num_layers)
        # N(0, 0.02): Appendix B.1, for every model but SPADE and StyleGAN2.
        init_normal(self.network)
        self.objective = objective
        self.mse_weight = mse_weight
        self.lr = lr
        self.betas = betas

    def phases(self) -> list[Phase]:
        return [Phase("generator", self.network.parameters(), self.lr, self.betas)]

    def prepare(self, batch: Batch) -> Batch:
        return {**batch, "fake": self.network(batch["image"])}

    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        real, fake = batch["image"], batch["fake"]
        own = {"mse": self.mse_weight * F.mse_loss(fake, real)} if self.mse_weight else {}
        return self.objective(fake, real, own)

    @torch.no_grad()
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        return self.network(batch["image"])


def official_autoencoder(state_dict: Mapping[str, Any], **options: Any) -> Architecture:
    """The perceptron that weights of the authors' release belong to; options under the names of their program."""
    weights = StateDict("vanilla_ae", state_dict)
    hidden_dim, num_values = weights.shape("model.0.fc.weight", (2,))
    weights.shape("model.1.fc.weight", (2,))  # one layer is no autoencoder
    num_layers = weights.count("model.{}.fc.weight")
    known = {"input_dim": num_values, "output_dim": num_values, "dim": hidden_dim, "n_blk": num_layers}
    weights.check_options(known | {"norm": "none", "activ": "relu"}, options)
    # The perceptron flattens its images, so that their number of values is all that the weights tell of their shape.
    arguments = {"image_shape": (1, 1, num_values), "hidden_dim": hidden_dim, "num_layers": num_layers}
    return Architecture(weights, MLP, arguments)
