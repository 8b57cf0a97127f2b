"""Metrics of reconstruction and synthesis: what they are called, and how to build one by name."""

from typing import Any

from ffl.errors import UserError, missing_extra

try:
    from ffl.metrics.base import ImageMetric
    from ffl.metrics.coherence import CoherenceTop
    from ffl.metrics.fid import FID
    from ffl.metrics.inception import Preprocess
    from ffl.metrics.inception_score import InceptionScore
    from ffl.metrics.kid import KID
    from ffl.metrics.lpips import LPIPS
    from ffl.metrics.pixel import LFD, MSE, PSNR
    from ffl.metrics.segmentation import MeanIoU, PixelAccuracy, PixelAccuracyAll, SegmentationScore
    from ffl.metrics.spectrum_distance import SpectrumDistance, SpectrumDistanceTop
    from ffl.metrics.ssim import SSIM
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
    "PSNR",
    "SSIM",
    "CoherenceTop",
    "ImageMetric",
    "InceptionScore",
    "MeanIoU",
    "PixelAccuracy",
    "PixelAccuracyAll",
    "SpectrumDistance",
    "SpectrumDistanceTop",
    "build_metric",
    "task_metrics",
]

# In the order of the columns of tables; those of the paper come first.
METRICS: dict[str, type[ImageMetric]] = {
    metric.name: metric
    for metric in (
        MeanIoU,
        PixelAccuracy,
        PixelAccuracyAll,
        PSNR,
        SSIM,
        LPIPS,
        FID,
        InceptionScore,
        KID,
        LFD,
        MSE,
        SpectrumDistance,
        SpectrumDistanceTop,
        CoherenceTop,
    )
}

_INCEPTION = (FID, InceptionScore, KID)
_PRETRAINED = (*_INCEPTION, LPIPS, SegmentationScore)


def build_metric(
    name: str, *, verify_weights: bool = True, preprocess: Preprocess | None = None, **options: Any
) -> ImageMetric:
    """A metric by name.

    Args:
        name: a key of ``METRICS``.
        verify_weights: whether pretrained weights must be the published files; other metrics have none to verify.
        preprocess: one preprocessing for FID, KID and IS alike, which then share one Inception pass per batch. None
            gives each that of its reference tool: pytorch-fid for FID, torch-fidelity for KID and IS.
        options: further arguments of the metric, such as ``crop_border``, ``splits`` or ``state_dict``.
    Raises:
        MissingWeights: if its pretrained weights are not there.
        UserError: if there is no such metric.

    Example:
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

    They are what the paper's tables report for its task, and the spectrum distance that the paper's claims are about.

    Args:
        task: "reconstruction", "synthesis", "translation" or "semantic".
    Returns:
        Keys of ``METRICS``, in the order of the columns of tables.

    Example:
        >>> task_metrics("translation")
        ['fid', 'is', 'spectrum_distance', 'spectrum_distance_top']
    """
    return [name for name, metric in METRICS.items() if task in metric.tasks]
