"""Data that train.py refuses: absent, odd, broken, hostile."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from bad_input.case import Case
from bad_input.place import JPEG, PNG, TINY, TINY_STEPS, Place, encoded, noise, png_claiming

Prepare = Callable[[Place], Any]
BROKEN = "replace or remove it, or set on_error=skip"


def folder(id: str, cause: str, fix: str, why: str, prepare: Prepare, *words: str, skip: str | None = None) -> Case:
    """The folder ``x`` of images is wrong."""
    return Case(f"data-{id}", "train.py", (*TINY, *words), cause, fix, why, prepare, skip=skip)


def image(id: str, name: str, content: bytes, cause: str, why: str, fix: str = BROKEN) -> Case:
    """One image among good ones is wrong."""
    return folder(id, cause, fix, why, lambda place: (place.images(), place.write({f"x/{name}": content})))


def entry(id: str, make: Callable[[str], Any], name: str, cause: str, fix: str, why: str) -> Case:
    """Something that is no file lies among good images."""
    return folder(id, cause, fix, why, lambda place: (place.images(), make(str(place / f"x/{name}"))))


def lists(id: str, files: dict[str, bytes], cause: str, fix: str, why: str) -> Case:
    """The lists of the splits, beside good images, are wrong."""
    return folder(id, cause, fix, why, lambda place: (place.images(), place.write(files)))


def non_utf8(place: Place) -> None:
    place.images()
    with open(os.fsencode(place / "x") + b"/\xff\xfe.png", "wb") as file:
        file.write(PNG)


def partition(content: bytes) -> Prepare:
    """CelebA with that list of splits."""

    def prepare(place: Place) -> None:
        place.images("celeba/img_align_celeba", 4, suffix="jpg")
        place.write({"celeba/list_eval_partition.txt": content})

    return prepare


def celeba(id: str, content: bytes, cause: str, fix: str, why: str) -> Case:
    words = ("dataset=celeba", "dataset.split_by=official", "dataset.image_size=8", "data_root=.", *TINY_STEPS)
    return Case(f"celeba-{id}", "train.py", words, cause, fix, why, partition(content))


def pairs(size: tuple[int, int], folders: tuple[str, ...] = ("facades/train", "facades/test")) -> Prepare:
    """Façades of (height, width) in those folders."""
    return lambda place: [place.images(name, 2, size) for name in folders]


def facades(id: str, prepare: Prepare, cause: str, fix: str, why: str, *words: str) -> Case:
    small = ("model=pix2pix", "model.ngf=2", "model.ndf=2", "dataset.image_size=16", "dataset.load_size=18")
    words = ("dataset=facades", "data_root=.", *small, "trainer.steps=1", *words)
    return Case(f"facades-{id}", "train.py", words, cause, fix, why, prepare)


LABELS = np.zeros((16, 32), np.uint8)


def street(
    labels: np.ndarray | None, instances: bool = True, size: tuple[int, int] = (16, 32), suffix: str = "png"
) -> Prepare:
    """Cityscapes with one frame in train and in val."""

    def prepare(place: Place) -> None:
        for split in ("train", "val"):
            frame = f"{split}/a/a_0"
            place.write({f"cityscapes/leftImg8bit/{frame}_leftImg8bit.png": encoded(noise(*size))})
            (place / f"cityscapes/gtFine/{split}").mkdir(parents=True)
            if labels is not None:
                content = encoded(Image.fromarray(labels), suffix)
                place.write({f"cityscapes/gtFine/{frame}_gtFine_labelIds.png": content})
            if instances:
                content = encoded(Image.fromarray(LABELS.astype(np.uint16)))
                place.write({f"cityscapes/gtFine/{frame}_gtFine_instanceIds.png": content})

    return prepare


def scene(labels: np.ndarray) -> Prepare:
    """ADE20K with one image in training and in validation."""
    return lambda place: place.write(
        {
            f"ade20k/{kind}/{split}/a.{suffix}": content
            for split in ("training", "validation")
            for kind, suffix, content in (
                ("images", "jpg", encoded(noise(16, 16), "jpeg")),
                ("annotations", "png", encoded(Image.fromarray(labels))),
            )
        }
    )


SPADE = ("model=spade", "model.ngf=2", "model.ndf=2", "model.vgg_weight=0", "dataset.image_size=16", "data_root=.")


def semantic(id: str, dataset: str, prepare: Prepare, cause: str, fix: str, why: str) -> Case:
    words = (f"dataset={dataset}", *SPADE, "trainer.steps=1", "trainer.batch_size=1")
    return Case(f"{dataset}-{id}", "train.py", words, cause, fix, why, prepare)


FLOATS = encoded(Image.fromarray(np.ones((8, 8), np.float32)), "tiff")
WIDE_INTEGERS = encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "tiff")

CASES = [
    # Folders
    folder("missing", "folder x is missing", "dataset.folder=DIR", "not unpacked yet", lambda place: None),
    folder("empty", "no images under x", "dataset.folder=DIR", "unpacked elsewhere",
           lambda place: (place / "x").mkdir()),
    folder("is-file", "folder x is missing", "dataset.folder=DIR", "an archive, say",
           lambda place: place.write({"x": b"PK"})),
    folder("no-images", "no images under x", "dataset.folder=DIR", "another folder was meant",
           lambda place: place.write({"x/readme.txt": b"hello"})),
    folder("folder-named-png", "no images under x", "dataset.folder=DIR", "a folder that has the name of an image",
           lambda place: (place / "x/a.png").mkdir(parents=True)),
    folder("one-image", "only 1 images", "smaller batch", "an image is no data set",
           lambda place: place.images(count=1)),
    folder("unreadable", "cannot be opened", "permissions", "another user's data",
           lambda place: (place.images(), place.images("x/private", 1), (place / "x/private").chmod(0)),
           skip="root may read everything" if os.geteuid() == 0 else None),
    folder("share-beyond-1", "test_fraction=2", r"in \[0, 1\]|at most 1", "per cent", Place.images,
           "dataset.test_fraction=2"),
    folder("all-held-out", "the train split is empty", "another share|more images", "a hundred of ten images",
           Place.images, "dataset.val_images=100"),
    folder("negative-size", "image_size=-8", "at least 1", "a typing error", Place.images, "dataset.image_size=-8"),
    folder("negative-workers", r"dataset\.workers=-1", "at least 1", "joblib's way to say all", Place.images,
           "dataset.workers=-1"),
    folder("no-subfolders", "no sub-folder train, val or test", "split_by=auto", "all images in one folder",
           Place.images, "dataset.split_by=folders"),
    folder("no-such-rule", r"dataset\.split_by=name", "one of auto, lists, folders, fraction", "not a rule",
           Place.images, "dataset.split_by=name"),
    # Images
    image("text", "z.png", b"hello, I am text", r"z\.png.*not an image", "renamed by hand"),
    image("zero-bytes", "z.png", b"", r"z\.png.*not an image", "a copy that was cut at once"),
    image("truncated-jpeg", "z.jpg", JPEG[:-300], r"z\.jpg.*truncated", "a download that was cut"),
    image("truncated-png", "z.png", PNG[:-200], r"z\.png.*truncated|z\.png.*broken", "a download that was cut"),
    image("bomb", "z.png", png_claiming(20_000, 20_000), r"z\.png.*400000000 pixels", "kilobytes that fill the memory"),
    image("lying-header", "z.png", png_claiming(12_000, 12_000), r"z\.png.*truncated", "pixels that are not there"),
    image("no-pixels", "z.png", png_claiming(0, 0), r"z\.png.*not an image", "no size at all"),
    image("floats", "z.tif", FLOATS, r"z\.tif.*floating-point", "a depth map: nothing says what is white"),
    image("32-bit", "z.tif", WIDE_INTEGERS, r"z\.tif.*70000.*outside 16 bits",
          "a count map: nothing says what is white"),
    # Names, and what is no file
    image("line-break-in-name", "a\nb.png", PNG, r"a\\nb\.png", "no list could hold it", "rename"),
    folder("non-utf8-name", r"\\udcff", "rename", "an archive made elsewhere", non_utf8),
    entry("broken-link", lambda path: os.symlink("nowhere.png", path), "z.png", r"x/z\.png", "remove it",
          "the images that links lead to were moved"),
    entry("pipe", os.mkfifo, "z.png", r"x/z\.png.*pipe", "remove it", "reading it would wait forever"),
    entry("device", lambda path: os.symlink("/dev/zero", path), "z.png", r"x/z\.png.*device", "remove it",
          "reading it would fill the memory"),
    folder("all-broken", "none of the 8 images", r"such as|\.png", "nothing is left to skip to",
           lambda place: place.write({f"x/{n}.png": b"no image" for n in range(10)}), "dataset.on_error=skip"),
    # Lists of splits
    lists("listed-missing", {"x/test.txt": b"nope.png\n"}, r"test\.txt lists 1 missing.*nope\.png", "off the list",
          "lists of another version"),
    lists("list-leaves-folder", {"x/test.txt": b"../../secret.png\n"}, r"lists \.\./\.\./secret\.png", "stay inside",
          "somebody else's list would read any file"),
    lists("list-absolute", {"x/test.txt": b"/etc/hosts.png\n"}, "lists /etc/hosts.png", "relative", "not portable"),
    lists("list-binary", {"x/test.txt": b"\xff\xfe\x00"}, r"x/test\.txt: cannot be read", "UTF-8", "saved as UTF-16"),
    lists("listed-twice", {"x/test.txt": b"000001.png\n", "x/train.txt": b"000001.png\n000002.png\n"},
          r"in two splits, such as 000001\.png", "list each once", "a test image that was trained on"),
    celeba("partition-words", b"000000.jpg train\n", "'000000.jpg train'", "expected a file name and 0, 1 or 2",
           "edited by hand"),
    celeba("partition-binary", b"\xff\xfe\x00", "list_eval_partition.txt: cannot be read", "UTF-8", "damaged"),
    celeba("partition-leaves-folder", b"../../../secret.jpg 0\n", r"\.\./\.\./\.\./secret\.jpg", "stay inside",
           "somebody else's list would read any file"),
    # Pairs and label maps
    facades("portrait", pairs((32, 16)), "16 x 32 pixels are not two pictures", BROKEN, "photographs alone"),
    facades("no-train", pairs((16, 32), ("facades",)), "facades has no sub-folder train", r"facades\.tar\.gz",
            "unpacked flat"),
    facades("crop-larger-than-image", pairs((16, 32)), "load_size=8", "not be less than image_size=16", "swapped",
            "dataset.load_size=8"),
    facades("odd-size", pairs((16, 32)), "image_size=17", "multiples of", "halved until 1 is left",
            "dataset.image_size=17"),
    semantic("unpaired", "cityscapes", street(None), r"no label map, such as cityscapes/gtFine/\S+labelIds\.png",
             r"gtFine_trainvaltest\.zip", "one of two archives was unpacked"),
    semantic("label-out-of-range", "cityscapes", street(LABELS + 40), "label ids 40 are not among 0..34",
             r"use the \*_gtFine_labelIds\.png", "another data set's ids"),
    semantic("colours-for-labels", "cityscapes", street(np.zeros((16, 32, 3), np.uint8)), "colour-coded",
             r"use the \*_gtFine_labelIds\.png", "the pictures for people"),
    semantic("jpeg-labels", "cityscapes", street(LABELS, suffix="jpeg"), "JPEG file, whose compression alters ids",
             r"use the \*_gtFine_labelIds\.png", "converted to save space"),
    semantic("no-instances", "cityscapes", street(LABELS, instances=False), "no instance map, such as",
             "set missing_instances=labels", "label ids were copied alone"),
    semantic("other-shape", "cityscapes", street(LABELS, size=(16, 16)), "not of the same picture", BROKEN,
             "photographs were cropped, maps were not"),
    semantic("label-out-of-range", "ade20k", scene(np.full((16, 16), 200, np.uint8)),
             "label ids 200 are not among 0..150", "use annotations/ of ADEChallengeData2016", "the full ADE20K"),
    semantic("16-bit-labels", "ade20k", scene(np.full((16, 16), 1000, np.uint16)),
             "label ids 1000 are not among 0..150", "use annotations/ of ADEChallengeData2016", "the full ADE20K"),
]  # fmt: skip
