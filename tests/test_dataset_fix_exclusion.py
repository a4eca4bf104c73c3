"""Only what an error is about can be left out, by the name of the case or of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.fix_exclusion import choose_excluded
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256

IMAGE, LABEL = Path("images/case_02.png"), Path("labels/case_02.png")


@pytest.fixture
def broken(png_folders: Path) -> tuple[CheckReport, Dataset]:
    """The second case has a broken image, the fourth no label."""
    (png_folders / IMAGE).write_bytes(b"broken")
    (png_folders / "labels/case_04.png").unlink()
    source = read_dataset(png_folders)
    return check_dataset(source), source


@pytest.mark.parametrize("text", ["case_02", IMAGE.as_posix(), LABEL.as_posix()])
def test_choose_excluded_case_goes_with_all_its_files(broken: tuple[CheckReport, Dataset], text: str) -> None:
    report, source = broken
    excluded = choose_excluded(report, source, [text, text])
    assert (excluded.cases, excluded.files) == ({"case_02"}, {IMAGE, LABEL})
    assert [case.name for case in excluded.keep(source.cases)] == ["case_01", "case_03"]
    assert [change.file for change in excluded.changes] == [IMAGE.as_posix(), LABEL.as_posix()]
    assert excluded.changes[0].wrong.startswith("images/case_02.png ")
    assert excluded.changes[1].source_sha256 == compute_sha256(source.root / LABEL)


def test_choose_excluded_file_without_a_case_goes_alone(broken: tuple[CheckReport, Dataset]) -> None:
    excluded = choose_excluded(*broken, ["images/case_04.png"])
    assert (excluded.cases, excluded.files) == (set(), {Path("images/case_04.png")})


def test_choose_excluded_case_without_an_error_is_refused(broken: tuple[CheckReport, Dataset]) -> None:
    with pytest.raises(DatasetError, match="'case_01', and `check` finds no error in it"):
        choose_excluded(*broken, ["case_02", "case_01"])


def test_choose_excluded_unknown_name_gets_the_nearest(broken: tuple[CheckReport, Dataset]) -> None:
    with pytest.raises(DatasetError, match=r"'case_20', which is neither .* did you mean 'case_0"):
        choose_excluded(*broken, ["case_20"])


def test_choose_excluded_other_one_of_two_equal_images_can_go(png_folders: Path) -> None:
    (png_folders / "cases.csv").write_text(
        "case,image,label,split\n"
        "a,images/case_01.png,labels/case_01.png,train\n"
        "b,images/case_02.png,labels/case_02.png,train\n"
        "c,images/case_03.png,labels/case_03.png,test\n"
    )
    (png_folders / "images/case_03.png").write_bytes((png_folders / "images/case_01.png").read_bytes())
    source = read_dataset(png_folders)
    report = check_dataset(source)
    assert {problem.code for problem in report.errors} == {"duplicate-across-split"}
    for name in ("a", "c"):
        assert choose_excluded(report, source, [name]).cases == {name}
    with pytest.raises(DatasetError, match="no error"):
        choose_excluded(report, source, ["b"])
