"""Where each file of a bundle lies."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import BundleFolder, open_bundle, require_weights
from unet_pipeline.errors import BundleError
from unet_pipeline.files import write_json

REQUIRED = ("configs/plan.yaml", "configs/metadata.json", "configs/train.json", "configs/inference.json")


@pytest.fixture
def bundle_root(tmp_path: Path) -> Path:
    """The files that make a folder a bundle, empty."""
    root = tmp_path / "spleen"
    for name in REQUIRED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_bundle_folder_known_names_follow_the_bundle_layout() -> None:
    folder = BundleFolder(Path("spleen"))
    assert folder.config("train") == Path("spleen/configs/train.json")
    assert folder.plan == Path("spleen/configs/plan.yaml")
    assert folder.metadata == Path("spleen/configs/metadata.json")
    assert folder.weights == Path("spleen/models/model.pt")
    assert folder.fold_weights(3) == Path("spleen/models/model_fold_3.pt")
    assert folder.split(3) == Path("spleen/evidence/splits/fold_3.json")


def test_bundle_folder_all_properties_are_distinct_and_inside() -> None:
    folder = BundleFolder(Path("spleen"))
    names = [name for name, member in vars(BundleFolder).items() if isinstance(member, property)]
    # the runs of MLflow lie beside the bundle
    paths = [getattr(folder, name) for name in names if name not in ("name", "is_bundle", "is_planned", "tracking")]
    assert len(paths) > 10
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(folder.root) and path != folder.root for path in paths)


def test_name_root_is_current_folder_gives_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spleen").mkdir()
    monkeypatch.chdir(tmp_path / "spleen")
    assert BundleFolder(Path()).name == "spleen"


def test_trained_folds_several_are_sorted_by_number(bundle_root: Path) -> None:
    folder = BundleFolder(bundle_root)
    folder.models.mkdir()
    for name in ("model_fold_10.pt", "model_fold_2.pt", "model_fold_0.pt", "model.pt", "model_fold_x.pt"):
        (folder.models / name).touch()
    (folder.models / ".partial-00ff-model_fold_1.pt").touch()
    assert folder.trained_folds() == (0, 2, 10)


def test_trained_folds_no_models_folder_is_empty(bundle_root: Path) -> None:
    assert BundleFolder(bundle_root).trained_folds() == ()


def test_read_split_written_fold_is_returned(bundle_root: Path) -> None:
    folder = BundleFolder(bundle_root)
    content = {"training": [{"case": "a", "image": "i/a.png", "label": "l/a.png"}], "validation": []}
    write_json(folder.split(1), content)
    assert folder.read_split(1).model_dump(exclude_unset=True) == content


def test_read_split_missing_fold_names_fold_and_relative_file(bundle_root: Path) -> None:
    with pytest.raises(BundleError) as caught:
        BundleFolder(bundle_root).read_split(7)
    message = str(caught.value)
    assert "Fold 7" in message
    assert "evidence/splits/fold_7.json" in message
    assert str(bundle_root) not in message


def test_open_bundle_complete_folder_is_opened(bundle_root: Path) -> None:
    assert open_bundle(bundle_root) == BundleFolder(bundle_root)
    assert open_bundle(str(bundle_root)).root == bundle_root


def test_open_bundle_missing_folder_says_how_to_make_one() -> None:
    with pytest.raises(BundleError, match=r"not found: no_such_bundle.*unet-pipeline plan DATASET no_such_bundle"):
        open_bundle("no_such_bundle")


@pytest.mark.parametrize("missing", REQUIRED)
def test_open_bundle_missing_file_is_named(bundle_root: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    (bundle_root / missing).unlink()
    monkeypatch.chdir(bundle_root.parent)
    with pytest.raises(BundleError) as caught:
        open_bundle("spleen")
    assert f"spleen is not a complete bundle: {missing} is missing" in str(caught.value)
    assert str(bundle_root.parent) not in str(caught.value)


def test_require_weights_present_gives_path(bundle_root: Path) -> None:
    folder = BundleFolder(bundle_root)
    folder.models.mkdir()
    folder.weights.touch()
    assert require_weights(folder) == folder.weights
    folder.fold_weights(2).touch()
    assert require_weights(folder, folder.fold_weights(2)) == folder.fold_weights(2)


def test_require_weights_untrained_names_file_and_command(bundle_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle_root.parent)
    with pytest.raises(
        BundleError, match=r"spleen has no weights: models/model\.pt is missing.*unet-pipeline train spleen"
    ):
        require_weights(BundleFolder(Path("spleen")))


def test_require_weights_missing_file_outside_the_bundle_is_a_bundle_error(bundle_root: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"other\.pt"):
        require_weights(BundleFolder(bundle_root), tmp_path / "elsewhere" / "other.pt")


def test_read_case_table_columns_are_text_under_small_names(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path)
    assert folder.read_case_table() == {}
    folder.evidence.mkdir()
    folder.case_table.write_text("\ufeffCase,Age, Site\na,70,x\nb,,\n", encoding="utf-8")
    assert folder.read_case_table() == {"a": {"age": "70", "site": "x"}, "b": {"age": "", "site": ""}}


def test_read_patients_without_a_record_is_empty(tmp_path: Path) -> None:
    assert BundleFolder(tmp_path).read_patients() == {}


def test_make_modules_importable_each_bundle_gets_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    for name in ("one", "two"):
        (tmp_path / name / "unet_networks").mkdir(parents=True)
        (tmp_path / name / "unet_networks" / "named_for_a_test.py").write_text(f"NAME = {name!r}\n")
    for name in ("one", "two", "one"):
        BundleFolder(tmp_path / name).make_modules_importable()
        assert name == importlib.import_module("unet_networks.named_for_a_test").NAME
