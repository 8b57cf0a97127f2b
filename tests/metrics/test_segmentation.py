"""Segmentation scores against the official evaluators, and the path from images and label maps to them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Case, names
from PIL import Image
from tiny_networks import SMALL_DRN, segmenter_weights, small_upernet
from torch import Tensor
from torch.nn import functional as F

from ffl.errors import UserError
from ffl.label_sets import LABEL_SETS
from ffl.metrics.segmentation import (
    MeanIoU,
    PixelAccuracy,
    PixelAccuracyAll,
    SegmentationScore,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from ffl.metrics.segmenters import DRN, PUBLISHED_NETWORKS, DRNSeg, Segmenter
from ffl.metrics.segmenters.segmenter import resize_uint8, upernet_size
from ffl.weights import WEIGHTS

SCORES = (MeanIoU, PixelAccuracy, PixelAccuracyAll)


def sample(label_set: str, count: int = 5, size: tuple[int, int] = (32, 64)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)
    top = 34 if label_set == "cityscapes" else 151
    return images, torch.randint(0, top, (count, *size), generator=generator)


def build(label_set: Any, **options: Any) -> dict[str, SegmentationScore]:
    if label_set == "ade20k":
        # The official sizes take minutes.
        options.setdefault("short_sides", (32,))
    return {kind.name: kind(label_set, state_dict=segmenter_weights(label_set), **options) for kind in SCORES}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets segmenters predict the red channel and notes the images of each run."""
    sizes: list[int] = []

    def red(self: Segmenter, images: Tensor, size: tuple[int, int]) -> Tensor:
        sizes.append(len(images))
        return F.one_hot(images[:, 0].long(), self.labels.num_classes).permute(0, 3, 1, 2).float()

    monkeypatch.setattr(Segmenter, "_scores", red)
    return sizes


def oracle_pair(case: Case) -> tuple[Tensor, Tensor]:
    inputs = case.inputs()
    label, classes = inputs["label"], case.args["classes"]
    agree = (inputs["agree"] < case.args["agree"]) & (label >= 0) & (label < classes)
    prediction = np.where(agree, label, inputs["pred"])
    case.check("pred", prediction.astype(np.int16))
    return torch.from_numpy(prediction), torch.from_numpy(label)


@pytest.mark.parametrize("name", names("i_drn"))
def test_counts_equal_drn_evaluator(name: str) -> None:
    case = Case(name)
    confusion = confusion_matrix(*oracle_pair(case), case.args["classes"])
    case.check("hist", confusion)
    iou = class_iou(confusion)
    # Absent classes are NaN in both, which no difference can be taken of.
    assert np.array_equal(iou.isnan().numpy(), np.isnan(case.arrays["iou"]))
    present = ~iou.isnan()
    allowed = case.entry["tolerance"]["iou"]["atol"]
    assert np.abs(iou[present].numpy() - case.arrays["iou"][present.numpy()]).max() <= allowed
    miou = mean_iou(confusion, "skip")
    case.check("miou", miou)
    case.check("miou_percent_2dp", np.round(miou.numpy() * 100, 2))
    case.check("accuracy", pixel_accuracy(confusion))


@pytest.mark.parametrize("name", names("i_csail"))
def test_counts_equal_csail_evaluator(name: str) -> None:
    case = Case(name)
    prediction, label = oracle_pair(case)
    classes = case.args["classes"]
    each = torch.stack([confusion_matrix(p, t, classes) for p, t in zip(prediction, label, strict=True)])
    intersection = each.diagonal(dim1=1, dim2=2)
    case.check("valid_per_image", each.sum((1, 2)))
    case.check("accuracy_per_image", torch.stack([pixel_accuracy(one) for one in each]))
    case.check("intersection", intersection)
    case.check("union", each.sum(1) + each.sum(2) - intersection)
    total = each.sum(0)
    case.check("iou", class_iou(total).nan_to_num(0.0))
    case.check("miou", mean_iou(total, "zero"))
    case.check("accuracy", pixel_accuracy(total))


