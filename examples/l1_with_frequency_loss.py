"""L1 and the focal frequency loss as one loss of BasicSR's registry, which needs no change to a trainer.

BasicSR and neosr import the files named *_loss.py in their folder ``losses``, and build losses from the options. Copy
this file there, and write in place of the pixel loss

    pixel_opt: {type: L1WithFrequencyLoss, loss_weight: 1.0, share: 0.5}

which neosr's TOML has below [train.pixel_opt]. These programs keep no state of losses in their checkpoints: a resumed
run measures the weight anew in its first step.

Run with: python examples/l1_with_frequency_loss.py
"""

from typing import Any

import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import Tensor, nn

from ffl import FocalFrequencyLoss, GradientShare

try:
    from basicsr.utils.registry import LOSS_REGISTRY  # or neosr.utils.registry
except ImportError:  # a stand-in, so that this file runs without them

    class Registry(dict[str, type[nn.Module]]):
        def register(self) -> Any:
            return lambda loss: self.setdefault(loss.__name__, loss)

    LOSS_REGISTRY = Registry()


@LOSS_REGISTRY.register()
class L1WithFrequencyLoss(nn.Module):
    """Options that are not named here are those of FocalFrequencyLoss."""

    def __init__(self, loss_weight: float = 1.0, share: float = 0.5, **options: Any) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.frequency_loss = FocalFrequencyLoss(**options)
        self.share = GradientShare(target=share)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        pixel = F.l1_loss(pred, target)
        frequency = self.share(self.frequency_loss(pred, target), others=[pixel], output=pred)
        return self.loss_weight * (pixel + frequency)


if __name__ == "__main__":
    torch.manual_seed(0)
    options = {"type": "L1WithFrequencyLoss", "loss_weight": 1.0, "share": 0.5, "alpha": 1.0}  # from the file
    cri_pix = LOSS_REGISTRY.get(options.pop("type"))(**options)

    # What a trainer does with it: x2 super-resolution of one photograph.
    gt = torch.from_numpy(astronaut()).permute(2, 0, 1)[None, :, :256, :256] / 255
    lq = F.avg_pool2d(gt, 2)
    network = nn.Sequential(nn.Conv2d(3, 12, 5, padding=2), nn.PixelShuffle(2))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(61):
        output = network(lq)
        loss = cri_pix(output, gt)
        if step % 30 == 0:
            frequency = cri_pix.frequency_loss(output, gt)
            print(f"step {step}: loss {loss:.4f}, FFL {frequency:.6f}, weight {cri_pix.share.weight:.1f}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
