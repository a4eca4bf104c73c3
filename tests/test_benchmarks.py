"""The tables of the benchmarks come from evidence, and docs/results.md shows what they say."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import yaml

from unet_pipeline.files import write_json, write_text

from .scripts import load_script

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    """A script of benchmarks/, which is in no package and imports the scripts beside it."""
    if str(ROOT / "benchmarks") not in sys.path:
        sys.path.append(str(ROOT / "benchmarks"))
    return load_script(f"benchmarks/{name}.py")


def write_evidence(bundle: Path, folds: tuple[int, ...] = (0, 1)) -> Path:
    """What a trained and evaluated bundle leaves."""
    plan = {
        "dataset_name": "Phantoms",
        "spatial_dims": 2,
        "network_name": "unet2015",
        "preset": "quick",
        "normalisation": "none",
    }
    write_text(bundle / "configs" / "plan.yaml", yaml.safe_dump(plan))
    row = {"metric": "dice", "n": 8, "mean": 0.91234, "low": 0.9, "high": 0.92, "in_mean": True}
    rows = [
        {**row, "label": "mean of labels"},
        {**row, "label": "cell"},
        {**row, "label": "background", "in_mean": False},
        {**row, "label": "cell", "metric": "iou"},
    ]
    shown = ", ".join(map(str, folds))
    title = (
        f"Phantoms, validation, pooled over folds {shown} (of 2)"
        if len(folds) > 1
        else f"Phantoms, validation of fold {shown} of 2"
    )
    write_json(bundle / "evidence" / "evaluations" / "validation" / "summary.json", {"title": title, "rows": rows})
    for fold in folds:
        for number, state in ((1, "finished"), (2, "failed")):
            record = {
                "state": state,
                "duration_s": 600.0 * (fold + 1),
                "processor_s": 1200.0 * (fold + 1),
                "ended": "2026-01-02T03:04:05+00:00",
                "code": {"commit": "0123456789abcdef", "changed": False},
                "machine": {"gpu": None, "num_cores": 2, "processor": "Phantom"},
            }
            write_json(bundle / "evidence" / "runs" / f"fold_{fold}-00{number}" / "run.json", record)
    return bundle


def test_collect_reads_labels_that_count_and_the_finished_runs(tmp_path: Path) -> None:
    rows = load("record_accuracy").collect(write_evidence(tmp_path / "bundle"))
    assert [row["label"] for row in rows] == ["mean of labels", "cell"]
    first = rows[0]
    assert (first["dice"], first["low"], first["high"], first["n"]) == ("0.9123", "0.9000", "0.9200", "8")
    assert first["folds"] == "all"
    assert (first["minutes_per_fold"], first["processor_minutes_per_fold"]) == ("15.0", "30.0")
    assert (first["machine"], first["commit"], first["date"]) == ("2 cores Phantom", "0123456789", "2026-01-02")


def test_collect_part_of_the_folds_is_named(tmp_path: Path) -> None:
    assert load("record_accuracy").collect(write_evidence(tmp_path / "bundle", folds=(1,)))[0]["folds"] == "1"


def test_collect_unfinished_fold_is_refused(tmp_path: Path) -> None:
    bundle = write_evidence(tmp_path / "bundle")
    path = bundle / "evidence" / "runs" / "fold_1-001" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "interrupted"}))
    with pytest.raises(SystemExit, match="no finished training of fold 1"):
        load("record_accuracy").collect(bundle)


def test_results_page_shows_the_recorded_accuracy() -> None:
    module = load("record_accuracy")
    expected = module.put_into_page(module.build_table(module.read_rows()))
    message = "run `.venv/bin/python benchmarks/record_accuracy.py`"
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == expected, message


def test_ablation_variants_name_ids_of_the_config(tmp_path: Path) -> None:
    """An id that does not exist would leave the recipe as it is, and the row would say nothing."""
    from unet_pipeline.bundle.folder import BundleFolder
    from unet_pipeline.planning.plan import read_plan
    from unet_pipeline.training.run import check_overrides

    from . import phantom_bundles as phantoms

    module = load("ablation")
    root = phantoms.plan_small(phantoms.write_pictures(tmp_path / "cells"), tmp_path / "bundle")
    folder = BundleFolder(root)
    plan = read_plan(folder.plan).model_dump(mode="json")
    for name, changes in module.VARIANTS.items():
        known = {key: module.fill(value, plan) for key, value in changes.items()}
        check_overrides(folder, known)
        assert "{" not in str([value for value in known.values() if isinstance(value, str)]), name


def test_synthetic_dataset_has_every_label_and_no_two_images_alike(tmp_path: Path) -> None:
    import unet_pipeline

    root = load("synthetic_ct").write_dataset(tmp_path / "ct", 2, (20, 24, 16), 60)
    report = unet_pipeline.check(root)
    assert not report.problems
    assert report.fingerprint is not None
    assert len(report.fingerprint.labels) == 60
    assert all(all(case.num_voxels.values()) for case in report.fingerprint.cases)


def test_synthetic_set_numbers_unknown_name_is_refused(tmp_path: Path) -> None:
    synthetic = load("synthetic_ct")
    write_text(tmp_path / "configs" / "plan.yaml", "window_overlap: 0.5\n")
    with pytest.raises(KeyError, match="window_overlaps"):
        synthetic.set_numbers(tmp_path, {"window_overlaps": 0.25})


def test_measure_verb_counts_the_memory_of_its_own_process() -> None:
    """The peak of a process begins with that of the one that started it, when it is asked for in another way."""
    mine = np.ones(300 * 2**20, dtype=np.uint8)
    measured = load("measured_process").measure_verb(["--help"])
    assert 5 < measured.peak_mib < mine.nbytes / 2**20
    assert measured.processor_s > 0


def test_measure_verb_failure_says_what_failed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere"):
        load("measured_process").measure_verb(["check", tmp_path / "nowhere"])


def test_growth_judges_the_later_cases_by_the_earlier_ones() -> None:
    growth, measured = load("growth"), load("measured_process").Measured

    def build(last_s: float, last_mib: float) -> list[object]:
        taken = {2: (1.0, 100.0), 10: (1.8, 100.0), 100: (10.8, 110.0), 1000: (last_s, last_mib)}
        return [
            growth.Series(count, 48, {"check": [measured(seconds, seconds, peak_mib)]})
            for count, (seconds, peak_mib) in taken.items()
        ]

    assert growth.list_steps(build(100.8, 110.0), "check") == pytest.approx([0.1, 0.1, 0.1])
    assert (
        "+0% of the time of one before them: flat. Memory from 10 to 1000 cases changes by +10%: flat"
        in growth.judge(build(100.8, 110.0), "check")
    )
    assert (
        "+30% of the time of one before them: GROWS. Memory from 10 to 1000 cases changes by +20%: GROWS"
        in growth.judge(build(127.8, 120.0), "check")
    )
    assert "| 1000 | 100.80 | 1 | 100.0 | 100.0 | 110 |" in growth.build_case_table(build(100.8, 110.0), "check")


def test_growth_measures_every_verb_of_its_list_in_its_order(tmp_path: Path) -> None:
    growth = load("growth")
    work = growth.list_work(tmp_path, tmp_path, ["check", "predict"])
    assert [verb for verb, _ in work] == ["check", "plan", "predict"]  # there is nothing to predict with without a plan


def test_predict_volume_table_names_targets_and_shares() -> None:
    volume, measured = load("predict_volume"), load("measured_process").Measured
    plan = SimpleNamespace(window_size=(64, 64, 64), filters=(16, 32), window_overlap=0.5)
    shares = {"read": 0.01, "preprocess": 0.02, "network": 0.9, "postprocess": 0.06, "write": 0.01}
    row = volume.Row(60, plan, 2025, measured(500.0, 900.0, 4096.0), measured(4.0, 6.0, 900.0), shares)
    assert row.outside == pytest.approx(0.1)
    assert (
        "| 60 | 2025 of 64x64x64 | 500.0 | 4.0 | 10.0% (at most 15%) | 4.29 (under 6) | 1.0% |"
        in volume.build_table([row])
    )


LEAVES_ONE_BEHIND = """
import pathlib, subprocess, sys
process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[1]).write_text(str(process.pid))
sys.exit(int(sys.argv[2]))
"""


def is_alive(number: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
@pytest.mark.parametrize("status", [0, 3])
def test_run_group_ends_what_the_process_leaves_running(tmp_path: Path, status: int) -> None:
    alternating = load("alternating")
    command = [sys.executable, "-c", LEAVES_ONE_BEHIND, str(tmp_path / "number"), str(status)]
    with pytest.raises(subprocess.CalledProcessError) if status else contextlib.nullcontext():
        alternating.run_group(command, os.environ)
    number = int((tmp_path / "number").read_text())
    for _ in range(100):
        if not is_alive(number):
            break
        time.sleep(0.05)
    assert not is_alive(number)
