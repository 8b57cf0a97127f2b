"""The shared training loop: run directories, checkpoints, randomness, logging."""
