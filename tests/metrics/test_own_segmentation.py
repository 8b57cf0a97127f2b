"""Scores by a segmenter of our own: values by hand, the ceiling, and what is refused of its run directory."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.images import from_uint8
from ffl.label_sets import LABEL_SETS
from ffl.metrics import build_metric
from ffl.metrics.own_segmentation import OwnMeanIoU, OwnPixelAccuracy, OwnSegmenter, segmenter_name
from ffl.networks.unet import UNet
from ffl.training.checkpoint import save_checkpoint
from ffl.weights import MissingWeights

# Road, road, road, pavement (7, 7, 7, 8), void, void (0, 3), car, car (26).
LABELS = torch.tensor([[[7, 7, 7, 8], [0, 3, 26, 26]]])
# What the segmenter of ``runs`` reads off the red channel: one car is taken for a road.
FAKE = torch.tensor([[0, 0, 0, 1], [5, 6, 13, 0]])
REAL = torch.tensor([[0, 0, 0, 1], [5, 6, 13, 13]])


def small_unet(classes: int = 19) -> UNet:
    torch.manual_seed(0)
    return UNet(classes, channels=2, levels=1).eval()


def build(label_set: Any = "cityscapes", height: int = 2) -> tuple[OwnMeanIoU, OwnPixelAccuracy]:
    weights = small_unet(LABEL_SETS[label_set].num_classes).state_dict()
    return OwnMeanIoU(label_set, height, state_dict=weights), OwnPixelAccuracy(label_set, height, state_dict=weights)


def red(values: Tensor) -> Tensor:
    """An image whose red channel holds ``values``."""
    images = torch.zeros(1, 3, *values.shape, dtype=torch.uint8)
    images[:, 0] = values
    return images


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets segmenters predict the red channel and notes the images of each run."""
    sizes: list[int] = []

    def scores(self: OwnSegmenter, images: Tensor, size: tuple[int, int]) -> Tensor:
        sizes.append(len(images))
        return F.one_hot(images[:, 0].long(), self.labels.num_classes).permute(0, 3, 1, 2).float()

    monkeypatch.setattr(OwnSegmenter, "_scores", scores)
    return sizes


def test_values_and_ceilings_by_hand(runs: list[int]) -> None:
    miou, accuracy = build()
    for metric in (miou, accuracy):
        metric.update(red(FAKE), LABELS)
        assert metric.ceiling() is None
        metric.update_real(red(REAL), LABELS)
    assert runs == [1, 1], "both scores take one pass over the generated and one over the real images"
    assert float(miou.compute()) == pytest.approx((3 / 4 + 1 + 1 / 2) / 3, abs=1e-12)
    assert float(accuracy.compute()) == 5 / 6
    assert (miou.ceiling(), accuracy.ceiling()) == (1.0, 1.0)
    wrong = REAL.clone()
    wrong[0, 0] = 1  # a road that is taken for pavement
    for metric in (miou, accuracy):
        metric.update_real(red(wrong), LABELS)
    # Of two images: 5 of 6 roads, 2 pavements and one road beside them, 4 cars.
    assert miou.ceiling() == pytest.approx((5 / 6 + 2 / 3 + 1) / 3, abs=1e-12)
    assert accuracy.ceiling() == 11 / 12
    assert float(accuracy.compute()) == 5 / 6
    accuracy.reset()
    assert accuracy.ceiling() is None


def test_batches_may_come_in_any_order(runs: list[int]) -> None:
    together, apart = build()[0], build()[0]
    images, labels = torch.cat([red(FAKE), red(REAL)]), torch.cat([LABELS, LABELS.flip(2)])
    together.update(images, labels)
    for number in (1, 0):
        apart.update(images[number : number + 1], labels[number : number + 1])
    assert together.compute() == apart.compute()


@pytest.mark.parametrize(
    ("label_set", "ids"),
    [("celeba_mask_hq", {-1: -1, 0: 0, 18: 18, 19: -1}), ("photos", {0: 0, 7: 7, 8: -1})],
)
def test_ids_of_the_files_become_those_of_the_network(label_set: str, ids: dict[int, int]) -> None:
    found = LABEL_SETS[label_set].evaluation_ids(torch.tensor(list(ids)))
    assert found.tolist() == list(ids.values())


