"""CelebA-HQ (Karras et al., ICLR 2018)."""

from pathlib import Path

from datasets.base import Split
from datasets.cache import OnError
from datasets.files import FileImages
from datasets.listing import Listing, check_val_images, draw_splits, find_images, num_test_images
from ffl.ranges import Count

# CelebAMask-HQ puts the images into a sub-folder, beside masks that are images too.
SUBFOLDERS = ("CelebA-HQ-img", "images")


class CelebAHQ(FileImages):
    """``celeba_hq/N.jpg`` or ``.png`` of any resolution: 30,000 images.

    The paper splits at random into 27,000 and 3,000 and gives no list. Ours is drawn by number
    (``listing.draw_order``), a tenth for test, and is the same for every resolution and file format.
    """

    name = "celeba_hq"
    source = "CelebA-HQ: https://github.com/switchablenorms/CelebAMask-HQ"
    public_images = 30_000
    paper_test_images = 3000

    def __init__(
        self,
        split: Split,
        *,
        data_root: Path,
        cache_dir: Path,
        image_size: int = 256,
        val_images: int = 0,
        horizontal_flip: bool = False,
        on_error: OnError = "fail",
        workers: Count | None = None,
    ) -> None:
        """Args:
        split: "train", "val" or "test".
        data_root: folder that holds ``celeba_hq/``.
        cache_dir: folder for the decoded images.
        val_images: images held out of train for val.
        image_size, horizontal_flip, on_error, workers: see ``FileImages``.
        """
        super().__init__(
            split,
            self.list_files(data_root, val_images=val_images),
            cache_dir=cache_dir,
            image_size=image_size,
            horizontal_flip=horizontal_flip,
            on_error=on_error,
            workers=workers,
        )

    @classmethod
    def list_files(cls, data_root: Path, *, val_images: int = 0) -> Listing:
        """The files of all splits; arguments as for the class.

        Raises:
            UserError: the folder is absent or empty.
        """
        check_val_images(cls.name, val_images)
        root = cls.existing(data_root / "celeba_hq")
        root = next((root / name for name in SUBFOLDERS if (root / name).is_dir()), root)
        images = find_images(root, recursive=False)
        count = num_test_images(len(images), cls.paper_test_images, fraction=0.1)
        splits = draw_splits(images, count, val_images)
        return cls.not_empty(Listing(root, splits, f"{count} test images drawn by number", cls.public_images))
