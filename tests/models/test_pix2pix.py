"""pix2pix against the official networks and training trace, and what evaluation promises."""

import numpy as np
import pytest
import torch
from iteration import iterate, optimizers
from oracles import Case, names
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses.focal_frequency import FocalFrequencyLoss
from ffl.losses.gan import discriminator_loss
from ffl.training.model import Batch
from ffl.training.objective import Objective
from models.official import load_official
from models.pix2pix import PatchDiscriminator, Pix2Pix, UNetGenerator, checked_downs


def without_dropout(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def official_unet(case: Case, statistics: str = "running") -> UNetGenerator:
    network = load_official("pix2pix_generator", case.state_dict(), **case.args)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.statistics = statistics
    return without_dropout(network).train("train" in case.entry["mode"])


def running_sums(network: nn.Module) -> np.ndarray:
    statistics = [value for key, value in network.state_dict().items() if "running_" in key]
    return np.array([value.sum().item() for value in statistics], np.float32)


@pytest.mark.parametrize("name", names("d_unet"))
def test_generator_is_the_official_one(name: str) -> None:
    case = Case(name)
    network = official_unet(case)
    with torch.no_grad():
        case.check("output", network(case.tensors()["A"]))
    if "running_after" in case.entry["outputs"]:
        case.check("running_after", running_sums(network))


@pytest.mark.parametrize("name", names("d_nlayer") + names("d_pixel"))
def test_discriminator_is_the_official_one(name: str) -> None:
    case = Case(name)
    network = load_official("pix2pix_discriminator", case.state_dict(), **case.args)
    network.train("train" in case.entry["mode"])
    inputs = case.tensors()
    with torch.no_grad():
        logits = network(torch.cat([inputs["A"], inputs["B"]], 1))
    case.check("output", logits)
    for mode in ("vanilla", "lsgan"):
        for target in ("real", "fake"):
            case.check(f"{mode}_{target}", discriminator_loss(logits, target == "real", mode))
    if "running_after" in case.entry["outputs"]:
        case.check("running_after", running_sums(network))


def test_training_is_the_official_one() -> None:
    case = Case("d_train_ngf8")
    model = Pix2Pix((256, 256), Objective(), ngf=8, ndf=8).double().train()
    model.generator.load_state_dict(case.state_dict("G"))
    model.discriminator.load_state_dict(case.state_dict("D"))
    without_dropout(model)
    inputs = case.tensors(torch.float64)
    phases = optimizers(model)
    steps = [
        iterate(model, phases, {"source": inputs[f"A{step}"], "image": inputs[f"B{step}"]})
        for step in range(case.args["steps"])
    ]
    trace = {name: torch.stack([losses[name] for losses in steps]) for name in steps[0]}
    case.check("D_fake", 2 * trace["discriminator/fake"], float64=True)  # the phase minimises half of each
    case.check("D_real", 2 * trace["discriminator/real"], float64=True)
    case.check("G_GAN", trace["generator/gan"], float64=True)
    case.check("G_L1", trace["generator/l1"], float64=True)


def test_a_patch_is_70_pixels_wide() -> None:
    pair = torch.randn(1, 6, 256, 256, requires_grad=True)
    PatchDiscriminator(ndf=2).eval()(pair)[0, 0, 15, 15].backward()
    seen = pair.grad[0].abs().sum(0) > 0
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    assert (rows[-1] - rows[0] + 1).item() == 70
    assert (columns[-1] - columns[0] + 1).item() == 70


def make(size: int = 32, **changes: object) -> Pix2Pix:
    objective = changes.pop("objective", Objective())
    return Pix2Pix((size, size), objective, **{"ngf": 4, "ndf": 4, **changes})


def make_batch(count: int = 3, size: int = 32) -> Batch:
    source, image = torch.rand(2, count, 3, size, size) * 2 - 1
    return {"source": source, "image": image, "index": torch.arange(count) * 7 + 2}


def trained_a_little(model: Pix2Pix) -> Pix2Pix:
    """Running statistics away from their initial values, and weights that give visible images."""
    for parameter in model.generator.parameters():
        parameter.data.mul_(5)
    for _ in range(3):
        model.train().prepare(make_batch(size=64))
    return model.eval()


def test_keys_do_not_depend_on_dropout() -> None:
    assert list(UNetGenerator(dropout=True, ngf=2).state_dict()) == list(
        UNetGenerator(dropout=False, ngf=2).state_dict()
    )
    dropouts = [module for module in UNetGenerator(ngf=2).modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) == 3


@pytest.mark.parametrize(
    ("image_size", "expected"), [((256, 256), 8), ((512, 256), 8), ((128, 128), 7), ((64, 96), 5), ((4, 4), 2)]
)
def test_blocks_follow_the_image_size(image_size: tuple[int, int], expected: int) -> None:
    assert checked_downs(image_size, None) == expected


@pytest.mark.parametrize(("size", "num_downs"), [(250, None), (96, 6), (64, 1), (64, 0)])
def test_impossible_sizes_are_named(size: int, num_downs: int | None) -> None:
    with pytest.raises(UserError, match=rf"dataset\.image_size={size}x{size}.*multiples of 2\*\*num_downs"):
        make(size, num_downs=num_downs)


def test_initial_weights() -> None:
    model = make(64, ngf=32, ndf=32)
    weights = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.Conv2d)])
    scales = torch.cat([m.weight.flatten() for m in model.modules() if isinstance(m, nn.BatchNorm2d)])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert weights.mean().item() == pytest.approx(0, abs=1e-4)
    assert scales.mean().item() == pytest.approx(1, abs=0.01)
    assert scales.std().item() == pytest.approx(0.02, rel=0.1)


