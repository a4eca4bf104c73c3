"""Checkpoints: a training that was cut off, however it was, ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import unet_pipeline
from unet_pipeline.bundle.folder import LAST_CHECKPOINT, PREVIOUS_CHECKPOINT, BundleFolder
from unet_pipeline.errors import TrainingError
from unet_pipeline.locks import InUseError, hold_lock
from unet_pipeline.training.checkpoint import read_checkpoint, read_newest_checkpoint, save_weights

from . import phantom_bundles as phantoms
from .scripts import load_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
End = tuple[str, str, str]


killing = load_script("benchmarks/kill_resume.py")


def test_save_weights_layer_with_two_names_is_stored_once(tmp_path: Path) -> None:
    layer = torch.nn.Linear(300, 300)
    save_weights(tmp_path / "once.pt", torch.nn.ModuleDict({"first": layer}))
    save_weights(tmp_path / "twice.pt", torch.nn.ModuleDict({"first": layer, "second": layer}))
    assert (tmp_path / "twice.pt").stat().st_size < 1.1 * (tmp_path / "once.pt").stat().st_size
    state = torch.load(tmp_path / "twice.pt", weights_only=True)
    assert set(state) == {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert torch.equal(state["second.weight"], layer.weight)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not trained; each test begins with `forget`."""
    return killing.plan_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def uninterrupted(bundle: Path) -> End:
    """Digests of the end of a training that nobody stopped."""
    killing.forget(bundle)
    assert killing.wait(killing.start(lambda: killing.train(bundle))) == 0
    return killing.describe_end(bundle)


def read_record(bundle: Path) -> dict[str, Any]:
    (run_dir,) = (bundle / "evidence" / "runs").iterdir()
    return json.loads((run_dir / "run.json").read_text())


def stop_at(number_of_write: int, what: Callable[[], None]) -> Callable[[int], None]:
    return lambda count: what() if count == number_of_write else None


@pytest.mark.slow
def test_train_deterministic_twice_gives_the_same_bits_for_any_number_of_workers(
    bundle: Path, uninterrupted: End
) -> None:
    for num_workers in (0, 4):  # the plan's own number is another one
        killing.forget(bundle)
        assert killing.wait(killing.start(lambda n=num_workers: killing.train(bundle, num_workers=n))) == 0
        assert killing.describe_end(bundle) == uninterrupted
    assert read_record(bundle)["num_threads"] == 1
    assert read_record(bundle)["nondeterministic_kernels"] == []


