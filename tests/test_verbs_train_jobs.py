"""`train --jobs`: seeds by workers, one of which is refused, then killed, against the same seeds one after another; and `evaluate --jobs`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

import unet_pipeline
from unet_pipeline.cohort.items import State
from unet_pipeline.errors import CohortError
from unet_pipeline.files import compute_sha256
from unet_pipeline.locks import hold_lock
from unet_pipeline.training.checkpoint import has_checkpoint

from .phantom_bundles import SMALL_2D, plan_small, silently, write_pictures
from .warm_python import find_fork

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does"),
    pytest.mark.usefixtures("warm_processes"),
]
ROOT = Path(__file__).parents[1]
NUMBERS = {**SMALL_2D, "num_epochs": 4, "iterations_per_epoch": 3, "val_interval": 1}
OPTIONS = {"seeds": 2, "overrides": {"checkpoint_interval_s": 0.0}}
COMMAND = ["train", "--seeds", "2", "--jobs", "2", "--threads", "1"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In `alone` a bundle whose two seeds were trained one after another, in `jobs` the same one untrained."""
    folder = tmp_path_factory.mktemp("train_jobs")
    plan_small(write_pictures(folder / "cells"), folder / "alone", **NUMBERS)
    shutil.copytree(folder / "alone", folder / "jobs")
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        silently(unet_pipeline.train, folder / "alone", **OPTIONS)
    finally:
        torch.set_num_threads(num_threads)
    return folder


def hash_weights(bundle: Path) -> dict[str, str]:
    return {path.name: compute_sha256(path) for path in sorted((bundle / "models").glob("*.pt"))}


def find_further_run(bundle: Path) -> Path:
    (run_dir,) = (bundle / "evidence" / "runs").glob("fold_*_seed_*-*")
    return run_dir


def train_killed(bundle: Path) -> tuple[str, str, int]:
    """Train by the command line, and kill the worker of the further seed once it has a checkpoint."""
    words = [sys.executable, "-m", "unet_pipeline", "train", bundle, *COMMAND[1:], "checkpoint_interval_s=0.0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), os.environ["PYTHONPATH"]])}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    deadline_s = time.monotonic() + 300
    while not (run_dirs := list((bundle / "evidence" / "runs").glob("fold_*_seed_*-*"))) or not has_checkpoint(
        run_dirs[0]
    ):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    for child in psutil.Process(find_fork(sys.executable, process.pid)).children():
        if "popen_loky" in " ".join(child.cmdline()):
            child.kill()
    stdout, stderr = process.communicate(timeout=300)
    return stdout, stderr, process.returncode


def test_train_jobs_with_a_refused_and_a_killed_seed_gives_the_weights_of_one_after_another(work: Path) -> None:
    bundle = work / "jobs"
    refused = next(path for path in (work / "alone" / "models").glob("*_seed_*.pt")).name
    with (
        hold_lock(bundle / "models" / f".{refused}.lock", "a test"),
        pytest.raises(
            CohortError, match=r"1 of 2 trainings failed:\n  fold_\d_seed_\d+ \(bad input\): .*another process"
        ),
    ):
        silently(unet_pipeline.train, bundle, jobs=2, threads=1, **OPTIONS)
    assert refused not in hash_weights(bundle)
    assert len(hash_weights(bundle)) == 2, "the other one is done, and the bundle's"
    assert unet_pipeline.jobs(bundle).counts == {State.FINISHED: 1, State.BAD_INPUT: 1}

    stdout, stderr, status = train_killed(bundle)
    assert status == 0, stderr
    assert stdout.count("epochs in") == 2
    assert hash_weights(bundle) == hash_weights(work / "alone")
    run = json.loads((find_further_run(bundle) / "run.json").read_text(encoding="utf-8"))
    assert len(run["sessions"]) == 1, "the killed one; what goes on is the same run"
    assert [epoch["epoch"] for epoch in run["epochs"]] == [1, 2, 3, 4]


def test_train_jobs_again_trains_nothing(work: Path) -> None:
    bundle, lines = work / "jobs", list[str]()
    before = hash_weights(bundle)
    runs = silently(unet_pipeline.train, bundle, jobs=2, threads=1, announce=lines.append, **OPTIONS)
    assert [line.split()[0] for line in lines if line.startswith("kept")] == ["kept", "kept"]
    assert [run.num_epochs for run in runs] == [4, 4]
    assert hash_weights(bundle) == before
    assert len(list((bundle / "evidence" / "runs").glob("fold_*"))) == 2


def test_evaluate_jobs_gives_the_rows_of_one_process(work: Path) -> None:
    out = {name: work / name for name in ("one", "two")}
    alone = silently(unet_pipeline.evaluate, work / "alone", out=out["one"])
    by_jobs = silently(unet_pipeline.evaluate, work / "alone", out=out["two"], jobs=2)
    assert alone.rows.equals(by_jobs.rows)
    assert (out["one"] / "metrics.csv").read_bytes() == (out["two"] / "metrics.csv").read_bytes()
    assert unet_pipeline.jobs(by_jobs.predictions[0]).counts == {State.FINISHED: len(set(alone.rows["case"]))}
