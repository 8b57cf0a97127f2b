"""Images that a trained model generates for an evaluation, beside the real ones, both in 8 bits as metrics take them.

An image depends on its index and the seed of the evaluation alone, so that neither the size of a batch nor the number
of processes changes a value.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ffl.errors import UserError
from ffl.files import report_failed_writes
from ffl.images import Protocol as Quantisation
from ffl.images import from_uint8, to_uint8
from ffl.training import distributed
from ffl.training.evaluation import EvaluationBatch
from ffl.training.logger import save_png
from ffl.training.model import Model, Task
from ffl.training.trainer import to_device


class NamedImages(Protocol):
    """What an evaluation needs of a data set; see ``datasets.ImageDataset``.

    Attributes:
        image_size: (H, W).
        names: one per item, fit for a file name.
    """

    image_size: tuple[int, int]
    names: list[str]

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Any]:
        """Items as uint8 tensors, without augmentation where ``seed`` is None."""
        ...


def has_real_images(dataset: NamedImages) -> bool:
    """Whether a data set has images to compare with; one of label maps alone has none."""
    return "image" in dataset.batch(np.arange(1), None)


@dataclass(frozen=True)
class RealImages:
    """The first images of a data set in batches, which may be iterated several times.

    Attributes:
        dataset: that they are from.
        count: number of images.
        batch_size: images of a batch.
        quantisation: see ``ffl.images``.
    """

    dataset: NamedImages
    count: int
    batch_size: int
    quantisation: Quantisation

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(0, self.count, self.batch_size):
            yield self.batch(first)

    def batch(self, first: int) -> Tensor:
        """The batch that begins with image ``first``: uint8 (N, 3, H, W), N = 0 beyond the last image."""
        indices = np.arange(first, max(first, min(first + self.batch_size, self.count)))
        return to_uint8(from_uint8(self.dataset.batch(indices, None)["image"]), self.quantisation)


def generated_images(
    model: Model, task: Task, num_images: int, real: RealImages, seed: int, done: int = 0
) -> Iterator[EvaluationBatch]:
    """Batches of generated images beside real ones; each process makes its share of the batches.

    Args:
        model: in evaluation mode, on its device.
        task: synthesis, whose images have no partner and may be more or fewer than the real ones; or another, for which
            each item of the data set becomes an image.
        num_images: images to generate.
        real: the images to compare with, as many as are generated unless the task is synthesis.
        seed: of the evaluation.
        done: batches of this process to leave out, the first ones.
    Raises:
        UserError: if the model makes NaN or infinities.
    """
    device = next(model.parameters()).device
    dataset = real.dataset
    no_images = torch.empty(0, 3, *dataset.image_size, dtype=torch.uint8)
    for first in distributed.share(range(0, max(num_images, real.count), real.batch_size))[done:]:
        indices = np.arange(first, max(first, min(first + real.batch_size, num_images)))
        index = torch.from_numpy(indices)

        # Synthesis starts from the index alone; every other task from an item, which the real image belongs to.
        if task == "synthesis":
            inputs = {"index": index.to(device)}
            names = [f"{number:06d}" for number in indices]
            real_images = real.batch(first)
        else:
            inputs = to_device(dataset.batch(indices, None), device)
            names = [dataset.names[number] for number in indices]
            real_images = to_uint8(inputs["image"], real.quantisation) if "image" in inputs else no_images

        # Beyond the last image to generate only real ones are left, which a metric of two sets still has to see.
        fake_images = no_images
        if len(indices):
            # A segmenter makes no images: the real ones are judged by it.
            generated = inputs["image"] if task == "segmentation" else model.generate(inputs, task, seed)
            if not generated.isfinite().all():
                raise UserError(
                    "the model's images hold NaN or infinities: its weights have diverged; take another checkpoint"
                )
            fake_images = to_uint8(generated, real.quantisation)
        yield EvaluationBatch(real_images, fake_images, names, index, inputs.get("label"))


def save_images(batches: Iterator[EvaluationBatch], folder: Path) -> Iterator[EvaluationBatch]:
    """Yield the same batches, and write their generated images to ``folder`` as PNG files under their names."""
    for batch in batches:
        with report_failed_writes(folder, "make room, or set out=DIR"):
            for name, image in zip(batch.names, batch.fake, strict=True):
                save_png(folder / f"{name}.png", image)
        yield batch
