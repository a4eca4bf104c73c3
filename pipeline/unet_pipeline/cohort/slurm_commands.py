"""What is asked of Slurm by its own commands. Jobs go by their name, which the engine draws at random and knows before Slurm has the job."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from unet_pipeline.errors import CohortError

SET_BY_ENGINE = frozenset({"array", "job_name", "output", "error", "open_mode", "wckey"})
_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
_WAIT_S = 60.0
_OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)


@dataclass(frozen=True)
class TaskState:
    """What Slurm says of a task.

    Attributes:
        job_id: such as 12_3.
        state: such as RUNNING.
        reason: why it waits, in Slurm's words; empty, if there is nothing to say.
    """

    job_id: str
    state: str
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it will not run again."""
        return self.state in _OVER


FORGOTTEN = TaskState("", "unknown to Slurm")


def require_slurm() -> None:
    """Whether this machine can give jobs to a Slurm cluster.

    Raises:
        CohortError: a command or the library submitit is missing, with what to do.
    """
    missing = [command for command in _COMMANDS if shutil.which(command) is None]
    if missing:
        raise CohortError(
            f"The engine slurm needs Slurm's commands, and this machine has no {', '.join(missing)}. Run this on a login node of the cluster "
            "or install them (Debian: slurm-client), or take --engine local or ray."
        )
    if find_spec("submitit") is None:
        raise CohortError(
            "The engine slurm needs the library submitit, which is not installed. Run `pip install 'unet-pipeline[slurm]'`."
        )


def read_options(sbatch: Mapping[str, str]) -> dict[str, str | bool]:
    """Options of sbatch under the names that submitit knows; an empty value is that of an option without one.

    Raises:
        CohortError: an option is set by the engine itself, or is no name.
    """
    options: dict[str, str | bool] = {}
    for name, value in sbatch.items():
        known = name.lstrip("-").replace("-", "_")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", known):
            raise CohortError(
                f"{name!r} is no option of Slurm's sbatch; expected a long name, such as partition. Correct it."
            )
        if known in SET_BY_ENGINE:
            raise CohortError(f"The option {name} of Slurm's sbatch is set by the engine. Leave it out.")
        options[known] = value or True
    return options


def ask_states(names: Iterable[str]) -> dict[str, dict[int, TaskState]] | None:
    """The tasks of jobs, by job name and by number in the array; None where Slurm does not answer now."""
    if not (wanted := ",".join(names)):
        return {}
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%j|%T|%r", f"--name={wanted}"]
    answer = _run(command)
    return None if answer is None else read_states(answer)


def read_states(answer: str) -> dict[str, dict[int, TaskState]]:
    """What `squeue --format=%i|%j|%T|%r` printed; a job without an array is task 0."""
    states: dict[str, dict[int, TaskState]] = {}
    for line in answer.splitlines():
        job_id, name, state, reason = line.strip().split("|", maxsplit=3)
        number = job_id.partition("_")[2] or "0"
        if number.isdigit():
            states.setdefault(name, {})[int(number)] = TaskState(
                job_id, state, reason if state == "PENDING" and reason != "None" else ""
            )
    return states


def cancel(names: Iterable[str]) -> None:
    """End the jobs at once; those that wait never begin. Nothing is said where Slurm does not answer."""
    for name in names:
        _run(["scancel", "--me", "--signal=KILL", f"--name={name}"])


def _run(command: list[str]) -> str | None:
    """What a command printed; None where it failed."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WAIT_S)
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout if answer.returncode == 0 else None
