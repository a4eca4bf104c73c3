"""What is known of a public data set: contents, terms, and the files that hold it. The cards are the only place where that is written."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from unet_pipeline.errors import DatasetError, suggest

CARDS = Path(__file__).parent / "cards"
_DECATHLON, _DECATHLON_TASKS = "task04_hippocampus", "decathlon_tasks"
_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial", re.IGNORECASE)


@dataclass(frozen=True)
class SourceFile:
    """A file that a data set is downloaded from.

    Attributes:
        address: over HTTP.
        name: that it gets here.
        checksum: "md5:..." or "sha256:..." by the publisher, which the file must have; empty where the publisher gives none.
        checksum_by: who states it.
        seen_checksum: that somebody else received; another one is reported and no error, because a publisher may correct a file.
        seen_by: who that is.
    """

    address: str
    name: str = ""
    checksum: str = ""
    checksum_by: str = ""
    seen_checksum: str = ""
    seen_by: str = ""

    @property
    def file_name(self) -> str:
        """The given name, or the end of the address."""
        return self.name or PurePosixPath(unquote(urlsplit(self.address).path)).name


@dataclass(frozen=True)
class PublicSet:
    """A card; data/README.md explains each field."""

    key: str
    name: str
    what: str
    modality: str
    num_cases: int
    licence: str
    citation: tuple[str, ...]
    address: str
    conversion: str
    labels: dict[str, int]
    files: tuple[SourceFile, ...] = ()
    terms: str = ""
    notes: tuple[str, ...] = ()


@functools.cache
def list_sets() -> tuple[PublicSet, ...]:
    """Every set that can be downloaded, by name."""
    contents = {path.stem: _read(path) for path in CARDS.glob("*.yaml")}
    tasks = contents.pop(_DECATHLON_TASKS)
    shared = {name: contents[_DECATHLON][name] for name in ("licence", "citation", "address", "conversion")}
    contents |= {name.lower(): {**shared, "name": name, "labels": {}, **task} for name, task in tasks.items()}
    return tuple(sorted((_build(key, card) for key, card in contents.items()), key=lambda card: card.name.lower()))


def find_set(name: str) -> PublicSet:
    """A set by its name or its card's, in any case.

    Raises:
        DatasetError: there is none; names the nearest.
    """
    for card in list_sets():
        if name.lower() in (card.name.lower(), card.key):
            return card
    if name.lower() in ("mni152_demo", "demo_heads"):
        raise DatasetError(f"{name} is not downloaded; `unet-pipeline demo` makes it.")
    raise DatasetError(
        f"The data set is {name!r}; {suggest(name, [card.name for card in list_sets()])}. "
        "`unet-pipeline data list` shows all."
    )


def list_files(card: PublicSet) -> tuple[SourceFile, ...]:
    """The files of a set; MONAI, which knows the Decathlon's, is imported for those only."""
    if card.conversion != "decathlon" or card.files:
        return card.files
    from monai.apps import DecathlonDataset

    address, md5 = DecathlonDataset.resource[card.name], DecathlonDataset.md5[card.name]
    return (SourceFile(address, checksum=f"md5:{md5}", checksum_by="MONAI"),)


def describe_terms(card: PublicSet) -> str:
    """Licence, citation and what else a user must know before the download, as lines of text."""
    remarks = [card.terms] if card.terms else []
    if _NON_COMMERCIAL.search(f"{card.licence} {card.terms}"):
        remarks.append("Not for commercial use.")
    if card.licence.lower().startswith(("not stated", "no named licence")):
        remarks.append("Ask the owner before you pass on the data or a model that was trained on them.")
    lines = [
        f"Data set: {card.name} ({card.what})",
        f"Address: {card.address}",
        f"Licence: {card.licence}",
        *(f"Terms: {remark}" for remark in remarks),
        "Cite:",
        *(f"- {citation}" for citation in card.citation),
        *(f"Note: {note}" for note in card.notes),
    ]
    return "\n".join(lines) + "\n"


def _build(key: str, card: dict[str, Any]) -> PublicSet:
    """A card without what it says of this project's use of the set."""
    kept = {name: card[name] for name in PublicSet.__dataclass_fields__ if name in card}
    lists = {name: tuple(card.get(name, ())) for name in ("citation", "notes")}
    files = tuple(SourceFile(**file) for file in card.get("files", ()))
    return PublicSet(**{**kept, **lists, "key": key, "files": files})


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
