"""Metrics of reconstruction and synthesis: what they are called, and how to build one by name."""

from typing import Any

from ffl.errors import UserError, missing_extra

try:
    from ffl.metrics.base import ImageMetric
    from ffl.metrics.coherence import CoherenceTop
    from ffl.metrics.features import FeatureMetric, build_extractor
    from ffl.metrics.fid import FID, FDEffNetLite0, FrechetDistance
    from ffl.metrics.inception import Preprocess
    from ffl.metrics.inception_score import InceptionScore, ISEffNetLite0
    from ffl.metrics.kid import KID, KDEffNetLite0, KernelDistance
    from ffl.metrics.lpips import LPIPS
    from ffl.metrics.own_segmentation import OwnMeanIoU, OwnPixelAccuracy, OwnSegmentationScore
    from ffl.metrics.pixel import LFD, MSE, PSNR
    from ffl.metrics.precision_recall import GenerativePrecision, GenerativeRecall
    from ffl.metrics.segmentation import MeanIoU, PixelAccuracy, PixelAccuracyAll, SegmentationScore
    from ffl.metrics.spectrum_distance import SpectrumDistance, SpectrumDistanceTop
    from ffl.metrics.ssim import SSIM
    from ffl.metrics.stlpips import STLPIPS, VggSTLPIPS
except ModuleNotFoundError as error:
    if str(error.name).startswith("ffl"):
        raise
    raise missing_extra(error.name, "metrics") from None

__all__ = [
    "FID",
    "KID",
    "LFD",
    "LPIPS",
    "METRICS",
    "MSE",
    "OWN_SCORES",
    "PSNR",
    "SSIM",
    "STLPIPS",
    "CoherenceTop",
    "FDEffNetLite0",
    "FrechetDistance",
    "GenerativePrecision",
    "GenerativeRecall",
    "ISEffNetLite0",
    "ImageMetric",
    "InceptionScore",
    "KDEffNetLite0",
    "KernelDistance",
    "MeanIoU",
    "OwnMeanIoU",
    "OwnPixelAccuracy",
    "OwnSegmentationScore",
    "PixelAccuracy",
    "PixelAccuracyAll",
    "SpectrumDistance",
    "SpectrumDistanceTop",
    "VggSTLPIPS",
    "build_extractor",
    "build_metric",
    "task_metrics",
]

# In the order of the columns of tables; those of the paper come first, each before what stands beside it.
METRICS: dict[str, type[ImageMetric]] = {
    metric.name: metric
    for metric in (
        MeanIoU,
        OwnMeanIoU,
        PixelAccuracy,
        PixelAccuracyAll,
        OwnPixelAccuracy,
        PSNR,
        SSIM,
        LPIPS,
        STLPIPS,
        VggSTLPIPS,
        FID,
        FDEffNetLite0,
        FrechetDistance,
        InceptionScore,
        ISEffNetLite0,
        KID,
        KDEffNetLite0,
        KernelDistance,
        GenerativePrecision,
        GenerativeRecall,
        LFD,
        MSE,
        SpectrumDistance,
        SpectrumDistanceTop,
        CoherenceTop,
    )
}

# Metrics of any network, which their option ``features`` names.
CHOOSE_FEATURES = ("fd", "kd", "precision", "recall")
# Metrics by a segmenter of our own, which the option ``run`` names.
OWN_SCORES = tuple(name for name, metric in METRICS.items() if issubclass(metric, OwnSegmentationScore))

_INCEPTION = (FID, InceptionScore, KID)
_PRETRAINED = (FeatureMetric, LPIPS, STLPIPS, SegmentationScore)


def build_metric(
    name: str, *, verify_weights: bool = True, preprocess: Preprocess | None = None, **options: Any
) -> ImageMetric:
    """A metric by name.

    Args:
        name: a key of ``METRICS``.
        verify_weights: whether pretrained weights must be the published files; other metrics have none to verify.
        preprocess: one preprocessing for FID, KID and IS alike, which then share one Inception pass per batch. None
            gives each that of its reference tool: pytorch-fid for FID, torch-fidelity for KID and IS.
        options: further arguments of the metric, such as ``crop_border``, ``splits``, ``features`` or ``state_dict``.
    Raises:
        MissingWeights: if its pretrained weights are not there.
        UserError: if there is no such metric.

    Examples:
        >>> build_metric("psnr", crop_border=4).protocol()["crop_border"]
        4
    """
    if name not in METRICS:
        raise UserError(f"metrics: unknown metric {name!r}; expected one of {', '.join(METRICS)}")
    metric = METRICS[name]
    if issubclass(metric, _PRETRAINED):
        options["verify_weights"] = verify_weights
    if preprocess is not None and issubclass(metric, _INCEPTION):
        options["preprocess"] = preprocess
    return metric(**options)


def task_metrics(task: str) -> list[str]:
    """The metrics that a model is evaluated with unless told otherwise.

    They are what the paper's tables report for its task, beside each metric of a downloaded network one of a network
    that installs with pip, and the spectrum distance that the paper's claims are about.

    Args:
        task: "reconstruction", "synthesis", "translation", "semantic" or "segmentation".
    Returns:
        Keys of ``METRICS``, in the order of the columns of tables.

    Examples:
        >>> task_metrics("translation")[:3]
        ['stlpips_alex', 'fid', 'fd_effnet_lite0']
    """
    return [name for name, metric in METRICS.items() if task in metric.tasks]
