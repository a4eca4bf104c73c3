"""Which number format a device is fast with."""

from __future__ import annotations

import time
from functools import cache

import torch
from torch.nn.functional import conv3d

FLOAT32, BFLOAT16 = "float32", "bfloat16"

_CLEARLY_FASTER = 0.8
_TURNS = 5
# of a network's middle; two images, because for one so small PyTorch takes a slow kernel in float32, but not in bfloat16
_SHAPE = (2, 64, 12, 12, 12)


def supports_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there.

    On a CPU it needs instructions of its own (AVX512-BF16 or AMX): without them PyTorch emulates it, which measured 2 to 3 times slower.
    With them it is measured, once in a process, because AVX512-BF16 halves the time of a convolution on AMD's processors and makes
    it up to 1.9 times as long on Intel's, where only AMX is fast.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, bool)() for probe in probes) and _is_bfloat16_faster_on_cpu()
    return False


@cache
def _is_bfloat16_faster_on_cpu() -> bool:
    """Whether a convolution takes clearly less time; the fastest of some turns, so that other processes do not decide."""
    images = torch.ones(_SHAPE)
    kernels = torch.ones(_SHAPE[1], _SHAPE[1], 3, 3, 3)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    with torch.inference_mode():
        for _ in range(1 + _TURNS):
            for dtype, times in seconds.items():
                arrays = images.to(dtype), kernels.to(dtype)
                started_s = time.perf_counter()
                conv3d(*arrays, padding=1)
                times.append(time.perf_counter() - started_s)
    # the first turn sets the kernels up
    return min(seconds[torch.bfloat16][1:]) < _CLEARLY_FASTER * min(seconds[torch.float32][1:])
