"""SPADE's losses and training trace against the official ones, and what evaluation promises."""

import re
from pathlib import Path
from typing import Literal

import pytest
import torch
from iteration import iterate, optimizers
from oracles import Case
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses.focal_frequency import FocalFrequencyLoss
from ffl.networks.stlpips import SCALE, SHIFT, load_stlpips, random_weights
from ffl.training.model import Batch
from ffl.training.objective import Objective
from ffl.weights import MissingWeights
from models.spade import Spade
from models.spade.model import VGG_LAYERS, VGGLoss


def official(case: Case) -> Spade:
    args = case.args
    return Spade(
        (int(args["crop_size"] / args["aspect_ratio"]), args["crop_size"]),
        Objective(),
        label_channels=args["label_nc"] + args["contain_dontcare_label"],
        instance_edges=not args["no_instance"],
        upsampling=args.get("num_upsampling_layers", "normal"),
        vgg_weight=0,
        ngf=args.get("ngf", 1),
        ndf=args.get("ndf", 1),
    )


def load(model: Spade, case: Case) -> None:
    model.generator.load_state_dict(case.state_dict("G"))
    model.discriminator.load_state_dict(case.state_dict("D"))


@pytest.mark.parametrize("name", ["e_spade_preprocess_cityscapes", "e_spade_preprocess_ade20k"])
def test_semantics_are_the_official_ones(name: str) -> None:
    case = Case(name)
    inputs = case.tensors()
    semantics = official(case).semantics({key: value.squeeze(1) for key, value in inputs.items()})
    assert semantics.dtype == torch.float32
    assert torch.equal(semantics, semantics.to(torch.uint8).float())
    case.check("semantics", semantics.to(torch.uint8))


def test_losses_are_the_official_ones() -> None:
    case = Case("e_spade_losses_eval")
    model = official(case).eval()
    load(model, case)
    inputs = case.tensors()
    batch = {"label": inputs["label"].squeeze(1), "instance": inputs["instance"].squeeze(1), "image": inputs["image"]}
    with torch.no_grad():
        batch = model.prepare(batch)
        terms = model.losses(batch, "generator")
        verdicts = model.losses(batch, "discriminator")
    assert list(terms) == ["gan", "feature_matching"]
    case.check("fake", batch["fake"])
    case.check("G_GAN", terms["gan"])
    case.check("G_GAN_Feat", terms["feature_matching"])
    case.check("D_Fake", verdicts["fake"])
    case.check("D_real", verdicts["real"])


def test_training_is_the_official_one() -> None:
    case = Case("e_spade_train")
    model = official(case).double().train()
    load(model, case)
    inputs = case.tensors(torch.float64)
    phases = optimizers(model)
    steps, fakes = [], []
    model.generator.register_forward_hook(lambda _, __, image: fakes.append(image.detach()))
    for step in range(case.args["steps"]):
        label, instance = (inputs[f"{key}{step}"].squeeze(1) for key in ("label", "instance"))
        steps.append(iterate(model, phases, {"label": label, "instance": instance, "image": inputs[f"image{step}"]}))
    trace = {name: torch.stack([losses[name] for losses in steps]) for name in steps[0]}
    case.check("GAN", trace["generator/gan"], float64=True)
    case.check("GAN_Feat", trace["generator/feature_matching"], float64=True)
    case.check("D_Fake", trace["discriminator/fake"], float64=True)
    case.check("D_real", trace["discriminator/real"], float64=True)
    assert len(fakes) == 2 * case.args["steps"]  # the discriminator sees an image of the updated generator
    case.check("generated_last", fakes[-2], float64=True)


def vgg_state(case: Case) -> dict[str, Tensor]:
    """The official wrapper's keys, slice<i>.<index>.*, under torchvision's names."""
    return {re.sub(r"^slice\d", "features", key): value for key, value in case.state_dict().items()}


def test_perceptual_term_is_the_official_one() -> None:
    case = Case("e_spade_vgg")
    inputs = case.tensors()
    loss = VGGLoss(vgg_state(case))
    fake, real = inputs["x"].requires_grad_(), inputs["y"].requires_grad_()
    value = loss(fake, real)
    value.backward()
    case.check("loss", value)
    assert fake.grad.abs().sum() > 0
    assert real.grad is None
    with torch.no_grad():
        for name, features in zip(VGG_LAYERS, loss.features(inputs["x"]), strict=True):
            case.check(name, features)


