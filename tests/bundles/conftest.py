"""Two trained phantom bundles, 3D and 2D, shared by the tests of this folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parents[1]))

import phantom_bundles as phantoms

import unet_pipeline


@dataclass(frozen=True)
class TrainedBundle:
    """A dataset and the bundle that was trained on it."""

    dataset: Path
    root: Path

    def copy_to(self, folder: Path) -> TrainedBundle:
        """Both under their own names in a folder, to be changed there."""
        shutil.copytree(self.dataset, folder / self.dataset.name)
        shutil.copytree(self.root, folder / self.root.name)
        return TrainedBundle(folder / self.dataset.name, folder / self.root.name)


def share_folder(tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Let the first of the parallel test processes build and train below a folder, and take a copy of it."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / f"shared_{name}"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            partial = shared.with_name(f"partial_{name}")
            shutil.rmtree(partial, ignore_errors=True)
            build(partial)
            partial.rename(shared)
    copy = own / name
    shutil.rmtree(copy, ignore_errors=True)  # of the same module, before tests of another were taken over
    shutil.copytree(shared, copy)
    return copy


def own_copy(tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> TrainedBundle:
    """The dataset and the bundle of such a folder."""
    copy = share_folder(tmp_path_factory, name, build)
    return TrainedBundle(copy / f"{name}s", copy / f"{name}_bundle")


@pytest.fixture(scope="session")
def bundle_3d(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    def build(folder: Path) -> None:
        dataset = phantoms.write_volumes(folder / "organs")
        root = phantoms.plan_small(dataset, folder / "organ_bundle", **phantoms.SMALL_3D)
        phantoms.silently(unet_pipeline.train, root)

    return own_copy(tmp_path_factory, "organ", build)


@pytest.fixture(scope="session")
def bundle_2d(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    def build(folder: Path) -> None:
        dataset = phantoms.write_pictures(folder / "cells")
        labels = {"background": 0, "cell": 255}
        root = phantoms.plan_small(dataset, folder / "cell_bundle", labels=labels, **phantoms.SMALL_2D)
        phantoms.silently(unet_pipeline.train, root)

    return own_copy(tmp_path_factory, "cell", build)


@pytest.fixture(params=["3d", "2d"])
def bundle(request: pytest.FixtureRequest) -> TrainedBundle:
    """Each of both bundles in turn."""
    return request.getfixturevalue(f"bundle_{request.param}")


@pytest.fixture
def copy_of_2d(bundle_2d: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    """The 2D bundle with its dataset, to be changed."""
    return bundle_2d.copy_to(tmp_path)
