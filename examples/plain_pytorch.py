"""The focal frequency loss in a plain training loop: photographs at twice their size.

Run with: python examples/plain_pytorch.py
"""

import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import nn

from ffl import FocalFrequencyLoss, GradientShare, gradient_share

torch.manual_seed(0)
photograph = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
sharp = photograph.unfold(1, 64, 64).unfold(2, 64, 64).flatten(1, 2).transpose(0, 1)  # (64, 3, 64, 64), in [0, 1]
small = F.avg_pool2d(sharp, 2)

network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2))
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
frequency_loss = FocalFrequencyLoss()
share = GradientShare(target=0.5)  # the frequency loss pulls at the images as strongly as the pixel loss

for step in range(61):
    batch = torch.randint(len(sharp), (8,))
    fake, real = network(small[batch]), sharp[batch]
    pixel, frequency = F.l1_loss(fake, real), frequency_loss(fake, real)
    weighted = share(frequency, others=[pixel], output=fake)
    if step % 30 == 0:
        held = gradient_share({"pixel": pixel, "ffl": weighted}, fake)["ffl"]
        print(f"step {step}: L1 {pixel:.4f}, FFL {frequency:.6f}, weight {share.weight:.1f}, share {held:.2f}")
    optimizer.zero_grad()
    (pixel + weighted).backward()
    optimizer.step()