def make(**changes: object) -> Spade:
    objective = changes.pop("objective", Objective())
    defaults = {"label_channels": 5, "instance_edges": True, "ngf": 2, "ndf": 2, "vgg_weight": 0}
    return Spade((32, 64), objective, **{**defaults, **changes})


def make_batch(count: int = 3) -> Batch:
    return {
        "image": torch.rand(count, 3, 32, 64) * 2 - 1,
        "label": torch.randint(0, 5, (count, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2),
        "instance": torch.randint(0, 9, (count, 4, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2),
        "index": torch.arange(count) * 5 + 1,
    }


def test_generator_goes_first_with_two_time_scales() -> None:
    model = make(use_vae=True)
    first, second = model.phases()
    assert (first.name, first.lr) == ("generator", 1e-4)
    assert (second.name, second.lr) == ("discriminator", 4e-4)
    assert first.betas == second.betas == (0.0, 0.9)
    owned = {id(parameter) for phase in (first, second) for parameter in phase.parameters}
    assert owned == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize(("size", "doublings"), [((256, 512), 6), ((256, 256), 5)])
def test_upsampling_follows_the_official_data_sets(size: tuple[int, int], doublings: int) -> None:
    model = Spade(size, Objective(), 5, False, ngf=2, ndf=2, vgg_weight=0)
    assert model.generator.first_size == (size[0] >> doublings, size[1] >> doublings)


def test_focal_frequency_loss_is_one_more_term_of_the_generator() -> None:
    plain, with_ffl = make(), make(objective=Objective(ffl=True, weight=3.0))
    with_ffl.load_state_dict(plain.state_dict())
    batch = make_batch()
    terms = []
    for model in (plain, with_ffl):
        prepared = model.prepare(batch)
        terms.append(model.losses(prepared, "generator"))
    assert list(terms[0]) == ["gan", "feature_matching"]
    assert list(terms[1]) == ["gan", "feature_matching", "ffl"]
    assert terms[0]["gan"] == terms[1]["gan"]
    assert torch.equal(terms[1]["ffl"], FocalFrequencyLoss(loss_weight=3.0)(prepared["fake"], batch["image"]))
    assert list(with_ffl.losses(prepared, "discriminator")) == ["fake", "real"]


def test_terms_of_weight_zero_are_not_computed() -> None:
    model = make(gan_weight=0, feature_weight=0, objective=Objective(ffl=True))
    model.discriminator = None
    assert list(model.losses(model.prepare(make_batch()), "generator")) == ["ffl"]


def test_perceptual_term_needs_its_weights_for_training_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path))
    model = make(vgg_weight=10).eval()
    assert model.generate(make_batch(), "semantic", seed=0).shape == (3, 3, 32, 64)
    both = r"download_weights\.py vgg19, or pip install stlpips-pytorch and set model\.vgg_network=stlpips_vgg$"
    with pytest.raises(MissingWeights, match=both):
        model.phases()


def test_perceptual_term_on_the_network_of_stlpips() -> None:
    """Against the distance's own layers with random weights: the first ReLU of each stage, of normalised images."""
    torch.manual_seed(0)
    state = random_weights("vgg")
    trunk = load_stlpips("vgg", state).trunk
    fake, real = torch.rand(2, 2, 3, 32, 64) * 2 - 1
    x, want = (torch.cat([fake, real]) - torch.tensor(SHIFT).view(3, 1, 1)) / torch.tensor(SCALE).view(3, 1, 1), 0.0
    for stage, weight in zip(trunk, (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), strict=True):
        first = [isinstance(layer, torch.nn.ReLU) for layer in stage].index(True) + 1
        x = stage[:first](x)
        want += weight * (x[:2] - x[2:]).abs().mean().item()
        x = stage[first:](x)
    loss = VGGLoss(state, "stlpips_vgg")
    assert loss(fake, real).item() == pytest.approx(want, rel=1e-5)
    # Reduced, it sees the means of squares of pixels.
    larger = torch.rand(2, 2, 3, 64, 128) * 2 - 1
    fake, real = larger.unflatten(3, (-1, 2)).unflatten(5, (-1, 2)).mean((4, 6))
    assert VGGLoss(state, "stlpips_vgg", downscale=2)(*larger).item() == pytest.approx(
        loss(fake, real).item(), rel=1e-5
    )


