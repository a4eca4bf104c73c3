"""Names of images and label files that belong together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.dataset.pairing import pair_names


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "b"], ["a-seg", "b-seg"]),
        (["a", "b"], ["Segmentation-a", "Segmentation-b"]),
        (["a_img", "b_img"], ["a", "b"]),
        (["a_image", "b_image"], ["a_mask", "b_mask"]),
        (["a_ct", "b_ct"], ["a_organs", "b_organs"]),
        (["a", "b"], ["a_final_v2", "b_final_v2"]),
        (["a", "b"], ["A_SEG", "B_SEG"]),
        (["img-a", "img-b"], ["label-a", "label-b"]),
        (["a_0000", "b_0000"], ["a", "b"]),
        (["a_0000", "b_0000"], ["a.seg", "b.seg"]),
    ],
)
def test_pair_names_one_image_and_one_map_per_case(images: list[str], labels: list[str]) -> None:
    pairing = pair_names(images, labels)
    assert sorted(pairing.images) == sorted(pairing.labels) == ["a", "b"]
    assert [list(pairing.images[case].values()) for case in ("a", "b")] == [[name] for name in images]
    assert [pairing.labels[case] for case in ("a", "b")] == [{"": name} for name in labels]
    assert not pairing.lone_images
    assert not pairing.lone_labels


@pytest.mark.parametrize(
    ("images", "channels"),
    [
        (["a_t1", "a_t2", "b_t1", "b_t2"], ["t1", "t2"]),
        (["a_0000", "a_0001", "b_0000", "b_0001"], ["0000", "0001"]),
        (["t1-a", "t2-a", "t1-b", "t2-b"], ["t1", "t2"]),
        (["a_in", "a_out", "b_in", "b_out"], ["in", "out"]),
    ],
)
@pytest.mark.parametrize("labels", [["a", "b"], ["a_seg", "b_seg"]])
def test_pair_names_files_per_channel(images: list[str], channels: list[str], labels: list[str]) -> None:
    pairing = pair_names(images, labels)
    assert {case: sorted(parts) for case, parts in pairing.images.items()} == {"a": channels, "b": channels}


@pytest.mark.parametrize("labels", [["a_liver", "a_spleen", "b_liver"], ["liver-a-seg", "spleen-a-seg", "liver-b-seg"]])
def test_pair_names_files_per_structure(labels: list[str]) -> None:
    pairing = pair_names(["a", "b"], labels)
    assert {case: sorted(parts) for case, parts in pairing.labels.items()} == {"a": ["liver", "spleen"], "b": ["liver"]}


def test_pair_names_one_differing_word_per_case_is_no_structure() -> None:
    pairing = pair_names(["a", "b"], ["a_meyer", "b_smith"])
    assert not pairing.labels
    assert sorted(pairing.lone_images) == ["a", "b"]
    assert sorted(pairing.lone_labels) == ["a_meyer", "b_smith"]


def test_pair_names_missing_label_does_not_make_its_image_a_channel() -> None:
    pairing = pair_names(["a", "a_2"], ["a"])
    assert pairing.images == {"a": {"": "a"}}
    assert pairing.lone_images == {"a_2": "a_2"}


def test_pair_names_different_modalities_of_two_cases_stay_channels() -> None:
    assert pair_names(["a_t1", "b_t2"], ["a", "b"]).images == {"a": {"t1": "a_t1"}, "b": {"t2": "b_t2"}}


def test_pair_names_dates_behind_the_case_are_said_to_be_loose() -> None:
    pairing = pair_names(["a_20200101", "b_20210203"], ["a", "b"])
    assert pairing.images == {"a": {"": "a_20200101"}, "b": {"": "b_20210203"}}
    assert pairing.is_loose
    assert not pair_names(["a_x", "b_x"], ["a", "b"]).is_loose


def test_pair_names_that_differ_in_case_only_stay_apart() -> None:
    pairing = pair_names(["a", "A"], ["a", "A"])
    assert pairing.images == {"a": {"": "a"}, "A": {"": "A"}}


def test_pair_names_nothing_gives_nothing() -> None:
    assert pair_names([], []).num_placed == 0
    assert pair_names(["a"], []).lone_images == {"a": "a"}


@given(cases=st.lists(st.from_regex(r"[a-z]{1,3}[0-9]{0,3}", fullmatch=True), min_size=1, max_size=8, unique=True))
def test_pair_names_any_cases_are_all_paired(cases: list[str]) -> None:
    names = [f"x{case}" for case in cases]
    for pattern in ("{}", "{}-seg", "mask_{}", "{}.label"):
        pairing = pair_names(names, [pattern.format(name) for name in names])
        assert {case: parts[""] for case, parts in pairing.labels.items()} == {
            name: pattern.format(name) for name in names
        }
