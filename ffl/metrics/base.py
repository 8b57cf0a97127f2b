"""The base classes of all metrics, the checks of their inputs, and sums that are exact over batches and ranks."""

import math
import zlib
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torch import distributed as dist
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from ffl.errors import UserError

Description: TypeAlias = dict[str, str | int | float | bool | None]


def check_images(name: str, images: Tensor, channels: int | None = None) -> None:
    """Raise unless ``images`` is uint8 (N, C, H, W), with ``channels`` channels where given."""
    if images.dtype != torch.uint8:
        raise TypeError(f"{name} takes uint8 images, got {images.dtype}")
    if images.ndim != 4 or (channels is not None and images.shape[1] != channels):
        raise ValueError(f"{name} takes images of shape (N, {channels or 'C'}, H, W), got {tuple(images.shape)}")


def check_pairs(name: str, fake: Tensor, real: Tensor) -> None:
    """Raise unless both are uint8 (N, C, H, W) of one shape."""
    check_images(name, fake)
    check_images(name, real)
    if fake.shape != real.shape:
        raise ValueError(f"{name} takes pairs of one shape, got fake {tuple(fake.shape)} and real {tuple(real.shape)}")


def crop(images: Tensor, border: int) -> Tensor:
    """Cut ``border`` pixels off each side of (N, C, H, W) images.

    The authors' code adds an axis here, which leaves PSNR and MSE alone, reduces SSIM to the first channel and makes
    LFD raise; every metric of ours sees the cropped colour image.
    """
    height, width = images.shape[-2:]
    if border < 0 or 2 * border >= min(height, width):
        raise ValueError(f"crop_border {border} leaves nothing of {height}x{width} images")
    return images[..., border : height - border, border : width - border]


def map_pairs(function: Callable[[Tensor, Tensor], Tensor], fake: Tensor, real: Tensor, elements: int) -> Tensor:
    """Apply ``function`` to pairs of images, a few at a time.

    On a CPU this is two to ten times faster than on a whole batch, since its caches hold the temporary arrays and
    malloc reuses them; a GPU only needs a bound on memory.

    Args:
        function: takes two (n, C, H, W) tensors and gives (n,) values.
        fake: (N, C, H, W).
        real: same shape.
        elements: of one image tensor, the number that a CPU takes at a time.
    Returns:
        (N,) values.
    """
    limit = elements if fake.device.type == "cpu" else 1 << 25
    chunk = max(1, limit // max(1, fake[:1].numel()))
    return torch.cat([function(a, b) for a, b in zip(fake.split(chunk), real.split(chunk), strict=True)])


def rank_and_world_size() -> tuple[int, int]:
    """The number of this process and how many there are; (0, 1) for a process alone."""
    together = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if together else (0, 1)


def first_half(images: Tensor) -> Tensor:
    """Which of N uint8 images (N, C, H, W) belong to the first of two halves of their set: bool (N,), on their device.

    A checksum of their content decides, so that halves do not depend on order, batches and ranks. A set of N images
    has halves of N / 2 images up to a few times sqrt(N) / 2.
    """
    sums = [zlib.crc32(image) for image in images.cpu().contiguous().numpy()]
    return torch.tensor([checksum % 2 == 0 for checksum in sums], dtype=torch.bool, device=images.device)


class ImageMetric(Metric):
    """A metric of uint8 images whose states add up over batches and ranks, in float64 or integers.

    Attributes:
        name: as in ``ffl.metrics.METRICS``.
        inputs: "pairs" for ``update(fake, real)``, "sets" for ``update(images, real=...)``, "fakes" for
            ``update(images)``, "labels" for ``update(images, labels)``.
        label: as tables head its column, the paper's word where it has one.
        unit: what the value is multiplied by for tables: 100.0 for a percentage.
        digits: digits after the point in tables; None for those of the table, which are the paper's.
        tasks: the tasks of models whose default metrics it belongs to, see ``ffl.metrics.task_metrics``.
        label_sets: where ``inputs`` is "labels", the data sets whose label maps it knows.
        higher_is_better: direction of improvement.
        min_images: fewest images (of each kind) that ``compute`` accepts.
        max_images: most images (of each kind) that it keeps what it needs of; None for one that keeps sums.
        min_size: fewest pixels of height and of width that an image may have.
        warning: what to know about the latest value, as one line; set by ``compute``.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[float] = 1.0
    digits: ClassVar[int | None] = None
    tasks: ClassVar[tuple[str, ...]] = ()
    label_sets: ClassVar[tuple[str, ...]] = ()
    inputs: ClassVar[Literal["pairs", "sets", "fakes", "labels"]]
    min_images: int = 1
    max_images: ClassVar[int | None] = None
    min_size: ClassVar[int] = 1
    warning: str | None = None
    full_state_update = False

    def floor(self) -> float | None:
        """The same quantity between two halves of the real images: what it is where there is no difference.

        Each half has half as many images, so that the floor of a distance that is biased upwards lies above that of
        the whole set.

        Returns:
            None for a metric that does not compare sets, and where a half has fewer than ``min_images`` images.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, process_group=self.process_group):
            return self.between_halves()

    def between_halves(self) -> float | None:
        """``floor`` of the states that are here; overridden by metrics that compare sets."""
        return None

    def ceiling(self) -> float | None:
        """The score of the real images themselves, which no generated ones can be expected to exceed.

        Returns:
            None for a metric that does not judge real images, and where it saw none.
        """
        return None

    def protocol(self) -> Description:
        """Everything besides the images that fixes the value, as plain entries of a record."""
        raise NotImplementedError

    def require(self, count: int, kind: str = "images", usual: str | None = None) -> None:
        """Raise UserError unless enough images of a kind were seen; ``usual`` says what published values use."""
        if count < self.min_images:
            advice = "" if usual is None else f" (published values use {usual})"
            raise UserError(f"{self.name}: needs at least {self.min_images} {kind}, got {count}; evaluate more{advice}")


