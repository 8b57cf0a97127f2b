"""Images per second of the autoencoder on CelebA, end to end, beside the authors' recipe."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from datasets.celeba import CelebA
from scripts.benchmarks.authors import BATCH_SIZE, train_autoencoder
from scripts.benchmarks.rows import at_least
from scripts.benchmarks.steps import epoch_seconds, train_epochs
from scripts.benchmarks.timing import Conditions, Times, num_cores, round_order

EPOCHS = 3
ROUNDS = 3
WORKERS = (2, 4, 8)  # decoding processes of the authors' loader, as far as there are cores; the best is the peer
SPEEDUP = 3.0


def measure(conditions: Conditions) -> Iterator[dict[str, Any]]:
    """One row for the first epoch, building of our cache included, and one for the later ones.

    Raises:
        UserError: CelebA is not under ``data_root``.
    """
    # Both train on the same files, which the authors' loader decodes anew in every epoch.
    listing = CelebA.find_files(conditions.data_root)
    files = [listing.root / path for path in listing.splits["train"]]
    device, batch_size = conditions.device, 8 if conditions.small else BATCH_SIZE

    def ours(cache: Path) -> Iterator[int]:
        return train_epochs(["dataset=celeba"], conditions.data_root, cache, device, batch_size)

    def authors(workers: int, _: Path) -> Iterator[int]:
        return train_autoencoder(files, workers, device, batch_size)

    arms: dict[str, Callable[[Path], Iterator[int]]] = {"ours": ours}
    for workers in WORKERS[:1] if conditions.small else [n for n in WORKERS if n <= max(2, num_cores())]:
        arms[f"authors, {workers} workers"] = partial(authors, workers)

    # Each starts anew in every round, ours without a cache.
    first: dict[str, list[float]] = {name: [] for name in arms}
    later: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(conditions.rounds or ROUNDS):
        for name in round_order(arms, number):
            with tempfile.TemporaryDirectory() as cache:
                epochs = epoch_seconds(arms[name](Path(cache)), EPOCHS, device)
            per_image = [seconds / images for seconds, images in epochs]
            first[name].append(per_image[0])
            later[name].extend(per_image[1:])

    for which, seconds, bound in (("first", first, 1.0), ("later", later, SPEEDUP)):
        times = Times(seconds)
        peer = min((name for name in arms if name != "ours"), key=times.seconds)
        yield {
            "epochs": which,
            "images": len(files),
            "images_per_second": {name: 1 / times.seconds(name) for name in arms},
            "peer": peer,
            "targets": [at_least("speed-up", times.ratio(peer, "ours"), bound)],
        }
