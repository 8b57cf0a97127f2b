"""Makes what a table lacks: trains or resumes a run and evaluates it, alone, several at a time or on a cluster.

Nobody does the same work twice: a lock per run name, which the system drops when its process ends in whatever way,
covers looking for a run, training it and evaluating it. Who finds it taken goes on with the next run and comes back.
"""

import contextlib
import fcntl
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from evaluate import evaluate
from ffl.errors import UserError
from ffl.files import failed_writes
from ffl.training.program import compose
from scripts.reproduction.records import lacking_metrics
from scripts.reproduction.runs import Run, State, state_of, total_steps
from train import train

ROOT = Path(__file__).resolve().parents[2]
# Pixels that an evaluation works on at a time: 100 images of 128x128. The results do not depend on it.
EVALUATED_PIXELS = 100 * 128 * 128


@dataclass(frozen=True)
class Job:
    """A run and what is to be measured of it.

    Attributes:
        run: to train where it is not finished.
        metrics: names by task.
    """

    run: Run
    metrics: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: of its run.
        reason: why there is no result, in one line; None where all is there.
        busy: whether another process has the run.
    """

    name: str
    reason: str | None = None
    busy: bool = False


def do(job: Job, wait: bool) -> Outcome:
    """Train and evaluate what a job lacks.

    Args:
        job: what is wanted.
        wait: for another process that has the run; False gives a busy outcome instead.
    """
    run = job.run
    try:
        if not unfinished(job):
            return Outcome(run.name)
        with _alone(Path(run.config["output_root"]) / ".locks" / run.name, wait) as mine:
            if not mine:
                return Outcome(run.name, busy=True)
            directory = run.find()
            if directory is not None and not directory.wait_for_training(wait):  # a train.py started by itself
                return Outcome(run.name, busy=True)
            _make(job)
    except UserError as error:
        return Outcome(run.name, reason=str(error))
    return Outcome(run.name)


def _make(job: Job) -> None:
    run = job.run
    state = state_of(run)
    if not state.finished and not _as_it_is(state):
        total_steps(run.config)  # says what is missing of the data before anything else is tried
        print(f"\n== {run.command}", flush=True)
        train(run.config, list(run.overrides))
    directory = run.find()
    assert directory is not None
    for task, metrics in job.metrics.items():
        if wanted := lacking_metrics(directory, task, metrics, run.config):
            print(f"\n== evaluating {directory.path}, {task}: {', '.join(wanted)}", flush=True)
            evaluate(compose("evaluate", _evaluation(run, directory.path, task, wanted)))


def _as_it_is(state: State) -> bool:
    """Whether a run can only be taken as it is: its training images are not here to say whether it is finished."""
    return state.total is None and state.step > 0


def unfinished(job: Job) -> bool:
    """Whether there is anything to train or to evaluate."""
    state = state_of(job.run)
    if state.run is None or not (state.finished or _as_it_is(state)):
        return True
    return any(lacking_metrics(state.run, task, names, job.run.config) for task, names in job.metrics.items())


def _evaluation(run: Run, path: Path, task: str, metrics: list[str]) -> list[str]:
    """The overrides of evaluate.py."""
    size = int(run.config["dataset"]["image_size"])
    return [
        f"run='{path}'",
        f"task={task}",
        f"metrics=[{','.join(metrics)}]",
        f"data_root='{run.config['data_root']}'",
        f"cache_dir='{run.config['cache_dir']}'",
        f"batch_size={max(1, min(100, EVALUATED_PIXELS // size**2))}",
    ]


@contextlib.contextmanager
def _alone(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock ``path``; gives False where another process has it and ``wait`` is False."""
    with failed_writes(path.parent, "set output_root=DIR"):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not wait:
                yield False
                return
            print(f"waiting for {path.name}, which another process is making", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield True


Executor = Callable[[list[Job], bool], Iterator[Outcome]]


def do_all(jobs: list[Job], execute: Executor) -> dict[str, str]:
    """Do all jobs, those that other processes have last.

    Args:
        jobs: of distinct runs.
        execute: one of ``in_turn``, ``side_by_side`` and ``on_cluster``, with its settings.
    Returns:
        By name, why a run could not be made.
    """
    outcomes = []
    taken = set()
    for outcome in execute(jobs, False):
        if outcome.busy:
            print(f"{outcome.name}: another process is making it; coming back to it", flush=True)
            taken.add(outcome.name)
        else:
            outcomes.append(outcome)
    if taken:
        outcomes += execute([job for job in jobs if job.run.name in taken], True)
    return {outcome.name: outcome.reason for outcome in outcomes if outcome.reason is not None}


def in_turn(jobs: list[Job], wait: bool) -> Iterator[Outcome]:
    """One after the other, in this process."""
    return _told(do(job, wait) for job in jobs)


def side_by_side(count: int) -> Executor:
    """``count`` at a time, each in a process of its own, spread over the GPUs; their output goes to files."""

    def execute(jobs: list[Job], wait: bool) -> Iterator[Outcome]:
        context = multiprocessing.get_context("spawn")  # not forked: a copy of a CUDA context does not work
        devices = context.Queue()
        for number in range(count):
            devices.put(number)
        share = (devices, max(1, torch.get_num_threads() // count))
        with ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=share) as pool:
            yield from _told(pool.map(_do_quietly, jobs, [wait] * len(jobs)))

    return execute


def _start_worker(devices: "multiprocessing.Queue[int]", threads: int) -> None:
    """Give a worker its share of the machine."""
    torch.set_num_threads(threads)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = shown.split(",") if shown else [str(index) for index in range(torch.cuda.device_count())]
    if len(gpus) > 1:  # before the first use of CUDA
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[devices.get() % len(gpus)]


def _do_quietly(job: Job, wait: bool) -> Outcome:
    log = Path(job.run.config["output_root"]) / ".jobs" / f"{job.run.name}.log"
    with failed_writes(log.parent, "set output_root=DIR"):
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("a")
    with file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        return do(job, wait)


def on_cluster(cluster: str, folder: Path, parameters: dict[str, Any]) -> Executor:
    """All at once through submitit.

    Args:
        cluster: "slurm", or "local" to try the same without a cluster.
        folder: for submitit's files and the jobs' output.
        parameters: of submitit's executor, such as timeout_min, gpus_per_node, slurm_partition.
    Raises:
        UserError: if submitit is not installed, there is no such cluster, or it has no such parameter.
    """
    try:
        import submitit
    except ImportError:
        raise UserError(f"launcher={cluster}: needs submitit; run: pip install submitit") from None
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError) as error:
        raise UserError(f"launcher={cluster}: {' '.join(str(error).split())[:200]}") from None

    def execute(jobs: list[Job], wait: bool) -> Iterator[Outcome]:
        with executor.batch():
            submitted = [executor.submit(Task(job, wait)) for job in jobs]
        print(f"submitted {len(submitted)} jobs; their output goes to {folder}", flush=True)
        return _told(_result(task, job) for task, job in zip(submitted, jobs, strict=True))

    return execute


@dataclass(frozen=True)
class Task:
    """A job as submitit takes it: sent again when its time is up, it goes on from its last checkpoint."""

    job: Job
    wait: bool

    def __call__(self) -> Outcome:
        return do(self.job, self.wait)

    def checkpoint(self) -> Any:
        """What submitit calls before the cluster ends the job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _result(task: Any, job: Job) -> Outcome:
    import submitit

    try:
        outcome: Outcome = task.result()
    except submitit.core.utils.UncompletedJobError as error:  # also its subclass for jobs that failed
        return Outcome(job.run.name, reason=f"job {task.job_id} ended without a result: {str(error).splitlines()[-1]}")
    return outcome


T = TypeVar("T", bound=Outcome)


def _told(outcomes: Iterator[T]) -> Iterator[T]:
    """The outcomes, each said as it comes."""
    for outcome in outcomes:
        if not outcome.busy:
            print(f"{outcome.name}: {'done' if outcome.reason is None else f'not run: {outcome.reason}'}", flush=True)
        yield outcome
