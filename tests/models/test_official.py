"""Official checkpoints: what they compute once loaded, and what is said about files that don't fit."""

import argparse
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from official_files import rosinality_state, small_generator
from oracles import Case
from test_stylegan2_official import same

from ffl.errors import UserError
from ffl.metrics.inception import InceptionFID
from ffl.metrics.segmenters import ResNetEncoder, UPerNetDecoder
from models.official import load_official, read_state_dict
from models.pix2pix import PatchDiscriminator, PixelDiscriminator, UNetGenerator
from models.spade import ImageEncoder, MultiscaleDiscriminator, SpadeGenerator
from models.stylegan2 import Discriminator


def test_whole_checkpoint_of_stylegan2_training(tmp_path: Path) -> None:
    """As the program of the rosinality layout writes it: all networks, optimisers and its parsed command line."""
    networks = {"g": small_generator(), "g_ema": small_generator(), "d": Discriminator(16, 128, 16)}
    checkpoint: dict[str, Any] = {part: rosinality_state(network) for part, network in networks.items()}
    optimizer = torch.optim.Adam(networks["d"].parameters(), lr=0.002, betas=(0.0, 0.99))
    networks["d"](torch.randn(2, 3, 16, 16)).sum().backward()
    optimizer.step()
    checkpoint["d"] = rosinality_state(networks["d"])
    options = argparse.Namespace(path="faces", size=16, r1=10.0, ckpt=None, distributed=False, betas=[0, 0.99])
    checkpoint |= {"d_optim": optimizer.state_dict(), "args": options, "ada_aug_p": 0.0}
    torch.save(checkpoint, tmp_path / "550000.pt")
    content = read_state_dict(tmp_path / "550000.pt")
    assert content["args"] == options
    for part, network in networks.items():
        assert same(load_official("stylegan2_rosinality", content, part=part), network, skip=("mapping.w_avg",))
    assert same(load_official("stylegan2_rosinality", content), networks["g_ema"], skip=("mapping.w_avg",))
    with pytest.raises(UserError, match="stylegan2_rosinality: the checkpoint has no G_ema, it holds g, g_ema, d"):
        load_official("stylegan2_rosinality", content, part="G_ema")


def test_drn() -> None:
    case = Case("h_drnseg_d22")
    prefixed = {f"module.{key}": value for key, value in case.state_dict().items()}
    network = load_official("drn", prefixed, torch_up=False)
    with torch.no_grad():
        case.check("log_softmax", network(case.tensors()["image"]))


def test_networks_of_metrics_take_their_own_state() -> None:
    inception = InceptionFID()
    encoder, decoder = ResNetEncoder([1, 1, 1, 1], [2, 2, 2, 2]), UPerNetDecoder(3, [8, 8, 8, 8], 4, 4)
    upernet = {"encoder": encoder.state_dict(), "decoder": decoder.state_dict()}
    loaded = load_official("inception_fid", inception.state_dict()), load_official("upernet", upernet)
    assert not any(network.training for network in loaded)
    for network, state in zip(
        (loaded[0], loaded[1].decoder), (inception.state_dict(), upernet["decoder"]), strict=True
    ):
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


NETWORKS = {
    "pix2pix_generator": lambda: UNetGenerator(3, 1, num_downs=5, ngf=2, norm="instance"),
    "pix2pix_discriminator": lambda: PatchDiscriminator(4, ndf=2, num_layers=2),
    "spade_generator": lambda: SpadeGenerator((64, 128), 36, ngf=2, upsampling="more"),
    "spade_discriminator": lambda: MultiscaleDiscriminator(7, ndf=2, num_scales=3, num_layers=3),
    "spade_encoder": lambda: ImageEncoder(ngf=2, latent_dim=6),
}
GIVEN = {"spade_generator": {"crop_size": 128}}


