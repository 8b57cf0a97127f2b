"""What the scripts refuse: files of official weights, downloads, archives, data folders."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bad_input.case import Case
from bad_input.place import HOSTILE_ARCHIVE, HOSTILE_PICKLE, MARK, Hostile, Place, saved
from models.ae import MLP

IMPORT, DOWNLOAD, PREPARE = (f"scripts/{name}.py" for name in ("import_checkpoint", "download_weights", "prepare_data"))
AUTOENCODER = MLP((3, 8, 8), 4, 2).state_dict()
AGAIN = "download it again|give the official file"


# scripts/import_checkpoint.py


def imported(
    id: str, content: bytes | Mapping[Any, Any], cause: str, fix: str, why: str, *words: str, kind: str = "vanilla_ae"
) -> Case:
    """An official file that cannot be imported."""
    given = content if isinstance(content, bytes) else saved(content)
    arguments = (f"kind={kind}", "file=G.pth", "out=runs/official", *words)
    return Case(f"import-{id}", IMPORT, arguments, cause, fix, why, lambda place: place.write({"G.pth": given}))


def import_words(
    id: str, text: str, cause: str, fix: str, why: str, prepare: Callable[[Place], Any] = Place.images
) -> Case:
    """A command line of the import that is wrong whatever the file."""
    return Case(f"import-{id}", IMPORT, tuple(text.split()), cause, fix, why, prepare)


def pkl(id: str, content: bytes, cause: str, fix: str, why: str) -> Case:
    """An official pickle of StyleGAN2 that cannot be imported."""
    arguments = ("kind=stylegan2_nvlabs", "file=G.pkl", "out=runs/official", "dataset=photos")
    return Case(f"import-{id}", IMPORT, arguments, cause, fix, why, lambda place: place.write({"G.pkl": content}))


GOOD = "kind=vanilla_ae file=G.pth out=runs/official"
IMPORTS = [
    import_words("nothing", "", "kind is missing", "expected kind=", "no argument at all"),
    import_words("word", "vanilla_ae", "cannot read vanilla_ae", "key=value", "as an argument"),
    import_words("no-file", GOOD, r"G\.pth: no such file", "give the path", "moved away"),
    import_words("folder", GOOD, r"G\.pth: no such file", "give the path", "a folder of that name",
                 lambda place: (place / "G.pth").mkdir()),
    import_words("no-such-kind", "kind=gan file=G.pth out=o", "kind=gan: no such kind", "one of vanilla_ae", "unknown"),
    import_words("metric-network", "kind=drn file=G.pth out=o", "kind=drn: a network of the metrics",
                 "download_weights.py drn_d_105_cityscapes --file", "no generator"),
    import_words("reserved", f"{GOOD} name=x", "name=x: set by", "leave it out", "decided by out"),
    import_words("out-exists", GOOD, "out=runs/official: exists already", "give a new directory", "imported before",
                 lambda place: (place / "runs/official").mkdir(parents=True)),
    Case("import-out-below-file", IMPORT, ("kind=vanilla_ae", "file=G.pth", "out=G.pth/run", "dataset=photos"),
         r"G\.pth", "out=|output_root|new directory", "a file has that name",
         lambda place: place.write({"G.pth": saved(AUTOENCODER)})),
    imported("hostile-pickle", HOSTILE_PICKLE, r"G\.pth.*posix\.system", AGAIN, "a pickle that runs a command"),
    imported("hostile-archive", HOSTILE_ARCHIVE, r"G\.pth.*posix\.system", AGAIN, "an object that runs a command"),
    imported("text", b"<html>not found", r"G\.pth.*torch\.save", AGAIN, "an error page"),
    imported("zero-bytes", b"", r"G\.pth.*torch\.save", AGAIN, "a download that was cut at once"),
    imported("truncated", saved(AUTOENCODER)[:900], r"G\.pth.*cut short", AGAIN, "a download that was cut"),
    imported("list", saved([1, 2]), r"G\.pth: holds a list", "expected a state dict", "another file"),
    imported("numbered-keys", {1: torch.zeros(2)}, r"G\.pth.*key 1", "state dict", "an optimiser's state"),
    imported("text-for-tensor", {"model.0.fc.weight": "big"}, r"model\.0\.fc\.weight is a str", "state dict of tensors",
             "another program's file"),
    imported("other-network", {"conv.weight": torch.zeros(1, 1, 3, 3)}, r"missing: model\.0\.fc\.weight",
             r"found: conv\.weight", "another network"),
    imported("vector-for-matrix", {"model.0.fc.weight": torch.zeros(3)}, r"model\.0\.fc\.weight has the shape \(3,\)",
             "official file", "another network of those keys"),
    imported("claimed-memory", {"model.0.fc.weight": torch.zeros(1).expand(10**6, 10**6)}, "more values than the file",
             AGAIN, "one stored number that stands for terabytes"),
    imported("option-contradicts", AUTOENCODER, r"model\.hidden_dim=5.*by the weights it is 4", "leave it out",
             "options of another run", "dataset=photos", "model.hidden_dim=5"),
    imported("no-such-option", AUTOENCODER, r"unknown key model\.width", "allowed: ", "an option of another model",
             "dataset=photos", "model.width=2"),
    imported("no-data-set", {"a": torch.zeros(1)}, "don't tell the data set", "give dataset=", "faces or cats?",
             kind="stylegan2_rosinality"),
    imported("data-of-another-task", {"a": torch.zeros(1)}, "no source", "choose one of photos, facades", "no pairs",
             "dataset=photos", kind="pix2pix_generator"),
    imported("no-generator", {"a": torch.zeros(1)}, r"G\.pth.*missing: ", "unexpected: a|found: a", "another network",
             "dataset=photos", kind="stylegan2_nvlabs"),
    pkl("hostile-official-pickle", pickle.dumps({"G_ema": Hostile()}), r"G\.pkl.*posix\.system", "official|download",
        "an object that runs a command"),
    pkl("text-pickle", b"<html>not found", r"G\.pkl: not an official StyleGAN2 pickle", "official|download",
        "an error page"),
    pkl("nested-pickle", b"(" * 100_000 + b".", r"G\.pkl: not an official StyleGAN2 pickle", "official|download",
        "the unpickler's stack"),
]  # fmt: skip


# scripts/download_weights.py


def downloaded(id: str, text: str, cause: str, fix: str, why: str, files: Mapping[str, bytes] | None = None) -> Case:
    """Weights that cannot be had; there is no network here."""
    return Case(
        f"download-{id}",
        DOWNLOAD,
        tuple(text.split()),
        cause,
        fix,
        why,
        lambda place: place.write(files or {}),
        leaves=("weights",),
    )


DOWNLOADS = [
    downloaded("nothing", "", "no name given", "one or more of inception_fid", "no argument at all"),
    downloaded("no-such-name", "resnet", "unknown name 'resnet'", "one of inception_fid", "not used here"),
    downloaded("flag", "--force alexnet", "--force", "--help", "options of other programs"),
    downloaded("flag-without-value", "alexnet --file", "--file", "expected one argument|--help", "forgot the path"),
    downloaded("no-file", "alexnet --file a.pth", "a.pth: no such file", "--file", "moved away"),
    downloaded("two-for-one-file", "alexnet vgg16 --file a.pth", "2 names", "one file", "which one is it?"),
    downloaded("other-file", "alexnet --file a.pth", "a.pth: 5 bytes", "get it again from http", "an error page",
               {"a.pth": b"<html"}),
    downloaded("garbage-unpublished", "drn_d_105_cityscapes --file a.pth", "a.pth: not a readable weight file",
               "get it again from http", "no checksum is published, so that anything was installed",
               {"a.pth": b"<html"}),
    downloaded("hostile-unpublished", "drn_d_105_cityscapes --file a.pth", "a.pth.*posix.system",
               "get it again from http", "no checksum is published", {"a.pth": HOSTILE_PICKLE}),
    downloaded("present-but-other", "alexnet", "alexnet-owt-7be5be79.pth: 5 bytes", "get it again from http",
               "a download that was cut", {"weights/alexnet-owt-7be5be79.pth": b"<html"}),
    downloaded("no-direct-link", "drn_d_105_cityscapes", "no direct link", "in a browser", "a page of links"),
    downloaded("no-network", "alexnet", "cannot download alexnet", "on another machine", "a cluster's node"),
    downloaded("folder-is-file", "alexnet --file a.pth", "cannot write weights/", "FFL_WEIGHTS=DIR",
               "a file has that name", {"a.pth": b"<html", "weights": b""}),
]  # fmt: skip


# scripts/prepare_data.py


def prepared(id: str, text: str, cause: str, fix: str, why: str) -> Case:
    """A wrong command line."""
    return Case(f"prepare-{id}", PREPARE, tuple(text.split()), cause, fix, why)


def reported(
    id: str,
    text: str,
    cause: str,
    fix: str,
    why: str,
    prepare: Callable[[Place], Any] = lambda place: None,
    leaves: tuple[str, ...] = (),
) -> Case:
    """Data that are found bad: a line of the report, and status 1."""
    return Case(f"prepare-{id}", PREPARE, tuple(text.split()), cause, fix, why, prepare, reports=True, leaves=leaves)


def hostile_archive(place: Place) -> None:
    """Where the download would be: an archive that leaves its folder in every way there is."""
    (place / "data/dtd").mkdir(parents=True)
    with tarfile.open(place / "data/dtd/dtd-r1.0.1.tar.gz", "w:gz") as archive:
        for name, kind, target in (
            (f"../../{MARK}", tarfile.REGTYPE, ""),
            (str(place / MARK), tarfile.REGTYPE, ""),
            ("dtd/link", tarfile.SYMTYPE, "/etc"),
            ("dtd/hard", tarfile.LNKTYPE, "../../../secret"),
            ("dtd/null", tarfile.CHRTYPE, ""),
            ("dtd/pipe", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)


def bomb_archive(place: Place) -> None:
    """Where the download would be: a gigabyte of zeros in a megabyte."""
    (place / "data/dtd").mkdir(parents=True)
    with tarfile.open(place / "data/dtd/dtd-r1.0.1.tar.gz", "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("dtd/zeros")
        member.size = 64 << 20
        archive.addfile(member, io.BytesIO(bytes(member.size)))


def with_broken_image(place: Place) -> None:
    place.images()
    place.write({"x/z.png": b"no image"})


def with_broken_link(place: Place) -> None:
    place.images()
    os.symlink("nowhere.png", place / "x/z.png")


PREPARATIONS = [
    prepared("word", "verify", "verify", "key=value", "forgot =true"),
    prepared("flag", "--checksum", "--checksum", "key=value", "options of other programs"),
    prepared("no-such-key", "root=x", "root", "data_root", "another name"),
    prepared("no-such-data-set", "dataset=imagenet", "dataset=imagenet", "there are photos", "not used here"),
    prepared("no-workers", "workers=0", "workers=0", "an integer at least 1", "nobody to do it"),
    prepared("workers-of-text", "workers=many", "workers=many", "an integer at least 1", "not a number"),
    prepared("truth", "verify=maybe", "verify=maybe", "true or false", "neither"),
    prepared("download-all", "download=true", "download=true", "dataset=dtd", "hundreds of gigabytes"),
    prepared("folder-alone", "folder=x", "folder=DIR", "dataset=folder", "which data set?"),
    prepared("shards-of-all", "shards=y", "shards=y", "dataset=celeba", "several data sets in one folder"),
    prepared("shards-of-none", "dataset=photos shards=y", "photos has no files", "comes with a package", "no files"),
    prepared("shards-of-shards", "dataset=dtd dataset_options={shards:y}", "dataset_options", "leave shards out",
             "they are copied from files"),
    reported("shards-there", "dataset=folder folder=x data_root=. shards=x", "shards=x: is there already",
             "name another folder", "would be mixed with other files", Place.images),
    reported("missing", "dataset=dtd", "folder data/dtd is missing", "DTD r1.0.1: https://", "not downloaded yet"),
    reported("no-download", "dataset=facades download=true", "no automatic download", r"facades\.tar\.gz: http://",
             "behind a form"),
    reported("no-network", "dataset=dtd download=true", "download of dtd failed", "DTD r1.0.1: https://",
             "a cluster's node", leaves=("data", "data/dtd")),
    reported("hostile-archive", "dataset=dtd download=true", "download of dtd failed", "DTD r1.0.1: https://",
             "an archive that is not the published one is never opened", hostile_archive),
    reported("bomb-archive", "dataset=dtd download=true", "download of dtd failed", "DTD r1.0.1: https://",
             "an archive that is not the published one is never opened", bomb_archive),
    reported("broken-image", "dataset=folder folder=x data_root=. verify=true", r"x/z\.png: not an image",
             "replace|remove|not an image", "found before training", with_broken_image),
    reported("broken-link", "dataset=folder folder=x data_root=. verify=true", r"x/z\.png: a broken link", "remove it",
             "the images that links lead to were moved", with_broken_link),
]  # fmt: skip


# scripts/train_segmenter.py

SEGMENT = "scripts/train_segmenter.py"
SEGMENTERS = [
    Case("segment-nothing", SEGMENT, (), "dataset is missing", "expected dataset=one of cityscapes", "no argument"),
    Case("segment-no-labels", SEGMENT, ("dataset=celeba",), "dataset=celeba", "one of cityscapes, ade20k",
         "faces without label maps"),
    Case("segment-no-data", SEGMENT, ("dataset=cityscapes", "data_root=."), "cityscapes is missing",
         r"leftImg8bit.*zip", "not downloaded"),
    Case("segment-key", SEGMENT, ("dataset=cityscapes", "model.ngf=8"), r"unknown key model\.ngf", "allowed: ",
         "SPADE has it"),
    Case("segment-loss", SEGMENT, ("dataset=cityscapes", "loss.ffl=true"), "loss.ffl=True", "leave it off",
         "nothing to compare"),
    Case("segment-size", SEGMENT, ("dataset=ade20k", "dataset.image_size=big"), "dataset.image_size=big",
         "expected an integer", "not a number"),
]  # fmt: skip

CASES = [*IMPORTS, *DOWNLOADS, *PREPARATIONS, *SEGMENTERS]
