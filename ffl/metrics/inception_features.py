"""One Inception pass for FID, KID and IS, which share the network and its latest outputs."""

from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from ffl.metrics.base import Description
from ffl.metrics.inception import InceptionFID, Preprocess, load_inception
from ffl.weights import describe_state_dict, describe_weights, find_weights, load_weights

# A batch of real and one of generated images alternate between metrics.
_REMEMBERED_BATCHES = 2


class InceptionFeatures(nn.Module):
    """Features of uint8 images, computed once for each batch however many metrics ask.

    The last two batches are compared by their content, so that callers need not pass the same tensor. Only metrics of
    the same preprocessing share: FID as pytorch-fid computes it and IS as torch-fidelity does feed the network
    different inputs.

    Args:
        network: as ``load_inception`` gives it, or anything with the same ``features``.
        preprocess: whose resizing and scaling.
        weights: where the weights come from, for protocols.
    """

    _shared: ClassVar[WeakValueDictionary[tuple[str, str], "InceptionFeatures"]] = WeakValueDictionary()

    def __init__(self, network: InceptionFID, preprocess: Preprocess, weights: Mapping[str, str | bool]) -> None:
        super().__init__()
        self.network = network
        self.preprocess = preprocess
        self.weights = dict(weights)
        self._recent: deque[tuple[Tensor, dict[str, Tensor]]] = deque(maxlen=_REMEMBERED_BATCHES)

    @classmethod
    def load(
        cls,
        preprocess: Preprocess,
        state_dict: Mapping[str, Tensor] | None = None,
        verify_weights: bool = True,
    ) -> "InceptionFeatures":
        """Return the extractor of one preprocessing and one set of weights, the same one while any metric holds it.

        Args:
            preprocess: whose resizing and scaling.
            state_dict: weights under the official keys; None takes the published file from ``$FFL_WEIGHTS``.
            verify_weights: whether that file must be the published one.
        Raises:
            UserError: if weights are absent or do not fit.
        """
        if state_dict is None:
            find_weights("inception_fid", verify_weights)
            weights = describe_weights("inception_fid")
        else:
            weights = describe_state_dict(state_dict)
        # Weak references: the network of 95 MB goes with the last metric that uses it.
        key = (preprocess, str(weights["weights_sha256"]))
        extractor = cls._shared.get(key)
        if extractor is None:
            state = load_weights("inception_fid", verify_weights) if state_dict is None else state_dict
            extractor = cls(load_inception(state), preprocess, weights)
            cls._shared[key] = extractor
        return extractor

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features of uint8 (N, 3, H, W) images on any device, named as by ``InceptionFID.features``."""
        for seen, features in self._recent:
            if seen.shape == images.shape and seen.device == images.device and torch.equal(seen, images):
                return features
        device = next((parameter.device for parameter in self.network.parameters()), images.device)
        features = self.network.features(images.to(device), self.preprocess)
        self._recent.append((images.clone(), features))
        return features

    def protocol(self) -> Description:
        """Network, preprocessing and weights as entries of a record."""
        return {"network": "Inception-v3 (FID)", "preprocess": self.preprocess, **self.weights}

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of a metric need not carry the last batches.
        return {**self.__dict__, "_recent": deque(maxlen=_REMEMBERED_BATCHES)}
