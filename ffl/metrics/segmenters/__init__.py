"""Segmentation networks of the published evaluations, built from their official weight files."""

from ffl.metrics.segmenters.drn import DRN, DRNArch, DRNSeg, drn_from_state_dict
from ffl.metrics.segmenters.segmenter import PUBLISHED_NETWORKS, LabelPredictor, PublishedName, Segmenter
from ffl.metrics.segmenters.upernet import ResNetEncoder, UPerNet, UPerNetDecoder, upernet_from_state_dict

__all__ = [
    "DRN",
    "PUBLISHED_NETWORKS",
    "DRNArch",
    "DRNSeg",
    "LabelPredictor",
    "PublishedName",
    "ResNetEncoder",
    "Segmenter",
    "UPerNet",
    "UPerNetDecoder",
    "drn_from_state_dict",
    "upernet_from_state_dict",
]
