"""Energy that the machine took during a run, from the counters of processor and GPU where they can be read.

The counters are the whole machine's: what other processes did meanwhile is in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unet_pipeline.bundle.run_record import Energy

POWERCAP = Path("/sys/class/powercap")
_UJ_PER_KJ, _MJ_PER_KJ = 1e9, 1e6  # micro- and millijoule


class EnergyMeter:
    """Adds up the counters from its making on.

    `update` must be called more often than a processor's counter wraps (about every 20 minutes at full load); a training does at
    every epoch.

    Args:
        powercap: folder of the kernel's counters (Running Average Power Limit).
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._packages, self._processor_reason = _find_packages(powercap)
        self._last_uj = [_read(package / "energy_uj") for package in self._packages]
        self._processor_uj = 0
        self._gpus, self._gpu_reason = _open_gpus()
        self._gpu_start_mj = [_read_gpu(gpu) for gpu in self._gpus]

    def update(self) -> None:
        """Read the processor's counters, which wrap."""
        for index, package in enumerate(self._packages):
            now_uj = _read(package / "energy_uj")
            if now_uj < self._last_uj[index]:
                self._processor_uj += _read(package / "max_energy_range_uj")
            self._processor_uj += now_uj - self._last_uj[index]
            self._last_uj[index] = now_uj

    def report(self) -> Energy:
        """What was used since the meter's making."""
        self.update()
        reasons = {"processor": self._processor_reason, "gpu": self._gpu_reason}
        used_mj = sum(_read_gpu(gpu) - start for gpu, start in zip(self._gpus, self._gpu_start_mj, strict=True))
        return Energy(
            processor_kj=round(self._processor_uj / _UJ_PER_KJ, 3) if self._packages else None,
            gpu_kj=round(used_mj / _MJ_PER_KJ, 3) if self._gpus else None,
            reasons={part: reason for part, reason in reasons.items() if reason},
        )


def _find_packages(powercap: Path) -> tuple[list[Path], str | None]:
    """Counters of whole processors; their parts (core, dram) are inside."""
    packages = sorted(path for path in powercap.glob("*-rapl:*") if path.name.count(":") == 1)
    if not packages:
        return [], "this system has no RAPL counter"
    try:
        for package in packages:
            _read(package / "energy_uj")
    except OSError:
        return [], "the RAPL counters may be read by the administrator only"
    return packages, None


def _read(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))


def _open_gpus() -> tuple[list[Any], str | None]:
    """NVML's handles of the GPUs that PyTorch sees."""
    import torch

    if not torch.cuda.is_available():
        return [], "no GPU"
    try:
        import pynvml
    except ImportError:
        return [], "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
        uuids = [torch.cuda.get_device_properties(index).uuid for index in range(torch.cuda.device_count())]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in uuids]
        for handle in handles:
            _read_gpu(handle)
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"
    return handles, None


def _read_gpu(handle: Any) -> int:
    import pynvml

    return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
