"""StyleGAN2 in training: official penalties, losses and gradients; lazy regularisation; the moving average."""

import copy
import functools
import math
from collections.abc import Iterable

import pytest
import torch
from oracles import Case, names
from torch import Tensor, nn

from ffl.errors import UserError
from ffl.losses.gan import discriminator_loss, generator_loss
from ffl.training.config import check_section
from ffl.training.model import Batch
from ffl.training.objective import Objective
from ffl.training.step import make_optimizers, train_only
from models.official import load_official
from models.stylegan2 import StyleGAN2, ops
from models.stylegan2.generator import Generator
from models.stylegan2.official import (
    nvlabs_discriminator_keys,
    nvlabs_generator_keys,
    rosinality_discriminator_keys,
    rosinality_generator_keys,
)
from models.stylegan2.regularization import path_length_penalty, path_lengths, r1_penalty

rosinality, nvlabs = (functools.partial(load_official, f"stylegan2_{form}") for form in ("rosinality", "nvlabs"))
SIZES = [4, 8, 16, 32, 64]


def gradient_sums(network: nn.Module, keys: dict[str, str], official: Iterable[str]) -> Tensor:
    """Sum of |gradient| of every parameter, in the order of the official state dict; 0 where there is none."""
    parameters = dict(network.named_parameters())
    ours = [parameters[keys[key]] for key in official if keys.get(key) in parameters]
    return torch.stack([torch.zeros(()) if p.grad is None else p.grad.abs().sum() for p in ours])


def each(loss, logits: Tensor, *arguments) -> Tensor:
    """A loss, which is a mean over logits, of every logit by itself."""
    return torch.stack([loss(logit, *arguments) for logit in logits.flatten()]).view_as(logits)


def test_r1_equals_rosinality() -> None:
    case = Case("f_rosinality_r1")
    discriminator = rosinality(case.state_dict(), **case.args)
    images = case.tensors()["image"].requires_grad_()
    logits = discriminator(images)
    r1 = r1_penalty(images, logits).mean()
    r1.backward()
    case.check("logits", logits)
    case.check("r1", r1)
    keys = rosinality_discriminator_keys(len(SIZES))
    case.check("grad_abs_sum", gradient_sums(discriminator, keys, case.key_shapes()))


def test_path_length_equals_rosinality() -> None:
    case = Case("f_rosinality_path")
    options = dict(case.args)
    mean = torch.tensor(options.pop("mean_path_length"))
    generator, inputs = rosinality(case.state_dict(), **options), case.tensors()
    ws = generator.mapping(inputs["z"])[:, None].expand(-1, generator.synthesis.num_ws, -1)
    images = generator.synthesis(ws, [inputs[f"noise{i}"] for i in range(9)])
    lengths = path_lengths(images, ws, inputs["pl_noise"])
    penalty, moved = path_length_penalty(lengths, mean, 0.01)
    penalty.mean().backward()
    case.check("path_lengths", lengths)
    case.check("path_mean", moved)
    case.check("penalty", penalty.mean())
    keys = rosinality_generator_keys(len(SIZES), 8)
    case.check("grad_abs_sum", gradient_sums(generator, keys, case.key_shapes()))


@pytest.mark.parametrize("name", names("f_rosinality_losses"))
def test_logistic_losses_equal_rosinality(name: str) -> None:
    case = Case(name)
    real, fake = case.tensors()["real"], case.tensors()["fake"]
    case.check("d_logistic", discriminator_loss(real, True, "vanilla") + discriminator_loss(fake, False, "vanilla"))
    case.check("g_nonsaturating", generator_loss(fake, "vanilla"))


