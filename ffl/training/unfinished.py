"""Where an evaluation stands, on disk, so that one that was cut goes on and ends with the same numbers.

Images depend on their index and on the seed of the evaluation alone, and metrics are sums or lists over batches in a
fixed order: with the states of all metrics after batch k, batches k + 1, k + 2, … give to the last bit what they would
have given. Each process has a file of its own, since each has its own batches.
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchmetrics import Metric

from ffl.errors import UserError
from ffl.training import distributed
from ffl.training.checkpoint import DamagedError, read_archive, save_checkpoint
from ffl.training.provenance import content_hash

log = logging.getLogger(__name__)

# 5,000 images of the usual batches. What a metric keeps of every image is written again each time.
SAVE_EVERY = 50


@dataclass(frozen=True)
class Progress:
    """How far a process is.

    Attributes:
        batches: of this process that its metrics have seen.
        images: generated ones among them.
        seconds: that they took, over all sessions.
    """

    batches: int = 0
    images: int = 0
    seconds: float = 0.0


class UnfinishedEvaluation:
    """The states of the metrics of this process, beside the record that they will become.

    Args:
        record: path of the record, such as ``metrics.json``; the states go to ``metrics.unfinished-0of1.pt``.
        identity: everything that decides on the numbers and that ``measure`` does not know; any other content of the
            file is left alone, and overwritten.
    """

    def __init__(self, record: Path, identity: Mapping[str, Any]) -> None:
        self.record = record
        self.identity = dict(identity)
        self.path = record.with_name(f"{record.stem}.unfinished-{distributed.rank()}of{distributed.world_size()}.pt")

    def resume(self, metrics: Mapping[str, Metric], meaning: Mapping[str, Any]) -> Progress:
        """Give metrics the states that were saved, where those are of this very evaluation.

        Args:
            metrics: by name, as they are before the first batch.
            meaning: what else decides on the numbers: their protocols, the images and the code.
        """
        self.key = content_hash([self.identity, meaning, sorted(metrics), distributed.world_size()])
        if not self.path.is_file():
            return Progress()
        try:
            saved = read_archive(self.path)
            if saved["key"] != self.key:
                log.info("%s is of another evaluation; beginning anew", self.path)
                return Progress()
            progress = Progress(**saved["progress"])
            # All or nothing: no metric is touched before it is known that all states are there.
            states = {
                name: {state: saved["states"][name][state] for state in metrics[name].metric_state} for name in metrics
            }
        except (DamagedError, UserError, KeyError, TypeError) as error:
            log.warning("%s cannot be used (%s); beginning anew", self.path, error)
            return Progress()
        for name, metric in metrics.items():
            for state, value in states[name].items():
                rows = [part.to(metric.device) for part in value] if isinstance(value, list) else None
                setattr(metric, state, value.to(metric.device) if rows is None else rows)
        return progress

    def save(self, metrics: Mapping[str, Metric], progress: Progress) -> None:
        """Write the states of all metrics; a disk that is full costs the states alone and not the evaluation."""
        try:
            save_checkpoint(
                self.path,
                {
                    "key": self.key,
                    "progress": dataclasses.asdict(progress),
                    "states": {name: metric.metric_state for name, metric in metrics.items()},
                },
            )
        except OSError as error:
            log.warning("%s cannot be written (%s): if this evaluation is cut, it begins anew", self.path, error)

    def remove(self) -> None:
        """Remove the states of all processes: the record is there. Call on process 0 alone."""
        # The second pattern is of what a process leaves that is killed while it writes.
        for pattern in (f"{self.record.stem}.unfinished-*.pt", f".{self.record.stem}.unfinished-*"):
            for path in self.record.parent.glob(pattern):
                path.unlink(missing_ok=True)
