"""Photographs with label maps, for semantic image synthesis, prepared as SPADE does (Park et al., CVPR 2019)."""

import logging
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from datasets.base import Split
from datasets.celeba_hq import CelebAHQ
from datasets.files import FileImages, Preparation, training_size
from datasets.label_maps import LabelIds, SemanticDecoder
from datasets.listing import Listing, draw_splits, find_images, num_test_images
from ffl.errors import UserError
from ffl.ranges import Count

log = logging.getLogger(__name__)

VAL_IS_TEST = "the published val is the test split"


@dataclass(frozen=True)
class Companions:
    """The maps that belong to a photograph: paths relative to the listing's root; ``instance`` where there is one."""

    name: str
    label: str
    instance: str | None = None


class SemanticImages(FileImages):
    """Label maps, and the photographs they describe unless ``labels_only``.

    Batches hold ``label`` int64 (N, H, W), ``image`` uint8 (N, 3, H, W) unless ``labels_only``, and ``instance``
    int64 (N, H, W) where instances are used.

    Attributes:
        label_ids: the ids that label maps hold; a model needs ``label_ids.count`` channels for them.
    """

    label_ids: ClassVar[LabelIds]
    defaults: ClassVar = {"image_size": 256}

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """See ``ImageDataset.provides``."""
        return frozenset({"label"} if options.get("labels_only") else {"label", "image"})

    @classmethod
    def num_labels(cls, **options: Any) -> int:
        """See ``ImageDataset.num_labels``."""
        return cls.label_ids.count

    @classmethod
    def companions(cls, path: str) -> Companions:
        """The maps of an item; ``path`` is as in the listing."""
        raise NotImplementedError

    @classmethod
    def source_files(cls, listing: Listing) -> list[str]:
        """See ``FileImages.source_files``: each photograph and, next to it, those of its maps that are there."""
        files: dict[str, None] = {}
        for path in super().source_files(listing):
            maps = cls.companions(path)
            files |= {file: None for file in (path, maps.label, maps.instance) if file and listing.has(file)}
        return list(files)

    @classmethod
    def prepare(
        cls, split: Split, listing: Listing, paths: list[str], size: tuple[int, int], *, labels_only: bool = False
    ) -> Preparation:
        """See ``FileImages``.

        Args:
            split, listing, paths, size: see ``FileImages``.
            labels_only: use no photographs.
        """
        return cls.with_maps(split, listing, paths, size, labels_only)

    @classmethod
    def with_maps(
        cls,
        split: Split,
        listing: Listing,
        paths: list[str],
        size: tuple[int, int],
        labels_only: bool,
        instances: Literal["maps", "labels", "none"] = "none",
        missing_instances: Literal["fail", "labels"] = "fail",
    ) -> Preparation:
        """Photographs matched with their maps, decoded at ``size`` (h, w), aspect not kept.

        Args:
            split, listing, paths: see ``FileImages``.
            size: of all arrays.
            labels_only: use no photographs.
            instances: "maps" for the data set's instance maps, "labels" for label maps in their place (edges between
                labels instead of objects), "none" for no ``instance``.
            missing_instances: for items without an instance map: "fail", or "labels" as above, counted and logged.
        Raises:
            UserError: a map is missing.
        """
        # Every photograph needs its label map.
        companions = [cls.companions(path) for path in paths]
        missing = [maps.label for maps in companions if not listing.has(maps.label)]
        if missing:
            raise UserError(
                f"dataset {cls.name}: {len(missing)} of {len(paths)} items of the {split} split have no label map, "
                f"such as {listing.root / missing[0]}; {cls.source}"
            )
        # Instance maps may be fewer: some copies of Cityscapes come without.
        wanted = [maps.instance if instances == "maps" else None for maps in companions]
        has_map = [file is not None and listing.has(file) for file in wanted]
        absent = [maps.instance for maps, there in zip(companions, has_map, strict=True) if not there]
        if instances == "maps" and absent:
            how_many = f"{len(absent)} of {len(paths)} items of the {split} split have no instance map"
            if missing_instances == "fail":
                raise UserError(
                    f"dataset {cls.name}: {how_many}, such as {absent[0]}; set missing_instances=labels to draw edges "
                    "between labels for them, or instances=labels for all, or instances=none"
                )
            log.warning("%s: %s; their edges are those between labels", cls.name, how_many)
        # The files of an item, in the order that ``SemanticDecoder`` takes them.
        items = []
        for path, maps, there in zip(paths, companions, has_map, strict=True):
            files = (None if labels_only else path, maps.label, maps.instance if there else None)
            items.append(tuple(file for file in files if file is not None))
        decoder = SemanticDecoder(*size, cls.label_ids, image=not labels_only, instance=instances != "none")
        return Preparation(items, [maps.name for maps in companions], decoder)