class GatheringMetric(ImageMetric):
    """A metric that keeps a row of numbers for each image and gathers those of all ranks for its value.

    Subclasses declare each list of rows with ``add_rows`` and fill it with ``append``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._empty_rows: dict[str, Tensor] = {}

    def add_rows(self, state: str, like: Tensor) -> None:
        """Declare a list of rows that have the type and the shape of those of the empty tensor ``like``, (0, ...)."""
        self.add_state(state, [], dist_reduce_fx="cat")
        self._empty_rows[state] = like

    def append(self, state: str, rows: Tensor) -> None:
        """Add rows to a state."""
        getattr(self, state).append(rows.to(self.device))

    def rows(self, state: str) -> Tensor:
        """Return all rows of a state: of this rank, and inside ``compute`` of all ranks."""
        value = getattr(self, state)
        if isinstance(value, Tensor):
            return value
        return torch.cat(value) if value else self._empty_rows[state].to(self.device)

    def _sync_dist(self, dist_sync_fn: Any = gather_all_tensors, process_group: Any = None) -> None:
        # For a rank without images torchmetrics gathers a tensor of one dimension and its own dtype, which does not
        # match what the other ranks send.
        for state in self._empty_rows:
            setattr(self, state, [self.rows(state)])
        super()._sync_dist(dist_sync_fn, process_group)


class PairMetric(GatheringMetric):
    """Mean over images of one number for each pair, which subclasses compute in ``per_image``.

    The numbers are kept and their sum is rounded once, so that batches and ranks may come in any order.
    """

    inputs = "pairs"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_rows("values", torch.empty(0, dtype=torch.float64))

    def per_image(self, fake: Tensor, real: Tensor) -> Tensor:
        """(N,) float64 values of uint8 (N, C, H, W) pairs."""
        raise NotImplementedError

    def update(self, fake: Tensor, real: Tensor) -> None:
        """Add N pairs of uint8 (N, C, H, W) images."""
        self.append("values", self.per_image(fake, real))

    def compute(self) -> Tensor:
        """Mean over all images of all ranks, float64."""
        # fsum rounds once, at the end: the value does not depend on the order in which ranks delivered theirs.
        values = self.rows("values").tolist()
        self.require(len(values))
        return torch.tensor(math.fsum(values) / len(values), dtype=torch.float64, device=self.device)
