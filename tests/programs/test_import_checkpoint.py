"""python scripts/import_checkpoint.py: official weights become runs that evaluate.py measures."""

import argparse
import hashlib
import json
import pickle
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import nvlabs_state, official_modules, rosinality_state, small_generator
from oracles import SHARED, Case
from PIL import Image
from torch import Tensor, nn

import evaluate
import train
from datasets import build_dataset
from ffl.errors import UserError
from ffl.images import to_uint8
from ffl.training.checkpoint import load_checkpoint, save_checkpoint
from ffl.training.command import read_words
from ffl.training.config import flatten
from ffl.training.model import Model, latent_noise
from ffl.training.program import compose
from ffl.training.run_directory import RunDirectory
from ffl.training.trainer import to_device
from models import load_model
from models.ae import MLP
from models.official import load_official
from models.pix2pix import UNetGenerator
from models.spade import SpadeGenerator
from models.stylegan2 import Discriminator
from run_config import check
from scripts import import_checkpoint as program
from scripts.import_checkpoint import image_size

PHOTOS = ["dataset=photos", "dataset.test_images=5"]
LABELS = ["dataset.label_levels=5", "model.label_channels=5"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFL_WEIGHTS", str(tmp_path / "no_weights"))


def import_checkpoint(words: list[str]) -> RunDirectory:
    """The program on the words of its command line."""
    return program.import_checkpoint(**read_words(program.import_checkpoint, words)[1])


def saved(state: Mapping[str, Any], name: str = "latest_net_G.pth") -> Path:
    torch.save(state, name)
    return Path(name)


def imported(kind: str, state: Mapping[str, Any], *overrides: str) -> RunDirectory:
    return import_checkpoint([f"kind={kind}", f"file={saved(state)}", "out=runs/official", *overrides])


def model_of(run: RunDirectory, height: int, width: int) -> Model:
    """The model of a run as the evaluation program loads it."""
    model, _, step = load_model(run.config(), (height, width), [run.last])
    assert step is None
    return model.eval()


# Official weights and outputs, through the run.


PIX2PIX = {"dataset.name": "facades", "model.ngf": 8}
SPADE_CITYSCAPES = {"dataset.name": "cityscapes", "model.label_channels": 35, "model.instance_edges": True}
SPADE_ADE20K = {"dataset.name": "ade20k", "model.label_channels": 151, "model.instance_edges": False}
STYLEGAN2_64 = {"dataset.image_size": 64, "model.latent_dim": 512, "model.num_mapping_layers": 8}
STYLEGAN2_64 |= {"model.channel_base": 32768, "model.channel_max": 512, "model.num_low_precision": 0}


@pytest.mark.parametrize(
    ("kind", "name", "size", "overrides", "settings"),
    [
        (
            "vanilla_ae",
            "c_mlp_64_256_2",
            (64, 64),
            [],
            {"dataset.name": "celeba", "dataset.image_size": 64, "model.hidden_dim": 256, "model.num_layers": 2},
        ),
        (  # the official evaluation: statistics of each image
            "pix2pix_generator",
            "d_unet256_ngf8_train_b1",
            (256, 256),
            [],
            PIX2PIX | {"model.norm": "batch", "model.num_downs": 8},
        ),
        (  # with its --eval
            "pix2pix_generator",
            "d_unet256_ngf8_eval",
            (256, 256),
            ["model.norm_statistics=running"],
            PIX2PIX | {"model.norm": "batch", "model.num_downs": 8},
        ),
        (
            "pix2pix_generator",
            "d_unet128_ngf8_instance_eval",
            (128, 128),
            ["dataset.image_size=128", "dataset.load_size=143"],
            PIX2PIX | {"model.norm": "instance", "model.num_downs": 7},
        ),
        (
            "spade_generator",
            "e_spade_G_cityscapes_more",
            (256, 512),
            [],
            SPADE_CITYSCAPES | {"model.ngf": 8, "model.upsampling": "more", "model.use_vae": False},
        ),
        (
            "spade_generator",
            "e_spade_G_cityscapes_normal",
            (256, 512),
            ["model.upsampling=normal"],
            SPADE_CITYSCAPES | {"model.upsampling": "normal"},
        ),
        (
            "spade_generator",
            "e_spade_G_ade20k",
            (256, 256),
            [],
            SPADE_ADE20K | {"model.ngf": 8, "model.upsampling": "normal"},
        ),
        (
            "stylegan2_rosinality",
            "f_rosinality_G64_buffers",
            (64, 64),
            PHOTOS,
            STYLEGAN2_64 | {"model.conv_clamp": None},
        ),
        ("stylegan2_nvlabs", "f_ada_G64", (64, 64), PHOTOS, STYLEGAN2_64 | {"model.conv_clamp": 256.0}),
    ],
)
def test_official_outputs(
    kind: str, name: str, size: tuple[int, int], overrides: list[str], settings: dict[str, Any]
) -> None:
    case = Case(name)
    state: dict[str, Any] = case.state_dict()
    more = {"pix2pix_generator": ["model.test_dropout=false"], "spade_generator": ["model.ndf=4"]}.get(kind, [])
    if kind.startswith("stylegan2"):
        state = {f"module.{key}": value for key, value in state.items()}
    run = imported(kind, {"g_ema": state} if kind == "stylegan2_rosinality" else state, *more, *overrides)
    config, model, inputs = flatten(run.config()), model_of(run, *size), case.tensors()
    assert {key: config[key] for key in settings} == settings
    with torch.no_grad():
        if kind == "vanilla_ae":
            case.check("recon", model.generate({"image": inputs["x"]}, "reconstruction", 0))
        elif kind == "pix2pix_generator":
            case.check("output", model.generate({"source": inputs["A"]}, "translation", 0))
        elif kind == "spade_generator":
            case.check("output", model.generator(inputs["semantics"]))
        else:
            case.check("image", model.generator_ema(inputs["z"]))


def test_spade_with_a_latent_vector_draws_it_from_the_prior() -> None:
    """Its encoder is another file: the run makes images without."""
    case = Case("e_spade_G_vae_most")
    photos = [*PHOTOS, "dataset.image_size=128", *LABELS]
    run = imported("spade_generator", case.state_dict(), *photos, "model.ndf=4")
    settings = run.config()["model"]
    assert (settings["latent_dim"], settings["style"], settings["upsampling"]) == (256, "prior", "most")
    model, semantics = model_of(run, 128, 128), case.tensors()["semantics"]
    with torch.no_grad():
        case.check("output", model.generator(semantics, case.tensors()["z"]))
        index = torch.tensor([3, 4])
        expected = model.generator(semantics, latent_noise(index, 7, (256,)))
    images = model.generate({"label": semantics.argmax(1), "index": index}, "semantic", 7)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)  # the layouts in memory differ