def test_losses_and_gradients_equal_nvlabs() -> None:
    case = Case("f_ada_losses64")
    inputs, gamma = case.tensors(), case.args["r1_gamma"]
    generator = nvlabs(case.state_dict("G"), **case.args["G"])
    discriminator = nvlabs(case.state_dict("D"), **case.args["D"])
    generator_keys, discriminator_keys = nvlabs_generator_keys(SIZES, 8), nvlabs_discriminator_keys(SIZES)

    def check_gradients(name: str) -> None:
        network, keys, part = (
            (generator, generator_keys, "G") if name[0] == "G" else (discriminator, discriminator_keys, "D")
        )
        case.check(name, gradient_sums(network, keys, case.key_shapes(part)))
        generator.zero_grad()
        discriminator.zero_grad()

    fake_logits = discriminator(generator(inputs["z"]))
    loss = each(generator_loss, fake_logits, "vanilla")
    loss.mean().backward()
    case.check("fake_logits", fake_logits)
    case.check("G_loss", loss)
    check_gradients("Gmain_grad_abs_sum")

    ws = generator.mapping(inputs["z"][:2])[:, None].expand(-1, generator.synthesis.num_ws, -1)
    images = generator.synthesis(ws)
    lengths = path_lengths(images, ws, inputs["pl_noise"])
    penalty, moved = path_length_penalty(lengths, torch.tensor(case.args["pl_mean"]), 0.01)
    (2 * penalty).mean().backward()
    case.check("pl_penalty", penalty)
    case.check("pl_mean_after", moved)
    check_gradients("Greg_grad_abs_sum")

    fake_logits = discriminator(generator(inputs["z"]).detach())
    real_logits = discriminator(inputs["image"])
    loss = each(discriminator_loss, fake_logits, False, "vanilla")
    loss = loss + each(discriminator_loss, real_logits, True, "vanilla")
    loss.mean().backward()
    case.check("real_logits", real_logits)
    case.check("D_loss", loss)
    check_gradients("Dmain_grad_abs_sum")

    images = inputs["image"].requires_grad_()
    penalty = r1_penalty(images, discriminator(images))
    (gamma / 2 * penalty).mean().backward()
    case.check("r1_penalty", penalty)
    case.check("D_reg", gamma / 2 * penalty)
    check_gradients("Dreg_grad_abs_sum")


def tiny(objective: Objective | None = None, **arguments) -> StyleGAN2:
    settings = {"latent_dim": 8, "num_mapping_layers": 2, "channel_base": 64, "channel_max": 8, "mbstd_group": 4}
    torch.manual_seed(3)
    return StyleGAN2((16, 16), objective or Objective(), **(settings | arguments))


