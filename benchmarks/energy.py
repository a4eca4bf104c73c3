"""Energy that processors and graphics cards say they took, where this machine lets it be read."""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")  # Linux: one folder for each package of a processor, in microjoule


class EnergyMeter:
    """Counts from its making on."""

    def __init__(self) -> None:
        self._begun = _read_counters()

    def read_joule(self) -> float | None:
        """Joule since the beginning, of all counters that were readable then; None where none was.

        A counter that began again from 0 in between is a counter that cannot be read.
        """
        now = _read_counters()
        taken = [now[name] - begun for name, begun in self._begun.items() if name in now]
        return sum(taken) if taken and min(taken) >= 0 else None


def _read_counters() -> dict[str, float]:
    """Joule of each package and of each NVIDIA card."""
    counters = {}
    for file in sorted(POWERCAP.glob("intel-rapl:?/energy_uj")):
        try:
            counters[str(file)] = int(file.read_text()) / 1e6
        except OSError:  # since 2020 for root only
            continue
    try:
        import pynvml

        pynvml.nvmlInit()
        for number in range(pynvml.nvmlDeviceGetCount()):
            card = pynvml.nvmlDeviceGetHandleByIndex(number)
            counters[f"card {number}"] = pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1e3
    except Exception:  # no package, no driver, or a card without a counter
        pass
    return counters
