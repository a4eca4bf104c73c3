"""A network that nobody trained and many tiny images, for runs of many processes."""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Function, Outcome, Share, Work, carry_out
from unet_pipeline.cohort.options import JobOptions

from .phantom_bundles import SMALL_3D, plan_small, write_volume, write_volumes

SIDE = 16
TINY_3D = {**SMALL_3D, "filters": [4, 4, 8], "patch_size": [16, 16, 16], "window_size": [16, 16, 16]}


def build_bundle(folder: Path, num_cases: int = 4, **numbers: Any) -> Path:
    """A bundle for images of `SIDE` voxels with seeded random weights, in a folder of its own."""
    bundle = plan_small(write_volumes(folder / "dataset", num_cases), folder / "bundle", **{**TINY_3D, **numbers})
    root = BundleFolder(bundle)
    torch.manual_seed(0)
    parser = ConfigParser()
    parser.read_config(root.read_config("inference"))
    network = parser.get_parsed_content("network_def")
    root.weights.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), root.weights)
    return bundle


def write_images(folder: Path, count: int) -> Path:
    """Images of noise around a ball, each its own."""
    for number in range(count):
        generator = np.random.default_rng(number)
        grid = np.indices((SIDE,) * 3) - SIDE / 2
        image = 100.0 * (np.sqrt((grid**2).sum(0)) < generator.uniform(3, 7)) + generator.normal(0, 12, (SIDE,) * 3)
        write_volume(folder / f"image_{number:05d}.nii.gz", image.astype(np.float32))
    return folder


class OwnProcess:
    """An engine whose one worker is the test's own process: for tests of records, not of processes, which take seconds to start."""

    num_workers, num_in_flight = 1, 2

    def __init__(self, share: Share) -> None:
        self._share, self._attempts = share, deque[Attempt]()
        self.on_begin: OnBegin = ignore_beginning
        self._function: Function | None = None

    def start(self, work: Work) -> None:
        self._function = work.open(self._share)

    def submit(self, attempt: Attempt) -> None:
        self._attempts.append(attempt)

    def collect(self) -> list[Outcome]:
        assert self._function is not None
        return [carry_out(self._function, self._attempts.popleft())]

    def close(self) -> None:
        self._attempts.clear()


def stay_in_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `OwnProcess` do the work from now on, whatever the options of jobs say."""
    monkeypatch.setattr(JobOptions, "build", lambda options, share, num_items, out: OwnProcess(share))


def hash_label_maps(folder: Path) -> dict[str, str]:
    """SHA-256 of the label maps in a folder, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.nii.gz"))}
