"""Oxford Flowers 102 (Nilsback and Zisserman, 2008): an example of a new data set of square images in one file."""

from pathlib import Path
from typing import Annotated, ClassVar

from datasets.files import SquareImages
from datasets.listing import Listing, draw_splits, find_images, num_test_images
from ffl.ranges import Range


class Flowers(SquareImages):
    """``flowers/jpg/image_NNNNN.jpg``: 8,189 images; the test images are drawn by file name."""

    name = "flowers"
    source = "Oxford Flowers 102: https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
    public_images = 8189
    defaults: ClassVar = {"image_size": 16, "val_images": 2}

    @classmethod
    def list_files(cls, data_root: Path, *, test_fraction: Annotated[float, Range(0, 1)] = 0.25) -> Listing:
        """See ``FileImages.list_files``."""
        root = cls.existing(data_root / "flowers" / "jpg")
        images = find_images(root)
        count = num_test_images(len(images), len(images), test_fraction)
        return Listing(root, draw_splits(images, count), f"{count} test images drawn by file name")
