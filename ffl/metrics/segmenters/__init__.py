"""Segmentation networks of the published evaluations, built from their official weight files."""

from ffl.metrics.segmenters.drn import DRN, DRNArch, DRNSeg
from ffl.metrics.segmenters.loading import drn_from_state_dict, upernet_from_state_dict
from ffl.metrics.segmenters.segmenter import LABEL_SETS, LabelSet, Segmenter
from ffl.metrics.segmenters.upernet import ResNetEncoder, UPerNet, UPerNetDecoder

__all__ = [
    "DRN",
    "LABEL_SETS",
    "DRNArch",
    "DRNSeg",
    "LabelSet",
    "ResNetEncoder",
    "Segmenter",
    "UPerNet",
    "UPerNetDecoder",
    "drn_from_state_dict",
    "upernet_from_state_dict",
]
