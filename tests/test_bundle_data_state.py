"""A bundle notices when the files that it was planned from are not what they were."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

import unet_pipeline
from unet_pipeline.bundle.data_state import find_dataset, is_planned_dataset, require_unchanged_data
from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.prepare import COPIES_RECORD, find_source
from unet_pipeline.errors import BundleError, DatasetError
from unet_pipeline.files import write_json

from . import phantom_bundles as phantoms


@pytest.fixture(autouse=True)
def stamps_settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_pipeline.dataset.manifest._RECENT_NS", 0)


@pytest.fixture
def folder(tmp_path: Path) -> BundleFolder:
    """Of pictures that are trained on where they lie."""
    dataset = phantoms.write_pictures(tmp_path / "cells", 8)
    return BundleFolder(phantoms.plan_small(dataset, tmp_path / "bundle", labels={"background": 0, "cell": 255}))


@pytest.fixture
def copied(tmp_path: Path) -> BundleFolder:
    """Of NRRD volumes, of which `plan` wrote copies."""
    for seed in range(5):
        for side, array in zip(("images", "labels"), phantoms.draw_organ(seed, (16, 16, 12)), strict=True):
            path = tmp_path / "organs" / side / f"c{seed}.nrrd"
            path.parent.mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return BundleFolder(phantoms.plan_small(tmp_path / "organs", tmp_path / "organ_bundle"))


def correct(path: Path) -> None:
    """Another label map of the same size in bytes: one voxel more."""
    picture, mask = phantoms.draw_cell(99)
    phantoms.PillowImage.fromarray(mask if path.parent.name == "labels" else picture).save(path)


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    from unet_pipeline.files import compute_sha256

    seen: list[str] = []

    def count(path: Path) -> str:
        seen.append(path.name)
        return compute_sha256(path)

    monkeypatch.setattr("unet_pipeline.dataset.manifest.compute_sha256", count)
    return seen


def test_require_unchanged_data_nothing_changed_reads_nothing(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = reads_of(monkeypatch)
    require_unchanged_data(folder)
    assert seen == []


@pytest.mark.parametrize("side", ["images", "labels"])
def test_require_unchanged_data_changed_file_is_named_with_the_remedy(folder: BundleFolder, side: str) -> None:
    correct(folder.root.parent / "cells" / side / "cell_03.png")
    with pytest.raises(DatasetError) as caught:
        require_unchanged_data(folder)
    message = str(caught.value)
    assert message.startswith(
        f"1 file(s) changed since `plan`: {side}/cell_03.png of case cell_03: the content of cells is another"
    )
    assert "Put the files back as they were, or plan again with `unet-pipeline plan DATASET NEW_BUNDLE`." in message
    assert str(folder.root.parent) not in message


def test_require_unchanged_data_same_size_and_time_is_noticed(folder: BundleFolder) -> None:
    path = folder.root.parent / "cells" / "labels" / "cell_00.png"
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.raises(DatasetError, match=r"labels/cell_00\.png of case cell_00"):
        require_unchanged_data(folder)


def test_require_unchanged_data_many_files_are_counted(folder: BundleFolder) -> None:
    for path in (folder.root.parent / "cells" / "labels").iterdir():
        correct(path)
    with pytest.raises(DatasetError, match=r"8 file\(s\) changed .*cell_04 and 3 more"):
        require_unchanged_data(folder)


def test_require_unchanged_data_put_back_is_accepted(folder: BundleFolder) -> None:
    path = folder.root.parent / "cells" / "labels" / "cell_00.png"
    content = path.read_bytes()
    correct(path)
    with pytest.raises(DatasetError):
        require_unchanged_data(folder)
    path.write_bytes(content)
    require_unchanged_data(folder)


def test_require_unchanged_data_touched_file_is_read_once(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(folder.root.parent / "cells" / "labels" / "cell_00.png")
    seen = reads_of(monkeypatch)
    require_unchanged_data(folder)
    require_unchanged_data(folder)
    assert seen == ["cell_00.png"]


def test_require_unchanged_data_in_another_folder_the_hashes_decide(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = folder.root.parent / "moved"
    shutil.copytree(folder.root.parent / "cells", moved)  # with the times of the files
    shutil.rmtree(folder.root.parent / "cells")
    seen = reads_of(monkeypatch)
    require_unchanged_data(folder)  # not there: for its reader to say
    assert seen == []
    require_unchanged_data(folder, moved)
    assert len(seen) == 16
    correct(moved / "labels" / "cell_07.png")
    with pytest.raises(DatasetError, match="cell_07"):
        require_unchanged_data(folder, moved)


def test_require_unchanged_data_missing_file_is_left_to_its_reader(folder: BundleFolder) -> None:
    (folder.root.parent / "cells" / "labels" / "cell_00.png").unlink()
    require_unchanged_data(folder)


def test_require_unchanged_data_without_stamps_every_file_is_read(
    folder: BundleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a bundle that came without them, or with damaged ones."""
    for content in (None, "{", "[]", '{"files": {"labels/cell_00.png": 3}, "copies": {}}'):
        folder.seen_files.unlink(missing_ok=True)
        if content is not None:
            folder.seen_files.write_text(content)
        seen = reads_of(monkeypatch)
        require_unchanged_data(folder)
        assert len(seen) == 16


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "Invalid JSON: EOF"),
        ("{}", "dataset_name: Field required"),
        ("[]", "Input should be an object"),
        ('{"dataset_name": "cut', "Invalid JSON"),
        ("\ufeff{}", "dataset_name: Field required"),
        (None, "No such file"),
    ],
)
def test_require_unchanged_data_damaged_manifest_is_an_error(
    folder: BundleFolder, content: str | None, cause: str
) -> None:
    folder.dataset_manifest.unlink()
    if content is not None:
        folder.dataset_manifest.write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=cause) as caught:
        require_unchanged_data(folder)
    assert "evidence/dataset_manifest.json of bundle is missing, empty or damaged" in str(caught.value)


