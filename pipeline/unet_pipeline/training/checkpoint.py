"""Checkpoints that a training continues from exactly: the current and the previous one, each whole or absent."""

from __future__ import annotations

import io
import math
import pickle
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, TypedDict

import torch
from ignite.engine import Engine, Events

from unet_pipeline.bundle.folder import LAST_CHECKPOINT, PREVIOUS_CHECKPOINT
from unet_pipeline.device.memory_format import CONTIGUOUS
from unet_pipeline.errors import TrainingError
from unet_pipeline.files import write_atomically
from unet_pipeline.progress import say_progress
from unet_pipeline.training.events import drop_later_events
from unet_pipeline.training.interruption import StopRequest
from unet_pipeline.training.processes import is_secondary
from unet_pipeline.training.schedule import load_schedule

_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile)


def save_weights(path: Path, network: torch.nn.Module) -> None:
    """Write a plain state_dict on the CPU, loadable with `weights_only=True`."""
    _write(path, copy_weights(network))


def copy_weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict as it is now, on the CPU; layers with two names, as in MONAI's DynUNet, stay one tensor."""
    copies: dict[tuple[int, torch.Size], torch.Tensor] = {}
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    for tensor in state.values():
        copies.setdefault((tensor.data_ptr(), tensor.shape), tensor.cpu().clone())
    return {name: copies[tensor.data_ptr(), tensor.shape] for name, tensor in state.items()}


def _write(path: Path, content: Any, previous: Path | None = None) -> None:
    """Through memory, because PyTorch's own writer may end the process when a disk is full.

    Raises:
        TrainingError: it cannot be written; what was there before still is.
    """
    stream = io.BytesIO()
    torch.save(content, stream)
    try:
        with write_atomically(path, previous) as partial:
            partial.write_bytes(stream.getbuffer())
    except OSError as error:
        raise TrainingError(
            f"Cannot write {path.parent.name}/{path.name} of {stream.tell() / 2**20:.1f} MiB: {error.strerror or error}. The "
            "checkpoints before it are whole. Free some space, then continue with `unet-pipeline train BUNDLE --resume`."
        ) from error


class CheckpointState(TypedDict, total=False):
    """What a checkpoint file holds; earlier versions wrote fewer keys.

    `best_weights` are those of the best epoch, None before any; `precision` and `memory_format` those of the steps.
    """

    network: dict[str, torch.Tensor]
    optimizer: dict[str, object]
    lr_scheduler: dict[str, object]
    iteration: int
    epoch: int
    epoch_length: int
    validated: bool
    best_metric: float
    best_metric_epoch: int
    best_weights: dict[str, torch.Tensor] | None
    num_threads: int
    precision: str | None
    memory_format: str | None


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> CheckpointState:
    """Content of one checkpoint file, its checksums compared.

    Raises:
        OSError, RuntimeError, ValueError, BadZipFile: it is absent, cut off or damaged.
    """
    with zipfile.ZipFile(path) as archive:  # PyTorch's reader does not look at the checksums
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is wrong")
    state: CheckpointState = torch.load(path, map_location=device, weights_only=True)
    return state