# From file to pictures and numbers.


def tiny_autoencoder() -> nn.Module:
    return MLP((3, 16, 16), hidden_dim=8, num_layers=3)


def tiny_unet() -> nn.Module:
    """Its running statistics are not those of any image, so that outputs tell which are used."""
    network = UNetGenerator(num_downs=5, ngf=2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    return network


def tiny_spade() -> nn.Module:
    return SpadeGenerator((32, 32), 5, ngf=2)


@pytest.mark.parametrize(
    ("kind", "network", "overrides", "feed"),
    [
        ("vanilla_ae", tiny_autoencoder, [], lambda batch: batch["image"]),
        (
            "pix2pix_generator",
            tiny_unet,
            ["dataset.image_size=32", "dataset.pairs=true", "model.norm_statistics=running", "model.dropout=false"],
            lambda batch: batch["source"],
        ),
        (
            "spade_generator",
            tiny_spade,
            ["dataset.image_size=32", *LABELS],
            lambda batch: nn.functional.one_hot(batch["label"], 5).permute(0, 3, 1, 2).float(),
        ),
    ],
)
def test_evaluation_writes_the_images_of_the_official_network(
    kind: str,
    network: Callable[[], nn.Module],
    overrides: list[str],
    feed: Callable[[dict[str, Tensor]], Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = network().state_dict()
    run = imported(kind, {f"module.{key}": value for key, value in state.items()}, *PHOTOS, *overrides)
    printed = capsys.readouterr().out
    assert f"python evaluate.py run={run.path}" in printed
    config = run.config()
    dataset = build_dataset(split="test", data_root=Path(), cache_dir=Path("cache"), **config["dataset"])
    batch = to_device(dataset.batch(np.arange(5), None), torch.device("cpu"))
    options = {"crop_size": 32} if kind == "spade_generator" else {}
    with torch.no_grad():
        expected = to_uint8(load_official(kind, state, **options)(feed(batch)), "paper")
    settings = compose("evaluate", [f"run={run.path}", "metrics=[psnr]", "save_images=true", "batch_size=5"])
    record, *_ = evaluate.evaluate(settings)
    task = {"vanilla_ae": "reconstruction", "pix2pix_generator": "translation", "spade_generator": "semantic"}[kind]
    for name, image in zip(dataset.names, expected, strict=True):
        written = np.asarray(Image.open(run.path / f"{task}_images" / f"{name}.png"))
        assert np.array_equal(written, image.permute(1, 2, 0).numpy())
    errors = (expected.double() - to_uint8(batch["image"], "paper").double()).square().mean((1, 2, 3))
    assert record.value == pytest.approx((10 * (255**2 / errors).log10()).mean().item(), rel=1e-6)
    assert record.provenance["step"] is None


def nvlabs_generator() -> dict[str, Tensor]:
    return nvlabs_state(small_generator())


def pickled(official: types.SimpleNamespace, state: Mapping[str, Tensor], **arguments: Any) -> Path:
    """A file as the official program writes it, in which the averaged network is another than the trained one."""
    networks = {
        name: official.Persistent("G", {"_parameters": tensors, "_init_args": (), "_init_kwargs": arguments})
        for name, tensors in (("G", {key: value + 1 for key, value in state.items()}), ("G_ema", dict(state)))
    }
    Path("network.pkl").write_bytes(pickle.dumps({**networks, "training_set_kwargs": None}))
    return Path("network.pkl")


def images_of(run: RunDirectory, count: int) -> Tensor:
    """What evaluation writes for a run of synthesis: uint8 (N, 3, H, W)."""
    settings = compose(
        "evaluate",
        [f"run={run.path}", "metrics=[spectrum_distance]", "save_images=true", f"num_images={count}", "batch_size=3"],
    )
    record, *_ = evaluate.evaluate(settings)
    assert np.isfinite(record.value)
    assert (record.protocol["task"], record.provenance["step"]) == ("synthesis", None)
    files = [run.path / "synthesis_images" / f"{number:06d}.png" for number in range(count)]
    return torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) for file in files])


