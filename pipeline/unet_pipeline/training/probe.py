"""Times a step of a bundle's training on this machine: on made-up images, reading no data and writing nothing.

What train.json connects is what runs: loading from memory, augmentation, network, loss and optimizer. A step that would take long is
timed on a smaller patch, and its time is scaled by the operations of the convolutions.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from ignite.engine import Engine, Events

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.device.allocator import keep_freed_pages
from unet_pipeline.device.memory import read_peak_gib
from unet_pipeline.networks.counting import compute_forward_flop
from unet_pipeline.networks.unpadded import compute_input_size, compute_output_size
from unet_pipeline.planning.plan import Plan
from unet_pipeline.types import CASE, IMAGE, LABEL

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

# of the first step that is timed: a second on one core without wide instructions; a smaller one takes relatively longer in 3D
_FIRST_FLOP = 50e9
_LONGEST_STEP_S = 1.5
_ENOUGH_S, _MAX_STEPS = 1.5, 50
_AT_MOST_S = 4.0  # of one round, where even the first steps are slow; two steps are waited for
_NUM_WARM_UP = {"cpu": 2, "cuda": 12}  # on a GPU the first steps choose kernels
_NUM_ROUNDS = 3
_NUM_CASES = 2
# handlers that validate, write, or read weights
_LEFT_OUT = ("@validate", "@output_dir", "@weights_path", "@initial_weights")


@dataclass(frozen=True)
class StepSize:
    """Patch and batch of a training step."""

    patch_size: tuple[int, ...]
    batch_size: int


@dataclass(frozen=True)
class StepTime:
    """Time of one step.

    Attributes:
        step_s: of the planned step, loading and augmentation included, by the clock.
        quiet_s: what the clock would show if nothing else ran on the machine; on a GPU the same.
        device: that it was timed on, such as "cpu" or "cuda:0".
        measured_share: of the planned step's operations that the timed one had, 0 to 1.
        peak_gib: most memory of a GPU that the planned step takes; None on a CPU, and where a smaller step was timed.
    """

    step_s: float
    quiet_s: float
    device: str
    measured_share: float
    peak_gib: float | None = None


def time_step(folder: BundleFolder, plan: Plan) -> StepTime:
    """Time the planned step, after a warm-up and for a few seconds at most.

    Args:
        folder: the bundle; weights and data are not needed.

    Raises:
        RuntimeError: the network does not run, or the memory is not enough.
    """
    keep_freed_pages()
    folder.make_modules_importable()
    planned = StepSize(plan.patch_size, plan.batch_size)
    planned_flop = count_flop(plan, planned)
    size = shrink(plan, _FIRST_FLOP)
    for _ in range(_NUM_ROUNDS):
        step_s, quiet_s, device = _run(folder, plan, size)
        flop = count_flop(plan, size)
        larger = shrink(plan, flop * _LONGEST_STEP_S / step_s)
        if size == planned or count_flop(plan, larger) < 2 * flop:
            break
        size = larger
    share = flop / planned_flop
    peak_gib = read_peak_gib(torch.device(device)) if size == planned else None
    return StepTime(step_s / share, quiet_s / share, device, share, peak_gib)


def count_flop(plan: Plan, size: StepSize) -> float:
    """Operations of the convolutions in a step; a backward pass costs two forward passes."""
    return 3.0 * size.batch_size * compute_forward_flop(plan.shape, size.patch_size)


def shrink(plan: Plan, max_flop: float) -> StepSize:
    """The planned step, or one with at most so many operations: a single patch, then a smaller one, as far as the network takes it."""
    size = StepSize(plan.patch_size, plan.batch_size)
    if count_flop(plan, size) <= max_flop:
        return size
    size = StepSize(plan.patch_size, 1)
    while count_flop(plan, size) > max_flop:
        patch_size = _shorten(plan, size.patch_size)
        if patch_size == size.patch_size:
            break
        size = StepSize(patch_size, 1)
    return size


def _shorten(plan: Plan, patch_size: tuple[int, ...]) -> tuple[int, ...]:
    """The patch with its longest axis a step of the total stride shorter; the same where nothing can be taken away."""
    factors = plan.total_stride
    if not plan.padded:
        output = compute_output_size(patch_size, plan.shape)
        fewer = tuple(max(factor, voxels - factor) for voxels, factor in zip(output, factors, strict=True))
        return compute_input_size(fewer, plan.shape)
    # two voxels at the lowest level: instance normalisation cannot do with one
    able = [axis for axis, factor in enumerate(factors) if patch_size[axis] > max(2 * factor, 8)]
    if not able:
        return patch_size
    longest = max(able, key=lambda axis: patch_size[axis])
    return tuple(voxels - factors[axis] * (axis == longest) for axis, voxels in enumerate(patch_size))


def _run(folder: BundleFolder, plan: Plan, size: StepSize) -> tuple[float, float, str]:
    """Seconds of a step of that size by the clock and without other work, and the device."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder.config("train")))
    parser.update(_build_overrides(folder, plan, size, parser))
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        trainer = parser.get_parsed_content("train#trainer")
        device = trainer.state.device
        clock = _Clock(_NUM_WARM_UP.get(device.type, 2))
        clock.attach(trainer)
        trainer.run()
    step_s, quiet_s = clock.measure(device)
    if device.type == "cuda":
        del trainer, parser
        torch.cuda.empty_cache()
    return step_s, quiet_s, str(device)


