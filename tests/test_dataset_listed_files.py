"""Lists and instance maps of a dataset are recorded with its manifest, and a change of what they say is found."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.listed_files import find_changed_instances, find_changed_lists, record_listing
from unet_pipeline.dataset.manifest import Manifest
from unet_pipeline.dataset.report import build_manifest
from unet_pipeline.files import write_json

from . import phantom_bundles as phantoms

NAMES = [f"cell_{number:02d}" for number in range(6)]
LABELS = {"background": 0, "cell": 255}


def write_table(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def list_rows() -> list[dict[str, str]]:
    return [
        {
            "case": name,
            "image": f"images/{name}.png",
            "label": f"labels/{name}.png",
            "patient": f"p{number // 2}",
            "split": "test" if number > 3 else "train",
            "spacing_mm": "0.5",
        }
        for number, name in enumerate(NAMES)
    ]


def make_manifest(source: Path, **keywords: Any) -> Manifest:
    report = check_dataset(read_dataset(source, **keywords), LABELS)
    report.require_no_errors()
    return Manifest.model_validate_json(json.dumps(build_manifest(report)))


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    phantoms.write_pictures(tmp_path / "cells", len(NAMES))
    write_table(tmp_path / "cells" / "cases.csv", list_rows())
    return tmp_path / "cells"


def test_record_listing_has_lists_and_facts(cells: Path) -> None:
    listing = record_listing(read_dataset(cells))
    assert (listing.given, [entry.path for entry in listing.files]) == ("cases.csv", ["cases.csv"])
    assert (listing.labels, listing.instances, listing.folds) == (None, {}, [])
    case = make_manifest(cells).cases["cell_05"]
    assert (case.patient, case.split, case.spacing_mm) == ("p2", "test", [0.5])


def test_find_changed_lists_saved_again_says_the_same(cells: Path) -> None:
    manifest, rows = make_manifest(cells), list_rows()
    assert find_changed_lists(manifest, cells, {}) == ([], [])
    write_table(cells / "cases.csv", rows[::-1], ";")
    assert find_changed_lists(manifest, cells, {}) == ([], [])
    write_table(cells / "cases.csv", [row | {"site": "north", "spacing_mm": "0.50x0.500"} for row in rows])
    assert find_changed_lists(manifest, cells, {}) == ([], [])
    text = (cells / "cases.csv").read_text(encoding="utf-8")
    (cells / "cases.csv").write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8")
    assert find_changed_lists(manifest, cells, {}) == ([], [])


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("spacing_mm", "5", "the spacing_mm of case cell_02 is 5, was 0.5"),
        ("patient", "p9", "case cell_02 has another patient"),
        ("split", "test", "the split of case cell_02 is test, was train"),
        ("label", "labels/cell_03.png", "the label of case cell_02 is labels/cell_03.png, was labels/cell_02.png"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_find_changed_lists_of_cases(cells: Path, kind: str, column: str, value: str, words: str) -> None:
    rows = list_rows()
    if kind == "json":
        (cells / "cases.csv").unlink()
        write_json(cells / "cases.json", rows)
    manifest = make_manifest(cells)
    rows[2][column] = value
    write_json(cells / "cases.json", rows) if kind == "json" else write_table(cells / "cases.csv", rows)
    assert find_changed_lists(manifest, cells, {}) == ([f"cases.{kind}"], [words])


def test_find_changed_lists_removed_damaged_and_lost(cells: Path) -> None:
    manifest, table = make_manifest(cells), cells / "cases.csv"
    write_table(table, list_rows()[:4])
    assert find_changed_lists(manifest, cells, {}) == (["cases.csv"], ["case cell_04 is gone", "case cell_05 is gone"])
    table.write_text("image,label\n", encoding="utf-8")
    ((name,), (fact,)) = find_changed_lists(manifest, cells, {})
    assert (name, fact.startswith("it cannot be read any more: cases.csv has no rows")) == ("cases.csv", True)
    table.unlink()
    assert find_changed_lists(manifest, cells, {}) == (["cases.csv"], ["cases.csv is gone"])


def test_find_changed_lists_list_in_another_folder(cells: Path, tmp_path: Path) -> None:
    (cells / "cases.csv").unlink()
    table = tmp_path / "lists" / "mine.csv"
    write_table(table, list_rows())
    manifest = make_manifest(table, data_root=cells)
    assert manifest.listing is not None
    assert manifest.listing.given == "../lists/mine.csv"
    assert find_changed_lists(manifest, cells, {}) == ([], [])
    write_table(table, list_rows()[1:])
    assert find_changed_lists(manifest, cells, {}) == (["../lists/mine.csv"], ["case cell_00 is gone"])
    table.unlink()  # the data may have been moved without it
    assert find_changed_lists(manifest, cells, {}) == ([], [])


def write_description(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    write_json(path, content)


def test_find_changed_lists_dataset_json(tmp_path: Path) -> None:
    root = phantoms.write_volumes(tmp_path / "organs", 3)
    report = check_dataset(read_dataset(root))
    manifest = Manifest.model_validate_json(json.dumps(build_manifest(report)))
    write_description(root, lambda content: content.update(description="another"))
    assert find_changed_lists(manifest, root, {}) == ([], [])
    write_description(root, lambda content: content["labels"].update({"1": "tumour", "2": "organ"}))
    assert find_changed_lists(manifest, root, {})[1] == [
        "the label table is background=0, tumour=1, organ=2, was background=0, organ=1, tumour=2"
    ]
    write_description(root, lambda content: content["labels"].update({"1": "organ", "2": "tumour"}))
    write_description(root, lambda content: content["training"].pop())
    assert find_changed_lists(manifest, root, {}) == (["dataset.json"], ["case organ_02 is gone"])


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    root = phantoms.write_volumes(tmp_path / "organs", 4)
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    labels = {"background": 0, "organ": 1, "tumour": 2}
    write_json(root / "dataset.json", {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"})
    return root


def write_splits(root: Path, *validation: list[int]) -> None:
    folds = [
        {
            "train": [f"organ_{case:02d}" for case in range(4) if case not in fold],
            "val": [f"organ_{case:02d}" for case in fold],
        }
        for fold in validation
    ]
    write_json(root / "splits_final.json", folds)


def test_find_changed_lists_of_nnunet(nnunet: Path) -> None:
    write_splits(nnunet, [0, 1], [2, 3])
    manifest = Manifest.model_validate_json(json.dumps(build_manifest(check_dataset(read_dataset(nnunet)))))
    assert find_changed_lists(manifest, nnunet, {}) == ([], [])
    write_splits(nnunet, [0], [1, 2, 3])
    lists, facts = find_changed_lists(manifest, nnunet, {})
    assert lists == ["splits_final.json"]
    assert "case organ_01 left the validation of fold 0" in facts
    (nnunet / "splits_final.json").unlink()
    assert find_changed_lists(manifest, nnunet, {})[1] == ["splits_final.json is gone"]
    write_splits(nnunet, [0, 1], [2, 3])
    write_description(nnunet, lambda content: content.update(labels={"background": 0, "organ": 2, "tumour": 1}))
    assert find_changed_lists(manifest, nnunet, {})[0] == ["dataset.json"]


def test_find_changed_lists_that_came(nnunet: Path, tmp_path: Path) -> None:
    manifest = Manifest.model_validate_json(json.dumps(build_manifest(check_dataset(read_dataset(nnunet)))))
    write_splits(nnunet, [0, 1], [2, 3])
    assert find_changed_lists(manifest, nnunet, {}) == (["splits_final.json"], ["there are 2 folds, were 0"])
    pictures = phantoms.write_pictures(tmp_path / "cells", len(NAMES))
    manifest = make_manifest(pictures)
    write_json(pictures / "dataset_facts.json", {"labels": {"background": 0, "nucleus": 255}})
    assert find_changed_lists(manifest, pictures, {})[1] == ["the label table is background=0, nucleus=255, was none"]
    (pictures / "dataset_facts.json").unlink()
    write_table(pictures / "cases.csv", list_rows()[:3])
    assert "case cell_05 is gone" in find_changed_lists(manifest, pictures, {})[1]


def test_find_changed_instances(cells: Path) -> None:
    shutil.copytree(cells / "labels", cells / "instances")
    (cells / "instances" / "cell_05.png").unlink()
    manifest = make_manifest(cells)
    assert manifest.listing is not None
    assert sorted(manifest.listing.instances) == NAMES[:5]
    assert find_changed_instances(manifest, cells, {}) == []
    PillowImage.fromarray(phantoms.draw_cell(99)[1]).save(cells / "instances" / "cell_00.png")
    shutil.copyfile(cells / "labels" / "cell_05.png", cells / "instances" / "cell_05.png")
    (cells / "instances" / "cell_01.png").unlink()
    assert list(map(str, find_changed_instances(manifest, cells, {}))) == [
        "instances/cell_00.png of case cell_00",
        "instances/cell_01.png of case cell_01 is gone",
        "instances/cell_05.png of case cell_05 is new",
    ]
    shutil.rmtree(cells / "instances")
    assert len(find_changed_instances(manifest, cells, {})) == 5
    shutil.rmtree(cells / "labels")  # then their reader says so
    assert find_changed_instances(manifest, cells, {}) == []


def test_manifest_without_listing_compares_files_only(cells: Path) -> None:
    content = make_manifest(cells).model_dump(mode="json")
    del content["listing"]
    content["cases"] = {name: {key: case[key] for key in ("image", "label")} for name, case in content["cases"].items()}
    manifest = Manifest.model_validate(content)
    write_table(cells / "cases.csv", list_rows()[1:])
    shutil.copytree(cells / "labels", cells / "instances")
    assert find_changed_lists(manifest, cells, {}) == ([], [])
    assert find_changed_instances(manifest, cells, {}) == []
