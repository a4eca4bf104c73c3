"""A job array, written and submitted by submitit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unet_pipeline.cohort.local import list_thread_variables
from unet_pipeline.cohort.slurm_array import Array
from unet_pipeline.cohort.slurm_task import Task
from unet_pipeline.errors import CohortError

_SIGNAL_BEFORE_S = 90  # of the end of a task's time
_MAX_TIMEOUTS = 10_000  # a task goes on as long as its items do: see MAX_BEGINNINGS
# since Slurm 22.05 srun does not take over what sbatch was told
_SETUP = ("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",)
_MAX_LINES = 3


def submit(array: Array, logs: Path, num_threads: int, num_at_once: int, options: Mapping[str, str | bool]) -> str:
    """Give an array to Slurm.

    Args:
        array: its files are written.
        logs: folder for what tasks print.
        num_threads: and CPUs of each task, unless `options` says otherwise.
        num_at_once: tasks that run at the same time.
        options: of sbatch.

    Returns:
        The job's number.

    Raises:
        CohortError: Slurm does not take it, with its words.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    parameters = {"ntasks": 1, "cpus_per_task": num_threads, "requeue": True, **options}
    variables = [f"export {name}={value}" for name, value in list_thread_variables(num_threads).items()]
    executor = _build_executor(logs, has_time="time" in options)
    executor.update_parameters(
        job_name=array.name,
        array_parallelism=num_at_once,
        signal_delay_s=_SIGNAL_BEFORE_S,
        setup=[*_SETUP, *variables],
        additional_parameters=parameters,
    )
    tasks = [Task(str(array.folder.absolute()), task.number) for task in array.tasks]
    try:
        with _outside_of_jobs():
            jobs = executor.submit_array(tasks)
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
        raise CohortError(
            f"Slurm does not take the job: {_list_words(str(error))}. Correct the options of --sbatch, then run the same command again."
        ) from error
    return str(jobs[0].job_id).partition("_")[0]


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the job in which this process may run itself: a job that is submitted would take them for its own."""
    is_inside = "SLURM_JOB_ID" in os.environ
    names = [name for name in os.environ if is_inside and name.startswith("SLURM_") and name != "SLURM_CONF"]
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _list_words(text: str) -> str:
    """What sbatch said, on one line."""
    lines = [
        line.strip().removeprefix("sbatch: ").removeprefix("error: ") for line in text.splitlines() if line.strip()
    ]
    said = [line for line in lines if not line.startswith("subprocess") and "CalledProcessError" not in line]
    return "; ".join(said[-_MAX_LINES:]).rstrip(".")


def _build_executor(logs: Path, has_time: bool) -> Any:
    from submitit import SlurmExecutor

    class _Executor(SlurmExecutor):
        """Without submitit's five minutes, where the user has not named a time: the partition has its own."""

        def _make_submission_file_text(self, command: str, uid: str) -> str:
            text = super()._make_submission_file_text(command, uid)
            return str(text) if has_time else "".join(_drop_time(text))

    return _Executor(logs, max_num_timeout=_MAX_TIMEOUTS)


def _drop_time(text: str) -> list[str]:
    return [line for line in text.splitlines(keepends=True) if not line.startswith("#SBATCH --time=")]
