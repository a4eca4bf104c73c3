"""Memory that runs out in a training: fewer windows at once in a validation, and otherwise a message with the option that helps."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer

from unet_pipeline.boundary import is_out_of_memory
from unet_pipeline.errors import TrainingError
from unet_pipeline.messages import name_elements


class FewerWindows(Inferer):
    """A sliding window that takes half as many windows at once, from then on, where memory runs out.

    Args:
        inferer: of the validation; its `sw_batch_size` changes. One without stays as it is.

    Attributes:
        notes: what was done, in words.
    """

    def __init__(self, inferer: Any) -> None:
        super().__init__()
        self.inferer = inferer
        self.notes: list[str] = []

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """The network's output for whole images of shape (batch, channels, *spatial).

        Raises:
            TrainingError: memory runs out with one window at a time.
        """
        while True:
            try:
                return self.inferer(inputs, network, *args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if getattr(self.inferer, "sw_batch_size", 1) == 1:
                    elements = name_elements("voxels", inputs.ndim == 4)
                    raise TrainingError(
                        f"An image of {'x'.join(map(str, inputs.shape[2:]))} {elements} cannot be validated, one window at a time: "
                        f"{_name_place(inputs.device)} is too small ({_shorten(error)}). Train with a smaller window_size, or end other "
                        "programs."
                    ) from error
            # outside of the block, whose error holds all arrays of the forward pass
            self.inferer.sw_batch_size = max(1, self.inferer.sw_batch_size // 2)
            self.notes.append(f"validation: memory ran out, so {self.inferer.sw_batch_size} window(s) at once")
            if inputs.is_cuda:
                torch.cuda.empty_cache()


def explain_step(device: torch.device, error: BaseException) -> TrainingError:
    """For memory that ran out in a training step on a device."""
    of_gpu = ", or with device_cache_gib=0, which leaves the cases in main memory" if device.type != "cpu" else ""
    return TrainingError(
        f"A training step needs more than {_name_place(device)} ({_shorten(error)}). Plan again with a smaller --memory GIB, or train with a "
        f"smaller batch_size{of_gpu}."
    )


def explain_elsewhere(error: BaseException) -> TrainingError:
    """For memory that ran out while cases were loaded, or a whole image was compared with its label."""
    return TrainingError(
        f"Memory ran out between the steps of the training ({_shorten(error)}). Train with a smaller cache_rate, which keeps fewer cases "
        "in main memory, or with device_cache_gib=0, which keeps none on a GPU, or end other programs. The checkpoints before it are "
        "whole: `unet-pipeline train BUNDLE --resume` continues."
    )


def _name_place(device: torch.device) -> str:
    return "the memory of this machine" if device.type == "cpu" else f"the memory of {device}"


def _shorten(error: BaseException) -> str:
    return " ".join(f"{error}".split())[:120] or type(error).__name__