def test_images_reach_the_network_as_in_training() -> None:
    metric, images = build(height=8)[0], torch.randint(0, 256, (5, 3, 8, 12), dtype=torch.uint8)
    want = small_unet()(from_uint8(images)).argmax(1)
    assert torch.equal(metric.segmenter.predict(images, (8, 12)), want)


def test_images_of_another_height_are_refused() -> None:
    with pytest.raises(ValueError, match="the segmenter is for images 8 pixels high, got 16"):
        build(height=8)[0].update(torch.zeros(1, 3, 16, 8, dtype=torch.uint8), torch.zeros(1, 16, 8).long())


def make_run(folder: Path, step: int = 10, **changes: Any) -> Path:
    """A run directory as training leaves it, of ``step`` steps of 10."""
    run = folder / segmenter_name("cityscapes", 8)
    config = {
        "model": {"name": "segmenter", "label_set": "cityscapes"},
        "dataset": {"name": "cityscapes", "image_size": 8},
        "seed": 1112,
    }
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
    weights = {f"network.{key}": value for key, value in small_unet().state_dict().items()}
    save_checkpoint(run / "checkpoints" / "last.pt", {"step": step, "model": weights})
    status = {"step": step, "total": 10, "finished": step == 10, "images": 80, "seconds": 1.0, "shards": 1}
    (run / "status.json").write_text(json.dumps(status))
    return run


def test_a_run_gives_the_weights_and_the_protocol(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    miou, accuracy = (
        build_metric(name, label_set="cityscapes", height=8, run=run) for name in ("miou_own", "accuracy_own")
    )
    assert miou.segmenter is accuracy.segmenter
    protocol = miou.protocol()
    assert protocol["network"] == "U-Net of ours, segmenter-cityscapes-8"
    assert (protocol["segmenter_step"], protocol["segmenter_seed"]) == (10, 1112)
    assert protocol["weights_sha256"] == build(height=8)[0].protocol()["weights_sha256"]
    assert protocol["absent_classes"] == "left out of the mean"
    assert accuracy.protocol()["denominator"] == "evaluated pixels"
    assert all(isinstance(value, str | int | float | bool | None) for value in protocol.values())


COMMAND = r"; run: python scripts/train_segmenter\.py dataset=cityscapes dataset\.image_size=8$"


@pytest.mark.parametrize("state", ["absent", "unfinished"])
def test_a_segmenter_that_is_not_there_is_missing_with_the_command(state: str, tmp_path: Path) -> None:
    run = tmp_path / segmenter_name("cityscapes", 8) if state == "absent" else make_run(tmp_path, step=5)
    with pytest.raises(MissingWeights, match=rf"^there is no finished segmenter {run.name} beside the run{COMMAND}"):
        build_metric("miou_own", label_set="cityscapes", height=8, run=run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "ae"}}, "holds a ae of cityscapes at 8 pixels, no segmenter of cityscapes at 8"),
        ({"model": {"name": "segmenter", "label_set": "ade20k"}}, "holds a segmenter of ade20k at 8 pixels"),
        ({"dataset": {"name": "cityscapes", "image_size": 16}}, "holds a segmenter of cityscapes at 16 pixels"),
        ({"model": 5, "dataset": None}, "holds a None of None at None pixels"),
    ],
)
def test_a_run_of_something_else_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, **changes)
    with pytest.raises(UserError, match=re.escape(f"{run}: {message}")) as error:
        build_metric("miou_own", label_set="cityscapes", height=8, run=run)
    assert not isinstance(error.value, MissingWeights)
    assert re.search(COMMAND, str(error.value))


def test_weights_of_other_classes_are_refused() -> None:
    with pytest.raises(UserError, match="these weights have 5 classes, not the 19 of cityscapes"):
        OwnMeanIoU("cityscapes", 8, state_dict=small_unet(5).state_dict())
    with pytest.raises(UserError, match=r"this is no complete U-Net checkpoint: missing: head\.weight"):
        OwnMeanIoU("cityscapes", 8, state_dict={})