def test_absent_classes() -> None:
    confusion = torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    torch.testing.assert_close(class_iou(confusion)[:2], torch.tensor([3 / 4, 4 / 5], dtype=torch.float64))
    assert float(mean_iou(confusion, "skip")) == pytest.approx((3 / 4 + 4 / 5) / 2, abs=1e-12)
    assert float(mean_iou(confusion, "zero")) == pytest.approx((3 / 4 + 4 / 5) / 3, abs=1e-9)


def test_confusion_matrix_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(2, 5\)"):
        confusion_matrix(torch.zeros(2, 4).long(), torch.zeros(2, 5).long(), 3)


@pytest.mark.parametrize(
    ("label_set", "ids"),
    [
        (
            "cityscapes",
            {-1: -1, 0: -1, 6: -1, 7: 0, 8: 1, 9: -1, 10: -1, 11: 2, 17: 5, 18: -1, 19: 6, 28: 15, 29: -1, 30: -1}
            | {31: 16, 33: 18, 34: -1, 35: -1, 255: -1},
        ),
        ("ade20k", {-1: -1, 0: -1, 1: 0, 2: 1, 149: 148, 150: 149, 151: -1, 255: -1}),
    ],
)
def test_ids_of_the_files_become_those_of_the_network(label_set: str, ids: dict[int, int]) -> None:
    found = LABEL_SETS[label_set].evaluation_ids(torch.tensor([list(ids)]))
    assert found.tolist() == [list(ids.values())]


def test_the_two_pixel_accuracies_by_hand(runs: list[int]) -> None:
    # Road, road, road, sidewalk (7, 7, 7, 8), void, void (0, 3), car, car (26); one car is taken for a road.
    labels = torch.tensor([[[7, 7, 7, 8], [0, 3, 26, 26]]])
    images = torch.zeros(1, 3, 2, 4, dtype=torch.uint8)
    images[0, 0] = torch.tensor([[0, 0, 0, 1], [5, 6, 13, 0]])
    scores = build("cityscapes")
    for score in scores.values():
        score.update(images, labels)
    assert float(scores["accuracy"].compute()) == 5 / 6
    assert float(scores["accuracy_all"].compute()) == 5 / 8
    assert float(scores["miou"].compute()) == pytest.approx((3 / 4 + 1 + 1 / 2) / 3, abs=1e-12)
    assert runs == [1], "scores of the same options run the network once per batch"
    for score in scores.values():
        score.reset()
        score.update(images + 1, labels)
    assert runs == [1, 1], "other images are segmented anew"
    assert float(scores["accuracy"].compute()) == 0


def test_cityscapes_input_is_normalised_and_cut_to_the_image() -> None:
    images, _ = sample("cityscapes", 1, (20, 44))
    segmenter = Segmenter.load("cityscapes", segmenter_weights("cityscapes"))
    constants = PUBLISHED_NETWORKS["cityscapes"]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (constants.mean, constants.std))
    network = DRNSeg(SMALL_DRN, 19)
    network.load_state_dict(segmenter_weights("cityscapes"))
    with torch.inference_mode():
        scores = network.eval()((images / 255 - mean) / std)
    assert scores.shape[2:] == (24, 48)
    assert torch.equal(segmenter.predict(images, (20, 44)), scores[:, :, :20, :44].argmax(1))


def test_scores_are_resized_to_the_labels_before_argmax() -> None:
    images, _ = sample("cityscapes", 2)
    segmenter = Segmenter.load("cityscapes", segmenter_weights("cityscapes"))
    scores = segmenter._scores(images, (32, 64))
    want = F.interpolate(scores, (64, 128), mode="bilinear", align_corners=False).argmax(1)
    assert torch.equal(segmenter.predict(images, (64, 128)), want)


