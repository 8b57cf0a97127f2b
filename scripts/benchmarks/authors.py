"""What the authors' published code does where no package has it: their recipes, rewritten here as peers to measure.

Per-image metrics of 8-bit images, as arrays (H, W, C) and in float64, one pair at a time; and the training loop of the
autoencoder, which decodes the original files in worker processes in every epoch.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import correlate1d
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from models.ae import MLP

Pixels = NDArray[np.uint8]

# Settings of the authors' autoencoder on CelebA.
IMAGE_SIZE = 64
BATCH_SIZE = 128
FFL_WEIGHT = 100.0
LEARNING_RATE = 1e-3


def psnr(fake: Pixels, real: Pixels) -> float:
    """Peak signal-to-noise ratio of a pair, in dB."""
    error = np.mean((fake.astype(np.float64) - real.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(20 * np.log10(255 / np.sqrt(error)))


def lfd(fake: Pixels, real: Pixels) -> float:
    """Log frequency distance of a pair: both spectra of all channels, their squared difference, its mean."""
    spectra = [np.fft.fft2(image.astype(np.float64), axes=(0, 1)) for image in (fake, real)]
    parts = [np.stack([spectrum.real, spectrum.imag], -1) for spectrum in spectra]
    return float(np.log(np.mean(((parts[0] - parts[1]) ** 2).sum(-1)) + 1))


def ssim(fake: Pixels, real: Pixels) -> float:
    """Structural similarity of a pair, channel by channel.

    Five filtered maps each. The authors filter by OpenCV with the whole 11 x 11 window; rows and columns in turn, as
    here, are the same sums in less time.
    """
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def smooth(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return correlate1d(correlate1d(image, window, 0), window, 1)[5:-5, 5:-5]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(fake.shape[2]):
        x, y = (image[..., channel].astype(np.float64) for image in (fake, real))
        mean_x, mean_y = smooth(x), smooth(y)
        var_x, var_y = smooth(x**2) - mean_x**2, smooth(y**2) - mean_y**2
        covariance = smooth(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        values.append((luminance * (2 * covariance + c2) / (var_x + var_y + c2)).mean())
    return float(np.mean(values))


class DecodedFiles(Dataset[Tensor]):
    """Image files, decoded and transformed whenever they are asked for."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize(IMAGE_SIZE),
                transforms.CenterCrop(IMAGE_SIZE),
                transforms.ToTensor(),
                transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def train_autoencoder(
    files: list[Path], workers: int, device: torch.device, batch_size: int = BATCH_SIZE
) -> Iterator[int]:
    """The authors' recipe for the vanilla autoencoder with their loss.

    Args:
        files: of the training split.
        workers: processes that decode.
        device: to train on.
        batch_size: of a step.
    Yields:
        After each epoch, the images that it trained on; without end.
    """
    from focal_frequency_loss import FocalFrequencyLoss as AuthorsLoss

    network = MLP((3, IMAGE_SIZE, IMAGE_SIZE)).to(device)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.02)
    frequency, pixels = AuthorsLoss(loss_weight=FFL_WEIGHT), nn.MSELoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.999))
    loader = DataLoader(
        DecodedFiles(files),
        batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
    )
    while True:
        seen = 0
        for batch in loader:
            real = batch.to(device)
            optimizer.zero_grad()
            fake = network(real)
            loss = pixels(fake, real) + frequency(fake, real)
            loss.backward()
            optimizer.step()
            seen += len(real)
        yield seen
