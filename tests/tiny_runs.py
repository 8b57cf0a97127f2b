"""What tests of small training runs share."""

import hashlib

import torch

# The smallest autoencoder run that can be trained, validated and evaluated.
TINY = [
    "dataset.image_size=16",
    "dataset.train_images=32",
    "dataset.val_images=8",
    "dataset.test_images=20",
    "trainer.batch_size=8",
    "trainer.steps=4",
    "trainer.val_images=8",
]


def state_hash(state: object) -> str:
    """Digest of everything that a checkpoint holds: weights, optimiser state, counters."""
    digest = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.numpy().tobytes())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            digest.update(repr(value).encode())

    add(state)
    return digest.hexdigest()