def test_cityscapes_input_size() -> None:
    images, _ = sample("cityscapes", 2)
    enlarging = Segmenter.load("cityscapes", segmenter_weights("cityscapes"), input_size=(64, 128))
    plain = Segmenter.load("cityscapes", segmenter_weights("cityscapes"))
    want = plain.predict(resize_uint8(images, (64, 128)), (32, 64))
    assert torch.equal(enlarging.predict(images, (32, 64)), want)
    assert enlarging.protocol()["input_size"] == "128x64, bilinear"


def test_ade20k_averages_probabilities_over_sizes() -> None:
    images, _ = sample("ade20k", 1, (40, 48))
    state = segmenter_weights("ade20k")
    network = small_upernet()
    network.encoder.load_state_dict(state["encoder"])
    network.decoder.load_state_dict(state["decoder"])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    picture = Image.fromarray(images[0].permute(1, 2, 0).numpy())
    total = torch.zeros(1, 150, 40, 48)
    with torch.inference_mode():
        # Sides for 48 and 80: 40 x 48 becomes 48 x 57 and 80 x 96, rounded up to multiples of 32.
        for height, width in ((64, 64), (96, 96)):
            resized = torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.BILINEAR)))
            normalised = (resized.permute(2, 0, 1)[None] / 255 - mean) / std
            total += F.softmax(F.interpolate(network(normalised), (40, 48), mode="bilinear"), 1) / 2
    segmenter = Segmenter.load("ade20k", state, short_sides=(48, 80))
    # A grey level may differ where Pillow's fixed-point resize rounds a half.
    torch.testing.assert_close(segmenter._scores(images, (40, 48)), total, atol=1e-4, rtol=0)
    assert PUBLISHED_NETWORKS["ade20k"].short_sides == (300, 375, 450, 525, 600)


@pytest.mark.parametrize(
    ("size", "short_side", "want"),
    [
        ((256, 256), 300, (320, 320)),
        ((256, 256), 600, (608, 608)),
        ((512, 683), 300, (320, 416)),
        # The longer side would exceed 1000.
        ((300, 1200), 600, (256, 1024)),
    ],
)
def test_upernet_input_sizes(size: tuple[int, int], short_side: int, want: tuple[int, int]) -> None:
    assert upernet_size(size, short_side) == want


@pytest.mark.parametrize("size", [(320, 320), (96, 160), (100, 30)])
def test_resize_equals_pillow(size: tuple[int, int]) -> None:
    image = np.random.RandomState(0).randint(0, 256, (128, 96, 3), dtype=np.uint8)
    ours = resize_uint8(torch.from_numpy(image).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0).numpy()
    # Two calls, because Pillow's order of the passes depends on its version.
    across = Image.fromarray(image).resize((size[1], 128), Image.Resampling.BILINEAR)
    pillow = np.asarray(across.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    difference = np.abs(ours.astype(int) - pillow.astype(int))
    # White noise at simple ratios meets exact halves often; one of those per pass may be rounded the other way.
    assert difference.max() <= 2
    assert difference.mean() < 0.06


@pytest.mark.parametrize("label_set", ["cityscapes", "ade20k"])
def test_weights_are_found_and_recorded(label_set: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path))
    given = segmenter_weights(label_set)
    parts = {"network": given} if label_set == "cityscapes" else given
    for part, entry in PUBLISHED_NETWORKS[label_set].weights.items():
        torch.save(parts[part], tmp_path / WEIGHTS[entry].filename)
    images, labels = sample(label_set, 2)
    options = {"short_sides": (32,)} if label_set == "ade20k" else {}
    from_file, from_dict = MeanIoU(label_set, **options), build(label_set)["miou"]
    for score in (from_file, from_dict):
        score.update(images, labels)
    assert from_file.compute() == from_dict.compute()
    recorded = from_file.protocol()
    for entry in PUBLISHED_NETWORKS[label_set].weights.values():
        assert WEIGHTS[entry].filename in str(recorded["weights"])
        digest = hashlib.sha256((tmp_path / WEIGHTS[entry].filename).read_bytes()).hexdigest()
        assert digest in str(recorded["weights_sha256"])
    assert from_dict.protocol()["weights_sha256"] != recorded["weights_sha256"]


