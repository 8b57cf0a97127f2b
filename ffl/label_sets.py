"""Label sets: which ids of a data set's label maps are classes that are scored, and what becomes of all others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LabelSetName = Literal["cityscapes", "ade20k", "celeba_mask_hq", "photos"]

# Cityscapes labelIds that are evaluated, in the order of their trainIds 0 ... 18 (cityscapesScripts).
CITYSCAPES_EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class LabelSet:
    """The ids of a data set's label maps, and how its evaluator treats them.

    Attributes:
        name: of the data set.
        num_ids: label maps hold 0 ... num_ids - 1.
        class_ids: the file's id of each evaluated class; every other id is ignored.
        absent: what a class in neither labels nor predictions does to the mean IoU, see ``mean_iou``.
        mapping, ignored: in words, for records.
    """

    name: LabelSetName
    num_ids: int
    class_ids: tuple[int, ...]
    absent: Literal["skip", "zero"]
    mapping: str
    ignored: str

    @property
    def num_classes(self) -> int:
        """Number of evaluated classes."""
        return len(self.class_ids)

    def evaluation_ids(self, labels: Tensor) -> Tensor:
        """Ids of the files to ids of the network: int64 of the same shape, -1 where ignored."""
        # A table of all known ids, with one entry more for every other one.
        labels = labels.long()
        table = torch.full((max(self.class_ids) + 2,), -1, dtype=torch.int64)
        table[list(self.class_ids)] = torch.arange(self.num_classes)
        unknown = len(table) - 1
        outside = (labels < 0) | (labels >= unknown)
        return table.to(labels.device)[torch.where(outside, unknown, labels)]


LABEL_SETS: Mapping[str, LabelSet] = {
    "cityscapes": LabelSet(
        name="cityscapes",
        num_ids=35,
        class_ids=CITYSCAPES_EVALUATED,
        absent="skip",
        mapping="labelIds to trainIds 0..18",
        ignored="all ids without a trainId (void and rare classes)",
    ),
    "ade20k": LabelSet(
        name="ade20k",
        num_ids=151,
        class_ids=tuple(range(1, 151)),
        absent="zero",
        mapping="ids 1..150 to 0..149",
        ignored="id 0 (other)",
    ),
    "celeba_mask_hq": LabelSet(
        name="celeba_mask_hq",
        num_ids=19,
        class_ids=tuple(range(19)),
        absent="skip",
        mapping="ids as they are, background is a class",
        ignored="none",
    ),
    # The eight steps of brightness that debug=smoke gives to semantic models.
    "photos": LabelSet(
        name="photos",
        num_ids=8,
        class_ids=tuple(range(8)),
        absent="skip",
        mapping="ids as they are",
        ignored="none",
    ),
}