@pytest.mark.parametrize("psi", [1.0, 0.5])
@pytest.mark.parametrize("form", ["rosinality", "nvlabs", "pickle"])
def test_evaluation_writes_the_images_of_official_stylegan2(
    form: str, psi: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the latents of an evaluation's seed; truncation draws them towards the stored mean."""
    kind, options = "stylegan2_nvlabs", {"conv_clamp": None}
    overrides = [*PHOTOS, f"model.psi={psi}"]
    if form == "rosinality":
        kind, options = "stylegan2_rosinality", {}
        network = small_generator()
        average = rosinality_state(network)
        trained = {key: value + 1 for key, value in average.items()}
        state: dict[str, Any] = {"g": trained, "g_ema": average, "latent_avg": network.mapping.w_avg}
        run = imported(kind, {**state, "args": argparse.Namespace(size=16, latent=8)}, *overrides)
    elif form == "nvlabs":
        state = nvlabs_generator()
        run = imported(kind, state, *overrides, "model.conv_clamp=null")
    else:
        state, options = nvlabs_generator(), {"conv_clamp": 0.75}
        stored = {"z_dim": 8, "img_resolution": 16, "synthesis_kwargs": {"num_fp16_res": 4, "conv_clamp": 0.75}}
        file = pickled(official_modules(monkeypatch), state, **stored, mapping_kwargs={"num_layers": 3})
        run = import_checkpoint([f"kind={kind}", f"file={file}", "out=runs/official", *overrides])
    with torch.no_grad():
        official = load_official(kind, state, **options)
        expected = to_uint8(official(latent_noise(torch.arange(4), 0, (8,)), psi).clamp(-1, 1), "paper")
    assert torch.equal(images_of(run, 4), expected)
    settings = run.config()["model"]
    assert settings["conv_clamp"] == options.get("conv_clamp")
    assert (settings["latent_dim"], settings["num_mapping_layers"], settings["num_low_precision"]) == (8, 3, 0)
    assert (settings["channel_base"], settings["channel_max"]) == (128, 16)
    assert load_checkpoint(run.last, whole=False)["networks"] == ["generator_ema"]


def test_what_an_official_pickle_stores_is_not_to_be_contradicted(monkeypatch: pytest.MonkeyPatch) -> None:
    file = pickled(official_modules(monkeypatch), nvlabs_generator(), conv_clamp=64)
    words = ["kind=stylegan2_nvlabs", f"file={file}", "out=new", *PHOTOS]
    with pytest.raises(UserError, match=r"network\.pkl: model\.conv_clamp=8, but by the weights it is 64; leave"):
        import_checkpoint([*words, "model.conv_clamp=8"])
    assert not Path("new").exists()


def test_float16_of_an_imported_generator_is_for_the_user_to_ask_for() -> None:
    run = imported("stylegan2_nvlabs", nvlabs_generator(), *PHOTOS, "model.num_low_precision=2")
    assert model_of(run, 16, 16).generator_ema.synthesis.num_low_precision == 2


def test_real_facades() -> None:
    if not (SHARED / "data" / "facades" / "test").is_dir():
        pytest.skip(f"no facades at {SHARED / 'data'}")
    state = UNetGenerator(ngf=2).state_dict()
    run = imported("pix2pix_generator", state, f"data_root={SHARED / 'data'}")
    records = evaluate.evaluate(compose("evaluate", [f"run={run.path}", "num_images=3", "metrics=[psnr,lfd]"]))
    assert [record.protocol["reference"] for record in records] == ["facades test"] * 3
    assert all(np.isfinite(record.value) for record in records if record.metric != "bands")


def test_real_cityscapes() -> None:
    """A run of an image size that is no square is evaluated at the size it was imported for."""
    if not (SHARED / "data" / "cityscapes" / "gtFine").is_dir():
        pytest.skip(f"no cityscapes at {SHARED / 'data'}")
    state = SpadeGenerator((128, 256), 36, ngf=2, upsampling="more").state_dict()
    options = [f"data_root={SHARED / 'data'}", "dataset.image_size=128", "dataset.instances=labels", "model.ndf=4"]
    run = imported("spade_generator", state, *options)
    record, *_ = evaluate.evaluate(compose("evaluate", [f"run={run.path}", "num_images=2", "metrics=[psnr]"]))
    assert record.protocol["size"] == list(image_size(run.config())) == [128, 256]
    assert np.isfinite(record.value)


# The run directory.


def test_run_tells_where_it_comes_from() -> None:
    run = imported("vanilla_ae", tiny_autoencoder().state_dict(), *PHOTOS)
    about = json.loads((run.path / "run.json").read_text())
    digest = hashlib.sha256(Path("latest_net_G.pth").read_bytes()).hexdigest()
    assert about["imported"] == {"kind": "vanilla_ae", "file": "latest_net_G.pth", "sha256": digest}
    assert about["seed"] == 1112
    state = load_checkpoint(run.last, whole=False)
    assert state["networks"] == ["network"]
    assert all(key.startswith("network.") for key in state["model"])
    check(run.config())


@pytest.mark.parametrize("kind", ["vanilla_ae", "pix2pix_generator"])
def test_training_does_not_resume_from_it(kind: str) -> None:
    network, overrides = tiny_autoencoder(), PHOTOS
    if kind == "pix2pix_generator":
        network, overrides = tiny_unet(), [*PHOTOS, "dataset.pairs=true", "dataset.image_size=32"]
    run = imported(kind, network.state_dict(), *overrides, "dataset.train_images=4", "dataset.val_images=2")
    config = run.config()
    config["trainer"]["batch_size"] = 2
    (run.path / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(UserError, match="training cannot resume from it; leave resume out") as caught:
        train.train({**config, "resume": str(run.path)}, [])
    assert "\n" not in str(caught.value)


def test_there_is_no_best_checkpoint() -> None:
    run = imported("vanilla_ae", tiny_autoencoder().state_dict(), *PHOTOS)
    with pytest.raises(UserError, match=r"best\.pt: no such checkpoint"):
        evaluate.evaluate(compose("evaluate", [f"run={run.path}", "checkpoint=best"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state["model"].pop("generator.model.model.3.bias"), r"missing \['generator.model.model.3.bias'"),
        (lambda state: state["model"].update({"discriminator.x": torch.zeros(1)}), r"unexpected \['discriminator.x'"),
        (lambda state: state.update(networks=["generator", "discriminator"]), r"missing \['discriminator.model.0.bias"),
        (lambda state: state.pop("networks"), "a checkpoint with parts missing or of another kind"),
    ],
)
def test_declared_networks_must_be_whole_and_alone(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    pairs = ["dataset.pairs=true", "dataset.image_size=32"]
    run = imported("pix2pix_generator", tiny_unet().state_dict(), *PHOTOS, *pairs)
    state = load_checkpoint(run.last, whole=False)
    change(state)
    save_checkpoint(run.last, state)
    with pytest.raises(UserError, match=message):
        model_of(run, 32, 32)


# Mistakes that need an official file, beside those in tests/bad_input.

AE = ["kind=vanilla_ae", "file=ae.pth", "out=new"]
UNET = ["kind=pix2pix_generator", "file=unet.pth", "out=new"]
SPADE = ["kind=spade_generator", "file=spade.pth", "out=new"]
STYLEGAN2 = ["kind=stylegan2_nvlabs", "file=style2.pt", "out=new"]


@pytest.fixture
def files() -> None:
    saved(tiny_autoencoder().state_dict(), "ae.pth")
    saved(MLP((1, 1, 100), 4).state_dict(), "oblong.pth")
    saved(tiny_unet().state_dict(), "unet.pth")
    saved(UNetGenerator(1, 3, num_downs=5, ngf=2).state_dict(), "grey.pth")
    saved(tiny_spade().state_dict(), "spade.pth")
    saved(SpadeGenerator((32, 32), 5, 2, latent_dim=3).state_dict(), "style.pth")
    saved(nvlabs_generator(), "style2.pt")
    saved(nvlabs_state(Discriminator(16, 128, 16)), "critic.pt")
    saved({"g": {}, "d": {}}, "no_average.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (AE[:2], "out is missing: expected out=a path"),
        ([*AE[:2], "out="], "out=: expected a path"),
        (["kind=upernet", *AE[1:]], "upernet101_encoder --file PATH, and likewise upernet101_decoder"),
        (["kind=inception_fid", *AE[1:]], "python scripts/download_weights.py inception_fid --file PATH"),
        (["kind=pix2pix_discriminator", *AE[1:]], "import the generator with kind=pix2pix_generator"),
        (["kind=spade_discriminator", *AE[1:]], "makes no images"),
        (["kind=spade_encoder", *AE[1:]], "import the generator with kind=spade_generator"),
        ([*AE, "model=vae"], "model=vae: set by kind and out"),
        ([*AE, "resume=auto"], "resume=auto: set by kind and out"),
        (["kind=pix2pix_generator", *AE[1:]], "ae.pth: this is no complete pix2pix_generator checkpoint: missing"),
        (["kind=spade_generator", *AE[1:]], "ae.pth: this is no complete spade_generator checkpoint: missing"),
        (["kind=vanilla_ae", "file=oblong.pth", "out=new"], "oblong.pth: the autoencoder's 100 values are no colour"),
        (["kind=pix2pix_generator", "file=grey.pth", "out=new"], "grey.pth: the generator turns images of 1 channels"),
        (SPADE, "spade.pth: the weights don't tell the data set; give dataset=..."),
        ([*AE, "dataset=imagenet"], "dataset=imagenet: no such choice; dataset is one of"),
        ([*AE, "seed=1,2"], "seed=1,2"),
        ([*AE, "dataset.image_size=64"], "ae.pth: dataset.image_size=64, but by the weights it is 16; leave it out"),
        ([*AE, "model.num_layers=2"], "ae.pth: model.num_layers=2, but by the weights it is 3; leave it out"),
        ([*UNET, "model.norm=instance"], "unet.pth: model.norm=instance, but by the weights it is batch"),
        ([*UNET, "dataset.image_size=48"], "model.num_downs=5: dataset.image_size=48x48"),
        ([*SPADE, "dataset=cityscapes"], "5 semantic channels, but model.label_channels=35 for dataset=cityscapes"),
        ([*SPADE, "dataset=photos", *LABELS, "model.label_channels=x"], "expected an integer"),
        ([*SPADE, "dataset=photos", *LABELS, "dataset.image_size=40"], "multiples of 32"),
        ([*SPADE, "dataset=photos", *LABELS, "dataset.image_size=8"], "leave no first feature map"),
        ([*SPADE, "dataset=photos", *LABELS, "dataset.image_size=a"], "expected an integer"),
        (
            [*SPADE, "dataset=photos", *LABELS, "model.upsampling=most"],
            "num_upsampling_layers=most, by its weights it is",
        ),
        (
            [*SPADE, "dataset=photos", *LABELS, "model.use_vae=true"],
            "use_vae=true, but by the weights",
        ),
        (
            ["kind=spade_generator", "file=style.pth", "out=new", "dataset=photos", *LABELS],
            "style.pth: this is no complete spade_generator checkpoint: wrong shape: fc.weight (32, 3) for (128, 3)",
        ),
        ([*STYLEGAN2, *PHOTOS, "dataset.image_size=32"], "dataset.image_size=32, but by the weights it is 16; leave"),
        ([*STYLEGAN2, *PHOTOS, "model.channel_max=8"], "model.channel_max=8, but by the weights it is 16; leave"),
        ([*STYLEGAN2, *PHOTOS, "model.conv_clamp=x"], "model.conv_clamp=x"),
        ([*STYLEGAN2, "dataset=cityscapes"], "dataset.image_size=16x32: StyleGAN2 takes square images"),
        (["kind=stylegan2_rosinality", *STYLEGAN2[1:], *PHOTOS], "no complete stylegan2_rosinality checkpoint"),
        ([*STYLEGAN2[:1], "file=critic.pt", "out=new", *PHOTOS], "critic.pt: holds a discriminator, which makes no im"),
        (["kind=stylegan2_rosinality", "file=no_average.pt", "out=new", *PHOTOS], "has no g_ema, it holds g, d"),
        ([*STYLEGAN2[:1], "file=absent.pkl", "out=new", *PHOTOS], "absent.pkl: no such file"),
    ],
)
@pytest.mark.usefixtures("files")
def test_mistakes_give_one_line_and_leave_nothing(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        import_checkpoint(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("new").exists()
