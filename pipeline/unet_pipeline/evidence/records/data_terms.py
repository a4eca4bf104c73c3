"""What docs/data_license.txt of a bundle says of its data: lines "Name: value", and below "Cite:" lines "- text"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import FileContentError
from unet_pipeline.text_files import read_text

NOT_STATED = "not stated by the data set"


@dataclass(frozen=True)
class DataTerms:
    """What is stated.

    Attributes:
        facts: value by name, such as "Licence"; without those that are not stated.
        citations: what the data set asks to be cited.
    """

    facts: Mapping[str, str]
    citations: tuple[str, ...]

    @property
    def references(self) -> tuple[str, ...]:
        """All that is to be cited: its lines below "Cite:", and the one of "Reference:" that `plan` writes."""
        return (*self.citations, *([self.facts["Reference"]] if "Reference" in self.facts else []))


def read_data_terms(folder: BundleFolder) -> DataTerms:
    """Read the file; nothing is stated where it is missing or no text."""
    try:
        lines = read_text(folder.docs / "data_license.txt").splitlines()
    except (OSError, FileContentError):
        return DataTerms({}, ())
    citations = tuple(line.removeprefix("- ").strip() for line in lines if line.startswith("- "))
    pairs = (line.partition(": ") for line in lines if not line.startswith("- "))
    facts = {name.strip(): value.strip() for name, separator, value in pairs if separator}
    stated = {name: value for name, value in facts.items() if value and not value.startswith("not stated")}
    return DataTerms(stated, citations)
