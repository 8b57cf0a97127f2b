"""Segmentation scores by a segmenter of our own, for where the official networks cannot be had.

``scripts/train_segmenter.py`` trains a small U-Net on the real training images of a data set. It labels the generated
images, and its labels are compared with the maps that the images were generated from, by the formulas and the rules for
ids of ``ffl.metrics.segmentation``. A value is comparable with values of the same segmenter alone, and never with
published ones; how far it can rise says the same segmenter's score of the real test images, ``ceiling``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.images import from_uint8
from ffl.label_sets import LABEL_SETS, LabelSet, LabelSetName
from ffl.metrics.base import Description
from ffl.metrics.segmentation import AccuracyScore, ConfusionScore, IoUScore
from ffl.metrics.segmenters import LabelPredictor
from ffl.networks.unet import UNet, unet_from_state_dict
from ffl.weights import MissingWeights, describe_state_dict

# As ``models.MODELS`` calls it.
SEGMENTER = "segmenter"


def segmenter_name(label_set: str, height: int) -> str:
    """Name of the run directory that a segmenter has by default, such as "segmenter-cityscapes-128"."""
    return f"{SEGMENTER}-{label_set}-{height}"


def read_segmenter(label_set: str, height: int, run: Path) -> tuple[dict[str, Tensor], Description]:
    """The weights of the ``UNet`` of a finished run, and where they come from; arguments and errors of ``load``."""
    # A run directory belongs to training, whose packages the other metrics do without.
    from ffl.training.checkpoint import load_newest
    from ffl.training.run_directory import RunDirectory

    command = f"run: python scripts/train_segmenter.py dataset={label_set} dataset.image_size={height}"
    directory = RunDirectory(run)
    status = directory.status() if (run / "config.yaml").is_file() else None
    if status is None or not status.finished:
        raise MissingWeights(f"there is no finished segmenter {run.name} beside the run; {command}")
    # It may be somebody else's: it is compared with what is wanted, and nothing in it is executed.
    config = directory.config()
    model, dataset = (config[key] if isinstance(config.get(key), dict) else {} for key in ("model", "dataset"))
    found = model.get("name"), model.get("label_set"), dataset.get("image_size")
    if found != (SEGMENTER, label_set, height):
        raise UserError(
            f"{run}: holds a {found[0]} of {found[1] or dataset.get('name')} at {found[2]} pixels, no segmenter of "
            f"{label_set} at {height}; {command}"
        )
    _, state = load_newest([directory.last, directory.previous], whole=False)
    prefix = "network."
    weights = {key.removeprefix(prefix): value for key, value in state["model"].items() if key.startswith(prefix)}
    origin: Description = {
        "network": f"U-Net of ours, {run.name}",
        "segmenter_step": state["step"],
        "segmenter_seed": config.get("seed"),
    }
    return weights, origin


class OwnSegmenter(LabelPredictor):
    """A U-Net that ``scripts/train_segmenter.py`` has trained; made by ``load``.

    Args:
        labels: the label set it predicts.
        network: in evaluation mode.
        height: of the images it was trained on, in pixels.
        source: where the network comes from, for protocols.
    """

    _shared: ClassVar[WeakValueDictionary[tuple[Any, ...], "OwnSegmenter"]] = WeakValueDictionary()

    def __init__(self, labels: LabelSet, network: UNet, height: int, source: Description) -> None:
        super().__init__(labels)
        self.network = network
        self.height = height
        self.source = source

    @classmethod
    def load(
        cls, label_set: LabelSetName, height: int, run: Path, state_dict: Mapping[str, Tensor] | None = None
    ) -> "OwnSegmenter":
        """The segmenter of a finished run; the same object while anybody holds it.

        Args:
            label_set: that it must have been trained on.
            height: of the images that it must have been trained on, in pixels.
            run: its run directory.
            state_dict: weights of a ``UNet``, in the place of those of the run.
        Raises:
            MissingWeights: there is no such run, or it is not finished.
            UserError: it holds something else.
        """
        origin: Description = {"network": "U-Net of ours"}
        if state_dict is None:
            state_dict, origin = read_segmenter(label_set, height, run)
        source = {**origin, "weights_sha256": describe_state_dict(state_dict)["weights_sha256"]}
        key = (label_set, height, *source.values())
        if (segmenter := cls._shared.get(key)) is None:
            labels, network = LABEL_SETS[label_set], unet_from_state_dict(state_dict)
            if network.head.out_channels != labels.num_classes:
                found = network.head.out_channels
                raise UserError(f"these weights have {found} classes, not the {labels.num_classes} of {label_set}")
            segmenter = cls._shared[key] = cls(labels, network, height, source)
        return segmenter

    def _scores(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        if images.shape[2] != self.height:
            raise ValueError(f"the segmenter is for images {self.height} pixels high, got {images.shape[2]}")
        scores = self.network(from_uint8(images.to(self.network.head.weight.device)))
        if scores.shape[2:] == size:
            return scores
        return torch.nn.functional.interpolate(scores, size, mode="bilinear", align_corners=False)

    def protocol(self) -> Description:
        """How labels come about, for the record beside a number."""
        return {**super().protocol(), **self.source, "input_size": "as generated"}


class OwnSegmentationScore(ConfusionScore):
    """Base of the two scores by a segmenter of our own, which judges the real images too.

    Args:
        label_set: data set that the images are of.
        height: of the images in pixels.
        run: run directory of the segmenter; None for its default name below ``outputs``.
        state_dict: weights of a ``UNet``, in the place of those of the run.
    Raises:
        MissingWeights: the segmenter has not been trained.
        UserError: the directory holds another one.
    """

    tasks = ("semantic", "segmentation")
    label_sets = get_args(LabelSetName)

    real_confusion: Tensor

    def __init__(
        self,
        label_set: LabelSetName,
        height: int,
        run: str | Path | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        path = Path("outputs") / segmenter_name(label_set, height) if run is None else Path(run)
        super().__init__(OwnSegmenter.load(label_set, height, path, state_dict), **kwargs)
        self.add_state("real_confusion", torch.zeros_like(self.confusion), dist_reduce_fx="sum")

    def update_real(self, images: Tensor, labels: Tensor) -> None:
        """Add real images, uint8 (N, 3, H, W), with their label maps, which the ceiling is computed from."""
        self.real_confusion += self.count(images, labels)

    def ceiling(self) -> float | None:
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, process_group=self.process_group):
            return float(self.score(self.real_confusion)) if self.real_confusion.any() else None


class OwnMeanIoU(IoUScore, OwnSegmentationScore):
    """Mean intersection over union of the labels that a segmenter of our own gives.

    Examples:
        >>> network = UNet(num_classes=8, channels=2, levels=1)
        >>> _ = network.head.bias.data.copy_(torch.tensor([1e6] + [0.0] * 7))  # takes everything for class 0
        >>> labels = torch.zeros(1, 16, 16, dtype=torch.int64)
        >>> labels[:, 12:] = 1
        >>> metric = OwnMeanIoU("photos", height=16, state_dict=network.state_dict())
        >>> metric.update(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), labels)
        >>> metric.compute().item()  # class 0: 12 of 16 rows; class 1: 0; other classes are absent
        0.375
    """

    name = "miou_own"
    label = "own mIoU"


class OwnPixelAccuracy(AccuracyScore, OwnSegmentationScore):
    """Correct pixels over evaluated pixels, by the labels that a segmenter of our own gives.

    Examples:
        >>> network = UNet(num_classes=8, channels=2, levels=1)
        >>> _ = network.head.bias.data.copy_(torch.tensor([1e6] + [0.0] * 7))  # takes everything for class 0
        >>> labels = torch.zeros(1, 16, 16, dtype=torch.int64)
        >>> labels[:, 12:] = 1
        >>> metric = OwnPixelAccuracy("photos", height=16, state_dict=network.state_dict())
        >>> metric.update(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), labels)
        >>> metric.compute().item()  # 12 of 16 rows
        0.75
    """

    name = "accuracy_own"
    label = "own accu"
