"""A bundle notices when the lists and instance maps that it was planned from are not what they were, in every verb that uses the data."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from unet_pipeline.bundle.data_state import require_unchanged_data
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import DatasetError
from unet_pipeline.evidence.reproduce.reproduction_checks import find_changes_of_data
from unet_pipeline.files import write_json

from . import phantom_bundles as phantoms

VERBS = ("train", "evaluate", "evaluate DATASET", "tune")


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def list_rows(num_cases: int = 8) -> list[dict[str, str]]:
    names = [f"cell_{number:02d}" for number in range(num_cases)]
    return [
        {"case": name, "image": f"images/{name}.png", "label": f"labels/{name}.png", "patient": name, "spacing_mm": "1"}
        for name in names
    ]


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    """Of pictures in a list of cases, with instance maps."""
    dataset = phantoms.write_pictures(tmp_path / "cells", 8)
    shutil.copytree(dataset / "labels", dataset / "instances")
    write_rows(dataset / "cases.csv", list_rows())
    return BundleFolder(phantoms.plan_small(dataset, tmp_path / "bundle", labels={"background": 0, "cell": 255}))


@pytest.fixture
def copied(tmp_path: Path) -> BundleFolder:
    """Of NRRD volumes with instance maps, of which `plan` wrote copies."""
    for seed in range(5):
        image, label = phantoms.draw_organ(seed, (16, 16, 12))
        for side, array in (("images", image), ("labels", label), ("instances", label)):
            path = tmp_path / "organs" / side / f"c{seed}.nrrd"
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return BundleFolder(phantoms.plan_small(tmp_path / "organs", tmp_path / "bundle"))


def edit_spacing(dataset: Path) -> str:
    write_rows(
        dataset / "cases.csv", [row | {"spacing_mm": "7"} if row["case"] == "cell_03" else row for row in list_rows()]
    )
    return "cases.csv changed since `plan`: the spacing_mm of case cell_03 is 7, was 1. "


def join_patients(dataset: Path) -> str:
    write_rows(dataset / "cases.csv", [row | {"patient": "one"} for row in list_rows()])
    return (
        "cases.csv changed since `plan`: case cell_00 has another patient; case cell_01 has another patient; case cell_02 has another "
        "patient; case cell_03 has another patient; case cell_04 has another patient; and 3 more. "
    )


def swap_label(dataset: Path) -> str:
    rows = list_rows()
    rows[0]["label"], rows[1]["label"] = rows[1]["label"], rows[0]["label"]
    write_rows(dataset / "cases.csv", rows)
    return "cases.csv changed since `plan`: the label of case cell_00 is labels/cell_01.png, was labels/cell_00.png; "


def remove_rows(dataset: Path) -> str:
    write_rows(dataset / "cases.csv", list_rows()[:-1])
    return "cases.csv changed since `plan`: case cell_07 is gone. "


def empty_instances(dataset: Path) -> str:
    for path in (dataset / "instances").iterdir():
        path.unlink()
    return "8 file(s) changed since `plan`: instances/cell_00.png of case cell_00 is gone, "


def change_instances(dataset: Path) -> str:
    shutil.copyfile(dataset / "labels" / "cell_01.png", dataset / "instances" / "cell_00.png")
    return "1 file(s) changed since `plan`: instances/cell_00.png of case cell_00: "


CHANGES = (edit_spacing, join_patients, swap_label, remove_rows, empty_instances, change_instances)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("verb", VERBS)
def test_verbs_refuse_changed_lists_and_instances(
    folder: BundleFolder,
    call_main: Callable[..., tuple[int, str, str]],
    verb: str,
    change: Callable[[Path], str],
) -> None:
    torch.save({}, folder.weights)  # nothing is predicted
    words = change(folder.root.parent / "cells")
    more = (folder.root.parent / "cells",) if verb == "evaluate DATASET" else ()
    status, _, error = call_main(verb.split()[0], folder.root, *more)
    assert status == 1
    assert error.startswith(f"Error: {words}")
    assert "plan again with `unet-pipeline plan DATASET NEW_BUNDLE`." in error
    assert str(folder.root.parent) not in error
    assert error.count("\n") == 1


def test_require_unchanged_data_list_saved_again_or_put_back(folder: BundleFolder) -> None:
    table = folder.root.parent / "cells" / "cases.csv"
    require_unchanged_data(folder)
    write_rows(table, [row | {"site": "north"} for row in list_rows()])
    require_unchanged_data(folder)
    remove_rows(table.parent)
    with pytest.raises(DatasetError, match=r"case cell_07 is gone\. .* Put the list back as it was, or plan again"):
        require_unchanged_data(folder)
    write_rows(table, list_rows())
    require_unchanged_data(folder)


def test_require_unchanged_data_lists_are_compared_where_the_data_were_moved(folder: BundleFolder) -> None:
    moved = folder.root.parent / "moved"
    shutil.move(folder.root.parent / "cells", moved)
    require_unchanged_data(folder, moved)
    swap_label(moved)
    with pytest.raises(DatasetError, match=r"the label of case cell_00 is labels/cell_01\.png"):
        require_unchanged_data(folder, moved)


def test_require_unchanged_data_manifest_of_earlier_versions_stays_valid(folder: BundleFolder) -> None:
    manifest = json.loads(folder.dataset_manifest.read_text(encoding="utf-8"))
    del manifest["listing"]
    cases = {name: {"image": case["image"], "label": case["label"]} for name, case in manifest["cases"].items()}
    write_json(folder.dataset_manifest, manifest | {"cases": cases})
    remove_rows(folder.root.parent / "cells")
    empty_instances(folder.root.parent / "cells")
    require_unchanged_data(folder)


def test_require_unchanged_data_instances_of_copies(copied: BundleFolder) -> None:
    data, organs = copied.root.parent / "bundle_data", copied.root.parent / "organs"
    manifest = json.loads(copied.dataset_manifest.read_text(encoding="utf-8"))
    assert [copy["instances"] for copy in manifest["prepared"]] == [
        f"instances/c{number}.nii.gz" for number in range(5)
    ]
    require_unchanged_data(copied)
    (data / "instances" / "c2.nii.gz").rename(data / "c2.nii.gz")
    with pytest.raises(
        DatasetError, match=r"instances/c2\.nii\.gz of case c2 is gone in bundle_data/, where `plan` wrote copies"
    ):
        require_unchanged_data(copied)
    (data / "c2.nii.gz").rename(data / "instances" / "c2.nii.gz")
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.zeros((16, 16, 12), np.uint8)), str(organs / "instances" / "c4.nrrd")
    )
    with pytest.raises(
        DatasetError, match=r"instances/c4\.nrrd of case c4: .* The copies in bundle_data/ are of the files as"
    ):
        require_unchanged_data(copied)
    shutil.rmtree(organs)
    require_unchanged_data(copied)


def test_find_changes_of_data_names_lists_and_instances(folder: BundleFolder) -> None:
    cells = folder.root.parent / "cells"
    assert list(find_changes_of_data(folder, cells, [])) == []
    change_instances(cells)
    remove_rows(cells)
    assert [f"{one.file} {one.cause}" for one in find_changes_of_data(folder, cells, [])] == [
        "instances/cell_00.png of case cell_00 changed",
        "cases.csv has changed: case cell_07 is gone",
    ]


def test_plan_of_the_same_files_has_the_same_manifest(folder: BundleFolder) -> None:
    again = phantoms.plan_small(
        folder.root.parent / "cells", folder.root.parent / "again", labels={"background": 0, "cell": 255}
    )
    assert BundleFolder(again).dataset_manifest.read_bytes() == folder.dataset_manifest.read_bytes()
