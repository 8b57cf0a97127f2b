"""What the losses that papers compare with the focal frequency loss share: checks, number types, reduction."""

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from ffl.losses.focal_frequency import Reduction


class PairLoss(nn.Module):
    """A loss between generated images and the real images that they stand for.

    Half-precision inputs are processed in float32, and autocast is off inside. A subclass computes one value for each
    sample; ``forward`` checks the inputs before and reduces these values after.

    Args:
        reduction: "none" gives one value for each sample, shape (N,); "mean" and "sum" are their mean and sum.
    """

    shape = "(..., H, W)"  # what inputs look like, for messages
    dims = 2  # transformed axes, the last ones
    channels: int | None = None  # that the axis before them must have; None allows any number

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in get_args(Reduction):
            allowed = ", ".join(map(repr, get_args(Reduction)))
            raise ValueError(f"reduction must be one of {allowed}, got {reduction!r}")
        self.reduction: Reduction = reduction

    def per_sample(self, fake: Tensor, real: Tensor) -> Tensor:
        """(N, ...) images in float32 or float64, of a size that ``check_size`` has passed, to (N,) values."""
        raise NotImplementedError

    def check_size(self, size: torch.Size) -> None:
        """Raise ValueError where images whose transformed axes have this size are too small for the loss."""

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """Loss of a batch, or of a single sample.

        Args:
            fake: floating, generated images; the class says which shapes and ranges it takes. The first axis numbers
                the samples; an input that has only a channel axis before the transformed axes, or none, is one sample.
            real: same shape, real images. Receives a gradient too where it requires one.
        Returns:
            Scalar, or one value for each sample with ``reduction="none"``; float64 if an input is, else float32.
        Raises:
            TypeError: an input is not a floating tensor.
            ValueError: the shapes differ, or the loss does not take them.
        """
        return self.reduced(self.per_sample, fake, real)

    def reduced(self, per_sample: Callable[[Tensor, Tensor], Tensor], fake: Tensor, real: Tensor) -> Tensor:
        """Check the inputs, evaluate a function of them that has a value for each sample, and reduce its first axis."""
        for name, images in (("fake", fake), ("real", real)):
            if not images.is_floating_point():
                raise TypeError(f"{name} must be a floating tensor, got {images.dtype}")
        channels = None if fake.ndim <= self.dims else fake.shape[-self.dims - 1]
        fits = fake.ndim >= self.dims and self.channels in (None, channels)
        if not fits or fake.shape != real.shape or fake.numel() == 0:
            raise ValueError(
                f"fake and real must have the same shape {self.shape} and not be empty, "
                f"got {tuple(fake.shape)} and {tuple(real.shape)}"
            )
        self.check_size(fake.shape[-self.dims :])

        dtype = torch.promote_types(torch.promote_types(fake.dtype, real.dtype), torch.float32)
        single = fake.ndim <= self.dims + 1
        if single:
            fake, real = fake[None], real[None]
        with torch.autocast(fake.device.type, enabled=False):
            values = per_sample(fake.to(dtype), real.to(dtype))
        if self.reduction == "none":
            return values[0] if single else values
        return values.mean(0) if self.reduction == "mean" else values.sum(0)

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
