"""Learning curves come from the events of the runs, the learning rate from the schedule of the training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.bundle.run_record import TrainingRecord
from unet_pipeline.evidence.report.curves import read_curves, trace_learning_rate
from unet_pipeline.evidence.report.history import History, read_history

from .evidence_bundles import write_evaluated


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return read_history(open_bundle(write_evaluated(tmp_path_factory.mktemp("curves"), 2)))


def test_read_curves_has_what_was_written(history: History) -> None:
    curves = {curve.tag: curve for curve in read_curves(history.folder)}
    assert curves["val_mean_dice"].steps == (1, 2, 3)
    assert curves["val_mean_dice"].values == pytest.approx((0.5, 0.81, 0.8))
    assert len(curves["train_loss"].steps) == 60


def test_read_curves_continued_run_counts_its_later_steps(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path)
    for suffix, values in ((".a", (1.0, 2.0)), (".b", (5.0, 6.0))):
        with SummaryWriter(str(folder.runs / "fold_0-001"), filename_suffix=suffix) as writer:
            for step, value in enumerate(values, start=1 if suffix == ".a" else 2):
                writer.add_scalar("train_loss", value, step)
    for number, path in enumerate(sorted(folder.runs.glob("*/events*"), key=lambda path: path.suffix)):
        path.rename(path.with_name(f"events.out.tfevents.{number}"))
    (curve,) = read_curves(folder)
    assert (curve.steps, curve.values) == ((1, 2, 3), (1.0, 5.0, 6.0))


def test_read_curves_without_runs_is_empty(history: History, tmp_path: Path) -> None:
    shutil.copytree(history.folder.configs, tmp_path / "configs")
    assert read_curves(BundleFolder(tmp_path)) == []


def test_trace_learning_rate_warms_up_peaks_and_ends_near_zero(history: History) -> None:
    curve = trace_learning_rate(history.plan, TrainingRecord(settings={"num_epochs": "10", "learning_rate": "0.5"}))
    assert max(curve.values) == pytest.approx(0.5, rel=0.02)
    assert curve.values[0] < 0.1
    assert curve.values[-1] < 0.01
    assert curve.steps[-1] == 10 * history.plan.iterations_per_epoch


def test_trace_learning_rate_counts_the_samples_that_a_run_set(history: History) -> None:
    settings = {"num_epochs": "4", "samples_per_epoch": str(3 * history.plan.batch_size - 1)}
    assert trace_learning_rate(history.plan, TrainingRecord(settings=settings)).steps[-1] == 12
