"""Several datasets as one: labels by name, values of one table, and what a dataset does not name is unknown there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.phantom_bundles import draw_organ, write_volume
from unet_pipeline.dataset.annotated_labels import list_missing
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.image import read_label_map
from unet_pipeline.dataset.joining import fit_to_labels
from unet_pipeline.dataset.layouts import read_dataset, read_datasets
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import write_json
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.text_files import read_json_object

TABLE = {"background": 0, "organ": 1, "tumour": 2}


def write_folder(root: Path, labels: dict[str, int] | None, parts: dict[int, int], num_cases: int = 2) -> Path:
    """images/ and labels/ with equal names in every folder; `parts` has the file value of each label of the phantom that is drawn."""
    for seed in range(num_cases):
        image, drawn = draw_organ(seed + len(root.name))
        label = np.zeros_like(drawn)
        for value, written in parts.items():
            label[drawn == value] = written
        write_volume(root / "images" / f"case_{seed}.nii.gz", image)
        write_volume(root / "labels" / f"case_{seed}.nii.gz", label)
    if labels is not None:
        write_json(root / "dataset_facts.json", {"labels": labels})
    return root


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("joined")
    first = write_folder(folder / "A", {"background": 0, "organ": 1}, {1: 1})
    return first, write_folder(folder / "BB", {"background": 0, "Tumour": 1}, {2: 1})


def test_join_datasets_labels_by_name_with_values_of_one_table(pair: tuple[Path, Path], tmp_path: Path) -> None:
    joined = read_datasets(pair)
    assert joined.labels == {"background": 0, "organ": 1, "Tumour": 2}
    assert [case.name for case in joined.cases] == ["A_case_0", "A_case_1", "BB_case_0", "BB_case_1"]
    assert [case.columns["dataset"] for case in joined.cases] == ["A", "A", "BB", "BB"]
    assert [list_missing(case, joined.labels) for case in joined.cases] == [("Tumour",)] * 2 + [("organ",)] * 2
    report = check_dataset(joined)
    fingerprint = report.require_no_errors()
    assert fingerprint.missing_sets == (("Tumour",), ("organ",))
    assert fingerprint.cases[2].num_voxels["Tumour"] > 0 == fingerprint.cases[2].num_voxels["organ"]
    copies, prepared = prepare_dataset(report, tmp_path / "copies")
    values = [np.unique(read_label_map(copies.root / copy.label).array).tolist() for copy in prepared]
    assert values == [[0, 1], [0, 1], [0, 2], [0, 2]]


def test_join_datasets_same_labels_lack_nothing(tmp_path: Path) -> None:
    first = write_folder(tmp_path / "A", TABLE, {1: 1, 2: 2}, 1)
    second = write_folder(tmp_path / "BB", {"background": 0, "tumour": 1, "organ": 3}, {1: 3, 2: 1}, 1)
    joined = read_datasets([first, second])
    assert joined.labels == TABLE
    assert [case.annotated for case in joined.cases] == [None, None]
    assert [case.values for case in joined.cases] == [((0, 0), (1, 1), (2, 2)), ((0, 0), (1, 2), (3, 1))]
    assert read_datasets([first]).cases == read_dataset(first).cases


def test_join_datasets_value_that_its_dataset_does_not_name_is_an_error(pair: tuple[Path, Path]) -> None:
    odd = write_folder(pair[0].parent / "CCC", {"background": 0, "Tumour": 2}, {1: 1, 2: 2}, 1)
    report = check_dataset(read_datasets([pair[0], odd]))
    assert [problem.cause for problem in report.errors if problem.code == "value-not-of-its-dataset"] == [
        "has the value 1, which the label table of its own dataset lacks (0, 2)"
    ]


def test_join_datasets_what_cannot_be_joined_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    nameless = write_folder(tmp_path / "nameless", None, {1: 1}, 1)
    for places, part in (
        ([pair[0], pair[0]], "A is given twice"),
        ([pair[0], nameless], "nameless does not name its label values"),
    ):
        with pytest.raises(DatasetError, match=part):
            read_datasets(places)


def test_fit_to_labels_takes_the_values_of_the_plan(pair: tuple[Path, Path]) -> None:
    fitted = fit_to_labels(read_dataset(pair[1]), TABLE)
    assert [(case.values, list_missing(case, TABLE)) for case in fitted.cases] == [(((0, 0), (1, 2)), ("organ",))] * 2
    other = read_dataset(pair[1])
    assert fit_to_labels(other, {"background": 0, "liver": 1}) == other


def test_also_on_the_command_line_plans_one_bundle_of_two_datasets(
    pair: tuple[Path, Path], tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    first, second = pair
    status, printed, _ = call_main("check", first, "--also", second)
    assert status == 0
    assert "2 of 4 cases annotated with organ only" in " ".join(printed.split())
    bundle = tmp_path / "bundle"
    status, _, said = call_main("plan", first, bundle, "--also", second, "--folds", "2", "--no-forecast")
    assert status == 0, said
    assert read_plan(bundle / "configs" / "plan.yaml").missing_labels == (("Tumour",), ("organ",))
    entries = read_json_object(bundle / "evidence" / "splits" / "fold_0.json")
    assert {(entry["case"].split("_")[0], *entry["missing_values"]) for side in entries.values() for entry in side} == {
        ("A", 2),
        ("BB", 1),
    }
    assert call_main("check", first, "--also", second, "--label", "organ=1")[0] == 2
