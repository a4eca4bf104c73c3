"""The files that an image consists of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from unet_pipeline.dataset.image_files import hash_image_files, list_image_files
from unet_pipeline.files import compute_sha256


def test_list_image_files_a_plain_file_is_alone(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    path.write_bytes(b"voxels")
    (tmp_path / "ct.raw").write_bytes(b"not of it")
    assert list_image_files(path) == (path,)
    assert list_image_files(tmp_path / "absent.nii.gz") == (tmp_path / "absent.nii.gz",)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_list_image_files_voxels_beside_their_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
    (voxels,) = (other for other in tmp_path.iterdir() if other != path)
    assert list_image_files(path) == (path, voxels)
    voxels.unlink()
    assert list_image_files(path) == (path,)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_list_image_files_voxels_inside(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ct{suffix}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.int16)), str(path))
    assert list_image_files(path) == (path,)
    path.write_bytes(b"no header")
    assert list_image_files(path) == (path,)


def test_list_image_files_analyze_pair(tmp_path: Path) -> None:
    for name in ("ct.hdr", "ct.img", "other.img"):
        (tmp_path / name).write_bytes(b"")
    assert list_image_files(tmp_path / "ct.hdr") == (tmp_path / "ct.hdr", tmp_path / "ct.img")


def test_list_image_files_series_at_any_depth(tmp_path: Path) -> None:
    for name in ("flat/b", "flat/a", "deep/study/series/2", "deep/study/series/1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    assert [path.name for path in list_image_files(tmp_path / "flat")] == ["a", "b"]
    assert [path.name for path in list_image_files(tmp_path / "deep")] == ["1", "2"]


def test_hash_image_files_names_files_of_one_name_apart(tmp_path: Path) -> None:
    paths = [tmp_path / "p1" / folder / "001.nii.gz" for folder in ("t2", "t1")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(path.parent.name)
    found = hash_image_files(paths)
    assert list(found) == ["t2/001.nii.gz", "t1/001.nii.gz"]
    assert found["t1/001.nii.gz"] == compute_sha256(paths[1])
    assert hash_image_files(paths[:1]) == {"001.nii.gz": compute_sha256(paths[0])}