def test_require_unchanged_data_manifest_that_lacks_something_is_an_error(folder: BundleFolder) -> None:
    manifest = json.loads(folder.dataset_manifest.read_text(encoding="utf-8"))

    def expect(words: str, **changes: object) -> None:
        write_json(folder.dataset_manifest, manifest | changes)
        with pytest.raises(BundleError, match=words):
            require_unchanged_data(folder)

    expect("cases: Dictionary should have at least 1 item", cases={})
    expect("files: List should have at least 1 item", files=[])
    expect(r"it has no SHA-256 of images/cell_00\.png, a file of case cell_00", files=manifest["files"][1:])
    expect("sha256: String should match pattern", files=[{**manifest["files"][0], "sha256": "0"}])
    cases = {name: case for name, case in manifest["cases"].items() if name != "cell_05"}
    expect(r"does not have case cell_05 with the files that evidence/splits/fold_0\.json names", cases=cases)
    swapped = {**manifest["cases"], "cell_05": manifest["cases"]["cell_06"]}
    expect("does not have case cell_05", cases=swapped)


def test_require_unchanged_data_copies_know_their_source(copied: BundleFolder) -> None:
    data, organs = copied.root.parent / "organ_bundle_data", copied.root.parent / "organs"
    record = json.loads((data / COPIES_RECORD).read_text(encoding="utf-8"))
    assert (record["source"], len(record["source_sha256"]), len(record["copies"])) == ("../organs", 10, 5)
    assert find_source(data).resolve() == organs
    require_unchanged_data(copied)
    label = phantoms.draw_organ(77, (16, 16, 12))[1]
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(label), str(organs / "labels" / "c1.nrrd"))
    with pytest.raises(
        DatasetError,
        match=r"labels/c1\.nrrd of case c1: .* The copies in organ_bundle_data/ are of the files as they were",
    ):
        require_unchanged_data(copied)
    shutil.move(organs, organs.with_name("archived"))  # what they were made of cannot be asked for any more
    require_unchanged_data(copied)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"source": ', b"\xff\xff"])
def test_require_unchanged_data_damaged_record_of_the_copies_is_an_error(copied: BundleFolder, damage: bytes) -> None:
    (copied.root.parent / "organ_bundle_data" / COPIES_RECORD).write_bytes(damage)
    with pytest.raises(DatasetError, match=r"organ_bundle_data/copies\.json .*\. (Restore it|Save it)"):
        require_unchanged_data(copied)


def test_require_unchanged_data_source_that_lost_a_file_is_refused(copied: BundleFolder) -> None:
    (copied.root.parent / "organs" / "images" / "c2.nrrd").unlink()
    with pytest.raises(DatasetError, match=r"images/c2\.nrrd of case c2 is gone"):
        require_unchanged_data(copied)


def test_require_unchanged_data_edited_copy_is_refused(copied: BundleFolder) -> None:
    data = copied.root.parent / "organ_bundle_data"
    path = next((data / "labels").iterdir())
    path.write_bytes((data / "labels" / "c0.nii.gz").read_bytes() + b" ")
    with pytest.raises(
        DatasetError, match=rf"labels/{path.name} of case {path.name[:2]} in organ_bundle_data/, where `plan` wrote"
    ):
        require_unchanged_data(copied)


