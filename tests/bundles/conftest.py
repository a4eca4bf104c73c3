"""Two trained phantom bundles, 3D and 2D, shared by the tests of this folder."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import phantom_bundles as phantoms

import pipeline


@dataclass(frozen=True)
class TrainedBundle:
    """A dataset and the bundle that was trained on it."""

    dataset: Path
    root: Path


@pytest.fixture(scope="session")
def bundle_3d(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    folder = tmp_path_factory.mktemp("organs")
    dataset = phantoms.write_volumes(folder / "organs")
    root = phantoms.plan_small(dataset, folder / "organ_bundle", **phantoms.SMALL_3D)
    phantoms.silently(pipeline.train, root)
    return TrainedBundle(dataset, root)


@pytest.fixture(scope="session")
def bundle_2d(tmp_path_factory: pytest.TempPathFactory) -> TrainedBundle:
    folder = tmp_path_factory.mktemp("cells")
    dataset = phantoms.write_pictures(folder / "cells")
    labels = {"background": 0, "cell": 255}
    root = phantoms.plan_small(dataset, folder / "cell_bundle", labels=labels, **phantoms.SMALL_2D)
    phantoms.silently(pipeline.train, root)
    return TrainedBundle(dataset, root)


@pytest.fixture(params=["3d", "2d"])
def bundle(request: pytest.FixtureRequest) -> TrainedBundle:
    """Each of both bundles in turn."""
    return request.getfixturevalue(f"bundle_{request.param}")


@pytest.fixture
def copy_of_2d(bundle_2d: TrainedBundle, tmp_path: Path) -> TrainedBundle:
    """The 2D bundle with its dataset, to be changed."""
    shutil.copytree(bundle_2d.dataset, tmp_path / "cells")
    shutil.copytree(bundle_2d.root, tmp_path / "cell_bundle")
    return TrainedBundle(tmp_path / "cells", tmp_path / "cell_bundle")
