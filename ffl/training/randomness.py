"""All randomness of a run, derived from (seed, purpose, counters).

Nothing is drawn from a generator that lives on between steps, so a run that was cut and resumed draws what the
unbroken run would have drawn, whatever the number of loader threads.
"""

import numpy as np
import torch

# One stream per purpose, so that for example the data order stays the same when a model draws more noise.
WEIGHTS, ORDER, STEP, AUGMENTATION = range(4)


def derive_seed(seed: int, purpose: int, *counters: int) -> int:
    """A 63-bit seed for ``purpose`` at ``counters``; all arguments non-negative."""
    # SeedSequence mixes its words well, so that neighbouring seeds and counters give unrelated streams.
    state = np.random.SeedSequence([seed, purpose, *counters]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def seed_weights(seed: int) -> None:
    """Seed torch before a model is built, so that equal seeds give equal initial weights."""
    torch.manual_seed(derive_seed(seed, WEIGHTS))


def seed_step(seed: int, step: int, shard: int, part: int) -> None:
    """Seed torch before a part of a training step, so that dropout and noise depend on these numbers alone.

    Args:
        seed: of the run.
        step: counted from 0.
        shard: of the step's batch, so that it does not matter which process works on it.
        part: of the step: 0 for what phases share, then one number per phase.
    """
    torch.manual_seed(derive_seed(seed, STEP, step, shard, part))


def epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """Order in which ``epoch`` visits the training images, int64 (num_images,)."""
    return np.random.default_rng(derive_seed(seed, ORDER, epoch)).permutation(num_images)


def augmentation_seed(seed: int, epoch: int) -> int:
    """Seed of an epoch's augmentation; data sets combine it with each image's index."""
    return derive_seed(seed, AUGMENTATION, epoch)