def test_discriminator_goes_first_with_the_optimiser_of_the_paper() -> None:
    first, second = make().phases()
    assert (first.name, second.name) == ("discriminator", "generator")
    for phase in (first, second):
        assert (phase.lr, phase.betas, phase.eps, phase.interval) == (2e-4, (0.5, 0.999), 1e-8, 1)


def test_generator_runs_once_per_iteration() -> None:
    model = make()
    calls = []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    iterate(model, optimizers(model), make_batch())
    assert len(calls) == 1


def test_focal_frequency_loss_is_one_more_term_of_the_generator() -> None:
    torch.manual_seed(1)
    plain = make(dropout=False)
    torch.manual_seed(1)
    with_ffl = make(dropout=False, objective=Objective(ffl=True, weight=3.0))
    batch = make_batch()
    terms = [model.losses(model.prepare(batch), "generator") for model in (plain, with_ffl)]
    expected = FocalFrequencyLoss(loss_weight=3.0)(with_ffl.prepare(batch)["fake"], batch["image"])
    assert list(terms[0]) == ["gan", "l1"]
    assert list(terms[1]) == ["gan", "l1", "ffl"]
    assert terms[1]["l1"] == terms[0]["l1"]
    assert terms[1]["ffl"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert list(with_ffl.losses(with_ffl.prepare(batch), "discriminator")) == ["fake", "real"]


def test_terms_of_weight_zero_are_not_computed() -> None:
    model = make(gan_weight=0, l1_weight=0, objective=Objective(ffl=True))
    model.discriminator = None
    assert list(model.losses(model.prepare(make_batch()), "generator")) == ["ffl"]


@pytest.mark.parametrize("norm_statistics", ["batch", "running"])
@pytest.mark.parametrize("test_dropout", [True, False])
@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_images_do_not_depend_on_their_batch(norm_statistics: str, test_dropout: bool, norm: str) -> None:
    model = trained_a_little(make(64, norm=norm, norm_statistics=norm_statistics, test_dropout=test_dropout)).double()
    batch = {key: value.double() if value.is_floating_point() else value for key, value in make_batch(5, 64).items()}
    together = model.generate(batch, "translation", seed=0)
    order = [3, 0, 4]
    for part in ([0], [1, 2], order):
        alone = model.generate({key: value[part] for key, value in batch.items()}, "translation", seed=0)
        assert torch.allclose(alone, together[part], atol=1e-12, rtol=0)
    assert together.std() > 0.01


def test_batch_statistics_are_those_of_the_official_test_program() -> None:
    case = Case("d_unet256_ngf8_train_b1")
    network = official_unet(case, "batch").eval()
    source = case.tensors()["A"]
    with torch.no_grad():
        case.check("output", network(source))
        pair = network(torch.cat([torch.rand_like(source), source]))
    case.check("output", pair[1:])


def test_running_statistics_differ_from_batch_statistics() -> None:
    model = trained_a_little(make(64, test_dropout=False))
    batch = make_batch(size=64)
    own = model.generate(batch, "translation", seed=0)
    for module in model.generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.statistics = "running"
    running = model.generate(batch, "translation", seed=0)
    assert torch.equal(running, model.generator(batch["source"]))
    assert (own - running).abs().max() > 0.01


def test_dropout_at_evaluation_derives_from_index_and_seed() -> None:
    model = trained_a_little(make(64))
    batch = make_batch(size=64)
    images = model.generate(batch, "translation", seed=0)
    assert torch.equal(images, model.generate(batch, "translation", seed=0))
    assert not torch.equal(images, model.generate(batch, "translation", seed=1))
    other = model.generate({**batch, "index": batch["index"] + 1}, "translation", seed=0)
    assert ((images - other).abs().amax((1, 2, 3)) > 0).all()


def test_dropout_masks_are_fair_and_unbiased() -> None:
    network = UNetGenerator(ngf=8, num_downs=8)
    masks = network.dropout_masks(torch.zeros(4, 3, 256, 256), torch.arange(4), seed=3)
    assert {depth: tuple(mask.shape) for depth, mask in masks.items()} == {
        4: (4, 64, 16, 16),
        5: (4, 64, 8, 8),
        6: (4, 64, 4, 4),
    }
    values = torch.cat([mask.flatten() for mask in masks.values()])
    assert set(values.unique().tolist()) == {0.0, 2.0}
    assert values.mean().item() == pytest.approx(1, abs=4 / len(values) ** 0.5)  # four standard errors


def test_dropout_masks_act_as_dropout_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the masks that training would draw, generating gives the image of training."""
    network = UNetGenerator(ngf=4, num_downs=6, norm="instance")
    source = torch.rand(2, 3, 64, 64)
    masks = network.dropout_masks(source, torch.arange(2), seed=0)
    drawn = iter([masks[depth] for depth in sorted(masks, reverse=True)])

    def replay(self: nn.Dropout, x: Tensor) -> Tensor:
        return x * next(drawn)

    expected = network.eval()(source, masks)
    monkeypatch.setattr(nn.Dropout, "forward", replay)
    assert torch.equal(network.train()(source), expected)
