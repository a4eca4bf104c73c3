"""A dataset of one case: it is planned and trained, and every verb says that nothing can be validated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import phantom_bundles as phantoms

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.report.history import read_history
from unet_pipeline.evidence.report.model_card import build_model_card

Call = Callable[..., tuple[int, str, str]]
WARNING = "warning: dataset has one case to train on, so nothing can be validated"


def test_lone_case_is_said_by_check_plan_train_tune_and_card(call_main: Call, tmp_path: Path) -> None:
    phantoms.write_pictures(tmp_path / "cells", num_cases=1)
    labels = ("--label", "background=0", "--label", "cell=255")
    status, out, _ = call_main("check", "cells", *labels)
    assert (status, WARNING in out) == (0, True)
    status, out, _ = call_main("plan", "cells", "bundle", "--preset", "quick", "--no-forecast", *labels)
    assert (status, WARNING in out) == (0, True)
    status, out, _ = call_main("train", "bundle", "num_epochs=1", "iterations_per_epoch=1")
    assert status == 0
    assert "warning: fold 0 validates on 1 case(s) that it is trained on (cell_00)" in out
    plan = (tmp_path / "bundle" / "configs" / "plan.yaml").read_bytes()
    status, _, err = call_main("tune", "bundle")
    assert status == 1
    assert "validates on the case(s) that it was trained on" in err
    assert (tmp_path / "bundle" / "configs" / "plan.yaml").read_bytes() == plan
    card = build_model_card(read_history(BundleFolder(tmp_path / "bundle")))
    assert "In fold 0 the validation shows cases that were trained on" in card
