"""The data sets with label maps: Cityscapes, ADE20K, CelebAMask-HQ."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar

from datasets.aligned import training_size
from datasets.base import Split
from datasets.cache import OnError
from datasets.celeba_hq import CelebAHQ
from datasets.label_maps import LabelIds
from datasets.listing import (
    Listing,
    check_val_images,
    draw_splits,
    find_images,
    hold_out_val,
    num_test_images,
)
from datasets.semantic import Companions, Instances, MissingInstances, SemanticImages, public_splits
from ffl.ranges import Count

PHOTOGRAPHS = ("_leftImg8bit.png", "_leftImg8bit.jpg")  # published as PNG; copies that were made smaller often are JPEG
LABELS, INSTANCES = "_gtFine_labelIds.png", "_gtFine_instanceIds.png"
MASKS = "celeba_hq_mask"
VAL_IS_TEST = "the published val is the test split"


class Cityscapes(SemanticImages):
    """Cityscapes (Table 5): 2,975 train and 500 val frames, 35 label channels (ids 0 ... 33; 34 is never used).

    Frames are resized to 512 x 256 as a whole; training mirrors them. The public val frames are the test split.
    """

    name = "cityscapes"
    source = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com"
    public_images = 3475
    # 255 would need a channel 35 that SPADE's Cityscapes models do not have.
    label_ids = LabelIds(35, None, "use the *_gtFine_labelIds.png files (not color, not labelTrainIds)")

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: int = 256,
        instances: Instances = "maps",
        missing_instances: MissingInstances = "fail",
        labels_only: bool = False,
        horizontal_flip: bool = True,
        val_images: int = 0,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """List the files and open the cache.

        Args:
            split: "train", "val" or "test".
            data_root: folder that holds ``cityscapes/``.
            cache_dir: folder for the decoded arrays.
            image_size: H of a batch; W is twice as large.
            val_images: frames held out of train for val.
            instances, missing_instances, labels_only, horizontal_flip, on_error, workers: see ``SemanticImages``.
        Raises:
            UserError: files are missing, unreadable or not label maps.
        """
        training_size(self.name, image_size, None)
        super().__init__(
            split,
            self.list_files(data_root, val_images=val_images, labels_only=labels_only),
            cache_dir=cache_dir,
            load_size=(image_size, 2 * image_size),
            image_size=(image_size, 2 * image_size),
            instances=instances,
            missing_instances=missing_instances,
            labels_only=labels_only,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(cls, data_root: Path, *, val_images: int = 0, labels_only: bool = False) -> Listing:
        """Photographs of all splits, or label maps where ``labels_only``; arguments as for the class.

        Raises:
            UserError: a folder is missing, or there is nothing in it.
        """
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / "cityscapes")
        folder, suffixes = ("gtFine", (LABELS,)) if labels_only else ("leftImg8bit", PHOTOGRAPHS)
        cls.existing(root / folder)
        train, val = (
            [f"{folder}/{part}/{path}" for path in find_images(root / folder / part) if path.endswith(suffixes)]
            for part in ("train", "val")
        )
        splits = hold_out_val(public_splits(train, val), val_images)
        return cls.not_empty(Listing(root, splits, VAL_IS_TEST, cls.public_images))

    def companions(self, path: str) -> Companions:
        folder, *inner = PurePosixPath(path).parts
        frame = "/".join(inner)
        for suffix in PHOTOGRAPHS if folder == "leftImg8bit" else (LABELS,):
            frame = frame.removesuffix(suffix)
        name = PurePosixPath(frame).name
        return Companions(name, f"gtFine/{frame}{LABELS}", f"gtFine/{frame}{INSTANCES}")


class ADE20K(SemanticImages):
    """ADE20K, SceneParsing benchmark (Table 5): 20,210 training and 2,000 validation images, 151 label channels.

    Ids stay as they are in the files, 0 for other and 1 ... 150 for the classes: SPADE's code means to shift them
    but drops the result, and its released weights expect that. The public validation images are the test split.
    """

    name = "ade20k"
    source = "ADEChallengeData2016.zip: http://sceneparsing.csail.mit.edu, its content as ade20k/"
    public_images = 22_210
    # SPADE's label_nc, which is also the id of the last class; the public maps hold no 255.
    label_ids = LabelIds(151, 150, "use annotations/ of ADEChallengeData2016 (not the full ADE20K)")

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: int = 256,
        load_size: int | None = 286,
        labels_only: bool = False,
        horizontal_flip: bool = True,
        val_images: int = 0,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """List the files and open the cache.

        Args:
            split: "train", "val" or "test".
            data_root: folder that holds ``ade20k/``.
            cache_dir: folder for the decoded arrays.
            image_size: H = W of a batch.
            load_size: side that training items are resized to before the random crop; None for no crop.
            val_images: images held out of train for val.
            labels_only, horizontal_flip, on_error, workers: see ``SemanticImages``.
        Raises:
            UserError: files are missing, unreadable or not label maps.
        """
        loaded = training_size(self.name, image_size, load_size)
        side = loaded if split == "train" else image_size
        super().__init__(
            split,
            self.list_files(data_root, val_images=val_images, labels_only=labels_only),
            cache_dir=cache_dir,
            load_size=(side, side),
            image_size=(image_size, image_size),
            labels_only=labels_only,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(cls, data_root: Path, *, val_images: int = 0, labels_only: bool = False) -> Listing:
        """Photographs of all splits, or label maps where ``labels_only``; arguments as for the class.

        Raises:
            UserError: a folder is missing, or there is nothing in it.
        """
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / "ade20k")
        folder = "annotations" if labels_only else "images"
        cls.existing(root / folder)
        train, val = (
            [f"{folder}/{part}/{path}" for path in find_images(root / folder / part)]
            for part in ("training", "validation")
        )
        splits = hold_out_val(public_splits(train, val), val_images)
        return cls.not_empty(Listing(root, splits, VAL_IS_TEST, cls.public_images))

    def companions(self, path: str) -> Companions:
        inner = PurePosixPath(*PurePosixPath(path).parts[1:]).with_suffix(".png")
        return Companions(inner.stem, f"annotations/{inner.as_posix()}")


class CelebAMaskHQ(SemanticImages):
    """CelebAMask-HQ (Lee et al., CVPR 2020): 30,000 faces with parsing maps of 19 classes, 0 for background.

    ``celeba_hq/N.jpg`` and ``celeba_hq_mask/N.png``. Splits are those of ``celeba_hq``: a tenth, drawn by number, is
    test. Mirroring exchanges the ids of left and right eye, brow and ear.
    """

    name = "celeba_mask_hq"
    source = (
        "CelebAMask-HQ: https://github.com/switchablenorms/CelebAMask-HQ, whose g_mask.py merges the masks of the "
        "parts into celeba_hq_mask/N.png"
    )
    public_images = 30_000
    label_ids = LabelIds(19, None, "use the maps of class ids that CelebAMask-HQ's g_mask.py makes")
    # g_mask.py: 4, 5 eyes; 6, 7 brows; 8, 9 ears.
    mirrored: ClassVar[Mapping[int, int]] = {4: 5, 5: 4, 6: 7, 7: 6, 8: 9, 9: 8}

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: int = 256,
        labels_only: bool = False,
        horizontal_flip: bool = False,
        val_images: int = 0,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """List the files and open the cache.

        Args:
            split: "train", "val" or "test".
            data_root: folder that holds ``celeba_hq/`` and ``celeba_hq_mask/``.
            cache_dir: folder for the decoded arrays.
            image_size: H = W of a batch.
            val_images: images held out of train for val.
            labels_only, horizontal_flip, on_error, workers: see ``SemanticImages``.
        Raises:
            UserError: files are missing, unreadable or not label maps.
        """
        training_size(self.name, image_size, None)
        super().__init__(
            split,
            self.list_files(data_root, val_images=val_images, labels_only=labels_only),
            cache_dir=cache_dir,
            load_size=(image_size, image_size),
            image_size=(image_size, image_size),
            labels_only=labels_only,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(cls, data_root: Path, *, val_images: int = 0, labels_only: bool = False) -> Listing:
        """Photographs of all splits, or label maps where ``labels_only``; arguments as for the class.

        Raises:
            UserError: a folder is missing, or there is nothing in it.
        """
        masks = cls.existing(data_root / MASKS)
        if labels_only:
            check_val_images(cls.name, val_images)
            paths = find_images(masks, recursive=False)
            count = num_test_images(len(paths), CelebAHQ.paper_test_images, fraction=0.1)
            drawn = draw_splits(paths, count, val_images)
            rule, prefix = f"{count} test images drawn by number", MASKS
        else:
            cls.existing(data_root / "celeba_hq")
            photographs = CelebAHQ.list_files(data_root, val_images=val_images)
            drawn, rule = dict(photographs.splits), photographs.rule
            prefix = photographs.root.relative_to(data_root).as_posix()
        splits = {split: [f"{prefix}/{path}" for path in paths] for split, paths in drawn.items()}
        return cls.not_empty(Listing(data_root, splits, rule, cls.public_images))

    def companions(self, path: str) -> Companions:
        number = PurePosixPath(path).stem
        return Companions(number, f"{MASKS}/{number}.png")
