"""How long the demo trains on a machine, and what it says about it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.commands import demo as command
from unet_pipeline.dataset import demo as cohorts
from unet_pipeline.errors import PlanError
from unet_pipeline.training.forecast import TrainingForecast
from unet_pipeline.verbs import demo as demonstration
from unet_pipeline.verbs.demo import size_training

PLANNED = TrainingForecast(
    preset="demo",
    device="cpu",
    step_s=0.5,
    num_epochs=20,
    num_steps=200,
    steps_s=100.0,
    validation_s=4.0,
    reading_s=1.0,
    cache_rate=1.0,
)


def test_size_training_fast_machine_trains_as_planned() -> None:
    sized = size_training(PLANNED, passed_s=30)
    assert (sized.num_epochs, sized.keeps_limit) == (20, True)
    assert sized.training_s == pytest.approx(105)


def test_size_training_slower_machine_trains_as_long_as_the_limit_allows() -> None:
    sized = size_training(replace(PLANNED, step_s=0.9, steps_s=180.0), passed_s=30)
    assert 14 <= sized.num_epochs < 20
    assert sized.keeps_limit
    assert 30 + sized.training_s + sized.rest_s <= 240 < 30 + sized.training_s + sized.rest_s + 9


def test_size_training_slow_machine_keeps_the_epochs_that_the_accuracy_needs() -> None:
    sized = size_training(replace(PLANNED, step_s=2.5, steps_s=500.0), passed_s=30)
    assert (sized.num_epochs, sized.keeps_limit) == (14, False)
    assert sized.training_s == pytest.approx(14 * 25 + 5)


def test_size_training_other_work_counts() -> None:
    assert size_training(replace(PLANNED, slowdown=1.9), passed_s=30).num_epochs < 20


def announce(monkeypatch: pytest.MonkeyPatch, forecast: TrainingForecast | PlanError) -> tuple[list[str], dict]:
    def tell(bundle: object) -> TrainingForecast:
        if isinstance(forecast, PlanError):
            raise forecast
        return forecast

    monkeypatch.setattr(demonstration, "forecast_training", tell)
    lines: list[str] = []
    overrides = demonstration._size_training(BundleFolder("nowhere"), 30.0, lines.append)
    return lines, overrides


def test_demo_says_beforehand_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, overrides = announce(monkeypatch, PLANNED)
    assert lines == ["train: about 2 minutes; the whole demo takes about 3 minutes on this machine"]
    assert overrides == {"num_epochs": 20}


def test_demo_beside_other_work_tells_both_times(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, overrides = announce(monkeypatch, replace(PLANNED, slowdown=10.0))
    assert overrides == {
        "num_epochs": 14
    }  # 30 s passed, 70 + 5 of training, 39 after it; and ten times 79 in place of 79
    assert lines[:2] == [
        "train: about a minute; the whole demo takes about 2 minutes on this machine",
        "when nothing else runs; about 14 minutes beside the other work that runs now",
    ]


@pytest.mark.parametrize(("steps_s", "said"), [(180.0, "in time"), (500.0, "fewer would not show")])
def test_demo_says_that_it_trains_shorter(monkeypatch: pytest.MonkeyPatch, steps_s: float, said: str) -> None:
    lines, overrides = announce(monkeypatch, replace(PLANNED, steps_s=steps_s))
    assert f"{overrides['num_epochs']} of 20 epochs" in lines[1]
    assert said in lines[1]


def test_demo_whose_step_cannot_be_timed_trains_as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, overrides = announce(monkeypatch, PlanError("no memory"))
    assert lines == ["train (how long it takes is not known: no memory)"]
    assert overrides == {}


def test_demo_ends_with_report_and_viewer_and_says_how_to_open_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "brain_tissue_demo"
    (bundle / "configs").mkdir(parents=True)
    order: list[str] = []

    def stand_in(name: str, result: object) -> None:
        monkeypatch.setattr(demonstration, name, lambda *values, **named: order.append(name) or result)

    report, page = bundle / "evidence" / "report.html", tmp_path / "brain_tissue_demo_view.html"
    for name, result in {
        "_size_training": {},
        "train": [SimpleNamespace(stopped_by=None)],
        "evaluate": None,
        "report": SimpleNamespace(path=report),
        "view": SimpleNamespace(path=page),
        "draw": tmp_path / "overlay.png",
        "open_bundle": SimpleNamespace(root=bundle),
        "package": SimpleNamespace(zip_file=tmp_path / "b.zip"),
    }.items():
        stand_in(name, result)
    monkeypatch.setattr(cohorts, "write_demo_cohort", lambda folder: SimpleNamespace(training=folder, test=folder))
    for name in ("print_evaluation", "evaluation_as_data"):
        monkeypatch.setattr(command, name, lambda evaluation: None)
    command.demo(tmp_path)
    assert order[-4:] == ["report", "view", "draw", "package"]  # what the seal covers is written before it
    lines = capsys.readouterr().out.splitlines()
    for path in (report, page):
        assert sum(str(path) in line for line in lines) == 2
    assert any(line.strip() == f"{command.name_opener(sys.platform)} {page}" for line in lines)


@pytest.mark.parametrize(("platform", "opener"), [("linux", "xdg-open"), ("darwin", "open"), ("win32", "explorer")])
def test_name_opener_is_the_systems_own(platform: str, opener: str) -> None:
    assert command.name_opener(platform) == opener
