"""The trainings of an ablation are items of a record: stopped and begun again, it does only what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import unet_pipeline
from unet_pipeline.cohort.items import State
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.cohort.record import WAITING, open_record

from .cohort_phantoms import stay_in_own_process
from .phantom_bundles import SMALL_2D, plan_small, write_pictures
from .test_benchmarks import load

VARIANTS = {"the recipe": {}, "a third": {"learning_rate": "{learning_rate_third}"}}


def test_an_ablation_that_was_stopped_trains_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stay_in_own_process(monkeypatch)
    ablation = load("ablation")
    numbers = {**SMALL_2D, "num_epochs": 2, "iterations_per_epoch": 2, "val_interval": 1}
    base = plan_small(write_pictures(tmp_path / "cells"), tmp_path / "cells_bundle", **numbers)
    record, tables = tmp_path / "cells_bundle_record", list[list[dict[str, Any]]]()
    jobs = JobOptions(1, num_threads=1)

    def stop(rows: list[dict[str, Any]]) -> None:
        tables.append(rows)
        if len(rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablation.measure_variants(base, VARIANTS, 1, 0, jobs, stop)
    assert unet_pipeline.jobs(record).counts == {State.FINISHED: 1, WAITING: 1}
    ablation.measure_variants(base, VARIANTS, 1, 0, jobs, tables.append)
    assert [[row["name"] for row in rows] for rows in tables] == [list(VARIANTS)[:1], list(VARIANTS), list(VARIANTS)]
    assert tables[-1][:1] == tables[0], "the first training was kept"
    assert tables[-1][1]["mean"] == tables[1][1]["mean"], "in flight when it was stopped, done again, and the same"
    with open_record(record) as rows:
        assert {row.name: row.attempts for row in rows.list_in(State.FINISHED)} == {"the recipe": 1, "a third": 2}
    assert not list(tmp_path.glob("cells_bundle_[!r]*")), "copies of the bundle go with their rows"
    ablation.measure_variants(base, VARIANTS, 1, 0, jobs, lambda rows: pytest.fail("nothing is left"))
