"""The time of a step: measured on made-up images, nothing is read, written or changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.errors import PlanError, TrainingError
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.training import probe
from unet_pipeline.training.probe import StepSize, count_flop, make_cases, shrink, time_step

from . import phantom_bundles as phantoms

FAST = {"_ENOUGH_S": 0.1, "_MAX_STEPS": 4}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FAST.items():
        monkeypatch.setattr(probe, name, value)


def build_plan(
    make_fingerprint: Callable, shape: tuple[int, ...], network: str = "dynunet", preset: str = "quick"
) -> Plan:
    suffix = ".png" if len(shape) == 2 else ".nii.gz"
    return plan_from_fingerprint(
        make_fingerprint(shapes=[shape] * 4, suffix=suffix), "data", preset, network=network
    ).plan


NETWORKS = [
    ((300, 280), "dynunet"),
    ((300, 280), "unet2015"),
    ((90, 80, 70), "dynunet"),
    ((90, 80, 70), "unet3d2016"),
    ((60, 200, 200), "unetplusplus"),
    ((1, 64, 64), "dynunet"),
]


@pytest.mark.parametrize(("shape", "network"), NETWORKS)
@pytest.mark.parametrize("max_flop", [1e9, 2e10, 1e15])
def test_shrink_gives_a_step_that_the_plan_allows(
    make_fingerprint: Callable, shape: tuple[int, ...], network: str, max_flop: float
) -> None:
    plan = build_plan(make_fingerprint, shape, network)
    size = shrink(plan, max_flop)
    planned = StepSize(plan.patch_size, plan.batch_size)
    assert count_flop(plan, size) <= count_flop(plan, planned)
    assert size == planned or size.batch_size == 1
    # the plan's own rules about sizes: multiples of the stride, and an output of an unpadded network
    Plan.model_validate({**plan.model_dump(), "patch_size": size.patch_size, "window_size": size.patch_size})
    if size != planned and count_flop(plan, size) > max_flop:
        assert shrink(plan, 1.0) == size, "there is nothing smaller"


def test_shrink_without_need_is_the_planned_step(make_fingerprint: Callable) -> None:
    plan = build_plan(make_fingerprint, (12, 12))
    assert shrink(plan, 1e12) == StepSize(plan.patch_size, plan.batch_size)


def test_make_cases_have_every_class(make_fingerprint: Callable) -> None:
    plan = build_plan(make_fingerprint, (40, 30))
    for case in make_cases(plan, (7, 5)):
        assert tuple(case["image"].shape) == (1, 7, 5)
        assert tuple(case["label"].shape) == (1, 7, 5)
        assert case["label"].unique().tolist() == [0, 1]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("probe")
    dataset = phantoms.write_volumes(root / "organs", 4)
    return phantoms.plan_small(dataset, root / "bundle", **phantoms.SMALL_3D)


def test_time_step_leaves_no_trace(volumes: Path) -> None:
    folder = open_bundle(volumes)
    before = {path: path.stat().st_mtime_ns for path in volumes.rglob("*")}
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    found = time_step(folder, read_plan(folder.plan))
    assert 0 < found.quiet_s <= found.step_s < 60
    assert (found.device, found.measured_share) == (
        str(torch.device("cuda:0" if torch.cuda.is_available() else "cpu")),
        1.0,
    )
    assert {path: path.stat().st_mtime_ns for path in volumes.rglob("*")} == before
    assert torch.equal(torch.random.get_rng_state(), state), "a training after it begins as without it"


def test_time_step_of_a_large_step_is_scaled_from_a_small_one(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, sizes = open_bundle(volumes), []
    plan = read_plan(folder.plan)

    def run(_folder: object, _plan: Plan, size: StepSize) -> tuple[float, float, str]:
        sizes.append(size)
        return 2e-9 * count_flop(plan, size), 1e-9 * count_flop(plan, size), "cpu"

    monkeypatch.setattr(probe, "_run", run)
    monkeypatch.setattr(probe, "_FIRST_FLOP", 1.0)
    monkeypatch.setattr(probe, "_LONGEST_STEP_S", 1e-12)
    found = time_step(folder, plan)
    planned = count_flop(plan, StepSize(plan.patch_size, plan.batch_size))
    assert len(sizes) == 1
    assert found.measured_share < 0.6
    assert found.step_s == pytest.approx(2e-9 * planned)
    assert found.quiet_s == pytest.approx(1e-9 * planned)


@pytest.mark.parametrize("network", ["unet2015", "unetplusplus"])
def test_time_step_networks_with_overlays(tmp_path: Path, network: str) -> None:
    """Border weights and mirrored borders; several heads."""
    phantoms.write_pictures(tmp_path / "cells", 4)
    phantoms.silently(unet_pipeline.plan, tmp_path / "cells", tmp_path / "bundle", "demo", network=network)
    folder = open_bundle(tmp_path / "bundle")
    assert time_step(folder, read_plan(folder.plan)).step_s > 0


def test_clock_slow_steps_end_after_the_second(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_AT_MOST_S", 0.0)
    monkeypatch.setattr(probe, "_NUM_WARM_UP", {"cpu": 30})
    monkeypatch.setattr(probe, "_ENOUGH_S", 1e9)
    clocks = []
    make = probe._Clock
    monkeypatch.setattr(probe, "_Clock", lambda number: clocks.append(make(number)) or clocks[-1])
    folder = open_bundle(volumes)
    assert time_step(folder, read_plan(folder.plan)).step_s > 0
    assert len(clocks[0].marks) == 1 + 2


def test_forecast_training_is_near_a_real_training(volumes: Path) -> None:
    """Within a factor of ten, on a machine where anything else may run: three orders lie between the steps of quick and of full."""
    started_s = time.monotonic()
    forecast = unet_pipeline.forecast_training(volumes)
    assert time.monotonic() - started_s < 60
    (run,) = phantoms.silently(unet_pipeline.train, volumes, overrides={"num_epochs": 2, "val_interval": 2})
    measured_s = sum(run.profile.seconds[part] for part in ("network", "data", "augmentation"))
    assert 0.1 < measured_s / 40 / forecast.step_s < 10 * forecast.slowdown
    assert forecast.num_steps == 80


def test_forecast_training_step_that_fails_says_why(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory.\nTried to allocate 20 GiB")

    monkeypatch.setattr(probe, "_run", fail)
    with pytest.raises(PlanError, match=r"cannot be timed on this machine \(RuntimeError: CUDA out of memory\. Tried"):
        unet_pipeline.forecast_training(volumes)


def test_forecast_training_step_without_memory_says_what_helps(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TrainingError("A training step needs more memory. Plan again with a smaller --memory GIB.")

    monkeypatch.setattr(probe, "_run", fail)
    with pytest.raises(PlanError, match="smaller --memory GIB"):
        unet_pipeline.forecast_training(volumes)


@pytest.mark.parametrize(
    ("device", "first_flop", "expected"),
    [("cuda:1", 1e15, 3.5), ("cpu", 1e15, None), ("cuda:1", 1.0, None)],
    ids=["planned step", "CPU", "smaller step"],
)
def test_time_step_has_the_memory_of_the_planned_step_on_a_gpu(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, device: str, first_flop: float, expected: float | None
) -> None:
    monkeypatch.setattr(probe, "_run", lambda *_: (1e6, 1e6, device))
    monkeypatch.setattr(probe, "_FIRST_FLOP", first_flop)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda found: {torch.device("cuda:1"): 3.5 * 2**30}[found])
    folder = open_bundle(volumes)
    assert probe.time_step(folder, read_plan(folder.plan)).peak_gib == expected
