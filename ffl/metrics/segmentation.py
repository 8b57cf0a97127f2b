"""Segmentation scores of images generated from label maps (Table 5): mean IoU and pixel accuracy.

A published segmentation network labels the generated images, and its labels are compared with the maps that
the images were generated from.

====================  ======================================  ==============================================
                      Cityscapes                              ADE20K
====================  ======================================  ==============================================
network, weights      DRN-D-105, fyu/drn                      UPerNet-101, CSAILVision
input                 as generated (512 x 256), scaled by     shorter side 300, 375, 450, 525 and 600, sides
                      mean and deviation of Cityscapes        rounded up to multiples of 32, ImageNet mean
                                                              and deviation; probabilities averaged
label ids             labelIds to the 19 trainIds             0 ... 150 to -1 ... 149
ignored               ids without a trainId: void, and        0, "other"
                      classes too rare for the benchmark
absent class in mIoU  left out                                counts as IoU 0
====================  ======================================  ==============================================

With nij the number of pixels of class i that are labelled j, ti = sum over j of nij and C classes,

    mIoU = 1/C sum over i of nii / (ti + sum over j of nji - nii)
    pixel accuracy = sum over i of nii / sum over i of ti

In both, scores are resized bilinearly to the label map (whose own resizing, by nearest neighbour, is the data
set's) before the largest is taken, and counts are summed over all images before any division, as the official
evaluators do.

Pixel accuracy is published in two ways. ``accuracy`` divides the correct pixels by those that are not
ignored: the CSAIL evaluator's formula, and the one that gives 93.5 for SPADE on Cityscapes
(github.com/NVlabs/SPADE, #100). ``accuracy_all`` divides by all pixels, so that an ignored pixel counts as
wrong; the first author of this paper explains SPADE's 81.9 by it (github.com/EndlessSora/TSIT, #1), which makes
an eighth of the pixels ignored ones, and the 82.5 of Table 5 is on that scale. How the ADE20K column was
counted is not published; we take it to be the evaluator's own ``accuracy``.

Published evaluations also differ in two ways that are options here: some enlarge Cityscapes images to 2048 x
1024 (``input_size``), some segment ADE20K images at their own size only (``short_sides=(256,)``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.metrics.base import Description, ImageMetric
from ffl.metrics.segmenters import LabelPredictor, PublishedName, Segmenter

# The CSAIL evaluator's guard against 0 / 0, which makes an absent class count as 0.
CSAIL_EPS = 1e-10
# What becomes of classes in neither labels nor predictions, in words.
ABSENT = {"skip": "left out of the mean", "zero": "count as IoU 0"}


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count pixels by label and prediction.

    Args:
        predictions: integer, any shape, in [0, num_classes).
        labels: integer, the same shape; pixels with a label outside [0, num_classes) are not counted.
        num_classes: number of classes C.
    Returns:
        int64 (C, C): rows are labels, columns predictions.
    Raises:
        ValueError: if the shapes differ.

    Examples:
        >>> confusion_matrix(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, -1]), num_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    if predictions.shape != labels.shape:
        raise ValueError(f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} must match in shape")
    counted = (labels >= 0) & (labels < num_classes)
    cells = labels[counted].long() * num_classes + predictions[counted].long()
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union per class.

    Args:
        confusion: int64 (C, C) of ``confusion_matrix``.
    Returns:
        float64 (C,); NaN for classes in neither labels nor predictions.
    """
    intersection, union = intersection_and_union(confusion)
    return intersection / union