def _build_overrides(folder: BundleFolder, plan: Plan, size: StepSize, parser: ConfigParser) -> dict[str, object]:
    """Ids of train.json that make it run on made-up cases and leave nothing behind."""
    handlers = [handler for handler in parser["train#handlers"] if not any(word in str(handler) for word in _LEFT_OUT)]
    return {
        "bundle_root": str(folder.root),
        "training_cases": make_cases(plan, size.patch_size),
        "image_transforms": [],
        "label_transforms": [],
        "patch_size": list(size.patch_size),
        "batch_size": size.batch_size,
        "num_workers": 0,
        "cache_rate": 1.0,
        "compile_network": False,  # takes longer than the probe may
        "train#handlers": handlers,
    }


def make_cases(plan: Plan, shape: tuple[int, ...]) -> list[Mapping[str, object]]:
    """Preprocessed cases of noise with a slab of every class; image (channels, *shape) and label (1, *shape)."""
    num_classes = len(plan.label_table)
    axis = max(range(len(shape)), key=lambda one: shape[one])
    classes = torch.arange(shape[axis]) * num_classes // shape[axis]
    label = classes.reshape([-1 if one == axis else 1 for one in range(len(shape))]).expand(shape)[None]
    generator = torch.Generator().manual_seed(0)
    return [
        {
            IMAGE: torch.randn((len(plan.channel_names), *shape), generator=generator),
            LABEL: label.to(torch.uint8).contiguous(),
            CASE: f"made_up_{number}",
        }
        for number in range(_NUM_CASES)
    ]


class _Clock:
    """Notes when steps end, and stops the training when they are enough.

    The processor time of the training's own thread is what the clock would show on a quiet machine: it is busy in every step from
    beginning to end, and the further threads work beside it.
    """

    def __init__(self, num_warm_up: int) -> None:
        self.num_warm_up = num_warm_up
        self.marks: list[tuple[float, float]] = []  # clock and processor, at the start and after each step

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._mark)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._tick)

    def _mark(self, _: Engine) -> None:
        self.marks.append((time.perf_counter(), time.thread_time()))

    def _tick(self, engine: Engine) -> None:
        num_steps = len(self.marks)
        if num_steps == self.num_warm_up:
            _wait_for(engine.state.device)
        self._mark(engine)
        now_s = self.marks[-1][0]
        enough = num_steps > self.num_warm_up and now_s - self.marks[self.num_warm_up][0] >= _ENOUGH_S
        too_slow = num_steps > 1 and now_s - self.marks[0][0] >= _AT_MOST_S
        if enough or too_slow or num_steps >= self.num_warm_up + _MAX_STEPS:
            engine.terminate(skip_completed=True)

    def measure(self, device: torch.device) -> tuple[float, float]:
        """Seconds of a step by the clock and without other work: medians on a CPU; the mean on a GPU, which works behind its queue."""
        # those after the warm-up; where the steps were too slow or too few for it, all but the first
        num_steps = len(self.marks) - 1
        counted = self.marks[min(self.num_warm_up, max(0, num_steps - 1)) :]
        if device.type != "cpu":
            _wait_for(device)
            step_s = (time.perf_counter() - counted[0][0]) / (len(counted) - 1)
            return step_s, step_s
        pairs = list(pairwise(counted))
        step_s = statistics.median(later[0] - earlier[0] for earlier, later in pairs)
        # the least, because threads that wait for one another keep the processor busy too
        return step_s, min(step_s, *(later[1] - earlier[1] for earlier, later in pairs))


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
