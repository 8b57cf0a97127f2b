"""The focal frequency loss in a LightningModule: an autoencoder of photographs.

Weights that set themselves are part of the module, and with it of Lightning's checkpoints; on several devices all
processes use the same.

Run with: python examples/lightning_module.py
"""

import lightning
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ffl import FocalFrequencyLoss, GradientShare, gradient_share


class Autoencoder(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 4, 2, 1))
        self.decoder = nn.Sequential(nn.ConvTranspose2d(16, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1))
        self.frequency_loss, self.share = FocalFrequencyLoss(), GradientShare(target=0.5)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        (real,) = batch
        fake = self.decoder(self.encoder(real))
        pixel, frequency = F.mse_loss(fake, real), self.frequency_loss(fake, real)
        weighted = self.share(frequency, others=[pixel], output=fake)
        if self.global_step % 40 == 0:
            held = gradient_share({"pixel": pixel, "ffl": weighted}, fake)["ffl"]
            self.print(f"step {self.global_step}: MSE {pixel:.4f}, FFL {frequency:.6f}, share {held:.2f}")
        self.log_dict({"mse": pixel, "ffl": frequency, "ffl_weight": self.share.weight})
        return pixel + weighted

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


lightning.seed_everything(0, verbose=False)
photograph = torch.from_numpy(astronaut()).permute(2, 0, 1) / 255
crops = photograph.unfold(1, 64, 64).unfold(2, 64, 64).flatten(1, 2).transpose(0, 1)  # (64, 3, 64, 64), in [0, 1]
options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = lightning.Trainer(max_steps=81, accelerator="cpu", **options)
trainer.fit(module := Autoencoder(), DataLoader(TensorDataset(crops), batch_size=8, shuffle=True))
print(f"weight {module.state_dict()['share.weight']:.1f}")
