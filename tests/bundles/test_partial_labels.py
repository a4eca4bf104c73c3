"""A dataset of which every case is annotated with one of two labels, the whole way: plan, train, evaluate, stock configs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

import unet_pipeline
from tests.phantom_bundles import SMALL_3D, plan_small, silently, write_volumes
from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.files import write_text
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.text_files import read_json_object


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained; the hidden label is background in the files, as where nobody has drawn it."""
    folder = tmp_path_factory.mktemp("partial")
    data, rows = write_volumes(folder / "organs"), ["case,labels"]
    for number, path in enumerate(sorted((data / "labelsTr").iterdir())):
        image = nib.load(path)
        array = np.asarray(image.dataobj, dtype=np.uint8)
        hidden = 1 + number % 2
        nib.save(nib.Nifti1Image(np.where(array == hidden, 0, array).astype(np.uint8), image.affine), path)
        rows.append(f"{path.name.split('.')[0]},{['tumour', 'organ'][number % 2]}")
    write_text(data / "labels.csv", "\n".join(rows) + "\n")
    planned = plan_small(data, folder / "bundle", **SMALL_3D | {"num_epochs": 2, "val_interval": 1})
    silently(unet_pipeline.train, planned)
    return planned


def test_plan_and_data_lists_say_what_is_missing(bundle: Path) -> None:
    assert read_plan(bundle / "configs" / "plan.yaml").missing_labels == (("organ",), ("tumour",))
    entries = read_json_object(bundle / "evidence" / "splits" / "fold_0.json")["training"]
    assert {(int(entry["case"][-1]) % 2, *entry["missing_values"]) for entry in entries} == {(0, 1), (1, 2)}


def test_training_carries_codes_and_validation_hides(bundle: Path) -> None:
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / "train.json")])
    parser["bundle_root"], parser["device"] = str(bundle), "cpu"
    cached = parser.get_parsed_content("train#dataset")._cache[0]
    hidden = 1 + int(cached["case"][-1]) % 2
    assert set(np.unique(cached["label"])) == {3 - hidden, 3 + hidden}
    validated = parser.get_parsed_content("validate#dataset")[0]["label"]
    assert set(np.unique(validated)) == {0, 2 - int(parser.get_parsed_content("validation_cases")[0]["case"][-1]) % 2}


def test_network_finds_both_labels_and_only_known_ones_are_measured(bundle: Path) -> None:
    evaluation = silently(unet_pipeline.evaluate, bundle)
    for case, rows in evaluation.rows.groupby("case"):
        assert set(rows["label"]) == {"background", ["tumour", "organ"][int(case[-1]) % 2]}
    means = {row.label: row for row in evaluation.summary if row.metric == "dice"}
    assert means["organ"].n == means["tumour"].n == 1
    assert means["mean of labels"].n == 2
    assert means["organ"].num_missed + means["tumour"].num_missed == 0
    maps = [nib.load(path) for path in evaluation.predictions[0].glob("*.nii.gz")]
    assert all(set(np.unique(np.asarray(one.dataobj))) == {0, 1, 2} for one in maps)


def test_plan_with_impossible_sets_is_refused(bundle: Path) -> None:
    plan = read_plan(open_bundle(bundle).plan)
    for sets in ((("liver",),), (("background",),), ((),)):
        with pytest.raises(ValueError, match="missing_labels is"):
            type(plan).model_validate(plan.model_dump() | {"missing_labels": sets})