def real_batch(step: int, num_images: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return {
        "image": torch.rand(num_images, 3, 16, 16, generator=generator) * 2 - 1,
        "index": torch.arange(num_images),
    }


def train(model: StyleGAN2, optimizers: dict[str, torch.optim.Adam], steps: range) -> dict[str, float]:
    """The trainer's iteration; returns the terms of the last step that had each."""
    terms: dict[str, float] = {}
    for step in steps:
        torch.manual_seed(100 + step)
        batch = real_batch(step)
        for phase in model.phases():
            if step % phase.interval:
                continue
            optimizer = optimizers[phase.optimizer]
            with train_only(model, optimizer):
                losses = model.losses(batch, phase.name)
                optimizer.zero_grad(set_to_none=True)
                sum(losses.values()).backward()
                optimizer.step()
            terms |= {f"{phase.name}/{name}": value.item() for name, value in losses.items()}
        model.finish_step(4 * (step + 1), 4)
    return terms


def test_phases_share_optimisers_with_the_settings_for_lazy_regularisation() -> None:
    phases = {phase.name: phase for phase in tiny(lr=0.002, betas=(0.0, 0.99)).phases()}
    assert list(phases) == ["generator", "path_length", "discriminator", "r1"]
    assert [phase.interval for phase in phases.values()] == [1, 4, 1, 16]
    assert [phase.optimizer for phase in phases.values()] == ["generator"] * 2 + ["discriminator"] * 2
    for name, pace in (("generator", 4 / 5), ("discriminator", 16 / 17)):
        assert phases[name].lr == pytest.approx(0.002 * pace)
        assert phases[name].betas == pytest.approx((0.0, 0.99**pace))


def test_regularisers_of_weight_zero_have_no_phase_and_no_correction() -> None:
    phases = tiny(r1_gamma=0.0, path_length_weight=0.0, lr=0.002).phases()
    assert [(phase.name, phase.lr, phase.betas) for phase in phases] == [
        ("generator", 0.002, (0.0, 0.99)),
        ("discriminator", 0.002, (0.0, 0.99)),
    ]


def test_r1_term_is_weighted_by_gamma_and_interval() -> None:
    model, batch = tiny(r1_gamma=3.0, r1_interval=5), real_batch(0)
    term = model.losses(batch, "r1")["penalty"]
    images = batch["image"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.discriminator(images).sum(), images)
    assert term.item() == pytest.approx(3.0 / 2 * 5 * gradient.square().sum((1, 2, 3)).mean().item(), rel=1e-5)
    assert not batch["image"].requires_grad


def test_path_length_term_moves_its_mean_and_is_weighted() -> None:
    model = tiny(path_length_weight=2.0, path_length_interval=4, path_length_shrink=2)
    term = model.losses(real_batch(0), "path_length")["penalty"]
    assert model.path_length_mean.item() == 0  # until the whole step has been seen
    model.finish_step(images_seen=4, batch_size=4)
    mean = model.path_length_mean.item()  # 1 % of the mean length, from 0
    assert mean > 0
    # The mean of squares is at least the square of the mean.
    assert term.item() >= 2 * 4 * (99 * mean) ** 2 * (1 - 1e-4)


def test_path_length_of_a_linear_map_is_the_norm_of_its_adjoint() -> None:
    matrix = torch.randn(3 * 4 * 4, 5, dtype=torch.float64)
    ws = torch.randn(2, 1, 5, dtype=torch.float64, requires_grad=True)
    images = (ws[:, 0] @ matrix.t()).unflatten(1, (3, 4, 4))
    noise = torch.randn_like(images)
    want = (noise.flatten(1) @ matrix).norm(dim=1) / 4
    torch.testing.assert_close(path_lengths(images, ws, noise), want)


def test_path_lengths_in_float32_are_those_of_float64_but_for_units_that_change_sign(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the same signs of all units only rounding remains; one turned unit a layer does a hundred times as much."""
    torch.manual_seed(0)
    network = Generator(32, latent_dim=16, num_mapping_layers=1, channel_base=256, channel_max=16).synthesis
    inputs = torch.randn(2, network.num_ws, 16), torch.randn(2, 3, 32, 32)
    outputs: list[Tensor] = []
    for layer in network.noise_layers():
        layer.register_forward_hook(lambda module, arguments, output: outputs.append(output.detach().clone()))

    def gradient(dtype: torch.dtype, signs: list[Tensor] | None = None) -> Tensor:
        outputs.clear()
        ws, noise = (tensor.to(dtype) for tensor in inputs)
        ws.requires_grad_()
        with monkeypatch.context() as patch:
            if signs is not None:
                left = iter(signs)

                class Given(ops._Activation):
                    @staticmethod
                    def apply(x: Tensor, slope: float, clamp: float | None) -> Tensor:
                        return x if slope == 1 else torch.where(next(left), x, slope * x)

                patch.setattr(ops, "_Activation", Given)
            images = network.to(dtype)(ws, "const")
        return torch.autograd.grad((images * noise).sum(), ws)[0].double()

    def distance(a: Tensor, b: Tensor) -> float:
        return float((a - b).norm() / b.norm())

    single = gradient(torch.float32)
    signs = [output > 0 for output in outputs]
    double = gradient(torch.float64, signs)
    assert distance(single, double) < 1e-5
    for sign, output in zip(signs, outputs, strict=True):
        sign ^= output.abs() == output.abs().min()  # the one that rounding turns first
    assert distance(gradient(torch.float64, signs), double) > 100 * distance(single, double)


def test_focal_frequency_loss_joins_the_generator_alone() -> None:
    model = tiny(Objective(ffl=True, weight=10.0, ave_spectrum=True))
    batch = real_batch(0)
    terms = model.losses(batch, "generator")
    assert list(terms) == ["adversarial", "ffl"]
    spectra = [torch.fft.fft2(images.double().mean(0), norm="ortho") for images in (batch["fake"], batch["image"])]
    distance = (spectra[0] - spectra[1]).abs()
    want = 10 * (distance.pow(3) / distance.amax((-2, -1), keepdim=True)).mean()
    assert terms["ffl"].item() == pytest.approx(want.item(), rel=1e-5)
    for phase in ("path_length", "discriminator", "r1"):
        assert "ffl" not in model.losses(batch, phase)
        assert "fake" not in batch


def test_baseline_and_ffl_draw_the_same_fakes() -> None:
    fakes = []
    for objective in (Objective(), Objective(ffl=True, ave_spectrum=True)):
        model, batch = tiny(objective), real_batch(0)
        torch.manual_seed(7)
        model.losses(batch, "generator")
        fakes.append(batch["fake"])
    assert torch.equal(*fakes)


def test_gradients_of_a_phase_reach_its_own_network_alone() -> None:
    model = tiny(Objective(ffl=True, ave_spectrum=True))
    optimizers = make_optimizers(model.phases())
    for phase, moves, rests in (
        ("generator", model.generator, model.discriminator),
        ("path_length", model.generator, model.discriminator),
        ("discriminator", model.discriminator, model.generator),
        ("r1", model.discriminator, model.generator),
    ):
        model.zero_grad(set_to_none=True)
        name = "generator" if moves is model.generator else "discriminator"
        with train_only(model, optimizers[name]):
            sum(model.losses(real_batch(0), phase).values()).backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in moves.parameters()), phase
        assert all(p.grad is None for p in [*rests.parameters(), *model.generator_ema.parameters()]), phase


def test_style_mixing_share() -> None:
    like = torch.zeros(400, 3, 16, 16)
    for share in (0.0, 0.5, 1.0):
        styles = tiny(style_mixing=share)._draw_styles(like)
        mixed = (styles[:, 0] != styles[:, -1]).any(1).double().mean().item()
        assert abs(mixed - share) <= 4 * math.sqrt(share * (1 - share) / 400)


def test_moving_average_has_the_stated_half_life() -> None:
    model = tiny(ema_kimg=0.1, ema_rampup=None)
    start = model.generator_ema.synthesis.blocks["4"].const.clone()
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.add_(1)
        model.generator.mapping.w_avg.fill_(5)
    for step in range(1, 11):  # 100 images: one half-life
        model.finish_step(10 * step, 10)
    torch.testing.assert_close(model.generator_ema.synthesis.blocks["4"].const, start + 0.5)
    assert torch.equal(model.generator_ema.mapping.w_avg, torch.full((8,), 5.0))


def test_moving_average_ramps_up() -> None:
    model = tiny(ema_kimg=20.0, ema_rampup=0.05)
    parameter, average = next(model.generator.parameters()), next(model.generator_ema.parameters())
    with torch.no_grad():
        parameter.add_(1)
    model.finish_step(8, 8)  # nothing seen before: a copy
    torch.testing.assert_close(average, parameter)
    with torch.no_grad():
        parameter.add_(1)
    model.finish_step(808, 8)  # after 800 images the half-life is 40 of them
    torch.testing.assert_close(parameter - average, torch.full_like(parameter, 0.5 ** (8 / 40)))


def test_resumed_training_ends_where_unbroken_training_ends() -> None:
    objective = Objective(ffl=True, ave_spectrum=True)
    unbroken = tiny(objective)
    optimizers = make_optimizers(unbroken.phases())
    train(unbroken, optimizers, range(3))
    weights = copy.deepcopy(unbroken.state_dict())
    states = {name: copy.deepcopy(optimizer.state_dict()) for name, optimizer in optimizers.items()}
    terms = train(unbroken, optimizers, range(3, 6))

    resumed = tiny(objective, noise="none")
    resumed.load_state_dict(weights)
    optimizers = make_optimizers(resumed.phases())
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(states[name])
    assert train(resumed, optimizers, range(3, 6)) == terms
    for key, value in unbroken.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_discriminator_learns_to_tell_reals_from_fakes() -> None:
    model = tiny(lr=0.01)
    optimizer = make_optimizers(model.phases())["discriminator"]
    values = []
    for step in range(60):
        losses = model.losses(real_batch(step), "discriminator")
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        values.append(sum(losses.values()).item())
    assert values[0] > 1
    assert max(values[-5:]) < 0.2
    assert model.generator.mapping.w_avg.abs().sum() > 0


def test_generated_images_depend_on_index_and_seed_alone() -> None:
    model = tiny()
    train(model, make_optimizers(model.phases()), range(1))
    index = torch.tensor([5, 0, 3, 8])
    together = model.generate({"index": index}, "synthesis", seed=1)
    alone = torch.cat([model.generate({"index": i[None]}, "synthesis", seed=1) for i in index])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.abs().amax() <= 1
    assert not torch.allclose(together, model.generate({"index": index}, "synthesis", seed=2))
    model.psi = 0.0
    truncated = model.generate({"index": index}, "synthesis", seed=1)
    torch.testing.assert_close(truncated, truncated[:1].expand(4, -1, -1, -1))


@pytest.mark.parametrize(
    ("size", "arguments", "message"),
    [
        ((16, 32), {}, "dataset.image_size=16x32"),
        ((48, 48), {}, "power of two from 16 to 1024"),
        ((8, 8), {}, "power of two from 16 to 1024"),
        ((16, 16), {"channel_base": 8}, "model.channel_base=8: must be at least 16"),
    ],
)
def test_impossible_settings_are_named(size: tuple[int, int], arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        StyleGAN2(size, Objective(), **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r1_interval": 0}, "model.r1_interval=0: expected an integer at least 1"),
        ({"r1_gamma": -1.0}, "model.r1_gamma=-1.0: expected a number at least 0"),
        ({"style_mixing": 1.5}, "model.style_mixing=1.5: expected a number at least 0 and at most 1"),
    ],
)
def test_settings_beyond_their_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_section("model", settings, StyleGAN2, provided={"image_size", "objective"})
