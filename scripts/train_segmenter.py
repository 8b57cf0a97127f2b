"""Train the segmenter that miou_own and accuracy_own judge images with, on the real training images of a data set.

python scripts/train_segmenter.py dataset=cityscapes|ade20k|celeba_mask_hq [scale=cpu] [key=value ...]

Further key=value words are overrides of train.py, such as data_root=DIR or trainer.threads=1; the same command
continues a run that was cut. The run is an ordinary one of model=segmenter, outputs/segmenter-<dataset>-<height>, where
evaluate.py finds it. Its scores of the real test images, the ceiling of those of generated ones, come at the end.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ffl.training.determinism import fix_instructions

if __name__ == "__main__":
    fix_instructions(sys.argv[1:])  # before the imports below: libraries read it when they are imported

from evaluate import evaluate
from ffl.label_sets import LabelSetName
from ffl.metrics.own_segmentation import SEGMENTER, segmenter_name
from ffl.training.command import run_script
from ffl.training.program import compose
from run_config import check
from train import train

# SPADE's ratio of the size that images are cropped from to that of the crops.
LOAD_RATIO = 286 / 256


def train_segmenter(*, dataset: LabelSetName, **overrides: str) -> None:
    """Train and evaluate the segmenter of one data set, at the size that the data set's images have in a table.

    Args:
        dataset: whose label maps it learns.
        overrides: of train.py.
    """
    words = {"resume": "auto", **overrides, "model": SEGMENTER, "dataset": dataset}
    if dataset == "photos":  # embedded images, to try it out: eight steps of brightness for labels
        words.setdefault("dataset.label_levels", "8")
    overrides_of_train = [f"{key}={value}" for key, value in words.items()]
    config = compose("train", overrides_of_train)
    check(config)
    # At another size the crops show as much of an image as at the paper's.
    data = config["dataset"]
    if "load_size" in data and "dataset.load_size" not in words:
        data["load_size"] = round(LOAD_RATIO * data["image_size"])
    config["name"] = config["name"] or segmenter_name(dataset, data["image_size"])
    run = train(config, overrides_of_train)
    folders = [f"{key}='{config[key]}'" for key in ("data_root", "cache_dir")]
    evaluate(compose("evaluate", [f"run='{run.path}'", f"accelerator={config['trainer']['accelerator']}", *folders]))


if __name__ == "__main__":
    run_script(train_segmenter)
