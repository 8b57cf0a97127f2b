"""The focal frequency loss with diffusers and accelerate: on the images of a VAE, then on its latents.

The VAE is tiny and starts from random weights. Latents are images of few pixels and four channels: the loss takes them
as they are.

Run with: python examples/diffusers_vae.py
"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL
from skimage.data import astronaut
from torch import nn

from ffl import FocalFrequencyLoss, GradientShare

set_seed(0)
accelerator = Accelerator(cpu=True)
photograph = torch.from_numpy(astronaut()).permute(2, 0, 1) / 127.5 - 1
crops = photograph.unfold(1, 32, 32).unfold(2, 32, 32).flatten(1, 2).transpose(0, 1)  # (256, 3, 32, 32), in [-1, 1]
crops = crops.to(accelerator.device)
frequency_loss = FocalFrequencyLoss()

# Images: the VAE reconstructs them. Its KL term is left out here.
blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
vae = AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, mid_block_add_attention=False, **blocks)
vae, optimizer = accelerator.prepare(vae, torch.optim.Adam(vae.parameters(), lr=1e-2))
share = GradientShare(target=0.5)
for step in range(41):
    real = crops[torch.randint(len(crops), (8,))]
    fake = vae(real).sample
    pixel, frequency = F.mse_loss(fake, real), frequency_loss(fake, real)
    weighted = share(frequency, others=[pixel], output=fake)
    if step % 20 == 0:
        accelerator.print(f"images, step {step}: MSE {pixel:.4f}, FFL {frequency:.6f}, weight {share.weight:.1f}")
    accelerator.backward(pixel + weighted)
    optimizer.step()
    optimizer.zero_grad()

# Latents: a network predicts them from noisy ones, as a diffusion model does.
with torch.no_grad():
    latents = accelerator.unwrap_model(vae).encode(crops).latent_dist.mode()  # (256, 4, 16, 16)
    latents = latents / latents.std()
denoiser = nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 3, padding=1))
denoiser, optimizer = accelerator.prepare(denoiser, torch.optim.Adam(denoiser.parameters(), lr=5e-3))
share = GradientShare(target=0.5)
for step in range(41):
    real = latents[torch.randint(len(latents), (32,))]
    fake = denoiser(real + 0.5 * torch.randn_like(real))
    pixel, frequency = F.mse_loss(fake, real), frequency_loss(fake, real)
    weighted = share(frequency, others=[pixel], output=fake)
    if step % 20 == 0:
        accelerator.print(f"latents, step {step}: MSE {pixel:.4f}, FFL {frequency:.6f}, weight {share.weight:.1f}")
    accelerator.backward(pixel + weighted)
    optimizer.step()
    optimizer.zero_grad()
