"""The Inception-v3 of FID (Szegedy et al. 2016, with the pooling of TensorFlow's 2015-12-05 graph).

Keys are those of the published checkpoint ``pt_inception-2015-12-05-6726825d.pth``. It differs from torchvision's
Inception-v3: average pools leave the padding out, the last block pools by maximum, there are 1008 classes and no
auxiliary head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.metrics.base import check_images

Preprocess: TypeAlias = Literal["pytorch_fid", "torch_fidelity"]
Size: TypeAlias = int | tuple[int, int]

INPUT_SIZE = 299
FEATURE_DIMS = {"64": 64, "192": 192, "768": 768, "2048": 2048, "logits": 1008, "logits_unbiased": 1008}


@dataclass(frozen=True)
class Conv:
    """One convolution with batch normalisation and ReLU: its key, channels, kernel, stride and padding."""

    key: str
    channels: int
    kernel: Size = 1
    stride: int = 1
    padding: Size = 0


# A branch is a chain of stages; the convolutions of one stage see the same input and are concatenated.
Stage: TypeAlias = Sequence[Conv]
Branch: TypeAlias = Sequence[Stage]


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation with epsilon 1e-3, ReLU."""

    def __init__(self, in_channels: int, spec: Conv) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, spec.channels, spec.kernel, spec.stride, spec.padding, bias=False)
        self.bn = nn.BatchNorm2d(spec.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """An Inception block: branches side by side, then a pooling branch, concatenated in this order.

    Args:
        in_channels: channels of the input.
        branches: convolutions of each branch.
        pool: "average" or "maximum" keep the size, and a 1×1 convolution follows; "reduce" halves it.
        pool_channels: output channels of that convolution; 0 with "reduce".
    """

    def __init__(
        self,
        in_channels: int,
        branches: Sequence[Branch],
        pool: Literal["average", "maximum", "reduce"],
        pool_channels: int = 0,
    ) -> None:
        super().__init__()
        self.branches = branches
        self.pool = pool
        self.out_channels = pool_channels or in_channels
        for branch in branches:
            channels = in_channels
            for stage in branch:
                for spec in stage:
                    self.add_module(spec.key, ConvNorm(channels, spec))
                channels = sum(spec.channels for spec in stage)
            self.out_channels += channels
        if pool_channels:
            self.branch_pool = ConvNorm(in_channels, Conv("branch_pool", pool_channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(self._run(branch, x) for branch in self.branches), self._pooled(x)], dim=1)

    def _run(self, branch: Branch, x: Tensor) -> Tensor:
        for stage in branch:
            parts = [self.get_submodule(spec.key)(x) for spec in stage]
            x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "reduce":
            return F.max_pool2d(x, kernel_size=3, stride=2)
        if self.pool == "average":
            x = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        else:
            x = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        return self.branch_pool(x)


def _chain(*specs: Conv) -> Branch:
    return [[spec] for spec in specs]


def _row(key: str, channels: int, length: int) -> Conv:
    return Conv(key, channels, (1, length), padding=(0, length // 2))


def _column(key: str, channels: int, length: int) -> Conv:
    return Conv(key, channels, (length, 1), padding=(length // 2, 0))


def _block_35(in_channels: int, pool_channels: int) -> Mixed:
    """35×35: 1×1, 5×5 and double 3×3 branches."""
    return Mixed(
        in_channels,
        [
            _chain(Conv("branch1x1", 64)),
            _chain(Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, 5, padding=2)),
            _chain(
                Conv("branch3x3dbl_1", 64),
                Conv("branch3x3dbl_2", 96, 3, padding=1),
                Conv("branch3x3dbl_3", 96, 3, padding=1),
            ),
        ],
        "average",
        pool_channels,
    )


def _reduction_17(in_channels: int) -> Mixed:
    """35×35 to 17×17."""
    return Mixed(
        in_channels,
        [
            _chain(Conv("branch3x3", 384, 3, stride=2)),
            _chain(
                Conv("branch3x3dbl_1", 64),
                Conv("branch3x3dbl_2", 96, 3, padding=1),
                Conv("branch3x3dbl_3", 96, 3, stride=2),
            ),
        ],
        "reduce",
    )


def _block_17(in_channels: int, width: int) -> Mixed:
    """17×17: 7×7 convolutions factored into rows and columns of ``width`` channels."""
    return Mixed(
        in_channels,
        [
            _chain(Conv("branch1x1", 192)),
            _chain(Conv("branch7x7_1", width), _row("branch7x7_2", width, 7), _column("branch7x7_3", 192, 7)),
            _chain(
                Conv("branch7x7dbl_1", width),
                _column("branch7x7dbl_2", width, 7),
                _row("branch7x7dbl_3", width, 7),
                _column("branch7x7dbl_4", width, 7),
                _row("branch7x7dbl_5", 192, 7),
            ),
        ],
        "average",
        192,
    )


def _reduction_8(in_channels: int) -> Mixed:
    """17×17 to 8×8."""
    return Mixed(
        in_channels,
        [
            _chain(Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, 3, stride=2)),
            _chain(
                Conv("branch7x7x3_1", 192),
                _row("branch7x7x3_2", 192, 7),
                _column("branch7x7x3_3", 192, 7),
                Conv("branch7x7x3_4", 192, 3, stride=2),
            ),
        ],
        "reduce",
    )


def _block_8(in_channels: int, pool: Literal["average", "maximum"]) -> Mixed:
    """8×8: 3×3 convolutions split into a row and a column side by side."""
    return Mixed(
        in_channels,
        [
            _chain(Conv("branch1x1", 320)),
            [[Conv("branch3x3_1", 384)], [_row("branch3x3_2a", 384, 3), _column("branch3x3_2b", 384, 3)]],
            [
                [Conv("branch3x3dbl_1", 448)],
                [Conv("branch3x3dbl_2", 384, 3, padding=1)],
                [_row("branch3x3dbl_3a", 384, 3), _column("branch3x3dbl_3b", 384, 3)],
            ],
        ],
        pool,
        192,
    )


class InceptionFID(nn.Module):
    """The network; weights come through ``load_inception``."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, Conv("", 32, 3, stride=2))
        self.Conv2d_2a_3x3 = ConvNorm(32, Conv("", 32, 3))
        self.Conv2d_2b_3x3 = ConvNorm(32, Conv("", 64, 3, padding=1))
        self.Conv2d_3b_1x1 = ConvNorm(64, Conv("", 80))
        self.Conv2d_4a_3x3 = ConvNorm(80, Conv("", 192, 3))
        self.Mixed_5b = _block_35(192, 32)
        self.Mixed_5c = _block_35(256, 64)
        self.Mixed_5d = _block_35(288, 64)
        self.Mixed_6a = _reduction_17(288)
        self.Mixed_6b = _block_17(768, 128)
        self.Mixed_6c = _block_17(768, 160)
        self.Mixed_6d = _block_17(768, 160)
        self.Mixed_6e = _block_17(768, 192)
        self.Mixed_7a = _reduction_8(768)
        self.Mixed_7b = _block_8(1280, "average")
        self.Mixed_7c = _block_8(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Features of float (N, 3, 299, 299) inputs as ``preprocess_images`` makes them; see ``features``."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        map_64 = F.max_pool2d(x, kernel_size=3, stride=2)
        map_192 = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(map_64)), kernel_size=3, stride=2)
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(map_192))))
        map_768 = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        map_2048 = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(map_768)))
        maps = {"64": map_64, "192": map_192, "768": map_768, "2048": map_2048}
        pooled = {name: F.adaptive_avg_pool2d(value, 1).flatten(1) for name, value in maps.items()}
        unbiased = F.linear(pooled["2048"], self.fc.weight)
        return {**pooled, "logits_unbiased": unbiased, "logits": unbiased + self.fc.bias}

    def features(self, images: Tensor, preprocess: Preprocess = "pytorch_fid") -> dict[str, Tensor]:
        """Features of 8-bit images, in the network's precision whatever autocast says.

        Args:
            images: uint8 (N, 3, H, W), [0, 255].
            preprocess: whose resizing and scaling to use, see ``preprocess_images``.
        Returns:
            "64", "192", "768", "2048": spatial means of the maps of that many channels, (N, 64) and so on;
            "logits", "logits_unbiased": (N, 1008), with and without the bias of the last layer.
        """
        device = images.device.type
        with torch.autocast(device, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
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
    network = InceptionFID()
    expected, given = network.state_dict().keys(), state_dict.keys()
    missing, unexpected = sorted(expected - given), sorted(given - expected)
    if missing or unexpected:
        raise UserError(
            f"Inception weights do not fit: {_some('missing', missing)}, {_some('unexpected', unexpected)}; "
            "expected the keys of pt_inception-2015-12-05-6726825d.pth"
        )
    try:
        network.load_state_dict(dict(state_dict))
    except RuntimeError as error:
        raise UserError(f"Inception weights do not fit: {' '.join(str(error).split())}") from error
    return network.eval().requires_grad_(False)


def _some(what: str, keys: list[str]) -> str:
    return f"{len(keys)} {what}" + (f" ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})" if keys else "")
