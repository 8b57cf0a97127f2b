"""The reader of official pickles: what a good file gives, and that a hostile one gets nothing executed."""

import io
import os
import pickle
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from official_files import nvlabs_state, official_modules, small_generator
from torch import nn

from ffl.errors import UserError
from models.official import load_official
from models.stylegan2 import Discriminator
from models.stylegan2.pickles import read_official_network, read_official_pickle


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    return official_modules(monkeypatch)


BUFFERS = {"w_avg", "noise_const", "resample_filter"}


def persistent_tree(official: types.SimpleNamespace, state: dict[str, torch.Tensor], top: dict[str, Any]) -> Any:
    """Nested official modules that hold a state dict."""

    def build(state: dict[str, torch.Tensor], extra: dict[str, Any]) -> Any:
        own = {key: value for key, value in state.items() if "." not in key}
        modules: OrderedDict[str, Any] = OrderedDict()
        for name in dict.fromkeys(key.split(".")[0] for key in state if "." in key):
            inner = {k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{name}.")}
            modules[name] = build(inner, {})
        return official.Persistent(
            "Module",
            {
                "training": False,
                "_non_persistent_buffers_set": set(),
                "_parameters": OrderedDict((k, nn.Parameter(v)) for k, v in own.items() if k not in BUFFERS),
                "_buffers": OrderedDict((k, v) for k, v in own.items() if k in BUFFERS),
                "_modules": modules,
                "_backward_hooks": OrderedDict(),
                **extra,
            },
        )

    return build(state, top)


def arguments(**extra: Any) -> dict[str, Any]:
    return {"_init_args": (), "_init_kwargs": {"c_dim": 0, "img_resolution": 16, "img_channels": 3, **extra}}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_good_file(official: types.SimpleNamespace, tmp_path: Path, protocol: int) -> None:
    generator, discriminator = small_generator(), Discriminator(16, 128, 16, mbstd_group=2)
    easy = official.EasyDict
    generator_arguments = arguments(
        z_dim=8,
        w_dim=8,
        mapping_kwargs=easy(num_layers=3),
        synthesis_kwargs=easy(channel_base=128, channel_max=16, num_fp16_res=4, conv_clamp=64),
    )
    discriminator_arguments = arguments(epilogue_kwargs=easy(mbstd_group_size=2), block_kwargs=easy(), conv_clamp=64)
    content = {
        "training_set_kwargs": easy(path="x", max_size=None),
        "augment_pipe": None,
        "G_ema": persistent_tree(official, nvlabs_state(generator), generator_arguments),
        "D": persistent_tree(official, nvlabs_state(discriminator), discriminator_arguments),
    }
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    networks = read_official_pickle(path)
    assert list(networks) == ["D", "G_ema"]
    assert networks["G_ema"].arguments["synthesis_kwargs"]["conv_clamp"] == 64
    for name, network in (("G_ema", generator), ("D", discriminator)):
        found = read_official_network(path, name)
        loaded = load_official("stylegan2_nvlabs", found.state_dict, **found.options)
        for key, value in network.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[key]), key
    assert loaded.mbstd_group == 2
    assert loaded.conv.clamp == 64
    with pytest.raises(UserError, match="no network G; it holds D, G_ema"):
        read_official_network(path, "G")


def test_views_of_a_storage_are_rebuilt(official: types.SimpleNamespace, tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"a": nn.Parameter(base.t()[1:]), "b": nn.Parameter(base[:, 2].clone().half())}
    record = official.Persistent("Odd", {"_parameters": OrderedDict(state), **arguments()})
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps({"G": record}))
    network = read_official_pickle(path)["G"]
    assert torch.equal(network.state_dict["a"], base.t()[1:])
    assert network.state_dict["b"].dtype == torch.float16


