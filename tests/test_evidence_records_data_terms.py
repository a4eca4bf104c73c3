"""What a bundle says of its data, as `plan` and as the makers of the ready bundles write it, and the crate that repeats it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.evidence.records.crate import build_crate
from unet_pipeline.evidence.records.data_terms import NOT_STATED, read_data_terms

from .evidence_bundles import write_evaluated


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("terms"), 2)


@pytest.mark.parametrize(
    ("text", "licence", "citation"),
    [
        (
            "Data set: a\nLicence: CC BY 4.0\nCite:\n- Doe J (2020): a title\n- Roe R\n\nOnly.\n",
            "CC BY 4.0",
            "Doe J (2020): a title; Roe R",
        ),
        ("Licence: CC0\nReference: Doe J: a title\n", "CC0", "Doe J: a title"),
        ("Licence: not stated by the data set\nReference: not stated by the data set\n", NOT_STATED, NOT_STATED),
        (None, NOT_STATED, NOT_STATED),
    ],
)
def test_crate_repeats_what_the_licence_file_states(
    planned: Path, tmp_path: Path, text: str | None, licence: str, citation: str
) -> None:
    shutil.copytree(planned, tmp_path / "bundle")
    path = tmp_path / "bundle/docs/data_license.txt"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    folder = open_bundle(tmp_path / "bundle")
    (data,) = [entity for entity in build_crate(folder)["@graph"] if entity["@id"] == "#dataset"]  # type: ignore[attr-defined]
    assert (data["license"], data["citation"]) == (licence, citation)
    assert NOT_STATED not in read_data_terms(folder).facts.values()
