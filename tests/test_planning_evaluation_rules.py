"""What is measured, chosen from names and grids."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from unet_pipeline.planning.evaluation_rules import (
    choose_lesion_labels,
    choose_separated_labels,
    choose_thin_labels,
    choose_tolerances,
)


def test_choose_tolerances_is_a_voxel_of_the_coarsest_axis(make_fingerprint: Callable) -> None:
    spacings = [(0.8, 0.8, 3.0), (0.7, 0.7, 2.5), (0.9, 0.9, 5.0)]
    choice = choose_tolerances(make_fingerprint(shapes=[(40, 40, 40)] * 3, spacings_mm=spacings))
    assert choice.value == {"background": 3.0, "organ": 3.0}
    assert "in mm" in choice.reason


@pytest.mark.parametrize(
    ("spacings_mm", "expected", "unit"),
    [([(0.25, 0.25)] * 2, 0.25, "in mm"), ([(0.25,)] * 2, 0.25, "in mm"), ([(0.25, 0.25), None], 1.0, "in pixels")],
)
def test_choose_tolerances_of_pictures_follows_their_unit(
    make_fingerprint: Callable, spacings_mm: list, expected: float, unit: str
) -> None:
    fingerprint = make_fingerprint(shapes=[(40, 56)] * 2, suffix=".png")
    cases = tuple(
        case.model_copy(update={"pixel_spacing_mm": spacing})
        for case, spacing in zip(fingerprint.cases, spacings_mm, strict=True)
    )
    choice = choose_tolerances(fingerprint.model_copy(update={"cases": cases}))
    assert choice.value["organ"] == expected
    assert unit in choice.reason


def test_choose_tolerances_covers_regions(make_fingerprint: Callable) -> None:
    fingerprint = make_fingerprint().model_copy(update={"regions": {"whole": (1,)}})
    assert set(choose_tolerances(fingerprint).value) == {"background", "organ", "whole"}


@pytest.mark.parametrize(
    ("name", "lesion", "thin"),
    [
        ("liver_tumour", True, False),
        ("Tumor", True, False),
        ("MS lesions", True, False),
        ("metastases", True, False),
        ("portal vein", False, True),
        ("retinal_vessels", False, True),
        ("membrane", False, True),
        ("Aorta-artery", False, True),
        ("liver", False, False),
        ("ingrown", False, False),
        ("prevention", False, False),  # "vention" is no vein, and a word begins after no letter
        ("macrocystis", False, False),
    ],
)
def test_choose_labels_by_the_beginning_of_words(
    make_fingerprint: Callable, name: str, lesion: bool, thin: bool
) -> None:
    fingerprint = make_fingerprint(labels={"background": 0, name: 1})
    assert choose_lesion_labels(fingerprint).value == ((name,) if lesion else ())
    assert choose_thin_labels(fingerprint).value == ((name,) if thin else ())


@pytest.mark.parametrize(
    ("labels", "separated"),
    [
        ({"membrane": 0, "cell": 255}, ("cell",)),  # the ISBI 2012 challenge
        ({"background": 0, "cell": 1, "cell border": 2}, ("background", "cell")),
        ({"background": 0, "organ": 1}, ()),
        ({"background": 0, "transmembrane": 1}, ()),
    ],
)
def test_choose_separated_labels_are_those_that_a_border_separates(
    make_fingerprint: Callable, labels: dict[str, int], separated: tuple[str, ...]
) -> None:
    assert choose_separated_labels(make_fingerprint(labels=labels)).value == separated
