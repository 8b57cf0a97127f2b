"""The reports of a run to people: a progress bar, TensorBoard, a JSON line for each interval, sample grids."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from ffl.errors import SharedError
from ffl.files import atomic_write
from ffl.images import to_uint8
from ffl.progress import progress_bar
from ffl.spectrum import log_spectrum
from ffl.training import distributed
from ffl.training.model import Batch
from ffl.training.run_directory import RunDirectory


class Logger:
    """Collects the losses of each step and reports them from time to time.

    Losses stay on the device until then, so that no step waits for the host. All processes of a run take part in a
    report, and process 0 writes it.

    Args:
        run: where to write.
        start: step that the run begins or resumes at.
        total: its last step.
        batch_size: images of a step.
    """

    def __init__(self, run: RunDirectory, start: int, total: int, batch_size: int) -> None:
        self.run = run
        self.batch_size = batch_size
        self.latest: dict[str, float] = {}
        self.latest_shares: dict[str, float] = {}
        self.bar = progress_bar(total, run.path.name, "step", initial=start, shown=distributed.rank() == 0)
        # A resumed run draws its curves over what a killed session drew after the checkpoint.
        self.board = SummaryWriter(str(run.tensorboard), purge_step=start + 1) if distributed.rank() == 0 else None
        self.pending: list[tuple[int, list[str], Tensor]] = []
        self.clock = time.perf_counter()

    def step(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep the losses of one finished step, named ``phase/term``, until the next report; steps count from 1."""
        self.pending.append((step, list(terms), torch.stack([term.detach().float() for term in terms.values()])))
        self.bar.update()

    def report(self, shares: dict[str, float], lr: float, weights: Mapping[str, float]) -> None:
        """Write the mean losses since the last report.

        Args:
            shares: of the gradient at the generator's output, by ``phase/term``.
            lr: learning rate of the first phase.
            weights: of terms that ``loss.share`` has set, by term.
        Raises:
            UserError: if a loss was not finite; names the first such step and term.
        """
        if not self.pending:
            return

        # Average over processes, and fetch from the device what no step has waited for. The mean is the same in all
        # processes, so that all of them stop at a loss that is not finite, and before it reaches a checkpoint.
        sums: dict[str, list[float]] = {}
        for step, names, values in self.pending:
            distributed.all_reduce_mean(values)
            for name, value in zip(names, values.tolist(), strict=True):
                if not math.isfinite(value):
                    there = self.run.last.is_file()
                    saved = f"the last checkpoint before it is {self.run.last}" if there else "no checkpoint yet"
                    raise SharedError(
                        f"loss {name} became {value} at step {step}; {saved}. Lower the learning rate or the weight of "
                        "that term"
                    )
                sums.setdefault(name, []).append(value)

        # Average over steps; a phase that was not due in all of them counts where it was.
        self.latest = {name: sum(values) / len(values) for name, values in sums.items()}
        self.latest_shares = shares or self.latest_shares
        step, seconds = self.pending[-1][0], time.perf_counter() - self.clock
        speed = len(self.pending) * self.batch_size / seconds
        self.pending, self.clock = [], time.perf_counter()

        # Write the same numbers for the eye and, as a line of the log, for figures and tables.
        if self.board is None:
            return
        shown = {name.rsplit("/", 1)[-1]: f"{value:.4g}" for name, value in self.latest.items()}
        self.bar.set_postfix(shown, refresh=False)  # the bar is drawn when it is due
        for name, value in self.latest.items():
            self.board.add_scalar(f"loss/{name}", value, step)
        for name, share in shares.items():
            self.board.add_scalar(f"gradient_share/{name}", share, step)
        for name, weight in weights.items():
            self.board.add_scalar(f"loss_weight/{name}", weight, step)
        self.board.add_scalar("images_per_second", speed, step)
        self.run.append_log(
            {
                "step": step,
                "images": step * self.batch_size,
                "losses": self.latest,
                "gradient_share": shares,
                "loss_weight": dict(weights),
                "lr": lr,
                "images_per_second": round(speed, 1),
            }
        )

    def samples(self, step: int, batch: Batch, fake: Tensor) -> None:
        """Save a grid of images with their spectra: a row of inputs, one of real and one of generated images.

        Args:
            step: for the file name.
            batch: its ``source``, ``label`` and ``image`` are shown where it has them.
            fake: (N, 3, H, W) in [-1, 1].
        """
        assert self.board is not None
        # The rounded protocol, since these are to look at and not to measure.
        given = [batch["source"]] if "source" in batch else []
        rows = [*([batch["image"]] if "image" in batch else []), fake]
        pictures = [to_uint8(row, "rounded") for row in (*given, *rows)]
        if "label" in batch:
            pictures.insert(0, label_colours(batch["label"]))
        grid = make_grid(torch.cat(pictures), nrow=len(fake), padding=2, pad_value=255)
        save_png(self.run.samples / f"step_{step:07d}.png", grid)
        self.board.add_image("samples", grid, step)
        # Spectra of real and generated images on one scale of grey, so that missing frequencies show.
        spectra = torch.stack([log_spectrum(row) for row in rows])[:, None]
        spectra = (spectra - spectra.min()) / (spectra.max() - spectra.min()).clamp_min(1e-12)
        self.board.add_image("log_spectra", make_grid(spectra, nrow=len(rows), padding=2, pad_value=1), step)

    def validation_error(self, step: int, value: float) -> None:
        """Draw the validation error as a curve."""
        assert self.board is not None
        self.board.add_scalar("validation_error", value, step)

    def close(self) -> None:
        """Finish the bar and flush TensorBoard."""
        self.bar.close()
        if self.board is not None:
            self.board.close()


def label_colours(label: Tensor) -> Tensor:
    """Label maps int64 (N, H, W) as pictures uint8 (N, 3, H, W): a fixed colour for each id."""
    # Steps of the golden ratio around the circle of hues: neighbouring ids differ clearly, however many there are.
    hues = torch.arange(256).mul(0.61803398875).remainder(1)
    phases = torch.tensor([0.0, 1 / 3, 2 / 3])
    palette = 127.5 + 100 * torch.cos(2 * torch.pi * (hues[:, None] - phases))
    return palette.to(torch.uint8).to(label.device)[label % 256].movedim(-1, 1)


def save_png(path: Path, image: Tensor) -> None:
    """Write a uint8 (3, H, W) image atomically."""
    with atomic_write(path) as file:
        Image.fromarray(image.permute(1, 2, 0).cpu().numpy()).save(file, format="PNG")
