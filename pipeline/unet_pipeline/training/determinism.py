"""Bit-identical repetition: which kernels may run, and with how many threads.

A sum over threads is added up in another order for another number of threads, so the number is part of what repeats.
"""

from __future__ import annotations

import os
import warnings

import torch
from ignite.engine import Engine, Events

from unet_pipeline.training.processes import num_processes, rank
from unet_pipeline.training.randomness import derive_seed

_NOT_DETERMINISTIC = "does not have a deterministic implementation"


def use_deterministic_kernels(deterministic: bool, num_threads: int | None = None) -> None:
    """Before the first tensor: let PyTorch choose kernels that give the same bits every time, where it has them.

    On a CPU it has all that a training needs. On a GPU a kernel without such a form still runs, with a warning that
    `NondeterministicKernels` keeps for the run record.

    Args:
        deterministic: False goes back to the fastest kernels.
        num_threads: of PyTorch in this process; None leaves its own number.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    if deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS reads it when the first product is computed
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic, warn_only=True)


class NondeterministicKernels:
    """Collects PyTorch's warnings about kernels that have no deterministic form, while the block runs."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __enter__(self) -> NondeterministicKernels:
        self._show = warnings.showwarning
        warnings.showwarning = self._keep
        warnings.filterwarnings("always", message=f".*{_NOT_DETERMINISTIC}")
        return self

    def __exit__(self, *_: object) -> None:
        warnings.showwarning = self._show

    def _keep(self, message: Warning | str, *details: object, **named: object) -> None:
        text = str(message)
        if _NOT_DETERMINISTIC not in text:
            self._show(message, *details, **named)  # type: ignore[arg-type]
            return
        name = text.partition(_NOT_DETERMINISTIC)[0].strip()
        if name not in self.messages:
            self.messages.append(name)


class StepSeedHandler:
    """Seeds PyTorch's generators before every step of a deterministic training, and of several processes.

    Dropout draws from them; a sequence that runs through a training could not be continued in its middle, and is
    another one with another number of loader workers. Several processes would all drop out the same units.
    """

    def __init__(self, seed: int, fold: int, deterministic: bool) -> None:
        self.seed, self.fold, self.deterministic = seed, fold, deterministic

    def attach(self, engine: Engine) -> None:
        if self.deterministic or num_processes() > 1:
            engine.add_event_handler(Events.ITERATION_STARTED, self.seed_step)

    def seed_step(self, engine: Engine) -> None:
        """Seed as a function of (seed, fold, iteration, process); `engine.state.step_seed` is that of all processes."""
        engine.state.step_seed = derive_seed("step", self.seed, self.fold, engine.state.iteration)
        torch.manual_seed(derive_seed("step", self.seed, self.fold, engine.state.iteration, rank()))
