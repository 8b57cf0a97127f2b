"""Image encoder of SPADE, for the optional variational autoencoder; keys as officially."""

import torch.nn.functional as F
from torch import Tensor, nn

from models.spade.layers import spectral_instance, suitable_layout

INPUT_SIZE = 256  # every image is resized to this square
NUM_LAYERS = 6
LAST_SIZE = INPUT_SIZE >> NUM_LAYERS


class ImageEncoder(nn.Module):
    """Image to the posterior of its style: six stride-2 convolutions, then two linear layers.

    The official code leaves the sixth convolution out below a crop size of 256, and then cannot run: it
    resizes to 256 all the same, which no longer fits the linear layers. Here there are always six.

    Args:
        ngf: channels of the first layer; doubled up to 8 ngf.
        latent_dim: of the posterior.
    """

    def __init__(self, ngf: int = 64, latent_dim: int = 256) -> None:
        super().__init__()
        widths = [3, *(ngf * min(2**layer, 8) for layer in range(NUM_LAYERS))]
        for layer in range(NUM_LAYERS):
            self.add_module(f"layer{layer + 1}", spectral_instance(widths[layer], widths[layer + 1], 3, 2, 1))
        self.fc_mu = nn.Linear(widths[-1] * LAST_SIZE**2, latent_dim)
        self.fc_var = nn.Linear(widths[-1] * LAST_SIZE**2, latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] to μ and log σ², each (N, latent_dim)."""
        x = images
        # The linear layers fit one size alone.
        if x.shape[-2:] != (INPUT_SIZE, INPUT_SIZE):
            x = F.interpolate(x, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear")
        for layer in range(1, NUM_LAYERS + 1):
            x = F.leaky_relu_(getattr(self, f"layer{layer}")(suitable_layout(x)), 0.2)
        x = x.flatten(1)
        return self.fc_mu(x), self.fc_var(x)
