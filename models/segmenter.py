"""A segmenter: judges the images of semantic synthesis where the official networks cannot be had; not in the paper.

Trained as any model is, on the real training images; ``ffl.metrics.own_segmentation`` judges generated ones with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ffl.images import from_uint8
from ffl.label_sets import LABEL_SETS, LabelSetName
from ffl.networks.unet import UNet
from ffl.ranges import Count, Decay, Positive
from ffl.training.logger import label_colours
from ffl.training.model import Batch, Model, Phase, Task
from ffl.training.objective import Objective


class SegmentationUNet(Model):
    """A U-Net and its cross-entropy, from which pixels without an evaluated class are left out.

    Args:
        image_size: (H, W) of the images.
        objective: takes no part; a segmenter makes no images that its terms could compare.
        label_set: the data set whose label maps it learns.
        channels, levels: see ``UNet``.
        lr: learning rate of Adam.
        betas: of Adam.
    """

    tasks = ("segmentation",)
    inputs = frozenset({"image", "label"})

    def __init__(
        self,
        image_size: tuple[int, int],
        objective: Objective,
        label_set: LabelSetName,
        channels: Count = 16,
        levels: Count = 4,
        lr: Positive = 1e-3,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
    ) -> None:
        super().__init__()
        self.labels = LABEL_SETS[label_set]
        self.network = UNet(self.labels.num_classes, channels, levels)
        self.lr = lr
        self.betas = betas

    def phases(self) -> list[Phase]:
        return [Phase("segmenter", self.network.parameters(), self.lr, self.betas)]

    def losses(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        return {"cross_entropy": self.cross_entropy(batch).mean()}

    def errors(self, batch: Batch, fake: Tensor) -> Tensor:
        return self.cross_entropy(batch)

    def cross_entropy(self, batch: Batch) -> Tensor:
        """The mean over the evaluated pixels of each image, 0 where there are none: float (N,)."""
        classes = self.labels.evaluation_ids(batch["label"])
        each = F.cross_entropy(self.network(batch["image"]), classes, ignore_index=-1, reduction="none")
        return each.sum((1, 2)) / (classes >= 0).sum((1, 2)).clamp_min(1)

    @torch.no_grad()
    def generate(self, batch: Batch, task: Task, seed: int) -> Tensor:
        """The predicted label maps in the colours of the given ones, to look at."""
        predictions = self.network(batch["image"]).argmax(1)
        ids = torch.tensor(self.labels.class_ids, device=predictions.device)[predictions]
        return from_uint8(label_colours(ids))
