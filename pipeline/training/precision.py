"""Which number format a device is fast with."""

from __future__ import annotations

import torch


def supports_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: on a CPU only with instructions of its own for it.

    Without them (AVX512-BF16 or AMX) PyTorch emulates it, which measured 2 to 3 times slower.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return any(
            getattr(torch.cpu, probe, bool)() for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False
