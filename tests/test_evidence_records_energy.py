"""The energy counters on a made-up system."""

from __future__ import annotations

from pathlib import Path

from unet_pipeline.evidence.records.energy import EnergyMeter


def write_counter(powercap: Path, name: str, value_uj: int) -> None:
    (powercap / name).mkdir(parents=True, exist_ok=True)
    (powercap / name / "energy_uj").write_text(f"{value_uj}\n")
    (powercap / name / "max_energy_range_uj").write_text("10000000000\n")


def test_energy_two_processors_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write_counter(tmp_path, name, 1_000_000_000)
    meter = EnergyMeter(tmp_path)
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        write_counter(tmp_path, name, 3_500_000_000)
    assert meter.report().processor_kj == 5.0


def test_energy_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    write_counter(tmp_path, "intel-rapl:0", 9_000_000_000)
    meter = EnergyMeter(tmp_path)
    write_counter(tmp_path, "intel-rapl:0", 2_000_000_000)
    meter.update()
    write_counter(tmp_path, "intel-rapl:0", 4_000_000_000)
    assert meter.report().processor_kj == 5.0


def test_energy_without_counter_is_none_with_the_reason(tmp_path: Path) -> None:
    report = EnergyMeter(tmp_path).report()
    assert report.processor_kj is None
    assert "RAPL" in report.reasons["processor"]
