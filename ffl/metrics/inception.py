"""The Inception-v3 of FID (Szegedy et al. 2016, with the pooling of TensorFlow's 2015-12-05 graph).

It is torchvision's Inception-v3 but for the pooling branches of its blocks: average pools leave the padding out, and
the last block pools by maximum. It has 1008 classes and no auxiliary head. Keys are those of the published checkpoint
``pt_inception-2015-12-05-6726825d.pth``.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import inception as torchvision_inception

from ffl.metrics.base import check_images
from ffl.state_dicts import load_strict

Preprocess: TypeAlias = Literal["pytorch_fid", "torch_fidelity"]

INPUT_SIZE = 299
FEATURE_DIMS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "logits": 1008, "logits_unbiased": 1008}


def average_pool(x: Tensor) -> Tensor:
    """3×3 mean around each position, over the positions inside the map alone: (N, C, H, W) to the same shape."""
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class BlockA(torchvision_inception.InceptionA):
    """35×35: 1×1, 5×5 and double 3×3 branches, and the pooling branch."""

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(average_pool(x))], dim=1)


class BlockC(torchvision_inception.InceptionC):
    """17×17: 7×7 convolutions factored into rows and columns, once and twice, and the pooling branch."""

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average_pool(x))], dim=1)


class BlockE(torchvision_inception.InceptionE):
    """8×8: 3×3 convolutions split into a row and a column side by side, and the pooling branch."""

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pool(x)),
        ]
        return torch.cat(branches, dim=1)

    def pool(self, x: Tensor) -> Tensor:
        return average_pool(x)


class LastBlockE(BlockE):
    """``BlockE`` that pools by maximum, as the graph of 2015 does."""

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel_size=3, stride=1, padding=1)


class InceptionFID(torchvision_inception.Inception3):
    """The network; weights come through ``load_inception``."""

    def __init__(self) -> None:
        blocks = torchvision_inception
        super().__init__(
            num_classes=FEATURE_DIMS["logits"],
            aux_logits=False,
            init_weights=False,
            inception_blocks=[
                blocks.BasicConv2d,
                BlockA,
                blocks.InceptionB,
                BlockC,
                blocks.InceptionD,
                BlockE,
                blocks.InceptionAux,
            ],
        )
        self.Mixed_7c = LastBlockE(2048)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features of float (N, 3, 299, 299) inputs as ``preprocess_images`` makes them; see ``features``."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        map_64 = self.maxpool1(x)
        map_192 = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(map_64)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(map_192))))
        map_768 = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        map_2048 = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(map_768)))
        maps = {"64": map_64, "192": map_192, "768": map_768, "2048": map_2048}
        pooled = {name: F.adaptive_avg_pool2d(value, 1).flatten(1) for name, value in maps.items()}
        unbiased = F.linear(pooled["2048"], self.fc.weight)
        return {**pooled, "logits_unbiased": unbiased, "logits": unbiased + self.fc.bias}

    def features(self, images: Tensor, preprocess: Preprocess = "pytorch_fid") -> dict[str, Tensor]:
        """Features of 8-bit images.

        Args:
            images: uint8 (N, 3, H, W), [0, 255].
            preprocess: whose resizing and scaling to use, see ``preprocess_images``.
        Returns:
            "64", "192", "768", "2048": spatial means of the maps of that many channels, (N, 64) and so on;
            "logits", "logits_unbiased": (N, 1008), with and without the bias of the last layer.
        """
        return self(preprocess_images(images, preprocess, self.fc.weight.dtype))


def resize_tensorflow(images: Tensor, size: int) -> Tensor:
    """Bilinear resize as TensorFlow 1 does it: output pixel i samples the input at i·(input size)/(output size).

    There is no half-pixel offset and no antialiasing; positions beyond the last pixel take the last pixel.

    Args:
        images: float (N, C, H, W).
        size: output height and width.
    Returns:
        (N, C, size, size) of the same dtype.
    """
    for dim in (-1, -2):
        length = images.shape[dim]
        # TensorFlow keeps the scale in float32, which decides the fractions to the last bits.
        scale = torch.tensor(length / size, dtype=torch.float32, device=images.device)
        position = torch.arange(size, dtype=torch.float32, device=images.device) * scale
        low = position.long()
        high = (low + 1).clamp_max(length - 1)
        fraction = (position - low).to(images.dtype)
        if dim == -2:
            fraction = fraction[:, None]
        below, above = images.index_select(dim, low), images.index_select(dim, high)
        images = below + (above - below) * fraction
    return images


def preprocess_images(images: Tensor, preprocess: Preprocess, dtype: torch.dtype = torch.float32) -> Tensor:
    """Resize to 299×299 and scale to about [-1, 1], as one of the two common tools does.

    Args:
        images: uint8 (N, 3, H, W), [0, 255].
        preprocess: "pytorch_fid" (half-pixel bilinear on x / 255, then 2x - 1) or "torch_fidelity" (TensorFlow 1
            bilinear on x, then (x - 128) / 128).
        dtype: of the result.
    Returns:
        (N, 3, 299, 299).
    """
    check_images("inception", images, channels=3)
    if preprocess == "pytorch_fid":
        scaled = images.to(dtype) / 255
        resized = F.interpolate(scaled, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        return 2 * resized - 1
    if preprocess == "torch_fidelity":
        return (resize_tensorflow(images.to(dtype), INPUT_SIZE) - 128) / 128
    raise ValueError(f"preprocess must be one of {', '.join(get_args(Preprocess))}, got {preprocess!r}")


def load_inception(state_dict: Mapping[str, Tensor]) -> InceptionFID:
    """The network with official weights, in evaluation mode and without gradients.

    Raises:
        UserError: if keys are missing or unexpected, or a shape differs; the message says which.
    """
    return load_strict(InceptionFID(), state_dict, "Inception (FID)").eval().requires_grad_(False)
