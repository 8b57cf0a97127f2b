"""Our training steps beside those of public implementations, which the user has checked out below one folder.

A step is a whole iteration: all phases and optimisers, the moving average of weights, and regularisers by the share of
the steps in which they are due. Both sides have the same widths, batch and number of parameters, which is looked at
first, and a network of ours with the weights of theirs is compared on the same images. The other side is measured as
published, and again with the fused implementation of Adam, which ours has.

Their networks are their own code. So are the steps of the autoencoder and SPADE; those of pix2pix and StyleGAN2, which
belong to programs with options and data loaders, are written here as these programs do them.
"""

import contextlib
import copy
import functools
import importlib
import importlib.util
import math
import os
import random
import sys
import types
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.flop_counter import FlopCounterMode

from ffl.errors import UserError
from models.official import load_official
from scripts.benchmarks.floor import step_kinds
from scripts.benchmarks.steps import step_on_random_images
from scripts.benchmarks.timing import Action, Conditions, alternate, peak_memory

FUSED = "theirs_fused"


@dataclass(frozen=True)
class Peer:
    """A public implementation that is ready to train.

    Attributes:
        networks: that it trains.
        step: called with the step's number and its optimisers.
        optimizers: as published.
        compared: kind of one of its networks, a key of ``models.official.KINDS``.
        network: that one.
        inputs: what it is called with.
        options: of ``load_official``.
    """

    networks: list[nn.Module]
    step: Callable[[int, list[Adam]], object]
    optimizers: list[Adam]
    compared: str
    network: nn.Module
    inputs: list[Tensor]
    options: dict[str, Any]


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row per case.

    Raises:
        UserError: if a checkout is missing, or the two sides do not train the same networks.
    """
    if conditions.peers is None:
        raise UserError(f"peers: say where the public implementations are, peers=DIR with {', '.join(URLS)} in it")
    if conditions.device.type != "cpu":
        raise UserError("peers are measured on the CPU; set accelerator=cpu")
    chosen = [case for case in CASES if case[0] in conditions.models]
    for folder in dict.fromkeys(case[1] for case in chosen):
        if not (conditions.peers / folder).is_dir():
            path = conditions.peers / folder
            raise UserError(f"peers={conditions.peers}: {folder} is missing; git clone {URLS[folder]} {path}")

    for model, folder, build, overrides, size, batch_size, rounds in chosen:
        if conditions.small:
            size, batch_size = 32, 2
        step, phases = step_on_random_images([f"model={model}", *overrides], size, batch_size, conditions.device)
        try:
            peer = build(conditions.peers / folder, size, batch_size)
        except (ImportError, AttributeError, OSError, TypeError) as error:
            raise UserError(
                f"{conditions.peers / folder}: is not as {URLS[folder]} is: {' '.join(str(error).split())[:200]}"
            ) from None

        # The same networks: as many parameters, and the same outputs from the same weights.
        own = {id(parameter): parameter.numel() for phase in phases for parameter in phase.parameters}
        parameters = sum(own.values())
        theirs = sum(parameter.numel() for network in peer.networks for parameter in network.parameters())
        if parameters != theirs:
            raise UserError(
                f"{model}: ours trains {parameters} parameters and {folder} {theirs}: not the same networks"
            )
        difference = output_difference(peer)

        # Kinds of steps differ in the regularisers that are due; all kinds and sides are timed in turn.
        fused = [
            Adam([{**group, "fused": True, "foreach": None} for group in optimizer.param_groups], fused=True)
            for optimizer in peer.optimizers
        ]
        sides: dict[str, Callable[[int], object]] = {
            "ours": step,
            "theirs": partial(_step_with, peer, peer.optimizers),
            FUSED: partial(_step_with, peer, fused),
        }
        kinds = step_kinds(phases)
        flops = {name: count_flops(partial(sides[name], max(kinds))) for name in ("ours", "theirs")}
        memory = {f"{name}_bytes": peak_memory(partial(sides[name], max(kinds)), conditions.device) for name in flops}
        actions: dict[str, Action] = {
            f"{name} {number}": partial(side, number) for number in kinds for name, side in sides.items()
        }
        times = alternate(actions, conditions.rounds or rounds, conditions.device).weighted(list(sides), kinds)
        yield {
            "model": model,
            "peer": URLS[folder],
            "shape": f"{size}x{size}, batch {batch_size}",
            "overrides": list(overrides),
            "parameters": parameters,
            "output_difference": difference,
            "flops": flops,
            **memory,
            **times.medians(),
            "ratio": times.ratio("theirs", "ours"),
            "ratio_range": times.ratio_range("theirs", "ours"),
            "fused_ratio": times.ratio(FUSED, "ours"),
            "fused_ratio_range": times.ratio_range(FUSED, "ours"),
        }
        del step, peer, sides, actions  # the next case needs the memory


def _step_with(peer: Peer, optimizers: list[Adam], number: int) -> None:
    peer.step(number, optimizers)


def output_difference(peer: Peer) -> float:
    """What our network makes of the peer's weights and inputs, beside its own output: the norm of the difference,
    relative to it."""
    ours = load_official(peer.compared, peer.network.state_dict(), **peer.options).train()
    with torch.no_grad():
        outputs = [_flat(network(*peer.inputs)) for network in (ours, copy.deepcopy(peer.network).train())]
    return ((outputs[0] - outputs[1]).norm() / outputs[1].norm()).item()


def _flat(output: Any) -> Tensor:
    """All tensors of a network's output as one vector."""
    if isinstance(output, Tensor):
        return output.flatten()
    return torch.cat([_flat(part) for part in output])


