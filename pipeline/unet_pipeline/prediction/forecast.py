"""What a prediction will do and take, from the headers of its images: windows, how many at once, where they are blended, memory.

The network is not run. `forecast_images` tells for `predict --dry-run` what `settle_windows` decides for a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unet_pipeline.device import memory as device_memory
from unet_pipeline.prediction.engines import Engines
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.overlap import Overlap
from unet_pipeline.prediction.parts import Windowing
from unet_pipeline.prediction.window_choice import (
    choose_num_images,
    choose_windowing,
    estimate_device,
    estimate_peak,
    find_module,
    measure_window,
    size_cases,
)
from unet_pipeline.results import Result

_CPU = torch.device("cpu")
_FIRST_RUN_BYTES = 100 << 20  # kernels and buffers of the libraries that the first window brings


@dataclass(frozen=True)
class CaseForecast:
    """What one image will take.

    Attributes:
        name: of the case.
        shape: of the image.
        network_shape: on the network's grid.
        num_windows: for each network; None where the inferer is not MONAI's plain sliding window.
        in_rows: blended row by row; otherwise as a whole.
        peak_bytes: of main memory, of the whole process; with others of its size where several go side by side.
        device_bytes: of the GPU, beside the weights; 0 without one.
    """

    name: str
    shape: tuple[int, ...]
    network_shape: tuple[int, ...]
    num_windows: int | None
    in_rows: bool
    peak_bytes: int
    device_bytes: int


@dataclass(frozen=True, repr=False)
class Forecast(Result):
    """What a prediction will do.

    Attributes:
        device: of the network.
        precision: of the network.
        num_networks: members of an ensemble; each window goes through all.
        mirrored: copies of each window that are averaged, each of which takes the network's time.
        num_copies: that `--mirror` averages: two for each axis that the training mirrored, multiplied.
        window_size: None where the inferer is not MONAI's plain sliding window.
        windowing: how many at once, where they are blended, and how many images at the same time.
        whole_because: why images are blended as a whole; empty where they are blended in rows.
        overlap: what runs beside the network.
        free_bytes: of main memory, with what this process has.
        free_device_bytes: of the GPU; 0 without one.
        cases: that can be predicted.
        kept: label maps that are there already.
        failures: of cases that cannot be predicted, by their headers.
    """

    device: str
    precision: str
    num_networks: int
    mirrored: int
    num_copies: int
    window_size: tuple[int, ...] | None
    windowing: Windowing
    whole_because: str
    overlap: Overlap
    free_bytes: int
    free_device_bytes: int
    cases: tuple[CaseForecast, ...]
    kept: tuple[Path, ...]
    failures: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        """Of main memory, of the whole process."""
        return max((case.peak_bytes for case in self.cases), default=0)

    @property
    def device_bytes(self) -> int:
        """Of the GPU, beside the weights."""
        return max((case.device_bytes for case in self.cases), default=0)

    @property
    def fits(self) -> bool:
        """Whether there is as much memory as will be taken."""
        return self.peak_bytes <= self.free_bytes and self.device_bytes <= self.free_device_bytes


def forecast_images(
    engines: Engines,
    inputs: Sequence[PredictionInput],
    kept: Sequence[Path],
    overlap: Overlap,
    probabilities: bool = False,
    num_copies: int = 1,
) -> Forecast:
    """What the prediction of these images will do and take.

    Args:
        engines: of the bundle, with PyTorch's own network.
        inputs: to be predicted.
        kept: label maps that are there already.
        overlap: what runs beside the network.
        probabilities: they are written too.
        num_copies: that `--mirror` averages.

    Raises:
        PredictionError: the preprocessing is not what `plan` writes.
    """
    cases, failures = size_cases(engines, inputs, probabilities)
    if len(inputs) < 2:
        overlap = Overlap(False, False, "there is no other image")
    window_bytes, device = measure_window(engines), engines.parts.device
    base, on_gpu = device_memory.read_own_bytes() + _FIRST_RUN_BYTES, device.type != "cpu"
    free = device_memory.find_free_bytes(_CPU) + device_memory.read_own_bytes()
    free_device = device_memory.find_free_bytes(device) if on_gpu else 0
    windowing = choose_windowing(engines, cases, window_bytes, free_device if on_gpu else free - base)
    windowing = replace(windowing, num_images=choose_num_images(engines, cases, windowing, free - base))
    if windowing.num_images > 1:
        overlap = Overlap(
            False, False, f"{windowing.num_images} images go side by side, with a share of the threads each"
        )
    forecasts = []
    for case in cases:
        peak = base + windowing.num_images * estimate_peak(engines, case, window_bytes, windowing, overlap)
        num_windows = None if case.windows is None else case.windows.num_windows
        on_device = estimate_device(engines, case, window_bytes, windowing) if on_gpu else 0
        shapes = case.size.native_shape, case.size.network_shape
        forecasts.append(CaseForecast(case.name, *shapes, num_windows, engines.volumes is not None, peak, on_device))
    network = find_module(engines)
    return Forecast(
        device=str(device),
        precision=engines.parts.precision,
        num_networks=len(engines.parts.networks),
        mirrored=len(network.flips) if isinstance(network, Mirrored) else 1,
        num_copies=num_copies,
        window_size=cases[0].windows.size if cases and cases[0].windows is not None else None,
        windowing=windowing,
        whole_because=engines.reason,
        overlap=overlap,
        free_bytes=free,
        free_device_bytes=free_device,
        cases=tuple(forecasts),
        kept=tuple(kept),
        failures=tuple(failures),
    )
