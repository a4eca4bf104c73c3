"""The modality of the training, as far as it is known, against that of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.files import write_json, write_text
from unet_pipeline.prediction.modality import compare_modality, find_modalities, read_modalities


@pytest.mark.parametrize(
    ("names", "codes"),
    [
        (["T1"], ("MR",)),
        (["FLAIR", "T1w", "T1gd", "T2w"], ("MR",)),
        (["CT"], ("CT",)),
        (["PET", "CT"], ("CT", "PT")),
        (["MRI"], ("MR",)),
        (["MR 0"], ("MR",)),
        (["X-ray"], ("DX",)),
        (["channel_0"], ()),
        (["act", "ctx", "US-army"], ("US",)),
        (["actin"], ()),
        ([], ()),
    ],
)
def test_find_modalities_whole_words_only(names: list[str], codes: tuple[str, ...]) -> None:
    assert find_modalities(names) == codes


@pytest.mark.parametrize(
    ("found", "expected", "warns"),
    [
        ("CT", ("MR",), True),
        ("MR", ("CT",), True),
        ("MR", ("MR",), False),
        ("CT", ("CT", "PT"), False),
        ("PT", ("CT",), True),
        ("CR", ("DX",), False),
        ("", ("CT",), False),
        ("CT", (), False),
    ],
)
def test_compare_modality_warns_where_both_are_known_and_differ(
    found: str, expected: tuple[str, ...], warns: bool
) -> None:
    problems = compare_modality(found, expected, "a")
    assert len(problems) == warns
    for problem in problems:
        assert (problem.severity, problem.code) == ("warning", "other-modality")
        assert f"modality {found}" in problem.cause
        assert all(code in problem.cause for code in expected)


def test_read_modalities_fingerprint_before_names(tmp_path: Path) -> None:
    folder = BundleFolder(tmp_path)
    assert read_modalities(folder, ["T1"]) == ("MR",)
    write_json(folder.fingerprint, {"modalities": ["CT"]})
    assert read_modalities(folder, ["T1"]) == ("CT",)
    write_json(folder.fingerprint, {})
    assert read_modalities(folder, ["T1"]) == ("MR",)
    write_text(folder.fingerprint, "{")
    assert read_modalities(folder, ["channel_0"]) == ()