@pytest.mark.parametrize("network", ["vgg19", "stlpips_vgg"])
def test_perceptual_term_is_weighted_and_stays_out_of_checkpoints(
    network: Literal["vgg19", "stlpips_vgg"], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = vgg_state(Case("e_spade_vgg")) if network == "vgg19" else random_weights("vgg")
    asked = []
    monkeypatch.setattr("models.spade.model.load_weights", lambda name: asked.append(name) or state)
    model = make(vgg_weight=10, vgg_network=network)
    keys, count = list(model.state_dict()), len(list(model.parameters()))
    model.phases()
    assert asked == [network]
    assert list(model.state_dict()) == keys
    assert len(list(model.parameters())) == count
    batch = model.prepare(make_batch())
    terms = model.losses(batch, "generator")
    assert list(terms) == ["gan", "feature_matching", "vgg"]
    assert terms["vgg"].item() == pytest.approx(10 * VGGLoss(state, network)(batch["fake"], batch["image"]).item())


def test_encoder_adds_the_kl_divergence_of_its_posterior() -> None:
    model = make(use_vae=True)
    batch = model.prepare(make_batch())
    mean, log_variance = batch["mean"], batch["log_variance"]
    terms = model.losses(batch, "generator")
    assert list(terms) == ["kl", "gan", "feature_matching"]
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    assert terms["kl"].item() == pytest.approx(0.05 * divergence.sum().item(), rel=1e-4)
    losses = iterate(model, optimizers(model), make_batch())
    assert all(value.isfinite() for value in losses.values())


@pytest.mark.parametrize("arguments", [{}, {"use_vae": True}, {"use_vae": True, "style": "prior"}])
def test_images_do_not_depend_on_their_batch(arguments: dict[str, object]) -> None:
    model = make(**arguments)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not hasattr(module, "weight_orig"):
            nn.init.normal_(module.weight, 0, 0.1)
    model.prepare(make_batch())
    model.double().eval()
    batch = make_batch(4)
    batch["image"] = batch["image"].double()
    together = model.generate(batch, "semantic", seed=0)
    for part in ([0], [1, 2], [3, 0]):
        alone = model.generate({key: value[part] for key, value in batch.items()}, "semantic", seed=0)
        assert torch.allclose(alone, together[part], atol=1e-12, rtol=0)
    assert together.std() > 1e-3


def test_styles_start_from_noise_of_index_and_seed() -> None:
    model = make(use_vae=True).eval()
    batch = make_batch()
    for style in ("image", "prior"):
        model.style = style
        images = model.generate(batch, "semantic", seed=0)
        assert torch.equal(images, model.generate(batch, "semantic", seed=0))
        assert not torch.equal(images, model.generate(batch, "semantic", seed=1))
        other = model.generate({**batch, "image": -batch["image"]}, "semantic", seed=0)
        assert torch.equal(images, other) == (style == "prior")


@pytest.mark.parametrize(
    ("size", "upsampling", "factor"), [((48, 64), "normal", 32), ((32, 64), "more", 64), ((64, 0), None, 32)]
)
def test_impossible_sizes_are_named(size: tuple[int, int], upsampling: str | None, factor: int) -> None:
    message = rf"dataset\.image_size={size[0]}x{size[1]}.*multiples of {factor}"
    with pytest.raises(UserError, match=message):
        Spade(size, Objective(), 5, False, upsampling=upsampling, ngf=2, ndf=2)


def test_a_perceptual_term_of_too_few_pixels_is_named() -> None:
    with pytest.raises(
        UserError, match=r"^model\.vgg_downscale=4: leaves 8 pixels of a side of 32, .* choose 1 at most$"
    ):
        Spade((32, 64), Objective(), 5, False, ngf=2, ndf=2, vgg_downscale=4)


def test_absent_instances_are_named() -> None:
    batch = make_batch()
    del batch["instance"]
    with pytest.raises(UserError, match=r"model\.instance_edges=true: .*set model\.instance_edges=false"):
        make().prepare(batch)


def test_absent_photographs_are_named() -> None:
    batch = make_batch()
    del batch["image"]
    model = make(use_vae=True).eval()
    with pytest.raises(UserError, match=r"model\.style=image: .*set model\.style=prior"):
        model.generate(batch, "semantic", seed=0)
    model.style = "prior"
    assert model.generate(batch, "semantic", seed=0).shape == (3, 3, 32, 64)