@pytest.mark.slow
@pytest.mark.parametrize("number_of_write", [1, 10])
def test_train_killed_before_a_write_and_resumed_ends_the_same(
    bundle: Path, uninterrupted: End, number_of_write: int
) -> None:
    killing.forget(bundle)
    kill = stop_at(number_of_write, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert killing.wait(killing.start(lambda: killing.train(bundle, before_write=kill))) == -signal.SIGKILL
    assert killing.wait(killing.start(lambda: killing.train(bundle, resume=True))) == 0
    assert killing.describe_end(bundle) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("number_of_write", [2, 4], ids=["within an epoch", "before a validation"])
def test_train_sigterm_saves_exits_without_error_and_continues(
    bundle: Path, uninterrupted: End, number_of_write: int
) -> None:
    killing.forget(bundle)
    ask = stop_at(number_of_write, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert killing.wait(killing.start(lambda: killing.train(bundle, before_write=ask, checkpoint_interval_s=0))) == 0
    record = read_record(bundle)
    assert (record["state"], record["stopped_by"]) == ("preempted", "SIGTERM")
    assert not (bundle / "models" / "model.pt").exists(), "the bundle gets the weights of a finished training"
    assert killing.wait(killing.start(lambda: killing.train(bundle, resume=True))) == 0
    assert killing.describe_end(bundle) == uninterrupted
    assert read_record(bundle)["state"] == "finished"


@pytest.mark.slow
def test_train_full_disk_is_an_error_of_this_package_and_loses_nothing(bundle: Path, uninterrupted: End) -> None:
    killing.forget(bundle)
    fill = stop_at(4, lambda: killing.limit_files(20_000))
    assert killing.wait(killing.start(lambda: killing.train(bundle, before_write=fill))) == 3
    assert "Free some space" in read_record(bundle)["error"]
    assert killing.wait(killing.start(lambda: killing.train(bundle, resume=True))) == 0
    assert killing.describe_end(bundle) == uninterrupted


@pytest.mark.slow
def test_train_second_process_of_the_same_fold_is_refused_and_changes_nothing(bundle: Path) -> None:
    killing.forget(bundle)
    number = killing.start(lambda: killing.train(bundle, before_write=lambda _: time.sleep(20)))
    try:
        deadline_s = time.monotonic() + 60
        while not any((bundle / "evidence" / "runs").glob("*/run.json")) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        before = read_record(bundle)
        with pytest.raises(
            InUseError, match=rf"models/model_fold_0\.pt is in use by another process \(process {number} on"
        ):
            killing.train(bundle)
        assert read_record(bundle)["started"] == before["started"]
    finally:
        os.kill(number, signal.SIGKILL)
        killing.wait(number)
    with hold_lock(bundle / "models" / ".model_fold_0.pt.lock", "the weights"):
        pass  # the kernel gave it back


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A bundle of its own after a training."""
    root = killing.plan_tiny(tmp_path_factory.mktemp("finished"))
    assert killing.wait(killing.start(lambda: killing.train(root))) == 0
    yield root
    torch.use_deterministic_algorithms(False)


def test_resume_finished_run_says_so_and_changes_nothing(finished: Path) -> None:
    results = [path for path in finished.rglob("[!.]*") if path.is_file() and not path.name.endswith(".lock")]
    files = {path: path.read_bytes() for path in results}
    lines: list[str] = []
    (run,) = unet_pipeline.train(finished, resume=True, announce=lines.append)
    assert "fold_0-001 is finished: 4 epochs" in lines[0]
    assert run.num_epochs == 4
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize(
    ("overrides", "named"),
    [({"learning_rate": 0.5}, "learning_rate was 0.01, now 0.5"), ({"deterministic": False}, "deterministic was true")],
)
def test_resume_other_settings_are_refused_and_named(finished: Path, overrides: dict[str, Any], named: str) -> None:
    before = read_record(finished)
    with pytest.raises(TrainingError, match=named):
        unet_pipeline.train(finished, resume=True, overrides=overrides)
    assert read_record(finished) == before


def test_resume_fewer_epochs_are_refused(finished: Path) -> None:
    # 4, or 6 where the test below was the first, as it may be in parallel
    with pytest.raises(TrainingError, match=r"it has ([46]) epochs already; expected num_epochs=\1 or more, found 2"):
        phantoms.silently(unet_pipeline.train, finished, resume=True, overrides={"num_epochs": 2})


def test_resume_more_epochs_follow_the_longer_cosine(finished: Path) -> None:
    phantoms.silently(unet_pipeline.train, finished, resume=True, overrides={"num_epochs": 6})
    folder = BundleFolder(finished)
    state = read_checkpoint(folder.runs / "fold_0-001" / LAST_CHECKPOINT)
    assert (state["epoch"], state["iteration"], state["lr_scheduler"]["t_total"]) == (6, 24, 24)
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-12)
    epochs = read_record(finished)["epochs"]
    assert [entry["epoch"] for entry in epochs] == [1, 2, 3, 4, 5, 6]


# reading


def write_both(folder: Path) -> None:
    for name, iteration in ((LAST_CHECKPOINT, 2), (PREVIOUS_CHECKPOINT, 1)):
        torch.save({"iteration": iteration, "weights": torch.arange(1000.0)}, folder / name)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()[400:440]) + 4] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:-900]), lambda path: path.write_bytes(b"")],
    ids=["one bit", "cut off", "empty"],
)
def test_read_newest_checkpoint_damaged_falls_back_to_the_previous_and_says_so(
    tmp_path: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write_both(tmp_path)
    assert read_newest_checkpoint(tmp_path)["iteration"] == 2
    assert capsys.readouterr().err == ""
    damage(tmp_path / LAST_CHECKPOINT)
    assert read_newest_checkpoint(tmp_path)["iteration"] == 1
    assert "checkpoint_last.pt cannot be read" in capsys.readouterr().err


def test_read_newest_checkpoint_between_both_renames_takes_the_previous(tmp_path: Path) -> None:
    write_both(tmp_path)
    (tmp_path / LAST_CHECKPOINT).unlink()
    assert read_newest_checkpoint(tmp_path)["iteration"] == 1


def test_read_newest_checkpoint_both_damaged_is_an_error(tmp_path: Path) -> None:
    write_both(tmp_path)
    for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT):
        flip_a_bit(tmp_path / name)
    with pytest.raises(
        TrainingError, match=r"checkpoint_last\.pt cannot be read.*checkpoint_previous\.pt cannot be read"
    ):
        read_newest_checkpoint(tmp_path)
