"""The shared training loop: run directories, checkpoints, randomness, logging. Needs the extra ``train``."""

import importlib.util

from ffl.errors import missing_extra

for _package in ("yaml", "omegaconf", "hydra", "tensorboard"):
    if importlib.util.find_spec(_package) is None:
        raise missing_extra(_package, "train")
