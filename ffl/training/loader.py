"""Batches as a pure function of the step, prepared one step ahead in a background thread.

Images come from a memory-mapped cache, so that worker processes would have nothing to decode. Resuming at step k is
asking for the batch of step k.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from ffl.errors import UserError
from ffl.training.randomness import augmentation_seed, epoch_order


class IndexedImages(Protocol):
    """What training needs of a data set: its images by index."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Any]:
        """Items as uint8 tensors; ``seed`` drives augmentation, None turns it off."""
        ...


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches of an epoch.

    Raises:
        UserError: if there are fewer images than one batch.
    """
    if batch_size > images:
        raise UserError(
            f"trainer.batch_size={batch_size}: the training split has only {images} images; choose a smaller batch"
        )
    return images // batch_size


class Loader:
    """Training batches of one data set, whole or in shards.

    Every epoch visits the images in a new order and drops the incomplete last batch, so that all steps are alike.
    A step's batch is dealt into shards of equal size. What a shard holds does not depend on the number of processes,
    each of which takes some of the shards.

    Args:
        dataset: where items come from.
        batch_size: images of a step, over all shards.
        seed: of the run.
        num_shards: parts of a batch.
        shards: numbers of those that this process takes; None for all.
    Raises:
        UserError: if the data set has fewer images than one batch, or a batch is no multiple of the shards.
    """

    def __init__(
        self, dataset: IndexedImages, batch_size: int, seed: int, num_shards: int = 1, shards: list[int] | None = None
    ) -> None:
        # Shards of several sizes would weight their images differently, since gradients are means over shards.
        if batch_size % num_shards:
            raise UserError(
                f"trainer.batch_size={batch_size}: must be a multiple of {num_shards}, the number of processes times "
                "trainer.accumulate"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.num_shards = num_shards
        self.shards = list(range(num_shards)) if shards is None else shards
        self.steps_per_epoch = steps_per_epoch(len(dataset), batch_size)

    def batch(self, step: int) -> dict[int, dict[str, Any]]:
        """The shards of step ``step``, counted from 0 over all epochs, by number."""
        # Order and augmentation follow from the epoch alone, so that a resumed run needs no position to restore.
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.seed, epoch, len(self.dataset))
        indices = order[position * self.batch_size : (position + 1) * self.batch_size]
        # Dealt out in turn: shards of one size whatever the batch holds.
        augmentation = augmentation_seed(self.seed, epoch)
        return {shard: self.dataset.batch(indices[shard :: self.num_shards], augmentation) for shard in self.shards}

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, dict[int, dict[str, Any]]]]:
        """(step, shards) for each step in [start, stop); errors of the background thread are raised here."""
        # One step ahead hides the gathering; more would only hold memory.
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as executor:
            ahead = executor.submit(self.batch, start) if start < stop else None
            for step in range(start, stop):
                assert ahead is not None
                batch = ahead.result()
                ahead = executor.submit(self.batch, step + 1) if step + 1 < stop else None
                yield step, batch
