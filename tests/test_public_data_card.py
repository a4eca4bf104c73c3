"""The cards: every set of the ready bundles and of the Decathlon, with terms, addresses and checksums that somebody states."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from monai.apps import DecathlonDataset

from unet_pipeline.errors import DatasetError
from unet_pipeline.public_data.card import PublicSet, SourceFile, describe_terms, find_set, list_files, list_sets
from unet_pipeline.public_data.convert import _CONVERSIONS

BUNDLES = ("em_membrane", "fetal_head_ultrasound", "Dataset101_LungXray", "nuclei_fluorescence", "nuclei_histology")


def test_sets_are_those_of_the_bundles_and_the_decathlon() -> None:
    assert {card.name for card in list_sets()} == {*BUNDLES, *DecathlonDataset.resource}


@pytest.mark.parametrize("card", list_sets(), ids=lambda card: card.name)
def test_card_has_what_a_download_needs(card: PublicSet) -> None:
    files = list_files(card)
    assert files
    assert card.conversion in _CONVERSIONS
    assert card.num_cases > 0
    assert card.licence
    assert card.citation
    for file in files:
        assert re.match("https://", file.address)
        assert re.fullmatch(r"[\w.-]+\.(zip|tar|csv)", file.file_name)
        for checksum, stated_by in ((file.checksum, file.checksum_by), (file.seen_checksum, file.seen_by)):
            assert re.fullmatch(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})?", checksum)
            assert bool(checksum) == bool(stated_by)


@pytest.mark.parametrize("name", DecathlonDataset.resource)
def test_decathlon_files_are_those_of_monai(name: str) -> None:
    (file,) = list_files(find_set(name))
    assert file == SourceFile(
        DecathlonDataset.resource[name], checksum=f"md5:{DecathlonDataset.md5[name]}", checksum_by="MONAI"
    )


@pytest.mark.parametrize("name", ["Dataset101_LungXray", "lung_xray", "LUNG_XRAY", "dataset101_lungxray"])
def test_find_set_by_name_or_card_in_any_case(name: str) -> None:
    assert find_set(name).name == "Dataset101_LungXray"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Task4_Hippocampus", "did you mean 'Task04_Hippocampus'"),
        ("nuclei", "did you mean 'nuclei_"),
        ("", "'nuclei_histology'|known are|did you mean"),
        ("mni152_demo", "`unet-pipeline demo` makes it"),
    ],
)
def test_find_set_unknown_name_gets_the_nearest(name: str, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        find_set(name)


def test_describe_terms_has_licence_citations_and_notes() -> None:
    text = describe_terms(find_set("fetal_head_ultrasound"))
    assert "Licence: CC BY 4.0\n" in text
    assert "doi:10.1371/journal.pone.0200412" in text
    assert "Note: Networks are trained in pixels" in text
    assert "Terms:" not in text


@pytest.mark.parametrize(
    ("licence", "terms", "is_named"),
    [
        ("CC BY-NC-SA 4.0", "", True),
        ("CC BY 4.0", "For non-commercial use only", True),
        ("Noncommercial research licence", "", True),
        ("CC BY-SA 4.0", "", False),
        ("CC0 1.0", "Name the source", False),
    ],
)
def test_describe_terms_says_that_use_is_not_commercial(licence: str, terms: str, is_named: bool) -> None:
    card = replace(find_set("em_membrane"), licence=licence, terms=terms)
    assert ("Not for commercial use." in describe_terms(card)) is is_named


@pytest.mark.parametrize(("name", "is_named"), [("em_membrane", True), ("lung_xray", True), ("Task09_Spleen", False)])
def test_describe_terms_without_licence_says_to_ask(name: str, is_named: bool) -> None:
    assert ("Ask the owner" in describe_terms(find_set(name))) is is_named