def test_scores_share_a_network_only_where_all_options_agree() -> None:
    plain, same = (
        MeanIoU("cityscapes", state_dict=segmenter_weights("cityscapes")),
        PixelAccuracy("cityscapes", state_dict=segmenter_weights("cityscapes")),
    )
    larger = MeanIoU("cityscapes", state_dict=segmenter_weights("cityscapes"), input_size=(64, 128))
    other = MeanIoU("cityscapes", state_dict={k: v * 2 for k, v in segmenter_weights("cityscapes").items()})
    assert plain.segmenter is same.segmenter
    assert len({id(score.segmenter) for score in (plain, larger, other)}) == 3


def test_protocols_tell_the_scores_apart() -> None:
    for label_set in ("cityscapes", "ade20k"):
        scores = build(label_set)
        protocols = {name: score.protocol() for name, score in scores.items()}
        assert protocols["accuracy"]["denominator"] == "evaluated pixels"
        assert "ignored ones counted as wrong" in str(protocols["accuracy_all"]["denominator"])
        for protocol in protocols.values():
            assert {"network", "input_size", "label_resize", "label_ids", "ignored_labels"} <= protocol.keys()
            assert all(value is None or isinstance(value, str | int | float) for value in protocol.values())
    cityscapes = MeanIoU("cityscapes", state_dict=segmenter_weights("cityscapes")).protocol()
    assert cityscapes["absent_classes"] == "left out of the mean"
    assert protocols["miou"]["absent_classes"] == "count as IoU 0"


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_evaluated_pixels_is_an_error(runs: list[int]) -> None:
    score = PixelAccuracyAll("cityscapes", state_dict=segmenter_weights("cityscapes"))
    with pytest.raises(UserError, match="accuracy_all: needs at least 1 images, got 0"):
        score.compute()
    score.update(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 2).long())
    with pytest.raises(UserError, match="none of the labels of 1 images is evaluated for cityscapes"):
        score.compute()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8).long(), "takes uint8 images"),
        (torch.zeros(1, 8, 8).byte(), torch.zeros(1, 8, 8).long(), r"of shape \(N, 3, H, W\)"),
        (torch.zeros(1, 3, 8, 8).byte(), torch.zeros(1, 8, 8), "labels must be integer"),
        (torch.zeros(1, 3, 8, 8).byte(), torch.zeros(2, 8, 8).long(), "N = 1"),
        (torch.zeros(1, 3, 8, 8).byte(), torch.zeros(1, 1, 8, 8).long(), "labels must be integer"),
    ],
)
def test_wrong_tensors_are_refused(images: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        MeanIoU("cityscapes", state_dict=segmenter_weights("cityscapes")).update(images, labels)


def test_wrong_networks_are_refused() -> None:
    with pytest.raises(UserError, match=r"have 5 classes, not 19; take the weights of DRN-D-105"):
        Segmenter.load("cityscapes", segmenter_weights("cityscapes", 5))
    with pytest.raises(UserError, match=r"have 7 classes, not 150"):
        Segmenter.load("ade20k", segmenter_weights("ade20k", 7))
    with pytest.raises(UserError, match="DRN classifier"):
        Segmenter.load("cityscapes", DRN(SMALL_DRN, 19).state_dict())
    with pytest.raises(UserError, match="'coco'; there is one for cityscapes, ade20k"):
        Segmenter.load("coco", {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="short_sides is not an option of the cityscapes"):
        Segmenter.load("cityscapes", segmenter_weights("cityscapes"), short_sides=(256,))
    with pytest.raises(UserError, match="input_size is not an option of the ade20k"):
        Segmenter.load("ade20k", segmenter_weights("ade20k"), input_size=(256, 256))
