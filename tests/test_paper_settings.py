"""Appendix B.1 and C as printed, stated once, against the composed configuration and the network that it builds.

What the appendix leaves to the released code of a method ("we follow the original paper and their released code")
stands beside it, marked so. What neither says (weights of the focal frequency loss but for the autoencoder's, epochs
of StyleGAN2, decay on edges to shoes) is this project's choice, and is held here too, so that it cannot change unseen.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from ffl.training.model import Model
from ffl.training.objective import Objective
from ffl.training.program import compose
from models import build_model
from models.spade.layers import InstanceNorm, SpectralConv2d


@dataclass(frozen=True)
class Setting:
    """How a method is trained on a data set.

    Attributes:
        size: (H, W) of the images.
        epochs, batch_size: as printed.
        decay: epochs of linear decay to zero at the end.
        ffl_weight: of the focal frequency loss.
        ave_spectrum: whether it compares average spectra.
    """

    size: tuple[int, int]
    epochs: int
    batch_size: int
    decay: int = 0
    ffl_weight: float = 100.0
    ave_spectrum: bool = False


@dataclass(frozen=True)
class Method:
    """What a method has on every data set.

    Attributes:
        lr: of Adam, by optimiser, as it is set.
        betas: of Adam.
        weights: of the spatial losses and other options of the section ``model``.
    """

    lr: dict[str, float]
    betas: tuple[float, float]
    weights: dict[str, Any] = field(default_factory=dict)


SETTINGS = {
    ("ae", "dtd"): Setting((64, 64), epochs=200, batch_size=128),
    ("ae", "celeba"): Setting((64, 64), epochs=20, batch_size=128),  # weight 100: the authors' released example
    ("ae", "danbooru"): Setting((64, 64), epochs=20, batch_size=128),  # the appendix names no epochs for it
    ("vae", "celeba"): Setting((64, 64), epochs=20, batch_size=128),
    ("vae", "celeba_hq"): Setting((256, 256), epochs=400, batch_size=128),
    ("pix2pix", "facades"): Setting((256, 256), epochs=200, batch_size=1, decay=100),  # released code: half decays
    ("pix2pix", "edges2shoes"): Setting((256, 256), epochs=15, batch_size=4, decay=7),
    ("spade", "cityscapes"): Setting((256, 512), epochs=200, batch_size=32, decay=100),  # decay: released code
    ("spade", "ade20k"): Setting((256, 256), epochs=200, batch_size=32, decay=100),
    # 926 epochs of 27,000 images are the 25 million of the released code.
    ("stylegan2", "celeba_hq"): Setting((256, 256), epochs=926, batch_size=64, ffl_weight=1.0, ave_spectrum=True),
}
METHODS = {
    "ae": Method({"generator": 1e-3}, (0.9, 0.999), {"hidden_dim": 256, "num_layers": 2, "mse_weight": 1.0}),
    "vae": Method(
        {"generator": 1e-3},
        (0.9, 0.999),
        {"latent_dim": 256, "channels": 64, "max_channels": 512, "mse_weight": 1.0, "kl_weight": 6.4e-4},
    ),
    "pix2pix": Method(
        {"generator": 2e-4, "discriminator": 2e-4},
        (0.5, 0.999),
        # Released code: L1 weighs 100; networks of 64 channels with batch normalisation and dropout, at test time too.
        {"gan_mode": "vanilla", "gan_weight": 1.0, "l1_weight": 100.0, "ngf": 64, "ndf": 64, "norm": "batch"}
        | {"dropout": True, "discriminator": "patch", "norm_statistics": "batch", "test_dropout": True},
    ),
    "spade": Method(
        {"generator": 1e-4, "discriminator": 4e-4},
        (0.0, 0.9),
        # Released code: feature matching and the perceptual loss weigh 10; 64 channels.
        {"gan_mode": "hinge", "gan_weight": 1.0, "feature_weight": 10.0, "vgg_weight": 10.0, "kl_weight": 0.05}
        | {"vgg_network": "vgg19", "vgg_downscale": 1, "ngf": 64, "ndf": 64, "hidden_channels": 128, "use_vae": False},
    ),
    "stylegan2": Method(
        # The optimisers of lazy regularisation: k / (k + 1) of the rate, with k of 4 and 16 (StyleGAN2, Appendix B).
        {"generator": 0.0025 * 4 / 5, "discriminator": 0.0025 * 16 / 17},
        (0.0, 0.99),
        # Released code, its configuration for 256x256: all but the first two.
        {"latent_dim": 512, "num_mapping_layers": 8, "channel_base": 16384, "channel_max": 512, "mbstd_group": 8}
        | {"lr": 0.0025, "r1_gamma": 1.0, "r1_interval": 16, "path_length_weight": 2.0, "path_length_interval": 4}
        | {"path_length_shrink": 2, "style_mixing": 0.9, "ema_kimg": 20.0, "ema_rampup": None, "psi": 1.0}
        | {"num_low_precision": 4, "low_precision": "float16", "conv_clamp": 256.0, "noise": "const"},
    ),
}
PAIRS = pytest.mark.parametrize(("model", "dataset"), SETTINGS)


def build(model: str, dataset: str, device: str = "meta", **changes: Any) -> Model:
    """The network of a composed configuration; on the device "meta" it has shapes and no values."""
    config = compose("train", [f"model={model}", f"dataset={dataset}"])
    if model == "spade":
        changes["vgg_weight"] = 0.0  # its weights have to be downloaded
    with torch.device(device):
        return build_model(
            **{**config["model"], **changes}, image_size=SETTINGS[model, dataset].size, objective=Objective()
        )


@PAIRS
def test_configuration(model: str, dataset: str) -> None:
    setting, method = SETTINGS[model, dataset], METHODS[model]
    config = compose("train", [f"model={model}", f"dataset={dataset}", "loss.ffl=true"])
    trainer = config["trainer"]
    assert (trainer["epochs"], trainer["batch_size"]) == (setting.epochs, setting.batch_size)
    assert (trainer["lr_decay_epochs"], trainer["steps"]) == (setting.decay, None)
    assert (trainer["clip_grad_norm"], trainer["precision"], trainer["accumulate"]) == (None, "fp32", 1)
    assert config["seed"] == 1112  # of the authors' released example
    height, width = setting.size
    assert (config["dataset"]["image_size"], width) == (height, 2 * height if dataset == "cityscapes" else height)
    assert config["loss"] == {
        "ffl": True,
        "weight": setting.ffl_weight,
        "alpha": 1.0,
        "patch_factor": 1,
        "ave_spectrum": setting.ave_spectrum,
        "log_matrix": False,
        "batch_matrix": False,
        "transform": "dft",
        "ablation": "none",
        "terms": [],
        "perceptual": 0.0,
        "perceptual_network": "vgg16",
        "spectral_regularization": 0.0,
        "spectral_form": "paper",
        "share": None,
        "share_every": 10,
        "start_step": 0,
        "prior": None,
    }
    assert {key: config["model"][key] for key in method.weights} == method.weights
    assert not compose("train", [f"model={model}", f"dataset={dataset}"])["loss"]["ffl"]


@pytest.mark.parametrize(("dataset", "load_size"), [("facades", 286), ("edges2shoes", 286), ("ade20k", 286)])
def test_translation_and_semantic_sets_are_cropped_and_flipped_as_in_the_released_code(
    dataset: str, load_size: int
) -> None:
    section = compose("train", [f"dataset={dataset}"])["dataset"]
    assert (section["load_size"], section["horizontal_flip"]) == (load_size, True)


@pytest.mark.parametrize("dataset", ["dtd", "celeba", "celeba_64", "celeba_hq", "danbooru"])
def test_other_sets_are_not_augmented(dataset: str) -> None:
    assert compose("train", [f"dataset={dataset}"])["dataset"]["horizontal_flip"] is False


def test_cityscapes_has_35_labels_and_instance_edges_and_ade20k_151_labels() -> None:
    channels = {"cityscapes": (35, True), "ade20k": (151, False)}
    for dataset, expected in channels.items():
        section = compose("train", ["model=spade", f"dataset={dataset}"])["model"]
        assert (section["label_channels"], section["instance_edges"]) == expected


@PAIRS
def test_optimisers(model: str, dataset: str) -> None:
    network, method = build(model, dataset), METHODS[model]
    phases = network.phases()
    trained = {id(parameter) for phase in phases for parameter in phase.parameters}
    assert trained == {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert {phase.optimizer: phase.lr for phase in phases} == pytest.approx(method.lr)
    for phase in phases:
        pace = {"generator": 4 / 5, "discriminator": 16 / 17}[phase.optimizer] if model == "stylegan2" else 1.0
        assert phase.betas == pytest.approx((method.betas[0] ** pace, method.betas[1] ** pace))
        assert phase.eps == 1e-8
        assert phase.interval == {"path_length": 4, "r1": 16}.get(phase.name, 1)


def layers(network: nn.Module) -> list[str]:
    """What a network is made of, in its order; settings that the appendix gives are in the text."""
    found = []
    for layer in network.modules():
        kind = type(layer).__name__
        if isinstance(layer, nn.Linear):
            found.append(f"linear {layer.in_features} to {layer.out_features}")
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            kind = "conv" if isinstance(layer, nn.Conv2d) else "transposed"
            (kernel, _), (stride, _), (padding, _) = layer.kernel_size, layer.stride, layer.padding
            found.append(f"{kind} {layer.in_channels} to {layer.out_channels}, {kernel} {stride} {padding}")
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.track_running_stats
            found.append(f"batch norm {layer.num_features}" + ("" if layer.affine else ", not affine"))
        elif isinstance(layer, nn.LeakyReLU):
            found.append(f"leaky relu {layer.negative_slope}")
        elif isinstance(layer, nn.Dropout):
            found.append(f"dropout {layer.p}")
        elif not list(layer.children()):
            found.append(kind.lower())
    return found


@pytest.mark.parametrize("dataset", ["dtd", "celeba", "danbooru"])
def test_autoencoder_is_a_perceptron_of_two_layers_without_normalisation(dataset: str) -> None:
    network = build("ae", dataset)
    assert layers(network.network) == ["linear 12288 to 256", "relu", "linear 256 to 12288", "tanh"]  # 3 x 64 x 64
    assert [*network.children()] == [network.network, network.objective]


@pytest.mark.parametrize(
    ("dataset", "widths"), [("celeba", [64, 128, 256, 512]), ("celeba_hq", [64, 128, 256, 512, 512, 512])]
)
def test_vae_is_an_encoder_and_its_inverse_with_batch_normalisation(dataset: str, widths: list[int]) -> None:
    network = build("vae", dataset)
    down, up = [], []
    for before, after in zip([3, *widths], widths, strict=False):
        down += [f"conv {before} to {after}, 4 2 1", f"batch norm {after}", "leaky relu 0.2"]
    for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
        up += [f"transposed {before} to {after}, 4 2 1", f"batch norm {after}", "leaky relu 0.2"]
    assert layers(network.encoder) == [*down, "linear 8192 to 256", "linear 8192 to 256"]  # 512 x 4 x 4; μ and σ
    assert layers(network.decoder) == ["linear 256 to 8192", *up, "transposed 64 to 3, 4 2 1", "tanh"]


def test_vae_is_evaluated_at_the_mean_of_the_posterior() -> None:
    network = build("vae", "celeba", device="cpu", channels=4, max_channels=8).eval()
    network.encoder.log_variance.bias.data.fill_(3.0)  # far from a point
    batch = {"image": torch.rand(2, 3, 64, 64) * 2 - 1, "index": torch.arange(2)}
    with torch.no_grad():
        want = network.decoder(network.encoder(batch["image"])[0])
        sampled = network.prepare(batch)["fake"]
    made = network.generate(batch, "reconstruction", seed=0)
    assert torch.equal(made, want)
    assert (sampled - want).abs().max() > 100 * (made - want).abs().max()
    assert network.protocol("reconstruction")["latent"] == "mean of the posterior"


@pytest.mark.parametrize("dataset", ["facades", "edges2shoes"])
def test_pix2pix_is_a_u_net_of_eight_skip_blocks_and_a_patch_discriminator(dataset: str) -> None:
    network = build("pix2pix", dataset)
    found = layers(network.generator)
    widths = [64, 128, 256, 512, 512, 512, 512, 512]
    down = [f"conv {before} to {after}, 4 2 1" for before, after in zip([3, *widths], widths, strict=False)]
    # Inwards to outwards; all but the innermost take what their block's inside adds to its input.
    up = [f"transposed {before} to {after}, 4 2 1" for before, after in zip(
        [512, *(2 * width for width in widths[-2::-1])], [*widths[-2::-1], 3], strict=True)]  # fmt: skip
    assert [layer for layer in found if layer.startswith("conv")] == down
    assert [layer for layer in found if layer.startswith("transposed")] == up
    # None on the first and the innermost convolution, and none on the last transposed one.
    norms = [f"batch norm {width}" for width in (*widths[1:-1], *widths[-2::-1])]
    assert [layer for layer in found if layer.startswith("batch norm")] == norms
    assert found.count("dropout 0.5") == 3
    assert found[-1] == "tanh"
    discriminator = ["conv 6 to 64, 4 2 1", "leaky relu 0.2"]
    for before, after, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
        discriminator += [f"conv {before} to {after}, 4 {stride} 1", f"batch norm {after}", "leaky relu 0.2"]
    assert layers(network.discriminator) == [*discriminator, "conv 512 to 1, 4 1 1"]


@pytest.mark.parametrize("model", ["ae", "vae", "pix2pix"])
def test_weights_start_normal_with_mean_0_and_deviation_0_02(model: str) -> None:
    small: dict[str, Any] = {"pix2pix": {"ngf": 16, "ndf": 16}}.get(model, {})
    network = build(model, {"pix2pix": "facades"}.get(model, "celeba"), device="cpu", **small)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            allowed = 6 * 0.02 / layer.weight.numel() ** 0.5  # six standard errors
            assert abs(layer.weight.mean().item()) < allowed, name
            assert layer.weight.std().item() == pytest.approx(0.02, abs=allowed), name


@pytest.mark.parametrize(("dataset", "semantic"), [("cityscapes", 36), ("ade20k", 151)])
def test_spade_has_spectral_normalisation_in_blocks_of_batch_norm_and_two_patch_discriminators(
    dataset: str, semantic: int
) -> None:
    network = build("spade", dataset)
    generator, discriminator = network.generator, network.discriminator
    found = layers(generator)
    first = f"conv {semantic} to 1024, 3 1 1"
    assert (found[0], found[-1]) == (first, "conv 64 to 3, 3 1 1")
    # Residual blocks 1024 three times, then 512, 256, 128 and 64: two convolutions each, and a shortcut of 1x1 in four.
    spectral = [layer for layer in generator.modules() if isinstance(layer, SpectralConv2d)]
    assert [layer.out_channels for layer in spectral if layer.kernel_size == (3, 3)] == [
        width for width in (1024, 1024, 1024, 512, 256, 128, 64) for _ in range(2)
    ]
    assert [layer.out_channels for layer in spectral if layer.kernel_size == (1, 1)] == [512, 256, 128, 64]
    norms = [layer for layer in found if layer.startswith("batch norm")]
    assert len(norms) == len(spectral)
    assert all(norm.endswith(", not affine") for norm in norms)  # its scale and shift come from the label map
    assert found.count(f"conv {semantic} to 128, 3 1 1") == len(norms)
    assert generator.upsampling == {"cityscapes": "more", "ade20k": "normal"}[dataset]
    # Per scale: a first layer, three with spectral and instance normalisation, and the logits.
    one_scale = [f"conv {semantic + 3} to 64, 4 2 2", "leaky relu 0.2"]
    for before, after, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
        one_scale += [f"conv {before} to {after}, 4 {stride} 2", "instancenorm", "leaky relu 0.2"]
    assert layers(discriminator) == [*one_scale, "conv 512 to 1, 4 1 2"] * 2
    assert sum(isinstance(layer, SpectralConv2d) for layer in discriminator.modules()) == 6
    assert sum(isinstance(layer, InstanceNorm) for layer in discriminator.modules()) == 6


def test_stylegan2_has_eight_mapping_layers_of_512_and_half_the_feature_maps_at_high_resolution() -> None:
    network = build("stylegan2", "celeba_hq")
    generator, discriminator = network.generator, network.discriminator
    assert [tuple(layer.weight.shape) for layer in generator.mapping.layers] == [(512, 512)] * 8
    widths = {"4": 512, "8": 512, "16": 512, "32": 512, "64": 256, "128": 128, "256": 64}
    made = {name: block.layers[-1].weight.shape[0] for name, block in generator.synthesis.blocks.items()}
    assert made == widths
    judged = {name: block.conv0.weight.shape[1] for name, block in discriminator.blocks.items()}
    assert judged == {name: widths[name] for name in reversed(widths) if name != "4"}
    assert discriminator.mbstd_group == 8
    assert discriminator.conv.weight.shape[:2] == (512, 513)  # one more for the minibatch standard deviation
    for parameter in network.generator_ema.parameters():
        assert not parameter.requires_grad


@pytest.mark.parametrize("words", [["dataset=photos"], ["dataset=celeba_64", "scale=cpu"]])
def test_short_runs_of_stylegan2_average_over_fewer_images_at_first(words: list[str]) -> None:
    assert compose("train", ["model=stylegan2", *words])["model"]["ema_rampup"] == 0.05


def test_weights_of_stylegan2_are_averaged_with_a_half_life_of_20_thousand_images_from_the_start() -> None:
    network = build("stylegan2", "celeba_hq", device="cpu", channel_base=512, channel_max=8, latent_dim=8)
    before = [parameter.clone() for parameter in network.generator_ema.parameters()]
    for parameter in network.generator.parameters():
        parameter.data.add_(1.0)
    network.finish_step(images_seen=64, batch_size=64)
    for old, average in zip(before, network.generator_ema.parameters(), strict=True):
        torch.testing.assert_close(average - old, torch.full_like(old, 1 - 0.5 ** (64 / 20_000)), rtol=1e-2, atol=1e-5)