@pytest.mark.parametrize("kind", NETWORKS)
def test_architecture_is_read_from_the_weights_and_module_prefixes_go(kind: str) -> None:
    network = NETWORKS[kind]()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    loaded = load_official(kind, state, **GIVEN.get(kind, {}))
    assert type(loaded) is type(network)
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("kind", NETWORKS)
def test_missing_and_unexpected_keys_are_named(kind: str) -> None:
    state = NETWORKS[kind]().state_dict()
    removed = [key for key in state if key.endswith("bias")][-1]
    value = state.pop(removed)
    with pytest.raises(UserError) as caught:
        load_official(kind, {**state, "extra.weight": value}, **GIVEN.get(kind, {}))
    assert str(caught.value) == (f"this is no complete {kind} checkpoint: missing: {removed}; unexpected: extra.weight")


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_incomplete_file_is_refused_by_name(kind: str) -> None:
    """Also where the missing tensor is one that the architecture is read from."""
    state = NETWORKS[kind]().state_dict()
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    read_from = [key for key in keys if key.startswith(("fc", "head_0.conv_0", "head_0.norm_0.mlp_shared"))]
    for key in {*keys[:: 1 + len(keys) // 20], *read_from}:
        incomplete = {other: value for other, value in state.items() if other != key}
        with pytest.raises(UserError, match=f"no complete {kind} checkpoint"):
            load_official(kind, incomplete, **GIVEN.get(kind, {}))


def test_another_network_is_refused_with_what_was_found() -> None:
    state = PixelDiscriminator(6, 2).state_dict()
    with pytest.raises(UserError, match=r"missing: model\.model\.0\.weight; found: net\.0\.weight, .* and \d+ more"):
        load_official("pix2pix_generator", state)
    with pytest.raises(UserError, match=r"missing: model\.0\.fc\.weight; found: no keys"):
        load_official("vanilla_ae", {})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pix2pix", {}, "unknown kind of checkpoint 'pix2pix'; it is one of vanilla_ae, pix2pix_generator"),
        ("pix2pix_discriminator", {"ndf": 64}, "pix2pix_discriminator: ndf=64, but by its weights it is 2"),
        ("pix2pix_discriminator", {"layers": 3}, "pix2pix_discriminator: unknown option layers; it is one of net"),
        ("spade_generator", {"label_nc": 20}, "label_nc=20 with its other label options makes 21 semantic channels"),
        ("spade_generator", {"num_upsampling_layers": "most"}, "num_upsampling_layers=most, by its weights it is norm"),
        ("spade_generator", {"crop_size": 16}, "crop_size=16 and aspect_ratio=2.0 leave no first feature map"),
        ("spade_discriminator", {"ngf": 5, "crop": 3}, "unknown option crop"),
        ("drn", {"classes": 3}, "drn: unknown option classes; it takes torch_up, pool_size"),
        ("upernet", {"classes": 3}, "upernet: unknown option classes; it takes none"),
    ],
)
def test_options_that_do_not_fit_are_named(kind: str, options: dict[str, Any], message: str) -> None:
    state = NETWORKS[kind]().state_dict() if kind in NETWORKS else {}
    with pytest.raises(UserError) as caught:
        load_official(kind, state, **options)
    assert message in str(caught.value)


def test_image_size_is_asked_for_where_nothing_tells_it() -> None:
    state = SpadeGenerator((32, 32), 5, 2).state_dict()
    with pytest.raises(UserError, match="5 semantic channels don't tell the image size; give crop_size"):
        load_official("spade_generator", state)
    assert load_official("spade_generator", state, crop_size=32).first_size == (1, 1)


def test_upernet_needs_both_files() -> None:
    for files, found in (({"decoder": {}}, ["decoder"]), ({"conv1.weight": torch.zeros(1)}, [])):
        with pytest.raises(UserError) as error:
            load_official("upernet", files)
        assert str(error.value) == f'UPerNet takes weights under "encoder" and "decoder", got {found}'


class Payload:
    """What a hostile file holds: unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing, 2))])
@pytest.mark.parametrize(
    "hide",
    [
        lambda payload: {"weight": payload},
        lambda payload: {"args": argparse.Namespace(path=payload)},
        lambda payload: {"args": argparse.Namespace(__setstate__=payload)},
    ],
)
def test_code_in_a_file_is_not_run(tmp_path: Path, save: Any, hide: Callable[[Payload], dict[str, Any]]) -> None:
    path, mark = tmp_path / "latest_net_G.pth", tmp_path / "was_here"
    save(hide(Payload(mark)), path)
    with pytest.raises(UserError, match=r"latest_net_G\.pth: cannot be read as a file of tensors") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


class Misuse:
    """What a hostile file holds: unpickling it would call a class with arguments that the class doesn't take."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return argparse.Namespace, (1,)


@pytest.mark.parametrize("value", [argparse.FileType("r"), Misuse()], ids=["another class", "misuse"])
def test_nothing_is_taken_for_a_command_line_but_its_values(tmp_path: Path, value: object) -> None:
    torch.save({"args": value}, tmp_path / "G.pt")
    with pytest.raises(UserError, match=r"G\.pt: cannot be read as a file of tensors"):
        read_state_dict(tmp_path / "G.pt")
