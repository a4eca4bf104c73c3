"""Links in a dataset, and files that only stand for images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256


def codes(report: CheckReport) -> list[tuple[str, str]]:
    return [(problem.code, problem.file) for problem in report.problems]


def check(root: Path, follow: bool = False) -> CheckReport:
    return check_dataset(read_dataset(root, follow_links=follow), options=ReadOptions(follow_links=follow))


@pytest.fixture
def linked(nifti_folders: Path, tmp_path: Path) -> Path:
    """A dataset as DVC leaves it: every file is a link into a store."""
    root = tmp_path / "linked"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for path in sorted((nifti_folders / folder).iterdir()):
            (root / folder / path.name).symlink_to(path)
    return root


def test_check_links_out_are_refused_and_the_option_is_offered(linked: Path) -> None:
    report = check(linked)
    assert {code for code, _ in codes(report)} == {"path-leaves-dataset"}
    assert len(report.errors) == 8
    assert "--follow-links" in report.errors[0].remedy


def test_check_links_are_followed_on_request(linked: Path, nifti_folders: Path) -> None:
    report = check(linked, follow=True)
    assert report.problems == ()
    assert report.options.follow_links
    record = next(record for record in report.manifest if record.path == "images/case_01.nii.gz")
    target = nifti_folders / "images" / "case_01.nii.gz"
    assert (record.sha256, record.num_bytes) == (compute_sha256(target), target.stat().st_size)


def test_check_broken_link_is_named_once_with_how_to_fetch_it(linked: Path) -> None:
    link = linked / "labels" / "case_02.nii.gz"
    link.unlink()
    link.symlink_to("../.git/annex/objects/MD5E-s1--abc.nii.gz")
    (error,) = check(linked, follow=True).errors
    assert (error.code, error.file) == ("link-broken", "labels/case_02.nii.gz")
    assert error.cause == "is a link to MD5E-s1--abc.nii.gz, which does not exist"
    assert "git annex get" in error.remedy


@pytest.mark.parametrize("follow", [True, False])
def test_check_link_to_itself_ends(nifti_folders: Path, follow: bool) -> None:
    link = nifti_folders / "images" / "case_02.nii.gz"
    link.unlink()
    link.symlink_to("case_02.nii.gz")
    (nifti_folders / "images" / "up").symlink_to("..")
    assert ("link-loop", "images/case_02.nii.gz") in codes(check(nifti_folders, follow))


@pytest.mark.parametrize(("target", "message"), [("itself", "leads back to itself"), ("gone", "does not exist")])
def test_read_dataset_folder_that_is_a_dead_link_is_said(tmp_path: Path, target: str, message: str) -> None:
    (tmp_path / "itself").symlink_to(target)
    with pytest.raises(DatasetError, match=message):
        read_dataset(tmp_path / "itself")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "itself")
    (tmp_path / "set" / "labels").mkdir()
    with pytest.raises(DatasetError, match="images is a link"):
        read_dataset(tmp_path / "set")


def test_check_links_inside_a_series_that_lead_out_are_named(tmp_path: Path) -> None:
    (tmp_path / "outside.dcm").touch()
    root = tmp_path / "set"
    (root / "images" / "a").mkdir(parents=True)
    (root / "images" / "a" / "1.dcm").symlink_to(tmp_path / "outside.dcm")
    (root / "labels").mkdir()
    (root / "labels" / "a.nii.gz").touch()
    problems = read_dataset(root).problems_of_layout
    assert [(problem.code, problem.file) for problem in problems] == [("path-leaves-dataset", "images/a/1.dcm")]


@pytest.mark.parametrize(
    ("content", "tool", "command"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "Git LFS", "git lfs pull"),
        (b"/annex/objects/MD5E-s12--abc.nii.gz\n", "git-annex", "git annex get"),
    ],
)
@pytest.mark.parametrize("side", ["images", "labels"])
def test_check_pointer_is_named_as_such(
    nifti_folders: Path, side: str, content: bytes, tool: str, command: str
) -> None:
    (nifti_folders / side / "case_03.nii.gz").write_bytes(content)
    (error,) = check(nifti_folders).errors
    assert (error.code, error.file) == ("not-fetched", f"{side}/case_03.nii.gz")
    assert error.cause == f"is a pointer of {tool}, not the image itself"
    assert command in error.remedy


def test_check_small_image_is_no_pointer(nifti_folders: Path, write_nifti: Callable) -> None:
    write_nifti(nifti_folders / "images" / "case_01.nii.gz", np.ones((2, 2, 2), np.uint8))
    assert "not-fetched" not in {code for code, _ in codes(check(nifti_folders))}
