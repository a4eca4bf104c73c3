"""What carries attempts to workers: this machine's processes, a Ray cluster, or Slurm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from unet_pipeline.cohort.items import Attempt, Outcome, Work

OnBegin = Callable[[Attempt, str, float], None]


def ignore_beginning(attempt: Attempt, host: str, started: float) -> None:
    """What an engine calls until somebody wants to know."""


class Engine(Protocol):
    """A place where work is done. It schedules; it does not record, and it does not decide what is tried again.

    Attributes:
        on_begin: called in this process, in `submit` or `collect`, when a worker has begun an attempt, which may have waited until then:
            with the worker's machine, and the time in seconds since 1970.
    """

    on_begin: OnBegin

    @property
    def num_workers(self) -> int:
        """Workers that it has, or asks for."""
        ...

    @property
    def num_in_flight(self) -> int:
        """Attempts that it takes at once before `collect`: a few more than workers, so that none waits."""
        ...

    def start(self, work: Work) -> None:
        """Make workers ready; each opens the work once and stays warm.

        Raises:
            CohortError: they cannot be had, with what to do.
        """
        ...

    def submit(self, attempt: Attempt) -> None:
        """Give an attempt to a worker, or keep it for the next that is free."""
        ...

    def collect(self) -> list[Outcome]:
        """Wait until at least one attempt is over; LOST where its worker died. A worker that died is replaced."""
        ...

    def close(self) -> None:
        """End the workers, whatever they do; also after an error or a signal."""
        ...
