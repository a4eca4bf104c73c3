"""Best and last checkpoint, each whole or absent."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from pipeline.errors import TrainingError
from pipeline.files import write_atomically
from pipeline.training.processes import is_secondary

LAST_CHECKPOINT = "checkpoint_last.pt"


def save_weights(path: Path, network: torch.nn.Module) -> None:
    """Write a plain state_dict on the CPU, loadable with `weights_only=True`."""
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    # through a stream: to a path, PyTorch writes the path's own name into the file, and no two files would be equal
    with write_atomically(path) as partial, partial.open("wb") as stream:
        torch.save(state, stream)


class CheckpointHandler:
    """Saves the weights of the best validation, and after every epoch all that a continued training needs.

    Args:
        network: the bare network, not its data-parallel wrapper.
        optimizer: its state is kept in the last checkpoint.
        lr_scheduler: likewise.
        evaluator: the validation; its key metric, higher is better, picks the best weights.
        weights_path: gets the best weights.
        output_dir: gets `checkpoint_last.pt`.
        resume: continue from `checkpoint_last.pt`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        evaluator: Engine,
        weights_path: str,
        output_dir: str,
        resume: bool = False,
    ) -> None:
        self.parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "lr_scheduler": lr_scheduler}
        self.evaluator = evaluator
        self.weights_path = Path(weights_path)
        self.last_path = Path(output_dir) / LAST_CHECKPOINT
        self.resume = resume

    def attach(self, engine: Engine) -> None:
        if self.resume:
            engine.add_event_handler(Events.STARTED, self.load_last)
        if not is_secondary():
            self.evaluator.add_event_handler(Events.COMPLETED, self.save_best)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.save_last)
            engine.add_event_handler(Events.COMPLETED, self.save_unvalidated)

    def save_best(self, evaluator: Engine) -> None:
        """Keep the weights when this validation is the best so far."""
        if evaluator.state.best_metric_epoch == evaluator.state.epoch:
            save_weights(self.weights_path, self.parts["network"])

    def save_unvalidated(self, engine: Engine) -> None:
        """Keep the final weights of a training that was too short for a validation."""
        if self.evaluator.state.best_metric_epoch < 1:
            save_weights(self.weights_path, self.parts["network"])

    def save_last(self, engine: Engine) -> None:
        """Keep the state at the end of an epoch."""
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state["epoch"] = engine.state.epoch
        state["best_metric"] = float(self.evaluator.state.best_metric)
        state["best_metric_epoch"] = int(self.evaluator.state.best_metric_epoch)
        with write_atomically(self.last_path) as partial:
            torch.save(state, partial)

    def load_last(self, engine: Engine) -> None:
        """Put everything back to the end of the last complete epoch.

        Raises:
            TrainingError: there is no checkpoint, or it cannot be read.
        """
        shown = f"{self.last_path.parent.name}/{self.last_path.name}"
        try:
            state = torch.load(self.last_path, map_location=engine.state.device, weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
        except FileNotFoundError as error:
            raise TrainingError(f"Nothing to resume: {shown} does not exist. Train without --resume.") from error
        except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"Cannot resume from {shown}: {error}. The plan may have changed since; train without --resume."
            ) from error
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * engine.state.epoch_length
        self.evaluator.state.best_metric = state["best_metric"]
        self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