def test_require_unchanged_data_voxels_beside_their_header_are_compared(tmp_path: Path) -> None:
    for seed in range(5):
        for side, array in zip(("images", "labels"), phantoms.draw_organ(seed, (16, 16, 12)), strict=True):
            (tmp_path / "organs" / side).mkdir(parents=True, exist_ok=True)
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "organs" / side / f"c{seed}.mhd"))
    folder = BundleFolder(phantoms.plan_small(tmp_path / "organs", tmp_path / "bundle"))
    require_unchanged_data(folder)
    voxels = tmp_path / "organs" / "labels" / "c3.raw"
    np.zeros(16 * 16 * 12, np.uint8).tofile(voxels)
    with pytest.raises(DatasetError, match=r"labels/c3\.raw"):
        require_unchanged_data(folder)


def test_find_dataset_is_where_the_run_looks(folder: BundleFolder) -> None:
    assert find_dataset(folder, {}).resolve() == folder.root.parent / "cells"
    assert find_dataset(folder, {"dataset_dir": "/data/elsewhere"}) == Path("/data/elsewhere")
    assert find_dataset(folder, {"dataset_location": "../moved"}).resolve() == folder.root.parent / "moved"


def test_is_planned_dataset_knows_the_copies_and_their_source(copied: BundleFolder, folder: BundleFolder) -> None:
    parent = copied.root.parent
    assert is_planned_dataset(copied, parent / "organs")
    assert is_planned_dataset(copied, parent / "organ_bundle_data")
    assert not is_planned_dataset(copied, parent)


# the ready bundles, which travel without data

READY = sorted(path.parents[1] for path in (Path(__file__).parents[1] / "bundles").glob("*/configs/plan.yaml"))


@pytest.fixture(params=READY, ids=lambda root: root.name)
def ready(request: pytest.FixtureRequest, tmp_path: Path) -> BundleFolder:
    shutil.copytree(request.param, tmp_path / request.param.name, ignore=shutil.ignore_patterns("models"))
    return BundleFolder(tmp_path / request.param.name)


def test_ready_bundle_without_its_data_is_as_planned(ready: BundleFolder) -> None:
    require_unchanged_data(ready)
    assert not ready.seen_files.exists()


def test_ready_bundle_is_of_the_real_data(pipeline_data: Path, ready: BundleFolder) -> None:
    root = pipeline_data / Path(unet_pipeline.planning.plan.read_plan(ready.plan).dataset_name)
    if ready.name == "brain_tissue_mri":
        root = pipeline_data / "no_such_set"  # of the simulated heads
    require_unchanged_data(ready, root)
    assert ready.seen_files.is_file() == root.is_dir()


# the verbs


@pytest.mark.parametrize("verb", ["train", "evaluate", "evaluate DATASET", "tune", "resume"])
def test_verbs_refuse_changed_data_with_exit_status_1(
    folder: BundleFolder, call_main: Callable[..., tuple[int, str, str]], verb: str
) -> None:
    torch.save({}, folder.weights)  # nothing is predicted
    dataset = folder.root.parent / "cells"
    correct(dataset / "labels" / "cell_00.png")
    words = {
        "evaluate DATASET": ("evaluate", folder.root, dataset),
        "resume": ("train", folder.root, "--resume"),
    }.get(verb, (verb, folder.root))
    if verb == "resume":
        write_json(folder.runs / "fold_0-001" / "run.json", {"state": "interrupted", "overrides": {}, "started": "x"})
    status, _, error = call_main(*words)
    assert status == 1
    assert error.startswith("Error: 1 file(s) changed since `plan`: labels/cell_00.png of case cell_00")


@pytest.mark.parametrize("verb", ["train", "evaluate", "tune"])
def test_verbs_refuse_an_empty_manifest_with_exit_status_1(
    folder: BundleFolder, call_main: Callable[..., tuple[int, str, str]], verb: str
) -> None:
    torch.save({}, folder.weights)
    folder.dataset_manifest.write_text("")
    status, _, error = call_main(verb, folder.root)
    assert status == 1
    assert error.startswith("Error: evidence/dataset_manifest.json of bundle is missing, empty or damaged")


def test_evaluate_dataset_that_is_another_one_is_not_compared(folder: BundleFolder, tmp_path: Path) -> None:
    correct(tmp_path / "cells" / "labels" / "cell_00.png")
    other = phantoms.write_pictures(tmp_path / "others", 3)
    assert not is_planned_dataset(folder, other)
    assert is_planned_dataset(folder, unet_pipeline.dataset.layouts.read_dataset(tmp_path / "cells").root)
