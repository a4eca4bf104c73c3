"""What file names say."""

from __future__ import annotations

import pytest

from unet_pipeline.dataset.file_names import (
    is_image_word,
    is_label_word,
    natural_key,
    remove_common_start,
    split_case,
    split_channel_number,
    split_image_word,
    strip_label_words,
)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "case0-seg",
            "case0_seg",
            "case0.seg",
            "case0_SEG",
            "case0 seg",
            "case0-label",
            "case0.label",
            "case0_Labels",
        ),
        *("case0-labelmap", "case0_label_map", "case0_roi", "case0_ROI", "case0_mask", "case0-Mask", "case0_gt"),
        *("case0_segmentation", "case0-Segmentation", "Segmentation-case0", "label_case0", "seg_case0", "mask-case0"),
        *("case0_manual", "case0_ground-truth", "case0_groundtruth", "case0_annotation", "Segmentation-case0-label"),
    ],
)
def test_strip_label_words_leaves_the_case(name: str) -> None:
    assert strip_label_words(name) == "case0"


@pytest.mark.parametrize("name", ["seg", "label", "mymask", "a_mask_b", "segment", "case0", "maskcase0", "roi1"])
def test_strip_label_words_other_names_stay(name: str) -> None:
    assert strip_label_words(name) == name


@pytest.mark.parametrize(
    ("name", "case", "channel"),
    [
        ("case_image", "case", ""),
        ("case-IMG", "case", ""),
        ("volume-0", "0", ""),
        ("case_T1", "case", "t1"),
        ("case.flair", "case", "flair"),
        ("ct_case", "case", "ct"),
        ("case_t9", "case_t9", ""),
        ("image", "image", ""),
    ],
)
def test_split_image_word_gives_modality_in_lower_case(name: str, case: str, channel: str) -> None:
    assert split_image_word(name) == (case, channel)


@pytest.mark.parametrize(
    ("name", "case", "number"), [("a_0000", "a", "0000"), ("a_12", "a_12", ""), ("a_1_0012", "a_1", "0012")]
)
def test_split_channel_number_takes_four_digits(name: str, case: str, number: str) -> None:
    assert split_channel_number(name) == (case, number)


@pytest.mark.parametrize(
    ("name", "cases", "expected"),
    [
        ("case10_t1", {"case1", "case10"}, ("case10", "t1")),
        ("case10_t1", {"case1"}, None),
        ("p1_2_t1", {"p1", "p1_2"}, ("p1_2", "t1")),
        ("t1_p1", {"p1"}, ("p1", "t1")),
        ("p1", {"p1"}, ("p1", "")),
        ("BraTS-1-t1n", {"BraTS-1"}, ("BraTS-1", "t1n")),
        ("other", {"p1"}, None),
    ],
)
def test_split_case_takes_the_longest_name(name: str, cases: set[str], expected: tuple[str, str] | None) -> None:
    assert split_case(name, cases) == expected


def test_remove_common_start_ends_at_a_separator() -> None:
    assert remove_common_start(["scan_t1n", "scan_t1c"]) == {"scan_t1n": "t1n", "scan_t1c": "t1c"}
    assert remove_common_start(["a", "a_seg"]) == {"a": "a", "a_seg": "a_seg"}
    assert remove_common_start(["x_1"]) == {"x_1": "x_1"}
    assert remove_common_start([]) == {}


def test_natural_key_orders_numbers_by_size() -> None:
    assert sorted(["c10", "C2", "c1", "a"], key=natural_key) == ["a", "c1", "C2", "c10"]


def test_words_are_known_in_any_case() -> None:
    assert is_label_word("Segmentations")
    assert is_label_word("label-map")
    assert not is_label_word("liver")
    assert is_image_word("CT")
    assert not is_image_word("liver")
