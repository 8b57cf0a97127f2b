"""The segmenter: what it minimises, that it learns, and what it shows."""

import numpy as np
import pytest
import torch
from iteration import iterate, optimizers

import run_config
from ffl.errors import UserError
from ffl.images import from_uint8
from ffl.label_sets import LABEL_SETS
from ffl.training.logger import label_colours
from ffl.training.objective import Objective
from ffl.training.program import compose
from models.segmenter import SegmentationUNet


def make_model(label_set: str = "cityscapes") -> SegmentationUNet:
    torch.manual_seed(0)
    return SegmentationUNet((16, 32), Objective(), label_set, channels=4, levels=2)  # type: ignore[arg-type]


def make_batch(count: int = 3, ids: int = 35) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(count, 3, 16, 32, generator=generator) * 2 - 1
    return {"image": image, "label": torch.randint(0, ids, (count, 16, 32), generator=generator)}


def test_cross_entropy_is_the_mean_over_evaluated_pixels() -> None:
    model, batch = make_model().double(), make_batch()
    batch["image"] = batch["image"].double()
    batch["label"][2] = 0  # an image without an evaluated class
    found = model.losses(batch, "segmenter")["cross_entropy"]
    scores = model.network(batch["image"]).detach().numpy()
    log_probabilities = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    train_ids = {number: row for row, number in enumerate(LABEL_SETS["cityscapes"].class_ids)}
    means = []
    for image in range(3):
        pixels = [
            -log_probabilities[image, train_ids[number], y, x]
            for y in range(16)
            for x in range(32)
            if (number := int(batch["label"][image, y, x])) in train_ids
        ]
        means.append(np.mean(pixels) if pixels else 0.0)
    assert means[0] > 0
    assert found.item() == pytest.approx(np.mean(means), rel=1e-12)


def test_ignored_pixels_and_their_labels_change_no_gradient() -> None:
    batch = make_batch()
    gradients = []
    for void in (0, 4):
        model = make_model()
        label = torch.where(batch["label"] < 7, void, batch["label"])  # 0 to 6 are void
        model.losses({**batch, "label": label}, "segmenter")["cross_entropy"].backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_it_learns_brightness() -> None:
    model = make_model("photos")
    model.lr = 0.02
    image = torch.linspace(-1, 1, 32).expand(4, 3, 16, 32).clone()
    label = (image[:, 0] > 0).long() * 7
    batch = {"image": image, "label": label}
    phases = optimizers(model)
    losses = [iterate(model, phases, batch)["segmenter/cross_entropy"].item() for _ in range(30)]
    assert losses[-1] < losses[0] / 4
    assert (model.network(image).argmax(1) == label).float().mean() > 0.9


def test_it_shows_its_labels_in_the_colours_of_the_given_ones() -> None:
    model = make_model().eval()
    torch.nn.init.zeros_(model.network.head.weight)
    model.network.head.bias.data[13] = 1.0  # the class of trainId 13, car, whose id is 26
    shown = model.generate(make_batch(), "segmentation", 0)
    assert torch.equal(shown, from_uint8(label_colours(torch.full((3, 16, 32), 26))))


def test_held_out_images_are_judged_by_their_cross_entropy() -> None:
    model, batch = make_model().eval(), make_batch()
    errors = model.errors(batch, torch.zeros(0))
    assert errors.shape == (3,)
    assert errors.mean().item() == pytest.approx(model.losses(batch, "segmenter")["cross_entropy"].item(), rel=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=dtd"], "model.label_set=dtd: expected one of cityscapes, ade20k, celeba_mask_hq, photos"),
        (["dataset=photos"], "segmenter trains on image and label, and it has no label; choose one of .*cityscapes"),
        (["dataset=photos", "dataset.label_levels=5"], "label_set=photos: has 8 label ids of photos, the data set 5"),
        (["dataset=ade20k", "model.label_set=cityscapes"], "label_set=cityscapes: has 35 label ids of cityscapes"),
        (["dataset=cityscapes", "loss.ffl=true"], "loss.ffl=True: segmenter makes no images that this loss could"),
        (["dataset=cityscapes", "model.levels=0"], "model.levels=0: expected an integer at least 1"),
    ],
)
def test_what_does_not_fit_is_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_config.check(compose("train", ["model=segmenter", *words]))
