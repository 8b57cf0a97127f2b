"""Images per second of the autoencoder on CelebA, end to end, beside the authors' recipe."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from datasets.celeba import CelebA
from scripts.benchmarks.authors import BATCH_SIZE, train_autoencoder
from scripts.benchmarks.settings import Settings, num_cores
from scripts.benchmarks.targets import at_least, shown
from scripts.benchmarks.timing import Times
from scripts.benchmarks.training import epoch_seconds, train_ours

EPOCHS = 3
ROUNDS = 3
WORKERS = (2, 4, 8)  # decoding processes of the authors' loader, as far as there are cores; the best is the peer
SPEEDUP = 3.0


def measure(settings: Settings) -> list[dict[str, Any]]:
    """One row for the first epoch, building of our cache included, and one for the later ones; prints both.

    Raises:
        UserError: CelebA is not under ``data_root``.
    """
    listing = CelebA.list_files(settings.data_root)
    files = [listing.root / path for path in listing.splits["train"]]
    batch_size = 8 if settings.small else BATCH_SIZE
    arms: dict[str, Callable[[Path], Iterator[int]]] = {
        "ours": lambda cache: train_ours(["dataset=celeba"], settings.data_root, cache, settings.device, batch_size)
    }
    for workers in WORKERS[:1] if settings.small else [n for n in WORKERS if n <= max(2, num_cores())]:
        arms[f"authors, {workers} workers"] = partial(_authors, files, workers, settings, batch_size)
    first: dict[str, list[float]] = {name: [] for name in arms}
    later: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(settings.rounds_or(ROUNDS)):
        for name in list(arms) if number % 2 else reversed(list(arms)):
            with tempfile.TemporaryDirectory() as cache:
                epochs = epoch_seconds(arms[name](Path(cache)), EPOCHS, settings.device)
            per_image = [seconds / images for seconds, images in epochs]
            first[name].append(per_image[0])
            later[name].extend(per_image[1:])
    rows = []
    for which, seconds, bound in (("first", first, 1.0), ("later", later, SPEEDUP)):
        times = Times(seconds)
        peer = min((name for name in arms if name != "ours"), key=times.seconds)
        row: dict[str, Any] = {
            "epochs": which,
            "images": len(files),
            "images_per_second": {name: 1 / times.seconds(name) for name in arms},
            "peer": peer,
            "targets": [at_least("speed-up", times.ratio(peer, "ours"), bound)],
        }
        rows.append(row)
        speeds = "  ".join(f"{name} {speed:.0f}" for name, speed in row["images_per_second"].items())
        print(f"{which + ' epochs':<13} images per second: {speeds}  {shown(row['targets'][0])}", flush=True)
    return rows


def _authors(files: list[Path], workers: int, settings: Settings, batch_size: int, _: Path) -> Iterator[int]:
    return train_autoencoder(files, workers, settings.device, batch_size)
