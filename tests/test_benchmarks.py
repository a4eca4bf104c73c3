"""The tables of the benchmarks come from evidence, and the README shows what the tables say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from pipeline.files import write_json, write_text

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    """A script of benchmarks/, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert (first["folds"], first["minutes_per_fold"]) == ("all", "15.0")
    assert (first["machine"], first["commit"], first["date"]) == ("2 cores Phantom", "0123456789", "2026-01-02")


def test_collect_part_of_the_folds_is_named(tmp_path: Path) -> None:
    assert load("record_accuracy").collect(write_evidence(tmp_path / "bundle", folds=(1,)))[0]["folds"] == "1"


def test_collect_unfinished_fold_is_refused(tmp_path: Path) -> None:
    bundle = write_evidence(tmp_path / "bundle")
    path = bundle / "evidence" / "runs" / "fold_1-001" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "interrupted"}))
    with pytest.raises(SystemExit, match="no finished training of fold 1"):
        load("record_accuracy").collect(bundle)


def test_readme_shows_the_recorded_accuracy() -> None:
    module = load("record_accuracy")
    expected = module.put_into_readme(module.build_table(module.read_rows()))
    message = "run `.venv/bin/python benchmarks/record_accuracy.py`"
    assert (ROOT / "README.md").read_text(encoding="utf-8") == expected, message


def test_ablation_variants_name_ids_of_the_config(tmp_path: Path) -> None:
    """An id that does not exist would leave the recipe as it is, and the row would say nothing."""
    import phantom_bundles as phantoms

    from pipeline.bundle_folder import BundleFolder
    from pipeline.planning.plan import read_plan
    from pipeline.training.run import check_overrides

    module = load("ablation")
    root = phantoms.plan_small(phantoms.write_pictures(tmp_path / "cells"), tmp_path / "bundle")
    folder = BundleFolder(root)
    plan = read_plan(folder.plan).model_dump(mode="json")
    for name, changes in module.VARIANTS.items():
        known = {key: module.fill(value, plan) for key, value in changes.items()}
        check_overrides(folder, known)
        assert "{" not in str([value for value in known.values() if isinstance(value, str)]), name
