"""Fine-tuning: a training that starts from the weights of another one instead of random ones."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from ignite.engine import Engine, Events

from unet_pipeline.errors import TrainingError
from unet_pipeline.progress import say_progress
from unet_pipeline.training.processes import is_secondary


@dataclass(frozen=True)
class TakenWeights:
    """Names of the tensors that were taken, and of those that start anew: they are missing or have another shape."""

    taken: tuple[str, ...]
    anew: tuple[str, ...]


def take_weights(network: torch.nn.Module, path: Path) -> TakenWeights:
    """Load every tensor of a state_dict file that the network has in the same shape.

    Heads for other classes and the first convolution for other channels thus start anew.

    Args:
        network: is changed.
        path: of a plain state_dict.

    Raises:
        TrainingError: the file cannot be read, or less than half of the network's parameters fit.
    """
    shown = "/".join(path.parts[-3:])
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        given_tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    except FileNotFoundError as error:
        raise TrainingError(f"{shown} does not exist. Give a trained bundle, or its models/model.pt.") from error
    except (RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        cause = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"{shown} is no file of weights: {cause}. Give models/model.pt of a trained bundle."
        ) from error
    own = network.state_dict()
    fitting = {
        name: given_tensors[name]
        for name in own
        if name in given_tensors and given_tensors[name].shape == own[name].shape
    }
    num_taken, num_own = (sum(tensor.numel() for tensor in tensors.values()) for tensors in (fitting, own))
    if 2 * num_taken < num_own:
        raise TrainingError(
            f"{shown} fits {num_taken:,} of the network's {num_own:,} parameters; expected at least half. Plan the same network with "
            "the same filters, kernels and strides as in the bundle that the weights come from."
        )
    network.load_state_dict(fitting, strict=False)
    return TakenWeights(tuple(fitting), tuple(name for name in own if name not in fitting))


class InitialWeightsHandler:
    """Takes the initial weights before the first step of a training that is not resumed.

    Args:
        network: of the training.
        path: of a state_dict; None leaves the random weights.
        resume: the checkpoint has the weights already.
    """

    def __init__(self, network: torch.nn.Module, path: str | None, resume: bool = False) -> None:
        self.network, self.path, self.resume = network, path, resume

    def attach(self, engine: Engine) -> None:
        if self.path is not None and not self.resume:
            engine.add_event_handler(Events.STARTED, self.load)

    def load(self, _: Engine) -> None:
        """Take what fits and say what starts anew."""
        result = take_weights(self.network, Path(str(self.path)))
        if not is_secondary():
            anew = f"; anew: {', '.join(result.anew)}" if result.anew else ""
            say_progress(f"weights  {len(result.taken)} tensors from {self.path}{anew}")
