"""What evaluate.py refuses: its command line, and folders of images."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bad_input.case import Case
from bad_input.place import HOSTILE_ARCHIVE, JPEG, PNG, Place, encoded, noise, png_claiming, saved

FOLDERS = ("real=real", "fake=fake")
ALEXNET = "weights/alexnet-owt-7be5be79.pth"
INCEPTION = "weights/pt_inception-2015-12-05-6726825d.pth"


def folders(real: Mapping[str, bytes], fake: Mapping[str, bytes]) -> Callable[[Place], Any]:
    """Two folders of files."""

    def prepare(place: Place) -> None:
        for name, files in (("real", real), ("fake", fake)):
            (place / name).mkdir()
            place.write({f"{name}/{file}": content for file, content in files.items()})

    return prepare


PAIR = folders({"a.png": PNG}, {"a.png": PNG})
FOUR = {f"{n}.png": encoded(noise(16, 16, n)) for n in range(4)}
FILLED = folders(FOUR, FOUR)


def words(id: str, text: str, cause: str, fix: str, why: str, *, skip: str | None = None) -> Case:
    """A command line that is wrong whatever is in the folders."""
    arguments = (*FOLDERS, *text.split(" "))
    return Case(f"measure-{id}", "evaluate.py", arguments, cause, fix, why, PAIR, skip=skip)


def files(
    id: str, real: Mapping[str, bytes], fake: Mapping[str, bytes], cause: str, fix: str, why: str, metric: str = "psnr"
) -> Case:
    """Folders that are wrong."""
    prepare = folders(real, fake)
    return Case(f"folders-{id}", "evaluate.py", (*FOLDERS, f"metrics=[{metric}]"), cause, fix, why, prepare)


def image(id: str, content: bytes, cause: str, why: str) -> Case:
    """One generated image is wrong."""
    return files(id, {"a.png": PNG}, {"a.png": content}, rf"fake/a\.png.*{cause}", "replace|remove", why)


def weights(id: str, metric: str, name: str, content: bytes, cause: str, fix: str, why: str, verify: str) -> Case:
    """A weight file is wrong."""
    arguments = (*FOLDERS, f"metrics=[{metric}]", f"verify_weights={verify}")
    prepare: Callable[[Place], Any] = lambda place: (FILLED(place), place.write({name: content}))  # noqa: E731
    return Case(f"weights-{id}", "evaluate.py", arguments, cause, fix, why, prepare)


def with_pipe(place: Place) -> None:
    PAIR(place)
    os.mkfifo(place / "fake/b.png")


SMALL, OTHER = encoded(noise(8, 8)), encoded(noise(20, 20))

CASES = [
    Case("measure-nothing", "evaluate.py", (), "give run=DIR", r"real=DIR fake=DIR", "no argument at all"),
    Case("measure-half", "evaluate.py", ("real=real",), "fake=DIR", "give run=DIR", "one folder has no reference"),
    Case("measure-both", "evaluate.py", ("run=.", *FOLDERS), "run=DIR.*or real=DIR", "give", "which one?"),
    Case("measure-no-run", "evaluate.py", ("run=nowhere",), "run=nowhere: no such", "train.py prints", "moved away"),
    Case("measure-file", "evaluate.py", ("run=a.pt",), r"run=a\.pt", "directory", "the checkpoint instead of the run",
         lambda place: place.write({"a.pt": b""})),
    Case("measure-no-run-directory", "evaluate.py", ("run=.",), "not a run directory", r"config\.yaml", "a level off"),
    words("no-such-metric", "metrics=[mos]", "unknown metric mos", "some of .*psnr, ssim", "not implemented"),
    words("metric-without-brackets", "metrics=psnr", "metrics=psnr", "a list", "a list of one"),
    words("one-image-for-a-distance", "metrics=[fd_effnet_lite0]", "fd_effnet_lite0: needs at least 2 images, got 1",
          "evaluate more", "a covariance of one image"),
    words("fewer-images-than-neighbours", "metrics=[precision]", "precision: needs at least 4 images, got 1",
          "evaluate more", "a radius without a third neighbour"),
    words("no-such-network", "features=dino metrics=[fd]", "features=dino", "inception, effnet_lite0 or timm/<model>",
          "the name of a method"),
    words("network-of-nothing", "features=inception metrics=[psnr]", "features=inception: no metric takes it",
          "ask for some of fd kd precision recall", "metrics with a network of their own"),
    Case("measure-no-network", "evaluate.py", (*FOLDERS, "metrics=[kd]"), "kd: needs a network",
         "set features=inception, effnet_lite0 or", "kd of what?", FILLED),
    Case("measure-no-such-timm-model", "evaluate.py", (*FOLDERS, "metrics=[kd]", "features=timm/resnet9"),
         "features=timm/resnet9: ", "pip install timm|did you mean", "a typing error", FILLED),
    words("metric-twice", "metrics=[psnr,psnr]", "psnr", "once", "pasted"),
    words("no-such-split", "split=valid", "split=valid", "one of train, val, test", "another name"),
    words("no-such-task", "task=painting", "task=painting", "one of reconstruction, synthesis", "not a task"),
    words("no-such-checkpoint", "checkpoint=first", "checkpoint=first", "one of last, best", "not kept"),
    words("no-such-protocol", "protocol=float", "protocol=float", "one of paper, rounded", "metrics take 8 bits"),
    words("no-images", "num_images=0", "num_images=0", "at least 1", "nothing to measure"),
    words("more-than-there-are", "num_images=99", "num_images=99", "1 pair|1 image|only 1|has 1", "a mean of fewer"),
    words("empty-batch", "batch_size=0", "batch_size=0", "at least 1", "nothing to measure"),
    words("negative-seed", "seed=-1", "seed=-1", "not be negative|at least 0", "as train.py"),
    words("unknown-key", "bogus=1", "unknown key bogus", "allowed: ", "a typing error"),
    words("options-of-text", "dataset_options=big", "dataset_options=big", "key:value", "not options"),
    words("tpu", "accelerator=tpu", "accelerator=tpu", "auto, cpu, cuda", "not supported"),
    words("cuda", "accelerator=cuda", "cuda: this machine has no usable CUDA device", "cpu or auto",
          "a machine without a GPU", skip="this machine has a GPU" if torch.cuda.is_available() else None),
    words("flag", "--metrics=psnr", "--metrics", "key=value|--help", "options of other programs"),
    words("out-is-file", "out=real/a.png metrics=[psnr]", r"real/a\.png", "out=DIR|another|directory",
          "a file has that name"),
    words("labels-of-folders", "metrics=[miou]", "miou", "label maps|run=DIR|download_weights", "pictures have no ids"),
    words("labels-of-folders-own", "metrics=[miou_own]", "miou_own: compares with label maps", "use run=DIR",
          "pictures have no ids"),
    words("segmenter-of-folders", "segmenter=real metrics=[psnr]", "segmenter=real: judges runs", "use run=DIR",
          "pictures have no ids"),
    Case("measure-no-segmenter", "evaluate.py", ("run=x", "segmenter=nowhere"), "segmenter=nowhere: no such directory",
         "scripts/train_segmenter.py makes one", "moved away", Place.images),
    # Folders of images
    Case("folders-missing", "evaluate.py", FOLDERS, "real: no such folder", "folder of images", "not made yet"),
    files("empty", {}, {}, "real: no images in it", r"\.png", "written elsewhere"),
    files("unpaired", {"a.png": PNG, "b.png": PNG}, {"a.png": PNG}, "no partner of the same name, such as b in real",
          "must hold the same names", "one image failed"),
    files("one-name-twice", {"a.png": PNG, "a.jpg": JPEG}, {"a.png": PNG}, r"a\.jpg and a\.png", "keep one",
          "which one is it?"),
    files("other-size", {"a.png": PNG}, {"a.png": OTHER}, r"16x16 and 20x20", "resize one",
          "generated at another size"),
    files("small-for-ssim", {"a.png": SMALL}, {"a.png": SMALL}, "ssim.*11x11.*8x8", "leave|larger|metrics=|at least",
          "smaller than the window", "ssim"),
    files("small-for-stlpips", {"a.png": SMALL}, {"a.png": SMALL}, "stlpips_alex: .*21x21.* 8;", "leave it out",
          "smaller than the network takes", "stlpips_alex"),
    files("several-sizes", {"a.png": PNG, "b.png": OTHER}, {"a.png": PNG, "b.png": OTHER},
          "spectrum_distance.*one size", "resize|one size|leave", "radii differ", "spectrum_distance"),
    files("one-pixel", {"a.png": encoded(noise(1, 1))}, {"a.png": encoded(noise(1, 1))}, "spectrum_distance.*1x1",
          "at least|larger|leave", "no frequency but zero: the distance would be NaN", "spectrum_distance"),
    image("text", b"hello", "not an image|not a readable image", "renamed by hand"),
    image("zero-bytes", b"", "not an image|not a readable image", "a full disk"),
    image("truncated", PNG[:-200], "truncated|broken", "a copy that was cut"),
    image("bomb", png_claiming(20_000, 20_000), "400000000 pixels", "kilobytes that fill the memory"),
    image("lying-header", png_claiming(12_000, 12_000), "truncated", "Pillow only warns of so many pixels"),
    files("line-break-in-name", {"a\nb.png": PNG}, {"a\nb.png": b""}, r"a\\?n? ?b\.png", "rename|replace|remove",
          "splits the message"),
    Case("folders-pipe", "evaluate.py", (*FOLDERS, "metrics=[psnr]"), "such as b in fake|pipe", "same names|remove",
         "reading it would wait forever", with_pipe, skip=None),
    # Weight files
    weights("other-file", "lpips", ALEXNET, b"<html", "alexnet.*5 bytes", "get it again from http", "an error page",
            "true"),
    weights("unverified-text", "lpips", ALEXNET, b"<html", "alexnet.*torch.save", "download_weights.py alexnet",
            "an error page, and no check wanted", "false"),
    weights("unverified-hostile", "fid", INCEPTION, HOSTILE_ARCHIVE, "pt_inception.*posix.system",
            "download_weights.py inception_fid", "objects that run a command", "false"),
    weights("unverified-other", "lpips", ALEXNET, saved({"a": torch.zeros(2)}), r"key features\.0\.weight is missing",
            "torchvision's AlexNet", "another network", "false"),
]  # fmt: skip
