"""Files are copied byte for byte; links that lead out of the folder are not, and it is said."""

from __future__ import annotations

import os
from pathlib import Path

from unet_pipeline.dataset.fix_copies import copy_files
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.files import compute_sha256


def list_files(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): compute_sha256(path) for path in root.rglob("*") if path.is_file()}


def test_copy_files_all_but_what_others_stand_for(png_folders: Path, tmp_path: Path) -> None:
    (png_folders / "deep/er").mkdir(parents=True)
    (png_folders / "deep/er/notes.txt").write_text("notes")
    source = read_dataset(png_folders)
    assert copy_files(source, tmp_path / "copy", {Path("labels/case_02.png")}) == []
    expected = list_files(png_folders)
    del expected["labels/case_02.png"]
    assert list_files(tmp_path / "copy") == expected


def test_copy_files_pair_of_files_goes_together(tmp_path: Path) -> None:
    import SimpleITK

    root = tmp_path / "pairs"
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
        for name in "ab":
            volume = SimpleITK.Image([4, 4, 4], SimpleITK.sitkUInt8)
            SimpleITK.WriteImage(volume, str(root / kind / f"{name}.mhd"))
    copy_files(read_dataset(root), tmp_path / "copy", {Path("labels/a.mhd")})
    assert sorted(list_files(tmp_path / "copy")) == [
        "images/a.mhd",
        "images/a.raw",
        "images/b.mhd",
        "images/b.raw",
        "labels/b.mhd",
        "labels/b.raw",
    ]


def test_copy_files_hidden_files_and_links_elsewhere_stay_behind(png_folders: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (png_folders / ".hidden").write_text("x")
    (png_folders / ".git").mkdir()
    (png_folders / ".git/config").write_text("x")
    (png_folders / "secret").symlink_to(secret)
    (png_folders / "loop").symlink_to("loop")
    (png_folders / "again.png").symlink_to("images/case_01.png")
    os.mkfifo(png_folders / "pipe")
    left_out = copy_files(read_dataset(png_folders), tmp_path / "copy", set())
    assert left_out == ["loop", "pipe", "secret"]
    copied = list_files(tmp_path / "copy")
    assert copied["again.png"] == copied["images/case_01.png"]
    assert not any(".hidden" in name or ".git" in name for name in copied)


def test_copy_files_case_that_is_a_link_out_of_the_dataset_stays_behind(png_folders: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    (png_folders / "images/case_01.png").rename(outside)
    (png_folders / "images/case_01.png").symlink_to(outside)
    assert copy_files(read_dataset(png_folders), tmp_path / "copy", set()) == ["images/case_01.png"]
    assert not (tmp_path / "copy/images/case_01.png").exists()
