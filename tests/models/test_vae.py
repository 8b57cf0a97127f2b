"""The convolutional VAE: Appendix B.1's layers, its losses in closed form, and generation per image."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from ffl.errors import UserError
from ffl.training.objective import Objective
from models.vae import VariationalAutoencoder
from models.vae import kl_divergence as kl


@pytest.mark.parametrize(
    ("size", "channels"),
    [(16, [64, 128]), (64, [64, 128, 256, 512]), (256, [64, 128, 256, 512, 512, 512])],
)
def test_layers_are_those_of_the_appendix(size: int, channels: list[int]) -> None:
    model = VariationalAutoencoder((size, size), Objective())
    down = [layer for layer in model.encoder.modules() if isinstance(layer, nn.Conv2d)]
    up = [layer for layer in model.decoder.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in down] == channels
    assert [layer.out_channels for layer in up] == [*channels[-2::-1], 3]
    for layer in (*down, *up):
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert isinstance(model.decoder.blocks[-1], nn.Tanh)
    slopes = {layer.negative_slope for layer in model.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.2}
    images = torch.rand(2, 3, size, size) * 2 - 1
    assert model.prepare({"image": images})["fake"].shape == images.shape


@pytest.mark.parametrize("size", [(48, 48), (8, 8), (64, 32)])
def test_other_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match=f"image_size={size[0]}x{size[1]}"):
        VariationalAutoencoder(size, Objective())


def test_kl_equals_the_closed_form_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    want = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros(7), torch.ones(7))).sum(1)
    assert torch.allclose(kl(mean, log_variance), want, rtol=1e-12)


def test_losses_are_the_evidence_lower_bound_at_its_own_weight() -> None:
    model = VariationalAutoencoder((16, 16), Objective(), latent_dim=5, kl_weight=2 / (3 * 16 * 16))
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    batch = model.prepare({"image": images})
    losses = model.losses(batch, "generator")
    # -log p(x|z) of a unit-variance Gaussian is half the squared error plus a constant
    bound = 0.5 * (images - batch["fake"]).square().sum((1, 2, 3)) + kl(batch["mean"], batch["log_variance"])
    assert sum(losses.values()).item() == pytest.approx(bound.mean().item() * 2 / images[0].numel(), rel=1e-5)


def test_noise_has_unit_variance_around_the_mean() -> None:
    model = VariationalAutoencoder((16, 16), Objective(), latent_dim=2000)
    model.encoder.log_variance.weight.data.zero_()
    model.encoder.log_variance.bias.data.fill_(2 * math.log(3.0))
    seen = {}
    model.decoder.linear.register_forward_pre_hook(lambda _, inputs: seen.update(latent=inputs[0]))
    batch = model.prepare({"image": torch.zeros(8, 3, 16, 16)})
    assert (seen["latent"] - batch["mean"]).std().item() == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize("task", ["reconstruction", "synthesis"])
def test_images_do_not_depend_on_the_batch_they_come_in(task: str) -> None:
    model = VariationalAutoencoder((16, 16), Objective()).eval()
    batch = {"image": torch.rand(5, 3, 16, 16) * 2 - 1, "index": torch.arange(5)}
    together = model.generate(batch, task, seed=1)
    alone = torch.cat([model.generate({k: v[i : i + 1] for k, v in batch.items()}, task, seed=1) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.abs().max() <= 1
    other_seed = model.generate(batch, task, seed=2)
    assert torch.equal(together, other_seed) == (task == "reconstruction")
