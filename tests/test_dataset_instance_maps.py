"""Instance maps are found beside the label maps, in any format."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.dataset.instance_maps import find_instances


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.nii.gz"])
def test_find_instances_same_name_in_any_format_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "instances").mkdir()
    for file in (name, "ab.png", ".a.png", "a.txt"):
        (tmp_path / "instances" / file).touch()
    assert find_instances(tmp_path / "labels" / "a.png") == tmp_path / "instances" / name


def test_find_instances_without_folder_or_file_is_none(tmp_path: Path) -> None:
    assert find_instances(tmp_path / "labels" / "a.png") is None
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances" / "b.png").touch()
    assert find_instances(tmp_path / "labels" / "a.png") is None
