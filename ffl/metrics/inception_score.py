"""Inception score (Salimans et al. 2016), as torch-fidelity computes it, and the same on EfficientNet-Lite0.

With p(y|x) the class probabilities of an image x and p(y) their mean over the images,

    IS = exp(mean over x of KL(p(y|x) || p(y)))

It is biased like the Fréchet distance (Chong and Forsyth 2020) and says nothing of the real images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ffl.metrics.base import Description, rank_and_world_size
from ffl.metrics.features import MAX_ROWS, FeatureExtractor, FeatureMetric, InceptionFeatures
from ffl.metrics.inception import Preprocess

SHUFFLE_SEED = 2020


def inception_score(logits: Tensor, splits: int = 10, shuffle: bool = True) -> tuple[float, float]:
    """The inception score of each split, then mean and standard deviation over splits.

    Split i holds rows ⌊iN/splits⌋ to ⌊(i+1)N/splits⌋, so that every row counts.

    Args:
        logits: (N, classes), N at least ``splits``.
        splits: number of parts, each with its own p(y).
        shuffle: permute rows by ``RandomState(2020)`` first, since neighbours are often alike.
    Returns:
        Mean and standard deviation (divisor ``splits``), float64.
    Raises:
        ValueError: if there are fewer rows than splits.

    Examples:
        >>> certain = 1000 * torch.eye(4)  # one image of each of four classes
        >>> inception_score(certain, splits=1)
        (4.0, 0.0)
    """
    if logits.ndim != 2 or not 1 <= splits <= len(logits):
        raise ValueError(f"logits must be (N, classes) with N >= splits = {splits}, got {tuple(logits.shape)}")
    count = len(logits)
    if shuffle:
        order = np.random.RandomState(SHUFFLE_SEED).permutation(count)
        logits = logits[torch.from_numpy(order).to(logits.device)]
    # In logarithms throughout: certain classes have probabilities that underflow, and 0 · log 0 would be NaN.
    log_p = logits.double().log_softmax(1)
    scores = []
    for part in range(splits):
        rows = log_p[part * count // splits : (part + 1) * count // splits]
        log_marginal = rows.logsumexp(0) - np.log(len(rows))
        divergence = (rows.exp() * (rows - log_marginal)).sum(1).mean()
        scores.append(divergence.exp().item())
    return float(np.mean(scores)), float(np.std(scores))


class ClassScore(FeatureMetric):
    """Mean inception score of generated images over ``splits`` splits, of the logits of any network.

    Splits depend on the order of the images, so each is kept with its position in the set. Keeps the logits of every
    image as float32.

    Args:
        features: name of the network, see ``build_extractor``.
        output: name of its logits, see ``FeatureExtractor``.
        splits: number of splits; fewer images than this are an error.
        verify_weights: whether pretrained weights must be the published file.
        extractor: features from elsewhere; ``features`` and ``verify_weights`` are then not used.
    Raises:
        MissingWeights: the network's weights are not there.
        UserError: there is no such network.
    """

    higher_is_better = True
    inputs = "fakes"
    min_images = 10
    max_images = MAX_ROWS

    def __init__(self, features: str | None = None, output: str = "logits", splits: int = 10, **kwargs: Any) -> None:
        super().__init__(features, output, **kwargs)
        if splits < 1:
            raise ValueError(f"splits must be at least 1, got {splits}")
        self.splits = splits
        self.min_images = splits
        self.add_rows("logits", torch.empty(0, self.dims))
        self.add_rows("positions", torch.empty(0, dtype=torch.int64))

    def update(self, images: Tensor, positions: Tensor | None = None) -> None:
        """Add generated images.

        Args:
            images: uint8 (N, 3, H, W).
            positions: (N,) int64, the place of each image in the whole set. None means order of arrival; with several
                ranks, that rank r of W got images r, r + W, r + 2W, ... as torch's DistributedSampler deals them.
        """
        if positions is None:
            rank, world = rank_and_world_size()
            seen = len(self.rows("positions"))
            positions = rank + world * torch.arange(seen, seen + len(images))
        elif positions.shape != (len(images),):
            raise ValueError(f"positions must be ({len(images)},), got {tuple(positions.shape)}")
        self.append("logits", self.look_at(images))
        self.append("positions", positions.long())

    def compute(self) -> Tensor:
        """Mean over splits, float64."""
        logits = self.rows("logits")
        self.require(len(logits), "images, one per split", "50,000")
        mean, _ = inception_score(logits[self.rows("positions").argsort(stable=True)], self.splits)
        return torch.tensor(mean, dtype=torch.float64, device=self.device)

    def protocol(self) -> Description:
        return {**super().protocol(), "splits": self.splits, "shuffle_seed": SHUFFLE_SEED}


class InceptionScore(ClassScore):
    """Inception score: of Inception's 1008 classes, as torch-fidelity computes it.

    Args:
        splits: number of splits; fewer images than this are an error.
        preprocess: "torch_fidelity" (the default) or "pytorch_fid", which shares its pass with FID.
        state_dict: Inception weights instead of the published file.
        verify_weights: whether that file must be the published one.
        extractor: features from elsewhere; the three arguments above are then not used.
    Raises:
        MissingWeights: the published file is wanted and not there.
        UserError: the weights do not fit.

    Examples:
        >>> def two_classes(images: Tensor) -> dict[str, Tensor]:  # stands for the network: dark or bright
        ...     bright = (images.float().mean((1, 2, 3)) > 127).long()
        ...     return {"logits_unbiased": 1000.0 * torch.eye(1008)[bright]}
        >>> metric = InceptionScore(splits=1, extractor=two_classes)
        >>> metric.update(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8))
        >>> round(metric.compute().item(), 9)
        2.0
    """

    name = "is"
    label = "IS"
    tasks = ("synthesis", "translation")

    def __init__(
        self,
        splits: int = 10,
        preprocess: Preprocess = "torch_fidelity",
        state_dict: Mapping[str, Tensor] | None = None,
        verify_weights: bool = True,
        extractor: FeatureExtractor | None = None,
        **kwargs: Any,
    ) -> None:
        extractor = extractor or InceptionFeatures.load(preprocess, state_dict, verify_weights)
        # The score uses the logits without the bias of the last layer, as the original code did.
        super().__init__(output="logits_unbiased", splits=splits, extractor=extractor, **kwargs)


class ISEffNetLite0(ClassScore):
    """``ClassScore`` of EfficientNet-Lite0's 1000 classes, whose weights install with pip; not comparable with IS.

    Arguments and errors are those of ``ClassScore`` without ``features``.
    """

    name = "is_effnet_lite0"
    label = "IS-EffNet"
    tasks = ("synthesis", "translation")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("effnet_lite0", **kwargs)
