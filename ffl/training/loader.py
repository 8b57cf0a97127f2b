"""Batches as a pure function of the step, prepared one step ahead in a background thread.

Images come from a memory-mapped cache, so there is nothing for worker processes to decode; one thread hides the
gathering, and resuming at step k is asking for step k.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from ffl.errors import UserError
from ffl.training.randomness import augmentation_seed, epoch_order


class Images(Protocol):
    """What training needs of a data set."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, seed: int | None) -> dict[str, Any]:
        """Items as uint8 tensors; ``seed`` drives augmentation, None turns it off."""
        ...


class Loader:
    """Training batches of one data set.

    Every epoch visits the images in a new order and drops the incomplete last batch, so that all steps are alike.

    Args:
        dataset: where items come from.
        batch_size: images of a step.
        seed: of the run.
    Raises:
        UserError: if the data set has fewer images than one batch.
    """

    def __init__(self, dataset: Images, batch_size: int, seed: int) -> None:
        if batch_size > len(dataset):
            raise UserError(
                f"trainer.batch_size={batch_size}: the training split has only {len(dataset)} images; "
                "choose a smaller batch"
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = len(dataset) // batch_size

    def batch(self, step: int) -> dict[str, Any]:
        """The batch of step ``step``, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.seed, epoch, len(self.dataset))
        indices = order[position * self.batch_size : (position + 1) * self.batch_size]
        return self.dataset.batch(indices, augmentation_seed(self.seed, epoch))

    def batches(self, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """(step, batch) for each step in [start, stop); errors of the background thread are raised here."""
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as executor:
            ahead = executor.submit(self.batch, start) if start < stop else None
            for step in range(start, stop):
                assert ahead is not None
                batch = ahead.result()
                ahead = executor.submit(self.batch, step + 1) if step + 1 < stop else None
                yield step, batch
