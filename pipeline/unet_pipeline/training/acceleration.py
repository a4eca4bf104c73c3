"""How a network is computed: the order of its arrays in memory; on a GPU compiled or as it is; on a CPU the kernel of its norms.

All is chosen once, at the first step, and stated in a line and in run.json. What is chosen depends on the settings, the device and the length
of the training; on a CPU the order depends on times that were measured too, so the checkpoint keeps it, and a deterministic training
does not ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from unet_pipeline.device.instance_norm import speed_up_instance_norm
from unet_pipeline.device.memory_format import CHANNELS_LAST, CONTIGUOUS, FORMATS, OrderChoice, choose_memory_format

# heuristics: a compilation takes half a minute. Few steps of many voxels pay for it as well: on an H100 a patch of 2 million voxels takes
# 22 ms in the bare compiled network and 57 ms in a captured step that is not compiled (docs/experiments.md)
STEPS_THAT_PAY = 10_000
VOXELS_THAT_PAY = 2_000_000_000  # of all steps together
# trying out the order in memory takes about a second, listing the layers included
STEPS_WORTH_A_PROBE = 50


@dataclass(frozen=True)
class FastNetwork:
    """A network in the form that was chosen, which shares its parameters.

    Attributes:
        forward: batch -> output.
        memory_format: that batches are brought to.
        line: what was chosen and why, in words; empty for the plain network where there was nothing to choose.
    """

    forward: Callable[[torch.Tensor], torch.Tensor | list[torch.Tensor]]
    memory_format: torch.memory_format = torch.contiguous_format
    line: str = ""

    @property
    def order(self) -> str:
        """Name of `memory_format`, for records."""
        return OrderChoice(self.memory_format).name

    def __call__(self, images: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """The network's output; the values of `images` are not touched."""
        if self.memory_format != torch.contiguous_format:
            images = images.contiguous(memory_format=self.memory_format)
        return self.forward(images)


@dataclass(frozen=True)
class Acceleration:
    """What may be done to make a network faster.

    Args:
        channels_last: the channels of a voxel lie side by side, as a GPU's matrix units read them; None: on a GPU, and on a CPU whose
            convolutions are faster so.
        compile_network: by torch.compile; None: on one GPU, in a training of `STEPS_THAT_PAY` steps or of
            `VOXELS_THAT_PAY` voxels that need not be deterministic.
        cuda_graph: the whole step is captured once and replayed; None: on one GPU.
        deterministic: whether the training must give the same bits every time.
        backend: of torch.compile.
    """

    channels_last: bool | None = None
    compile_network: bool | None = None
    cuda_graph: bool | None = None
    deterministic: bool = False
    backend: str = "inductor"

    def should_compile(
        self, device: torch.device, num_steps: int, num_processes: int = 1, voxels_of_step: int = 0
    ) -> bool:
        """Whether a training of so many steps, each of so many voxels, is compiled."""
        if self.compile_network is not None:
            return self.compile_network
        pays = num_steps >= STEPS_THAT_PAY or num_steps * voxels_of_step >= VOXELS_THAT_PAY
        return device.type == "cuda" and not self.deterministic and num_processes == 1 and pays

    def should_capture(self, device: torch.device, num_processes: int = 1) -> bool:
        """Whether the step becomes a CUDA graph; several processes exchange gradients in between, which none holds."""
        return device.type == "cuda" and num_processes == 1 and self.cuda_graph is not False

    def choose_order(
        self,
        network: torch.nn.Module,
        images: torch.Tensor,
        num_steps: int,
        autocast: bool = False,
        num_processes: int = 1,
        before: str | None = None,
    ) -> OrderChoice:
        """The order of the network's arrays in memory; arguments as of `build`."""
        last = OrderChoice(FORMATS.get(images.dim(), torch.contiguous_format))
        if self.channels_last is not None:
            return last if self.channels_last else OrderChoice()
        if images.device.type != "cpu":
            return last if images.device.type == "cuda" else OrderChoice()
        if before is not None:
            choice = last if before == CHANNELS_LAST else OrderChoice()
            return OrderChoice(choice.memory_format, "as before the interruption")
        if self.deterministic:
            return OrderChoice(reason="as in every deterministic training")
        if num_processes > 1:  # each would measure for itself
            return OrderChoice(reason="as in every training of several processes")
        if num_steps < STEPS_WORTH_A_PROBE:
            return OrderChoice(reason="too few steps to try out another order")
        return choose_memory_format(network, images, autocast)

    def build(
        self,
        network: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        images: torch.Tensor,
        num_steps: int,
        autocast: bool = False,
        num_processes: int = 1,
        before: str | None = None,
    ) -> FastNetwork:
        """The network for batches like `images`, on their device.

        Args:
            network: its parameters stay the same objects, and may change their order in memory; its norms may change their kernel.
            optimizer: likewise its moments, so that a resumed training has the same order as one that went through.
            images: the first batch, shape (batch, channels, *spatial); a compilation is tried out on it.
            autocast: whether the steps use it.
            num_processes: that train together.
            before: name of the order in memory that a resumed training had on a CPU; None for a training that begins.
        """
        device = images.device
        order = self.choose_order(network, images, num_steps, autocast, num_processes, before)
        memory_format, words = order.memory_format, _describe_order(order)
        if memory_format != torch.contiguous_format:
            network.to(memory_format=memory_format)  # type: ignore[call-overload]
            _rearrange(optimizer, memory_format)
        if device.type == "cpu":
            speed_up_instance_norm(network)
        plain = FastNetwork(network, memory_format)
        if not self.should_compile(device, num_steps, num_processes, images[:, 0].numel()):
            return FastNetwork(network, memory_format, line=_describe(device, words))
        compiled = FastNetwork(torch.compile(network, backend=self.backend), memory_format)
        failure = try_out(network, compiled, images, autocast)
        if failure is None:
            line = _describe(device, [*words, "compiled"])
            return FastNetwork(compiled.forward, memory_format, line)
        line = _describe(device, [*words, f"not compiled, because torch.compile failed ({failure})"])
        return FastNetwork(plain.forward, memory_format, line=line)


def try_out(network: torch.nn.Module, fast: FastNetwork, images: torch.Tensor, autocast: bool) -> str | None:
    """Run forward and backward once, which compiles both; everything is left as it was before.

    Returns:
        Why it failed, in one line; None if it did not.
    """
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    device = images.device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                output = fast(images)
            heads = [output] if isinstance(output, torch.Tensor) else output
            torch.stack([head.float().mean() for head in heads]).sum().backward()
    except Exception as error:  # a compiler raises many kinds, and its toolchain may be missing
        return " ".join(f"{type(error).__name__}: {error}".split())[:160]
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        network.zero_grad(set_to_none=True)
    return None


def _rearrange(optimizer: torch.optim.Optimizer, memory_format: torch.memory_format) -> None:
    """Bring the moments that a checkpoint brought along into the order of their parameters."""
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.dim() in FORMATS:
                state[name] = value.contiguous(memory_format=memory_format)


def _describe_order(order: OrderChoice) -> list[str]:
    """The order in words; none for the plain one where there was nothing to choose."""
    if not order.reason:
        return [] if order.name == CONTIGUOUS else ["channels last"]
    return [f"{order.name.replace('_', ' ')} ({order.reason})"]


def _describe(device: torch.device, words: list[str]) -> str:
    return f"network on {device}: {', '.join(words)}" if words else ""
