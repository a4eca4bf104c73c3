"""`evaluate` on TIFF label stacks without tags: slices to a network of volumes, a sentence without an unknown option to one of pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).parents[1]))

import phantom_bundles as phantoms

from .conftest import TrainedBundle

CallMain = Callable[..., tuple[int, str, str]]


def write_stack(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = np.ascontiguousarray(array.transpose(2, 1, 0))
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None)


@pytest.mark.parametrize("with_masks", [False, True])
def test_evaluate_untagged_stacks_with_a_network_of_volumes(
    bundle_3d: TrainedBundle, tmp_path: Path, call_main: CallMain, with_masks: bool
) -> None:
    dataset = tmp_path / "stacks"
    for seed in (70, 71):
        image, label = phantoms.draw_organ(seed)
        if with_masks:
            write_stack(dataset / f"s{seed}" / "ct.tif", image)
            for name, value in (("organ", 1), ("tumour", 2)):
                write_stack(dataset / f"s{seed}" / "segmentations" / f"{name}.tif", (label == value).astype(np.uint8))
        else:
            write_stack(dataset / "images" / f"s{seed}.tif", image)
            write_stack(dataset / "labels" / f"s{seed}.tif", label)
    status, _, error = call_main("evaluate", bundle_3d.root, dataset, "--out", tmp_path / "out")
    assert (status, "Error" in error) == (0, False), error
    rows = pd.read_csv(tmp_path / "out" / "metrics.csv")
    counted = {(row.case, row.label): row.num_voxels_reference for row in rows.itertuples()}
    for seed in (70, 71):
        label = phantoms.draw_organ(seed)[1]
        assert counted[f"s{seed}", "organ"] == np.count_nonzero(label == 1)
        assert counted[f"s{seed}", "tumour"] == np.count_nonzero(label == 2)


def test_evaluate_untagged_stacks_with_a_network_of_pictures_names_no_option(
    bundle_2d: TrainedBundle, tmp_path: Path, call_main: CallMain
) -> None:
    dataset = tmp_path / "others"
    picture, label = phantoms.draw_cell(90)
    (dataset / "images").mkdir(parents=True)
    phantoms.PillowImage.fromarray(picture).save(dataset / "images" / "cell_00.png")
    write_stack(dataset / "labels" / "cell_00.tif", np.stack([label.T] * 3, axis=-1))
    status, _, error = call_main("evaluate", bundle_2d.root, dataset, "--out", tmp_path / "out")
    assert status == 1
    assert "cell_00.tif has 3 pages; expected one. Save each page as a picture of its own." in error
    assert "--pages-as-slices" not in error
    assert "Traceback" not in error
