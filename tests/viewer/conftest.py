"""Chromium and pages of phantoms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unet_pipeline.dataset.layouts import read_dataset

from .chromium import Browser, find_chromium
from .evaluations import LABELS, draw_oblique, write_evaluation


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests; each opens its own page."""
    if find_chromium() is None:
        pytest.skip("no Chromium; install it, such as with apt-get install chromium")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Dataset and evaluation of three oblique cases."""
    root = tmp_path_factory.mktemp("volumes") / "data"
    for seed in range(3):
        draw_oblique(root, f"case_{seed}", seed)
    dataset = read_dataset(root)
    return root, write_evaluation(root.parent / "out", dataset, dataset.cases, LABELS)
