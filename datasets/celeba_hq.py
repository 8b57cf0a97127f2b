"""CelebA-HQ (Karras et al., ICLR 2018)."""

from pathlib import Path
from typing import ClassVar

from datasets.files import SquareImages
from datasets.listing import Listing, draw_splits, find_images, num_test_images


class CelebAHQ(SquareImages):
    """``celeba_hq/N.jpg`` or ``.png`` of any resolution: 30,000 images.

    The paper splits at random into 27,000 and 3,000 and gives no list. Ours is drawn by number
    (``listing.draw_order``), a tenth for test, and is the same for every resolution and file format.
    """

    name = "celeba_hq"
    source = "CelebA-HQ: https://github.com/switchablenorms/CelebAMask-HQ"
    public_images = 30_000
    defaults: ClassVar = {"image_size": 256}

    @classmethod
    def list_files(cls, data_root: Path) -> Listing:
        """See ``FileImages.list_files``."""
        root = cls.existing(data_root / "celeba_hq")
        # CelebAMask-HQ puts the images into a sub-folder, beside masks that are images too.
        root = next((root / name for name in ("CelebA-HQ-img", "images") if (root / name).is_dir()), root)
        images = find_images(root, recursive=False)
        count = num_test_images(len(images), wanted=3000, fraction=0.1)
        return Listing(root, draw_splits(images, count), f"{count} test images drawn by number")