def count_flops(action: Action) -> int:
    """Floating-point operations of the products and convolutions of an action, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


@contextlib.contextmanager
def import_from(*folders: Path, **stand_ins: types.ModuleType) -> Iterator[None]:
    """Let imports find the modules of a checkout first, although some have the names of ours.

    Args:
        folders: that its programs import from.
        stand_ins: modules that it asks for and that its steps on a CPU do without, with ``__`` for a dot.
    """
    given = {name.replace("__", "."): module for name, module in stand_ins.items()}
    roots = {path.stem for folder in folders for path in folder.iterdir()} | {name.split(".")[0] for name in given}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in roots}
    for name in before:
        del sys.modules[name]
    sys.modules.update(given)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        for name in [name for name in sys.modules if name.split(".")[0] in roots]:
            del sys.modules[name]
        sys.modules.update(before)


def authors_autoencoder(folder: Path, size: int, batch_size: int) -> Peer:
    """The autoencoder that the authors released, with their loss."""
    with import_from(folder / "VanillaAE", folder):
        options = Namespace(
            **{"no_cuda": True, "nc": 3, "imageSize": size, "nz": 256, "nblk": 2, "netG": ""},
            **{"train_log_file": os.devnull, "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "mse_w": 1.0, "ffl_w": 100.0},
            **{"alpha": 1.0, "patch_factor": 1, "ave_spectrum": False, "log_matrix": False, "batch_matrix": False},
            freq_start_epoch=1,
        )
        with contextlib.redirect_stdout(None):  # it prints its network
            model = importlib.import_module("models").VanillaAE(options)
    images = torch.rand(batch_size, 3, size, size) * 2 - 1

    def step(number: int, optimizers: list[Adam]) -> None:
        (model.optimizerG,) = optimizers
        model.gen_update(images, 1)

    return Peer([model.netG], step, [model.optimizerG], "vanilla_ae", model.netG, [images], {})


def official_pix2pix(folder: Path, size: int, batch_size: int) -> Peer:
    """The U-Net and PatchGAN of pix2pix, with the updates of its ``Pix2PixModel``."""
    spec = importlib.util.spec_from_file_location("pix2pix_networks", folder / "models" / "networks.py")
    assert spec is not None
    assert spec.loader is not None
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    norm = functools.partial(nn.BatchNorm2d, affine=True, track_running_stats=True)
    generator = networks.UnetGenerator(3, 3, int(math.log2(size)), 64, norm_layer=norm, use_dropout=True)
    discriminator = networks.NLayerDiscriminator(6, 64, n_layers=3, norm_layer=norm)
    real = torch.rand(batch_size, 3, size, size) * 2 - 1
    source = real.flip(3)

    def step(number: int, optimizers: list[Adam]) -> None:
        fake = generator(source)
        discriminator.requires_grad_(True)
        optimizers[1].zero_grad()
        of_fake, of_real = (discriminator(torch.cat([source, image], 1)) for image in (fake.detach(), real))
        loss = F.binary_cross_entropy_with_logits(of_fake, torch.zeros(()).expand_as(of_fake))
        (0.5 * (loss + F.binary_cross_entropy_with_logits(of_real, torch.ones(()).expand_as(of_real)))).backward()
        optimizers[1].step()
        discriminator.requires_grad_(False)
        optimizers[0].zero_grad()
        of_fake = discriminator(torch.cat([source, fake], 1))
        loss = F.binary_cross_entropy_with_logits(of_fake, torch.ones(()).expand_as(of_fake))
        (loss + 100 * F.l1_loss(fake, real)).backward()
        optimizers[0].step()

    optimizers = [Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999)) for network in (generator, discriminator)]
    pair = torch.cat([source, real], 1)
    return Peer([generator, discriminator], step, optimizers, "pix2pix_discriminator", discriminator, [pair], {})


def official_spade(folder: Path, size: int, batch_size: int) -> Peer:
    """NVlabs/SPADE without its perceptual term; on one device its batch normalisation is torch's."""
    batch_norm = types.ModuleType("sync_batchnorm")
    batch_norm.SynchronizedBatchNorm2d = nn.BatchNorm2d  # type: ignore[attr-defined]
    with import_from(folder, models__networks__sync_batchnorm=batch_norm, dill=types.ModuleType("dill")):
        options = Namespace(
            **{"gpu_ids": [], "isTrain": True, "continue_train": False, "no_instance": True, "use_vae": False},
            **{"contain_dontcare_label": False, "label_nc": 19, "semantic_nc": 19, "output_nc": 3, "z_dim": 256},
            **{"netG": "spade", "norm_G": "spectralspadesyncbatch3x3", "ngf": 32, "num_upsampling_layers": "normal"},
            **{"crop_size": size, "aspect_ratio": 1.0, "init_type": "xavier", "init_variance": 0.02},
            **{"netD": "multiscale", "netD_subarch": "n_layer", "num_D": 2, "n_layers_D": 4, "ndf": 32},
            **{"norm_D": "spectralinstance", "gan_mode": "hinge", "lambda_feat": 10.0, "no_ganFeat_loss": False},
            **{"no_vgg_loss": True, "lr": 2e-4, "beta1": 0.0, "beta2": 0.9, "no_TTUR": False},
        )
        with contextlib.redirect_stdout(None):
            model = importlib.import_module("models.pix2pix_model").Pix2PixModel(options)
    image = torch.rand(batch_size, 3, size, size) * 2 - 1
    coarse = torch.randint(0, 19, (batch_size, 1, size // 8, size // 8))
    label = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)

    def step(number: int, optimizers: list[Adam]) -> None:
        for mode, optimizer in zip(("generator", "discriminator"), optimizers, strict=True):
            optimizer.zero_grad()
            found = model({"label": label, "instance": label, "image": image}, mode)
            losses = found[0] if mode == "generator" else found
            sum(losses.values()).mean().backward()
            optimizer.step()

    one_hot = F.one_hot(label[:, 0], 19).permute(0, 3, 1, 2).float()
    options_of_ours = {"crop_size": size, "aspect_ratio": 1.0, "num_upsampling_layers": "normal"}
    optimizers = list(model.create_optimizers(options))
    return Peer([model.netG, model.netD], step, optimizers, "spade_generator", model.netG, [one_hot], options_of_ours)


def rosinality_stylegan2(folder: Path, size: int, batch_size: int) -> Peer:
    """The StyleGAN2 of rosinality on its CPU paths, at half of config F's width, with the updates of its program."""
    # Its operators for a GPU are compiled when they are imported.
    with import_from(folder), mock.patch("torch.utils.cpp_extension.load"):
        networks = importlib.import_module("model")
        generator = networks.Generator(size, 512, 8, channel_multiplier=1)
        discriminator = networks.Discriminator(size, channel_multiplier=1)
        average = networks.Generator(size, 512, 8, channel_multiplier=1).eval()
    image = torch.rand(batch_size, 3, size, size) * 2 - 1
    mean_length = torch.zeros(())

    def draw(count: int) -> list[Tensor]:
        return [torch.randn(count, 512) for _ in range(2 if random.random() < 0.9 else 1)]

    def step(number: int, optimizers: list[Adam]) -> None:
        nonlocal mean_length
        # The discriminator's loss, and R1 in every sixteenth step.
        generator.requires_grad_(False)
        discriminator.requires_grad_(True)
        fake, _ = generator(draw(batch_size))
        loss = F.softplus(discriminator(fake)).mean() + F.softplus(-discriminator(image)).mean()
        discriminator.zero_grad()
        loss.backward()
        optimizers[1].step()
        if number % 16 == 0:
            real = image.detach().requires_grad_()
            scores = discriminator(real)
            (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
            discriminator.zero_grad()
            (10 / 2 * slope.square().flatten(1).sum(1).mean() * 16 + 0 * scores[0]).sum().backward()
            optimizers[1].step()

        # The generator's, and the path length in every fourth step.
        generator.requires_grad_(True)
        discriminator.requires_grad_(False)
        fake, _ = generator(draw(batch_size))
        loss = F.softplus(-discriminator(fake)).mean()
        generator.zero_grad()
        loss.backward()
        optimizers[0].step()
        if number % 4 == 0:
            fake, latents = generator(draw(max(1, batch_size // 2)), return_latents=True)
            noise = torch.randn_like(fake) / math.sqrt(fake[0, 0].numel())
            (slope,) = torch.autograd.grad((fake * noise).sum(), latents, create_graph=True)
            lengths = slope.square().sum(2).mean(1).sqrt()
            moved = mean_length + 0.01 * (lengths.mean() - mean_length)
            mean_length = moved.detach()
            generator.zero_grad()
            (2 * 4 * (lengths - moved).square().mean() + 0 * fake[0, 0, 0, 0]).backward()
            optimizers[0].step()
        for slow, fast in zip(average.parameters(), generator.parameters(), strict=True):
            slow.data.mul_(0.998).add_(fast.data, alpha=0.002)

    optimizers = [
        Adam(network.parameters(), lr=2e-3 * pace, betas=(0.0, 0.99**pace))
        for network, pace in ((generator, 4 / 5), (discriminator, 16 / 17))
    ]
    options = {"part": "d", "mbstd_group": min(batch_size, 4)}
    state = "stylegan2_rosinality"
    return Peer([generator, discriminator], step, optimizers, state, discriminator, [image], options)


URLS = {
    "focal-frequency-loss": "https://github.com/EndlessSora/focal-frequency-loss",
    "pytorch-CycleGAN-and-pix2pix": "https://github.com/junyanz/pytorch-CycleGAN-and-pix2pix",
    "SPADE": "https://github.com/NVlabs/SPADE",
    "stylegan2-pytorch": "https://github.com/rosinality/stylegan2-pytorch",
}
# Model, checkout, its builder, our overrides of configs/train.yaml, image size, batch size, rounds.
CASES: tuple[tuple[str, str, Callable[[Path, int, int], Peer], tuple[str, ...], int, int, int], ...] = (
    ("ae", "focal-frequency-loss", authors_autoencoder, ("dataset=celeba", "loss.ffl=true"), 64, 128, 21),
    ("pix2pix", "pytorch-CycleGAN-and-pix2pix", official_pix2pix, ("dataset=facades",), 256, 1, 9),
    (
        "spade",
        "SPADE",
        official_spade,
        ("dataset=celeba_mask_hq", "model.ngf=32", "model.ndf=32", "model.vgg_weight=0"),
        128,
        2,
        7,
    ),
    ("stylegan2", "stylegan2-pytorch", rosinality_stylegan2, ("dataset=celeba_64",), 64, 4, 3),
)