class Calls:
    """An object whose unpickling calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def refuse(path: Path, content: bytes, reason: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        read_official_pickle(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (__import__, "builtins.__import__"),
        (open, "io.open"),
        (torch.load, "torch.serialization.load"),
        (torch.hub.load, "torch.hub.load"),
        (pickle.loads, "pickle.loads"),
    ],
)
def test_calls_are_refused(tmp_path: Path, function: Any, name: str) -> None:
    target = tmp_path / "executed"
    hostile = pickle.dumps({"G": Calls(function, f"touch {target}")})
    refuse(tmp_path / "network.pkl", hostile, name.replace(".", r"\."))
    assert not target.exists()


def test_classes_inside_storages_are_refused(official: types.SimpleNamespace, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    inner = io.BytesIO()
    torch.save({"x": Calls(os.system, f"touch {target}")}, inner)
    storage = Calls(torch.storage._load_from_bytes, inner.getvalue())
    tensor = Calls(torch._utils._rebuild_tensor_v2, storage, 0, (1,), (1,), False, OrderedDict())
    hostile = {"G": official.Persistent("G", {"_parameters": {"weight": tensor}, **arguments()})}
    refuse(tmp_path / "network.pkl", pickle.dumps(hostile), "not an official StyleGAN2 pickle")
    assert not target.exists()


def test_source_code_is_not_executed_and_attributes_are_dropped(
    official: types.SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "network.pkl"
    record = official.Persistent("G", {"_parameters": {}, "forward": "os.abort()", **arguments()})
    path.write_bytes(pickle.dumps({"G": record, "other": record}))
    assert read_official_pickle(path)["G"].state_dict == {}


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((10**9,), (0,), 0), ((4,), (1,), 100), ((2, 2), (10**6, 1), 0), ((-1,), (1,), 0), (("x",), (1,), 0)],
)
def test_tensors_beyond_their_storage_are_refused(
    official: types.SimpleNamespace, tmp_path: Path, size: tuple, stride: tuple, offset: int
) -> None:
    inner = io.BytesIO()
    torch.save(torch.TypedStorage([1.0, 2, 3, 4], dtype=torch.float32, _internal=True), inner)
    storage = Calls(torch.storage._load_from_bytes, inner.getvalue())
    tensor = Calls(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    hostile = {"G": official.Persistent("G", {"_parameters": {"weight": tensor}, **arguments()})}
    refuse(tmp_path / "network.pkl", pickle.dumps(hostile), "not an official StyleGAN2 pickle")


# Instructions that try to overwrite attributes of what the reader hands out: state onto a callable, then a type.
@pytest.mark.parametrize(
    "instructions",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}(Vx\nK\x01ub.",
        b"ctorch._utils\n_rebuild_tensor_v2\nN}(V_function\nK\x01u\x86b.",
        b"cdnnlib.util\nEasyDict\nN}(Vget\nK\x01u\x86b.",
        b"ccollections\nOrderedDict\nN}(Vget\nK\x01u\x86b.",
    ],
)
def test_attributes_cannot_be_overwritten(tmp_path: Path, instructions: bytes) -> None:
    refuse(tmp_path / "network.pkl", b"\x80\x02" + instructions, "not an official StyleGAN2 pickle")


def test_modules_that_contain_themselves_are_refused(official: types.SimpleNamespace, tmp_path: Path) -> None:
    modules: OrderedDict[str, Any] = OrderedDict()
    record = official.Persistent("G", {"_modules": modules, **arguments()})
    for _ in range(40):
        record = official.Persistent("G", {"_modules": OrderedDict(inner=record), **arguments()})
    refuse(tmp_path / "network.pkl", pickle.dumps({"G": record}), "nested too deep")


def test_settings_with_classes_of_their_own_are_refused(official: types.SimpleNamespace, tmp_path: Path) -> None:
    record = official.Persistent("G", {"_parameters": {}, **arguments(z_dim={1, 2})})
    refuse(tmp_path / "network.pkl", pickle.dumps({"G": record}), "setting of type set")


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"not a pickle", b"PK\x03\x04zip", pickle.dumps([1, 2])])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    refuse(tmp_path / "network.pkl", content, "not an official StyleGAN2 pickle")


def test_tensorflow_files_say_what_to_do(tmp_path: Path) -> None:
    hostile = b"\x80\x02cdnnlib.tflib.network\nNetwork\n."
    refuse(tmp_path / "network.pkl", hostile, "converted with its official script first")


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.pkl: no such file"):
        read_official_pickle(tmp_path / "absent.pkl")