def intersection_and_union(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels that labels and predictions both, and that either of them, give to each class: (C,) float64 each."""
    intersection = confusion.diagonal()
    return intersection.double(), (confusion.sum(0) + confusion.sum(1) - intersection).double()


def mean_iou(confusion: Tensor, absent: Literal["skip", "zero"]) -> Tensor:
    """Mean of ``class_iou``.

    Args:
        confusion: int64 (C, C) of ``confusion_matrix``.
        absent: classes in neither labels nor predictions are left out ("skip": fyu/drn), or count as 0
            ("zero": CSAILVision).
    Returns:
        float64 scalar in [0, 1].

    Examples:
        >>> confusion = torch.tensor([[3, 1], [0, 0]])
        >>> mean_iou(confusion, "skip").item()  # 3/4 and 0/1
        0.375
    """
    if absent == "skip":
        return class_iou(confusion).nanmean()
    intersection, union = intersection_and_union(confusion)
    return (intersection / (union + CSAIL_EPS)).mean()


def pixel_accuracy(confusion: Tensor, ignored: Tensor | int = 0) -> Tensor:
    """Correct pixels over counted and ``ignored`` ones: float64 scalar in [0, 1], NaN if there are none.

    Examples:
        >>> confusion = torch.tensor([[3, 1], [0, 0]])
        >>> pixel_accuracy(confusion).item(), pixel_accuracy(confusion, ignored=4).item()
        (0.75, 0.375)
    """
    return confusion.diagonal().sum().double() / (confusion.sum() + ignored).double()


class ConfusionScore(ImageMetric):
    """Base of scores that count which pixels a segmenter gives to which class, exact over batches and ranks.

    Args:
        segmenter: predicts the classes; scores that hold the same one run it once per batch.
    """

    unit = 100.0
    tasks: ClassVar[tuple[str, ...]] = ("semantic",)
    higher_is_better = True
    is_differentiable = False
    inputs = "labels"

    confusion: Tensor
    ignored: Tensor
    images: Tensor

    def __init__(self, segmenter: LabelPredictor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segmenter = segmenter
        self.labels = segmenter.labels
        classes = self.labels.num_classes
        self.add_state("confusion", torch.zeros(classes, classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ignored", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, images: Tensor, labels: Tensor) -> None:
        """Add images.

        Args:
            images: uint8 (N, 3, H, W), generated.
            labels: int64 (N, h, w), the ids of the data set's files; h and w may differ from H and W.
        """
        confusion = self.count(images, labels)
        self.confusion += confusion
        self.ignored += labels.numel() - confusion.sum()
        self.images += len(images)

    def count(self, images: Tensor, labels: Tensor) -> Tensor:
        """The confusion matrix of a batch: int64 (C, C); arguments as of ``update``."""
        if labels.ndim != 3 or len(labels) != len(images) or labels.is_floating_point():
            raise ValueError(
                f"labels must be integer (N, h, w) with N = {len(images)}, got {labels.dtype} {tuple(labels.shape)}"
            )
        # Scores are resized to the label map and not the map to the images, as the official evaluators do.
        classes = self.labels.evaluation_ids(labels.to(self.confusion.device))
        predictions = self.segmenter.predict(images, (labels.shape[1], labels.shape[2])).to(classes.device)
        return confusion_matrix(predictions, classes, self.labels.num_classes)

    def compute(self) -> Tensor:
        """The score: float64 scalar in [0, 1].

        Raises:
            UserError: no images, or none of their pixels is of an evaluated class.
        """
        self.require(int(self.images))
        if self.confusion.sum() == 0:
            raise UserError(
                f"{self.name}: none of the labels of {int(self.images)} images is evaluated for "
                f"{self.labels.name}; labels are the ids of its files ({self.labels.mapping})"
            )
        return self.score(self.confusion)

    def score(self, confusion: Tensor) -> Tensor:
        """The score from summed counts: int64 (C, C) to a float64 scalar in [0, 1]."""
        raise NotImplementedError

    def protocol(self) -> Description:
        """How the number was made, for the record beside it."""
        return {
            "metric": self.name,
            **self.segmenter.protocol(),
            "aggregation": "counts summed over all images",
        }


class SegmentationScore(ConfusionScore):
    """Base of the three scores by a published network.

    Args:
        label_set: "cityscapes" or "ade20k": which network, which ids.
        state_dict, input_size, short_sides, verify_weights: see ``Segmenter.load``. Scores of the same options
            share one network.
    Raises:
        MissingWeights: the official weights are wanted and not there.
        UserError: the weights do not fit.
    """

    label_sets = get_args(PublishedName)

    def __init__(
        self,
        label_set: PublishedName = "cityscapes",
        *,
        state_dict: Mapping[str, Any] | None = None,
        input_size: tuple[int, int] | None = None,
        short_sides: Sequence[int] | None = None,
        verify_weights: bool = True,
        **kwargs: Any,
    ) -> None:
        segmenter = Segmenter.load(
            label_set,
            state_dict,
            input_size=input_size,
            short_sides=short_sides,
            verify_weights=verify_weights,
        )
        super().__init__(segmenter, **kwargs)


class IoUScore(ConfusionScore):
    """The mean intersection over union, by whichever segmenter."""

    def score(self, confusion: Tensor) -> Tensor:
        return mean_iou(confusion, self.labels.absent)

    def protocol(self) -> Description:
        return {**super().protocol(), "absent_classes": ABSENT[self.labels.absent]}


class AccuracyScore(ConfusionScore):
    """Correct pixels over evaluated pixels, by whichever segmenter."""

    def score(self, confusion: Tensor) -> Tensor:
        return pixel_accuracy(confusion)

    def protocol(self) -> Description:
        return {**super().protocol(), "denominator": "evaluated pixels"}


class MeanIoU(IoUScore, SegmentationScore):
    """Mean intersection over union (Table 5, mIoU).

    Examples:
        >>> from ffl.metrics.segmenters import DRNArch, DRNSeg
        >>> network = DRNSeg(DRNArch(bottleneck=False, depths=(1, 1, 1, 1), channels=(2,) * 8), num_classes=19)
        >>> network.seg.bias.data[0] = 1e6  # a network that takes everything for class 0, road
        >>> labels = torch.zeros(1, 16, 16, dtype=torch.int64)  # void, which is not evaluated
        >>> labels[:, :6], labels[:, 6:8] = 7, 8  # road, pavement
        >>> metric = MeanIoU("cityscapes", state_dict=network.state_dict())
        >>> metric.update(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), labels)
        >>> metric.compute().item()  # road: 6 of 8 rows; pavement: 0; other classes are absent
        0.375
    """

    name = "miou"
    label = "mIoU"


class PixelAccuracy(AccuracyScore, SegmentationScore):
    """Correct pixels over evaluated pixels.

    Examples:
        >>> from ffl.metrics.segmenters import DRNArch, DRNSeg
        >>> network = DRNSeg(DRNArch(bottleneck=False, depths=(1, 1, 1, 1), channels=(2,) * 8), num_classes=19)
        >>> network.seg.bias.data[0] = 1e6  # a network that takes everything for class 0, road
        >>> labels = torch.zeros(1, 16, 16, dtype=torch.int64)  # void, which is not evaluated
        >>> labels[:, :6], labels[:, 6:8] = 7, 8  # road, pavement
        >>> metric = PixelAccuracy("cityscapes", state_dict=network.state_dict())
        >>> metric.update(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), labels)
        >>> metric.compute().item()  # 6 of the 8 rows that are evaluated
        0.75
    """

    name = "accuracy"
    label = "accu"


class PixelAccuracyAll(SegmentationScore):
    """Correct pixels over all pixels: ignored ones count as wrong.

    Examples:
        >>> from ffl.metrics.segmenters import DRNArch, DRNSeg
        >>> network = DRNSeg(DRNArch(bottleneck=False, depths=(1, 1, 1, 1), channels=(2,) * 8), num_classes=19)
        >>> network.seg.bias.data[0] = 1e6  # a network that takes everything for class 0, road
        >>> labels = torch.zeros(1, 16, 16, dtype=torch.int64)  # void, which is not evaluated
        >>> labels[:, :6], labels[:, 6:8] = 7, 8  # road, pavement
        >>> metric = PixelAccuracyAll("cityscapes", state_dict=network.state_dict())
        >>> metric.update(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), labels)
        >>> metric.compute().item()  # 6 of all 16 rows
        0.375
    """

    name = "accuracy_all"
    label = "accu"

    def score(self, confusion: Tensor) -> Tensor:
        return pixel_accuracy(confusion, self.ignored)

    def protocol(self) -> Description:
        return {**super().protocol(), "denominator": "all pixels, ignored ones counted as wrong"}
