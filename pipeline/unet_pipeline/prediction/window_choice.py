"""How many windows at once, and where they are blended: from the headers of the images, the network's size and the memory that is free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch

from unet_pipeline.device import memory as device_memory
from unet_pipeline.errors import PipelineError, PredictionError
from unet_pipeline.prediction import memory
from unet_pipeline.prediction.engines import Engines
from unet_pipeline.prediction.grids import map_grid
from unet_pipeline.prediction.input_check import check_grid, check_size, find_network_grid, see_grid
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.memory import CaseSize
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.overlap import Overlap
from unet_pipeline.prediction.parts import Windowing
from unet_pipeline.prediction.recipe import begins_as_planned
from unet_pipeline.prediction.runtime import TORCH
from unet_pipeline.prediction.stopwatch import TimedNetwork
from unet_pipeline.prediction.windows import Windows, is_plain, read_windows

# voxels of all windows at once that fill a GPU, and how many of them at most
GPU_BATCH_VOXELS, MOST_WINDOWS_ON_GPU = 1 << 23, 64
MOST_WINDOWS_ON_CPU = 4
MOST_IMAGES_ON_CPU = 8  # a heuristic: Python's own lock lets no more than some run
# a CPU computes small windows faster side by side, and gains nothing with larger ones (docs/experiments.md)
CPU_BATCH_VOXELS = 1 << 19
# arrays of the first level's size that a network holds at once; U-Net++ with its nested skips comes to half of it
_MOST_ARRAYS = 32
_SIDE_BY_SIDE_SHARE = 0.25  # of the free memory, for all images that are computed at the same time
_USABLE_SHARE = 0.8  # of the free memory; fragments and the libraries' own buffers take the rest
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class SizedCase:
    """A case, its sizes, and its windows if they are known."""

    name: str
    size: CaseSize
    windows: Windows | None


def _size_case(source: PredictionInput, engines: Engines, probabilities: bool) -> SizedCase:
    """What the headers of an input say.

    Raises:
        ImageFileError: a header cannot be read.
        PredictionError: the network cannot take the image.
    """
    expected = engines.parts.expected
    grid = see_grid(source.read_grid(expected.spatial_dims), expected)
    check_grid(grid, expected, source.files[0].name)
    check_size(grid, engines.parts.preprocessing, source.files[0].name)
    shape, affine = find_network_grid(grid, engines.parts.preprocessing)
    back = map_grid(affine, shape, grid.affine, grid.spatial_shape)
    size = CaseSize(
        grid.num_channels,
        engines.parts.num_classes,
        engines.num_blended,
        grid.spatial_shape,
        grid.value_bytes,
        shape,
        back is None or back.interpolates,
        probabilities,
    )
    return SizedCase(
        source.name, size, read_windows(engines.parts.inferer, shape) if is_plain(engines.parts.inferer) else None
    )


def size_cases(
    engines: Engines, inputs: Sequence[PredictionInput], probabilities: bool
) -> tuple[list[SizedCase], list[str]]:
    """Cases by their headers, and messages about those that cannot be predicted."""
    if not begins_as_planned(engines.parts.preprocessing):
        raise PredictionError(
            "The preprocessing of the bundle is not what `plan` writes, so the network's grid cannot be told from headers. "
            "Predict without --dry-run."
        )
    cases, failures = [], []
    for source in inputs:
        try:
            cases.append(_size_case(source, engines, probabilities))
        except PipelineError as error:
            failures.append(str(error))
    return cases, failures


def describe_windowing(windowing: Windowing, in_rows: bool) -> str:
    """In one line."""
    at_once = "one at a time" if windowing.batch_size == 1 else f"up to {windowing.batch_size} at once"
    images = f", {windowing.num_images} images side by side" if windowing.num_images > 1 else ""
    return f"windows  {at_once}, blended on {windowing.blended_on} {'in rows' if in_rows else 'as a whole'}{images}"


def settle_windows(engines: Engines, inputs: Sequence[PredictionInput], options: PredictOptions) -> Windowing:
    """How many windows at once for these images, where they are blended, and how many images at the same time.

    On the CPU nothing has to be known for it where no more than one window would be taken at once.

    Args:
        inputs: to be predicted; what cannot be read does not count.
        options: for another runtime than torch, the network takes as many windows as the config says.
    """
    known = is_plain(engines.parts.inferer) and begins_as_planned(engines.parts.preprocessing)
    if options.runtime != TORCH or (not known and engines.parts.device.type == "cpu"):
        return Windowing(_read_batch_size(engines), engines.parts.device)
    if not known:
        return _fill_device(engines)
    if _limit_windows(engines) == 1:
        return Windowing(1, engines.parts.device)
    cases, _ = size_cases(engines, inputs, options.probabilities)
    free_bytes = device_memory.find_free_bytes(engines.parts.device)
    num_windows = sum(case.windows.num_windows for case in cases if case.windows is not None)
    # measuring loads PyTorch's compiler, which takes a second: not where a bound says the same
    windowing = choose_windowing(engines, cases, bound_window(engines), free_bytes)
    if windowing.batch_size == _limit_windows(engines, cases) and windowing.blended_on == engines.parts.device:
        num_images = choose_num_images(engines, cases, windowing, free_bytes)
        return replace(windowing, num_images=num_images, num_windows=num_windows)
    windowing = choose_windowing(engines, cases, measure_window(engines), free_bytes)
    return replace(windowing, num_windows=num_windows)


def _fill_device(engines: Engines) -> Windowing:
    """For images whose sizes are not known: as many windows on a GPU as half of its free memory holds, by a bound."""
    batch_size = _limit_windows(engines)
    if is_plain(engines.parts.inferer) and not isinstance(engines.parts.inferer.roi_size, int):
        fitting = device_memory.find_free_bytes(engines.parts.device) // 2 // bound_window(engines)
        batch_size = max(1, min(batch_size, fitting))
    return Windowing(batch_size, engines.parts.device)


def choose_num_images(
    engines: Engines,
    cases: Sequence[SizedCase],
    windowing: Windowing,
    free_bytes: int,
    num_threads: int | None = None,
) -> int:
    """How many images at the same time: several on a CPU where windows are small and memory is plenty, otherwise one.

    PyTorch's threads wait for each other in every layer, the longer the smaller it is; with an image each they do not.

    Args:
        cases: to be predicted.
        windowing: that was chosen.
        free_bytes: of main memory.
        num_threads: of PyTorch; as it is set, if None.
    """
    if engines.parts.device.type != "cpu" or engines.volumes is None or _limit_windows(engines) == 1:
        return 1
    threads = torch.get_num_threads() if num_threads is None else num_threads
    alone = Overlap(False, False, "")
    window_bytes = bound_window(engines)
    peak = max((estimate_peak(engines, case, window_bytes, windowing, alone) for case in cases), default=1)
    return max(1, min(threads, len(cases), MOST_IMAGES_ON_CPU, int(_SIDE_BY_SIDE_SHARE * free_bytes // peak)))


def choose_windowing(engines: Engines, cases: Sequence[SizedCase], window_bytes: int, free_bytes: int) -> Windowing:
    """The most windows at once, halved until the memory of the device is enough for them.

    On a CPU up to `MOST_WINDOWS_ON_CPU` small ones, unless the config says more. On a GPU as many as fill it, but no more than the largest
    image has, and blended on the CPU where even one does not fit otherwise.

    Args:
        cases: to be predicted.
        window_bytes: of one window on its way through the network.
        free_bytes: of the device.
    """
    on_gpu, limit = engines.parts.device.type != "cpu", _limit_windows(engines, cases)
    usable = _USABLE_SHARE * free_bytes
    for blended_on in (engines.parts.device, *([_CPU] if on_gpu else [])):
        batch_size = limit
        while batch_size >= 1:
            if all(
                estimate_device(engines, case, window_bytes, Windowing(batch_size, blended_on)) <= usable
                for case in cases
            ):
                return Windowing(batch_size, blended_on)
            batch_size //= 2
    return Windowing(1, _CPU)


def _limit_windows(engines: Engines, cases: Sequence[SizedCase] = ()) -> int:
    """The most windows at once that gain anything; batches on a GPU are filled up, so no more than the largest of the cases has."""
    configured = _read_batch_size(engines)
    size = getattr(engines.parts.inferer, "roi_size", 0)
    if not is_plain(engines.parts.inferer) or isinstance(size, int):
        return configured
    if engines.parts.device.type != "cpu":
        filling = max(configured, min(MOST_WINDOWS_ON_GPU, max(1, GPU_BATCH_VOXELS // prod(size))))
        counts = [case.windows.num_windows for case in cases if case.windows is not None]
        return min(filling, max(counts)) if counts else filling
    return max(configured, min(MOST_WINDOWS_ON_CPU, CPU_BATCH_VOXELS // prod(size)))


def _read_batch_size(engines: Engines) -> int:
    return int(getattr(engines.parts.inferer, "sw_batch_size", getattr(engines.parts.inferer, "batch_size", 1)))


def measure_window(engines: Engines) -> int:
    """Bytes of one window on its way through the largest of the networks; 0 where no window is known."""
    size = getattr(engines.parts.inferer, "roi_size", getattr(engines.parts.inferer, "tile_size", None))
    if size is None:
        return 0
    return memory.measure_window(find_module(engines), len(engines.parts.expected.channel_names), tuple(size))


def bound_window(engines: Engines) -> int:
    """Bytes that one window on its way through a network stays below, without running it."""
    parts = engines.parts
    first_level = parts.plan.filters[0] if parts.plan is not None else 0
    widest = max(first_level, len(parts.expected.channel_names), parts.num_classes)
    module = find_module(engines)
    copies = len(module.flips) if isinstance(module, Mirrored) and module.at_once else 1
    return copies * _MOST_ARRAYS * memory.FLOAT * widest * prod(engines.parts.inferer.roi_size)


def find_module(engines: Engines) -> torch.nn.Module:
    """The first network, with its mirroring and without what measures its time."""
    heads = engines.volumes.deferred_heads if engines.volumes is not None else ()
    network = heads[0].body if heads else engines.parts.networks[0]
    module = network.network if isinstance(network, TimedNetwork) else network
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"{type(module).__name__} is no module of PyTorch")
    return module


def estimate_device(engines: Engines, case: SizedCase, window_bytes: int, windowing: Windowing) -> int:
    """Bytes of the device that computes, beside the weights."""
    if windowing.blended_on != engines.parts.device:
        return windowing.batch_size * window_bytes
    return _estimate_network(engines, case, window_bytes, windowing.batch_size)


def _estimate_network(engines: Engines, case: SizedCase, window_bytes: int, batch_size: int) -> int:
    if engines.volumes is not None and case.windows is not None:
        return memory.estimate_blending(case.size, case.windows, window_bytes, batch_size)
    return memory.estimate_whole(case.size, window_bytes, batch_size)


def estimate_peak(engines: Engines, case: SizedCase, window_bytes: int, windowing: Windowing, overlap: Overlap) -> int:
    """Bytes of main memory, without what the process has before the first image."""
    size = case.size
    reading, writing = memory.estimate_reading(size), memory.estimate_writing(size)
    if windowing.blended_on == _CPU:
        on_cpu = window_bytes if engines.parts.device == _CPU else 0
        network = _estimate_network(engines, case, on_cpu, windowing.batch_size)
    else:
        network = memory.estimate_held(size)
    if not overlap.files:
        return max(reading, network + writing)
    ahead = reading if overlap.preprocessing else size.num_channels * prod(size.native_shape) * size.value_bytes
    return ahead + max(reading, network) + 2 * writing
