"""Trains and evaluates the runs that a table lacks: one after the other, several at a time or on a cluster.

No two processes do the same work. A lock for each run name covers looking for the run, training it and evaluating it;
the system drops the lock when its process ends, however it ends. A process that finds a run taken goes on with the next
one and comes back later.
"""

import contextlib
import fcntl
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evaluate import evaluate
from ffl.errors import UserError
from ffl.files import report_failed_writes
from ffl.progress import progress_bar
from ffl.training.program import compose
from ffl.training.run_directory import RunDirectory
from scripts.reproduction.records import lacking_metrics, total_steps
from scripts.tables import Run
from train import train

ROOT = Path(__file__).resolve().parents[2]
# Pixels that an evaluation works on at a time: 100 images of 128x128.
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

    def lacking(self) -> tuple[RunDirectory | None, dict[str, list[str]]]:
        """The directory of the run, None unless it is finished, and the metrics that it lacks, by task."""
        directory = self.run.find()
        status = None if directory is None else directory.status()
        if directory is None or status is None or not status.finished:
            return None, self.metrics
        lacking = {
            task: lacking_metrics(directory, task, names, self.run.config) for task, names in self.metrics.items()
        }
        return directory, {task: names for task, names in lacking.items() if names}


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        name: of its run.
        reason: why there is no result, in one line; None where all is there.
        busy: whether another process has the run.
    """

    name: str
    reason: str | None = None
    busy: bool = False


def do(job: Job, wait: bool) -> JobResult:
    """Train and evaluate what a job lacks.

    Args:
        job: what is wanted.
        wait: for another process that has the run; False gives a busy result instead.
    """
    run, config = job.run, job.run.config
    try:
        directory, lacking = job.lacking()
        if directory is not None and not lacking:  # before the lock: a finished run may be where nobody can write
            return JobResult(run.name)
        with hold_lock(Path(config["output_root"]) / ".locks" / run.name, wait) as mine:
            begun = run.find() if mine else None
            # Somebody may have started train.py by hand, which knows no lock but the run directory's.
            if not mine or (begun is not None and not begun.wait_for_training(wait)):
                return JobResult(run.name, busy=True)

            # Train, from the last checkpoint where there is one. Another process may have finished it meanwhile.
            directory, _ = job.lacking()
            if directory is None:
                total_steps(config)  # says what is missing of the data before anything else is tried
                print(f"\n== {run.command}", flush=True)
                train(config, list(run.overrides))

            # Evaluate what no record says. The size of a batch changes the memory that it takes, not the results.
            directory, lacking = job.lacking()
            batch_size = max(1, min(100, EVALUATED_PIXELS // int(config["dataset"]["image_size"]) ** 2))
            for task, names in lacking.items():
                assert directory is not None
                print(f"\n== evaluating {directory.path}, {task}: {', '.join(names)}", flush=True)
                words = [f"run='{directory.path}'", f"task={task}", f"metrics=[{','.join(names)}]"]
                words += [f"{key}='{config[key]}'" for key in ("data_root", "cache_dir")]
                evaluate(compose("evaluate", [*words, f"batch_size={batch_size}"]))
    except UserError as error:
        return JobResult(run.name, reason=str(error))
    return JobResult(run.name)


@contextlib.contextmanager
def hold_lock(path: Path, wait: bool) -> Iterator[bool]:
    """Hold the lock ``path``; gives False where another process has it and ``wait`` is False."""
    with report_failed_writes(path.parent, "set output_root=DIR"):
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


# A way to do jobs, waiting for other processes or not. It gives each result as soon as it is there.
Executor = Callable[[list[Job], bool], Iterator[JobResult]]


def do_all(jobs: list[Job], execute: Executor) -> dict[str, str]:
    """Do all jobs, those that other processes have last.

    Args:
        jobs: of distinct runs.
        execute: one of ``in_turn``, ``side_by_side`` and ``on_cluster``, with its settings.
    Returns:
        By name, why a run could not be made.
    """
    reasons: dict[str, str] = {}
    # First what nobody else has at hand, without waiting; then what others had, which is mostly done by now.
    for wait in (False, True):
        taken = set()
        for result in execute(jobs, wait) if jobs else ():
            if result.busy:
                print(f"{result.name}: another process is making it; coming back to it", flush=True)
                taken.add(result.name)
                continue
            print(f"{result.name}: {f'not run: {result.reason}' if result.reason else 'done'}", flush=True)
            if result.reason is not None:
                reasons[result.name] = result.reason
        jobs = [job for job in jobs if job.run.name in taken]
    return reasons


def in_turn(jobs: list[Job], wait: bool) -> Iterator[JobResult]:
    """One after the other, in this process."""
    return (do(job, wait) for job in jobs)


def side_by_side(count: int) -> Executor:
    """``count`` at a time, each in a process of its own, spread over the GPUs; their output goes to files."""

    def execute(jobs: list[Job], wait: bool) -> Iterator[JobResult]:
        context = multiprocessing.get_context("spawn")  # not forked: a copy of a CUDA context does not work
        devices = context.Queue()
        # Each worker takes one number, and with it a GPU, when it starts.
        for number in range(count):
            devices.put(number)
        share = (devices, max(1, torch.get_num_threads() // count))
        folder = log_folder(jobs[0])
        print(f"{len(jobs)} runs, {min(count, len(jobs))} at a time; their output goes to {folder}", flush=True)
        with (
            ProcessPoolExecutor(count, context, initializer=_start_worker, initargs=share) as pool,
            progress_bar(len(jobs), "runs", "run") as bar,
        ):
            for future in as_completed(pool.submit(do_into_file, job, wait) for job in jobs):
                # A line on standard output must not run into the bar.
                with bar.external_write_mode():
                    yield future.result()
                bar.update()

    return execute


def _start_worker(devices: "multiprocessing.Queue[int]", threads: int) -> None:
    """Give a worker process its share of the machine: a GPU of its own where there are several, and some threads."""
    torch.set_num_threads(threads)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = shown.split(",") if shown else [str(index) for index in range(torch.cuda.device_count())]
    if len(gpus) > 1:  # before the first use of CUDA
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[devices.get() % len(gpus)]


def do_into_file(job: Job, wait: bool) -> JobResult:
    """As ``do``; what several jobs print at a time goes to a file each, where it can be read."""
    log = log_folder(job) / f"{job.run.name}.log"
    with report_failed_writes(log.parent, "set output_root=DIR"):
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("a")
    with file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        return do(job, wait)


def log_folder(job: Job) -> Path:
    """Where the output of jobs goes that run side by side."""
    return Path(job.run.config["output_root"]) / ".jobs"


def on_cluster(cluster: str, folder: Path, parameters: dict[str, Any]) -> Executor:
    """All of them submitted at once, each as a job of its own, through submitit.

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
    # Jobs start in a process that knows nothing of this checkout: models and datasets are not installed.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError) as error:
        raise UserError(f"launcher={cluster}: {' '.join(str(error).split())[:200]}") from None

    def execute(jobs: list[Job], wait: bool) -> Iterator[JobResult]:
        # One array instead of many submissions: kinder to the scheduler, and one line in its queue.
        with executor.batch():
            submitted = [executor.submit(ClusterTask(job, wait)) for job in jobs]
        print(f"submitted {len(submitted)} jobs; their output goes to {folder}", flush=True)
        with progress_bar(len(jobs), "runs", "run") as bar:
            for task, job in zip(submitted, jobs, strict=True):
                try:
                    result: JobResult = task.result()
                except submitit.core.utils.UncompletedJobError as error:  # also its subclass for jobs that failed
                    reason = f"job {task.job_id} ended without a result: {str(error).splitlines()[-1]}"
                    result = JobResult(job.run.name, reason=reason)
                with bar.external_write_mode():
                    yield result
                bar.update()

    return execute


@dataclass(frozen=True)
class ClusterTask:
    """A job as submitit takes it: sent again when its time is up, it goes on from its last checkpoint."""

    job: Job
    wait: bool

    def __call__(self) -> JobResult:
        return do(self.job, self.wait)

    def checkpoint(self) -> Any:
        """What submitit calls before the cluster ends the job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)
