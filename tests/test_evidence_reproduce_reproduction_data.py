"""A bundle whose files were copied by `plan` is reproduced from the copies, or from the dataset itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.evidence.reproduce.reproduction_checks import find_changes_of_data
from unet_pipeline.evidence.reproduce.reproduction_data import provide_data

from . import phantom_bundles as phantoms


@pytest.fixture
def copied(tmp_path: Path) -> BundleFolder:
    """A bundle of TIFF pictures with a mask of two colours, which stock MONAI would read otherwise."""
    for seed in range(8):
        picture, mask = phantoms.draw_cell(seed)
        for folder, rows in (("images", picture), ("labels", mask)):
            (tmp_path / "cells" / folder).mkdir(parents=True, exist_ok=True)
            PillowImage.fromarray(rows).save(tmp_path / "cells" / folder / f"cell_{seed}.tif")
    labels = {"background": 0, "cell": 255}
    made = BundleFolder(phantoms.plan_small(tmp_path / "cells", tmp_path / "bundle", labels=labels))
    assert (tmp_path / "bundle_data" / "images" / "cell_0.png").is_file()
    return made


def test_provide_data_copies_themselves_are_taken(copied: BundleFolder) -> None:
    place = copied.root.parent / "bundle_data"
    for dataset in (None, place):
        with provide_data(copied, dataset) as found:
            assert found == (dataset, ())


def test_provide_data_dataset_without_its_copies_is_copied_again_with_equal_files(copied: BundleFolder) -> None:
    shutil.rmtree(copied.root.parent / "bundle_data")
    with provide_data(copied, copied.root.parent / "cells") as (data, changes):
        assert data is not None
        assert len(list(data.rglob("*.png"))) == 16
        assert [*changes, *find_changes_of_data(copied, data, ())] == []
    assert not data.exists()


def test_provide_data_changed_file_of_the_dataset_is_named(copied: BundleFolder) -> None:
    shutil.rmtree(copied.root.parent / "bundle_data")
    changed = copied.root.parent / "cells" / "images" / "cell_3.tif"
    PillowImage.fromarray(phantoms.draw_cell(40)[0]).save(changed)
    with provide_data(copied, copied.root.parent / "cells") as (data, changes):
        assert data is not None
        (source,) = changes
        (copy,) = find_changes_of_data(copied, data, ())
    assert source.severity == "error"
    assert (source.file, source.cause[:11]) == ("images/cell_3.tif (case cell_3)", "has changed")
    assert (copy.file, copy.cause[:11]) == ("images/cell_3.png (case cell_3)", "has changed")