class Cityscapes(SemanticImages):
    """Cityscapes (Table 5): 2,975 train and 500 val frames, 35 label channels (ids 0 ... 33; 34 is never used).

    Frames are resized to 512 x 256 as a whole; training mirrors them. The public val frames are the test split.
    Photographs may be PNG files, as published, or JPEG.
    """

    name = "cityscapes"
    source = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com"
    public_images = 3475
    aspect = 2
    defaults: ClassVar = {"image_size": 256, "horizontal_flip": True}
    # 255 would need a channel 35 that SPADE's Cityscapes models do not have.
    label_ids = LabelIds(35, None, "use the *_gtFine_labelIds.png files (not color, not labelTrainIds)")

    @classmethod
    def provides(cls, **options: Any) -> frozenset[str]:
        """See ``ImageDataset.provides``."""
        instances = {"instance"} if options.get("instances") != "none" else set()
        return super().provides(**options) | instances

    @classmethod
    def list_files(cls, data_root: Path, *, labels_only: bool = False) -> Listing:
        """Photographs of all splits, or label maps where ``labels_only``; see ``FileImages.list_files``."""
        root = cls.existing(data_root / "cityscapes")
        folder = "gtFine" if labels_only else "leftImg8bit"
        endings = ("_gtFine_labelIds.png",) if labels_only else ("_leftImg8bit.png", "_leftImg8bit.jpg")
        cls.existing(root / folder)
        train, val = (
            [f"{folder}/{part}/{path}" for path in find_images(root / folder / part) if path.endswith(endings)]
            for part in ("train", "val")
        )
        return Listing(root, {"train": train, "test": val}, VAL_IS_TEST)

    @classmethod
    def companions(cls, path: str) -> Companions:
        """See ``SemanticImages.companions``."""
        _, *folders, file = PurePosixPath(path).parts
        frame = file.rpartition("_leftImg8bit.")[0] or file.removesuffix("_gtFine_labelIds.png")
        maps = "/".join(["gtFine", *folders, frame])
        return Companions(frame, f"{maps}_gtFine_labelIds.png", f"{maps}_gtFine_instanceIds.png")

    @classmethod
    def prepare(
        cls,
        split: Split,
        listing: Listing,
        paths: list[str],
        size: tuple[int, int],
        *,
        labels_only: bool = False,
        instances: Literal["maps", "labels", "none"] = "maps",
        missing_instances: Literal["fail", "labels"] = "fail",
    ) -> Preparation:
        """See ``SemanticImages.with_maps``."""
        return cls.with_maps(split, listing, paths, size, labels_only, instances, missing_instances)


class ADE20K(SemanticImages):
    """ADE20K, SceneParsing benchmark (Table 5): 20,210 training and 2,000 validation images, 151 label channels.

    Ids stay as they are in the files, 0 for other and 1 ... 150 for the classes: SPADE's code means to shift them
    but drops the result, and its released weights expect that. The public validation images are the test split.
    """

    name = "ade20k"
    source = "ADEChallengeData2016.zip: http://sceneparsing.csail.mit.edu, its content as ade20k/"
    public_images = 22_210
    defaults: ClassVar = {"image_size": 256, "horizontal_flip": True}
    # SPADE's label_nc, which is also the id of the last class; the public maps hold no 255.
    label_ids = LabelIds(151, 150, "use annotations/ of ADEChallengeData2016 (not the full ADE20K)")

    @classmethod
    def list_files(cls, data_root: Path, *, labels_only: bool = False) -> Listing:
        """Photographs of all splits, or label maps where ``labels_only``; see ``FileImages.list_files``."""
        root = cls.existing(data_root / "ade20k")
        folder = "annotations" if labels_only else "images"
        cls.existing(root / folder)
        train, val = (
            [f"{folder}/{part}/{path}" for path in find_images(root / folder / part)]
            for part in ("training", "validation")
        )
        return Listing(root, {"train": train, "test": val}, VAL_IS_TEST)

    @classmethod
    def companions(cls, path: str) -> Companions:
        """See ``SemanticImages.companions``."""
        inner = PurePosixPath(*PurePosixPath(path).parts[1:]).with_suffix(".png")
        return Companions(inner.stem, f"annotations/{inner.as_posix()}")

    @classmethod
    def prepare(
        cls,
        split: Split,
        listing: Listing,
        paths: list[str],
        size: tuple[int, int],
        *,
        labels_only: bool = False,
        load_size: Count | None = 286,
    ) -> Preparation:
        """See ``SemanticImages.with_maps``.

        Args:
            split, listing, paths, size, labels_only: see there.
            load_size: side that training items are resized to before the random crop; None for no crop.
        """
        return cls.with_maps(split, listing, paths, training_size(cls.name, split, size, load_size), labels_only)


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
    mirrored_ids: ClassVar = {4: 5, 5: 4, 6: 7, 7: 6, 8: 9, 9: 8}

    @classmethod
    def list_files(cls, data_root: Path, *, labels_only: bool = False) -> Listing:
        """Photographs of all splits, or label maps where ``labels_only``; see ``FileImages.list_files``."""
        masks = cls.existing(data_root / "celeba_hq_mask")
        if labels_only:
            paths = find_images(masks, recursive=False)
            count = num_test_images(len(paths), wanted=3000, fraction=0.1)
            listing = Listing(masks, draw_splits(paths, count), f"{count} test images drawn by number")
        else:
            cls.existing(data_root / "celeba_hq")
            listing = CelebAHQ.list_files(data_root)
        folder = listing.root.relative_to(data_root).as_posix()
        splits = {split: [f"{folder}/{path}" for path in paths] for split, paths in listing.splits.items()}
        return Listing(data_root, splits, listing.rule)

    @classmethod
    def companions(cls, path: str) -> Companions:
        """See ``SemanticImages.companions``."""
        number = PurePosixPath(path).stem
        return Companions(number, f"celeba_hq_mask/{number}.png")
