"""From 8-bit images to class ids, as each official evaluator prepares images and combines scores."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.label_sets import LABEL_SETS, LabelSet
from ffl.metrics.base import Description, check_images
from ffl.metrics.segmenters.drn import DRN, DRNSeg, drn_from_state_dict
from ffl.metrics.segmenters.upernet import UPerNet, resize, upernet_from_state_dict
from ffl.weights import describe_state_dict, describe_weights, find_weights, load_weights

# CSAIL evaluator: sides of its input are multiples of the encoder's stride; none exceeds this.
UPERNET_MULTIPLE, UPERNET_MAX_SIDE = 32, 1000
# Images per forward pass; bounds the memory of 150 score maps at full size.
CHUNK = 4

PublishedName = Literal["cityscapes", "ade20k"]


@dataclass(frozen=True)
class PublishedNetwork:
    """The network of an official evaluator, and what it makes of an image before that.

    Attributes:
        name: the network's.
        weights: names in ``ffl.weights.WEIGHTS``, by the part they belong to.
        mean, std: RGB normalisation of images in [0, 1].
        short_sides: shorter sides the image is resized to; empty for the image as it is.
    """

    name: str
    weights: Mapping[str, str]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    short_sides: tuple[int, ...] = ()


# By the label set that it was trained on.
PUBLISHED_NETWORKS: Mapping[str, PublishedNetwork] = {
    "cityscapes": PublishedNetwork(
        name="DRN-D-105",
        weights={"network": "drn_d_105_cityscapes"},
        # fyu/drn, datasets/cityscapes/info.json
        mean=(0.29010095242892997, 0.32808144844279574, 0.28696394422942517),
        std=(0.1829540508368939, 0.18656561047509476, 0.18447508988480435),
    ),
    "ade20k": PublishedNetwork(
        name="UPerNet-101",
        weights={"encoder": "upernet101_encoder", "decoder": "upernet101_decoder"},
        # CSAILVision since its models are named ade20k-*; the older baseline-* models took BGR.
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        short_sides=(300, 375, 450, 525, 600),
    ),
}


class LabelPredictor(nn.Module):
    """From 8-bit images to class ids of a label set.

    The last predictions are remembered by the images' content, so that several scores run the network once per batch.

    Args:
        labels: the label set it predicts.
    """

    def __init__(self, labels: LabelSet) -> None:
        super().__init__()
        self.labels = labels
        # Of two batches, since scores may judge generated images and then the real ones beside them.
        self._recent: deque[tuple[Tensor, tuple[int, int], Tensor]] = deque(maxlen=2)

    @torch.inference_mode()
    def predict(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Class ids.

        Args:
            images: uint8 (N, 3, H, W).
            size: (h, w) of the result.
        Returns:
            int64 (N, h, w) in [0, num_classes). Asked again for the same images, it does not run the network.
        """
        check_images(type(self).__name__, images, 3)
        # Mean IoU and the accuracies ask for the same batch in turn.
        for known, known_size, predictions in self._recent:
            if known_size == size and known.device == images.device and torch.equal(known, images):
                return predictions
        predictions = torch.cat([self._scores(chunk, size).argmax(1) for chunk in images.split(CHUNK)])
        self._recent.append((images.clone(), size, predictions))
        return predictions

    def _scores(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores of the classes, the largest of which is predicted: uint8 (N, 3, H, W) to (N, num_classes, *size)."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of a score need not carry the last batches.
        return {**self.__dict__, "_recent": deque(maxlen=2)}

    def protocol(self) -> Description:
        """How labels come about, for the record beside a number."""
        return {
            "label_set": self.labels.name,
            "num_classes": self.labels.num_classes,
            "prediction_resize": "scores, bilinear, to the label map",
            "label_resize": "nearest, by the data set",
            "label_ids": self.labels.mapping,
            "ignored_labels": self.labels.ignored,
        }


class Segmenter(LabelPredictor):
    """A segmentation network with the preparation of its official evaluator; made by ``load``.

    Args:
        labels: the label set it predicts.
        network: DRN for Cityscapes, UPerNet for ADE20K.
        weights: where the weights come from, for protocols.
        input_size, short_sides: see ``load``.
    """

    _shared: ClassVar[WeakValueDictionary[tuple[Any, ...], "Segmenter"]] = WeakValueDictionary()

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        labels: LabelSet,
        network: DRNSeg | UPerNet,
        weights: Mapping[str, str | bool],
        input_size: tuple[int, int] | None,
        short_sides: tuple[int, ...],
    ) -> None:
        super().__init__(labels)
        self.published = PUBLISHED_NETWORKS[labels.name]
        self.network = network
        self.weights = dict(weights)
        self.input_size = input_size
        self.short_sides = short_sides
        self.register_buffer("mean", torch.tensor(self.published.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(self.published.std).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def load(
        cls,
        label_set: PublishedName,
        state_dict: Mapping[str, Any] | None = None,
        *,
        input_size: tuple[int, int] | None = None,
        short_sides: Sequence[int] | None = None,
        verify_weights: bool = True,
    ) -> "Segmenter":
        """The segmenter of these options and weights; the same object while anybody holds it.

        Args:
            label_set: "cityscapes" (DRN-D-105) or "ade20k" (UPerNet-101).
            state_dict: weights: of a DRN-D, or {"encoder": ..., "decoder": ...} of UPerNet. None takes the
                official files from ``$FFL_WEIGHTS``.
            input_size: (H, W) that images are resized to first; None leaves them as generated. Cityscapes only.
            short_sides: shorter sides whose probabilities are averaged; None is the official (300, 375, 450,
                525, 600). ADE20K only.
            verify_weights: whether the files must be the published ones, where a checksum is published.
        Raises:
            MissingWeights: a file is not there.
            UserError: the weights do not fit, or an option is not one of this evaluation.
        """
        # Options of one evaluation are no options of the other.
        if label_set not in PUBLISHED_NETWORKS:
            known = ", ".join(PUBLISHED_NETWORKS)
            raise UserError(f"no segmentation network for {label_set!r}; there is one for {known}")
        labels, published = LABEL_SETS[label_set], PUBLISHED_NETWORKS[label_set]
        is_upernet = label_set == "ade20k"
        if (input_size if is_upernet else short_sides) is not None:
            option = "input_size" if is_upernet else "short_sides"
            raise UserError(f"{option} is not an option of the {label_set} evaluation; leave it out")
        size = None if input_size is None else (int(input_size[0]), int(input_size[1]))
        sides = published.short_sides if short_sides is None else tuple(short_sides)

        # Describing the weights comes first: a network of the same weights and options may be there already.
        if state_dict is None:
            for name in published.weights.values():
                find_weights(name, verify_weights)
            described = [describe_weights(name) for name in published.weights.values()]
        else:
            parts: Mapping[str, Any] = state_dict if is_upernet else {"network": state_dict}
            described = [describe_state_dict(part) for part in parts.values()]
        weights: dict[str, str | bool] = {
            "weights": ", ".join(str(part["weights"]) for part in described),
            "weights_sha256": ", ".join(str(part["weights_sha256"]) for part in described),
            "weights_verified": all(part["weights_verified"] for part in described),
        }
        key = (label_set, size, sides, weights["weights_sha256"])
        if (segmenter := cls._shared.get(key)) is not None:
            return segmenter

        # The shapes of the weights tell the network, which must be the one of this label set.
        if state_dict is None:
            parts = {part: load_weights(name, verify_weights) for part, name in published.weights.items()}
        network: DRNSeg | DRN | UPerNet
        network = upernet_from_state_dict(parts) if is_upernet else drn_from_state_dict(parts["network"])
        if isinstance(network, DRN):
            raise UserError("these are the weights of a DRN classifier; take those of the segmentation network")
        if network.num_classes != labels.num_classes:
            raise UserError(
                f"these weights have {network.num_classes} classes, not {labels.num_classes}; "
                f"take the weights of {published.name} trained on {labels.name}"
            )
        segmenter = cls(labels, network, weights, size, sides)
        cls._shared[key] = segmenter
        return segmenter

    def _scores(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Log-probabilities of DRN, mean probabilities of UPerNet: float (N, num_classes, *size)."""
        images = images.to(self.mean.device)
        if isinstance(self.network, DRNSeg):
            resized = images if self.input_size is None else resize_uint8(images, self.input_size)
            height, width = resized.shape[2:]
            # The upsampling of DRN rounds sides up to multiples of 8; the excess lies beyond the image.
            scores = self.network(self._normalise(resized))[:, :, :height, :width]
            return resize(scores, size)
        # Probabilities are averaged over the sizes and not scores: the official order.
        total = torch.zeros((), device=images.device)
        for side in self.short_sides:
            resized = resize_uint8(images, upernet_size(images.shape[2:], side))
            total = total + self.network.probabilities(self._normalise(resized), size) / len(self.short_sides)
        return total

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std

    def protocol(self) -> Description:
        """How labels come about, for the record beside a number."""
        if self.labels.name == "cityscapes":
            size = "as generated" if self.input_size is None else "{1}x{0}, bilinear".format(*self.input_size)
        else:
            sides = ", ".join(map(str, self.short_sides))
            size = f"shorter side {sides}, multiples of {UPERNET_MULTIPLE}, bilinear"
        return {**super().protocol(), "network": self.published.name, **self.weights, "input_size": size}


def resize_uint8(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly with antialiasing as Pillow does: across, then down, rounded to 8 bits after each.

    A grey level may differ from Pillow's by one where a value is within rounding of a half.

    Args:
        images: uint8 (N, 3, H, W).
        size: (height, width) of the result.
    Returns:
        uint8 (N, 3, *size).
    """
    for target in ((images.shape[2], size[1]), size):
        if tuple(images.shape[2:]) != tuple(target):
            resized = F.interpolate(images.float(), target, mode="bilinear", align_corners=False, antialias=True)
            # Not round(): halves are common at simple ratios, and Pillow rounds them up.
            images = resized.add(0.5).floor().clamp(0, 255).to(torch.uint8)
    return images


def upernet_size(size: Sequence[int], short_side: int) -> tuple[int, int]:
    """The size that the CSAIL evaluator resizes an image to.

    Args:
        size: (height, width) of the image.
        short_side: one of the shorter sides that it averages over.
    Returns:
        (height, width), multiples of 32.

    Examples:
        >>> upernet_size((256, 256), 300)
        (320, 320)
    """
    scale = min(short_side / min(size), UPERNET_MAX_SIDE / max(size))
    height, width = (-(-int(side * scale) // UPERNET_MULTIPLE) * UPERNET_MULTIPLE for side in size)
    return height, width