def read_newest_checkpoint(run_dir: Path, device: torch.device | str = "cpu") -> CheckpointState:
    """The last checkpoint of a run or, when it is damaged, the previous one; then a line on stderr says so.

    Raises:
        TrainingError: there is none that can be read.
    """
    paths = [path for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT) if (path := run_dir / name).is_file()]
    causes = []
    for path in paths:
        try:
            state = read_checkpoint(path, device)
        except _UNREADABLE as error:
            causes.append(f"{path.name} cannot be read: {' '.join(str(error).split())[:200]}")
            continue
        if causes and not is_secondary():
            print(f"{run_dir.name}: {causes[0]}. Continuing from {path.name}.", file=sys.stderr, flush=True)
        return state
    reasons = "; ".join(causes) or f"there is no {LAST_CHECKPOINT}"
    raise TrainingError(f"Cannot resume from {run_dir.name}: {reasons}. Train without --resume.")


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run left something to continue from."""
    return any((run_dir / name).is_file() for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT))


def read_best(metric: float, epoch: int) -> tuple[float | None, int | None]:
    """Dice and epoch of the best validation; None and None where there was none, which MONAI writes as -1."""
    return (float(metric), int(epoch)) if epoch >= 1 and math.isfinite(metric) else (None, None)


class CheckpointHandler:
    """Saves the weights of the best validation, and all that a continued training needs: after every epoch, within a long
    epoch from time to time, and when a signal asks to stop.

    The checkpoint holds the best weights too; a resumed training writes them again, so that both always belong together.

    Args:
        network: the bare network, not its data-parallel wrapper.
        optimizer: its state is kept in the checkpoint.
        lr_scheduler: likewise.
        evaluator: the validation; its key metric, higher is better, picks the best weights.
        weights_path: gets the best weights.
        output_dir: gets `checkpoint_last.pt` and `checkpoint_previous.pt`.
        val_interval: epochs from one validation to the next; the last epoch is validated in any case.
        interval_s: longest time without a checkpoint.
        resume: continue from the last checkpoint.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        evaluator: Engine,
        weights_path: str,
        output_dir: str,
        val_interval: int = 1,
        interval_s: float = 300,
        resume: bool = False,
    ) -> None:
        self.network, self.optimizer, self.lr_scheduler = network, optimizer, lr_scheduler
        self.evaluator = evaluator
        self.weights_path = Path(weights_path)
        self.run_dir = Path(output_dir)
        self.val_interval, self.interval_s = val_interval, interval_s
        self.resume = resume
        self.request = StopRequest()
        self._best_weights: dict[str, torch.Tensor] | None = None
        self._saved_s = time.monotonic()
        self._validation_stopped = False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.save_unvalidated)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._during_validation)
        self.evaluator.add_event_handler(Events.COMPLETED, self.save_best)

    def _start(self, engine: Engine) -> None:
        engine.state.stopped_by = None
        self._saved_s = time.monotonic()
        self.request.listen()
        if self.resume:
            self.load_last(engine)

    def _end(self, _: Engine) -> None:
        self.request.restore()

    def _fail(self, _: Engine, error: Exception) -> None:
        self.request.restore()
        raise error

    def _during_validation(self, evaluator: Engine) -> None:
        if self.request.is_made():
            self._validation_stopped = True
            evaluator.terminate(skip_completed=True)

    def _after_iteration(self, engine: Engine) -> None:
        asked = self.request.is_made()
        due = time.monotonic() - self._saved_s >= self.interval_s
        if (asked or due) and getattr(engine.state, "loss_pending", False):
            engine.state.read_loss = True  # saved after the next step, when no loss is missing
            return
        if asked or due:
            complete = engine.state.iteration % engine.state.epoch_length == 0
            self.save_last(engine, validated=not (complete and self._is_validated(engine)))
        if asked:
            self._stop(engine)

    def _is_validated(self, engine: Engine) -> bool:
        """Whether the validation follows on this epoch: at the interval, and on the last epoch, whatever the interval."""
        return engine.state.epoch % self.val_interval == 0 or engine.state.epoch == engine.state.max_epochs

    def _after_epoch(self, engine: Engine) -> None:
        if self._is_validated(engine) and engine.state.epoch % self.val_interval:
            self.evaluator.run(engine.state.epoch)  # the interval's own has run before
        self._finish_epoch(engine)

    def _finish_epoch(self, engine: Engine) -> None:
        self.save_last(engine, validated=not self._validation_stopped)
        if self.request.is_made():
            self._stop(engine)

    def _stop(self, engine: Engine) -> None:
        engine.state.stopped_by = self.request.signal.name if self.request.signal else None
        if not is_secondary():
            print(
                f"Stopped by {engine.state.stopped_by} in epoch {engine.state.epoch}, iteration {engine.state.iteration}; everything "
                "is saved. `unet-pipeline train BUNDLE --resume` continues.",
                file=sys.stderr,
                flush=True,
            )
        engine.terminate(skip_completed=True)

    def save_best(self, evaluator: Engine) -> None:
        """Keep the weights when this validation is the best so far."""
        if evaluator.state.best_metric_epoch == evaluator.state.epoch and not is_secondary():
            self._best_weights = copy_weights(self.network)
            _write(self.weights_path, self._best_weights)

    def save_unvalidated(self, engine: Engine) -> None:
        """Keep the final weights of a training whose validations picked none."""
        if self.evaluator.state.best_metric_epoch < 1 and not is_secondary():
            save_weights(self.weights_path, self.network)

    def save_last(self, engine: Engine, validated: bool = True) -> None:
        """Keep the state after an iteration; `validated` is False when the validation of its epoch is still to come."""
        self._saved_s = time.monotonic()
        if is_secondary():
            return
        on_cpu = engine.state.device.type == "cpu"
        state: CheckpointState = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "iteration": engine.state.iteration,
            "epoch": engine.state.iteration // engine.state.epoch_length,
            "epoch_length": engine.state.epoch_length,
            "validated": validated,
            "best_metric": float(self.evaluator.state.best_metric),
            "best_metric_epoch": int(self.evaluator.state.best_metric_epoch),
            "best_weights": self._best_weights,
            "num_threads": torch.get_num_threads(),
            "precision": getattr(engine.state, "precision", None),
            "memory_format": getattr(engine.state, "memory_format", None) if on_cpu else None,
        }
        _write(self.run_dir / LAST_CHECKPOINT, state, self.run_dir / PREVIOUS_CHECKPOINT)

    def load_last(self, engine: Engine) -> None:
        """Put everything back to the last checkpoint; without one the training begins.

        Raises:
            TrainingError: no checkpoint can be read, it is of another network, or it has more epochs than asked for.
        """
        if not has_checkpoint(self.run_dir):
            drop_later_events(self.run_dir, 0, 0)
            return
        state = read_newest_checkpoint(self.run_dir, engine.state.device)
        iteration = state.get("iteration", state["epoch"] * engine.state.epoch_length)
        self._check_place(engine, state, iteration)
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            load_schedule(self.lr_scheduler, self.optimizer, state["lr_scheduler"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(
                f"Cannot resume from {self.run_dir.name}: {error}. The plan may have changed since; train without --resume."
            ) from error
        engine.state.iteration, engine.state.epoch = iteration, iteration // engine.state.epoch_length
        self.evaluator.state.best_metric = state["best_metric"]
        self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        self._take_threads(state)
        self._take_precision(engine, state)
        # on a CPU it was measured; a checkpoint without it is of a version, or a device, for which nothing was
        engine.state.memory_format = state.get("memory_format") or CONTIGUOUS
        validated = state.get("validated", True)
        if not is_secondary():
            if (best := state.get("best_weights")) is not None:
                self._best_weights = {name: tensor.cpu() for name, tensor in best.items()}
                _write(self.weights_path, self._best_weights)
            drop_later_events(self.run_dir, iteration, engine.state.epoch - (not validated))
        if not validated:
            self.evaluator.run(engine.state.epoch)
            self._finish_epoch(engine)

    def _check_place(self, engine: Engine, state: CheckpointState, iteration: int) -> None:
        length = engine.state.epoch_length
        if state.get("epoch_length", length) != length:
            raise TrainingError(
                f"Cannot resume from {self.run_dir.name}: its epochs have {state['epoch_length']} iterations, now they have {length}. "
                "Set iterations_per_epoch and batch_size as before, or train without --resume."
            )
        if iteration > engine.state.max_epochs * length:
            raise TrainingError(
                f"Cannot resume from {self.run_dir.name}: it has {state['epoch']} epochs already; expected num_epochs={state['epoch']} "
                f"or more, found {engine.state.max_epochs}."
            )

    def _take_threads(self, state: CheckpointState) -> None:
        """Sums over threads depend on their number, so a continued training takes that of its beginning."""
        now, before = torch.get_num_threads(), state.get("num_threads", torch.get_num_threads())
        if now != before and torch.are_deterministic_algorithms_enabled():
            torch.set_num_threads(before)
            if not is_secondary():
                say_progress(f"threads  {before}, as before the interruption, not {now}")

    def _take_precision(self, engine: Engine, state: CheckpointState) -> None:
        """A processor is measured for it, so a deterministic training keeps that of its beginning."""
        if state.get("precision") is not None and torch.are_deterministic_algorithms_enabled():
            engine.state.precision = state["precision"]
