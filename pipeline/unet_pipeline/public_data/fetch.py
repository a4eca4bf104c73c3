"""A public data set in a folder of its own: downloaded, unpacked, converted, checked, with its terms and its origin beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from unet_pipeline.dataset.dataset_facts import FACTS_FILE, DatasetFacts
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import stage_folder, write_json, write_text
from unet_pipeline.locks import hold_lock
from unet_pipeline.public_data.card import PublicSet, describe_terms, list_files
from unet_pipeline.public_data.convert import DAMAGED, convert
from unet_pipeline.public_data.download import Download, download
from unet_pipeline.public_data.unpack import ARCHIVES, unpack
from unet_pipeline.text_files import read_json_of_unique_keys

SOURCE_FILE, TERMS_FILE = "source.json", "data_license.txt"


@dataclass(frozen=True)
class PublicData:
    """A public data set that is there.

    Attributes:
        name: of the set.
        root: its folder.
        num_cases: labelled cases in it.
        verdicts: of each downloaded file, whether its checksum is the publisher's; as source.json has them.
        notes: what differs from the card.
        is_new: whether it was made by this call; False where it was there already.
    """

    name: str
    root: Path
    num_cases: int
    verdicts: tuple[str, ...]
    notes: tuple[str, ...]
    is_new: bool


def fetch(card: PublicSet, out: Path | None = None, downloads: Path | None = None) -> PublicData:
    """Make a data set; one that is there and whole is left as it is.

    Args:
        card: of the set.
        out: its folder; `card.name` in the current one without it. It appears whole or not at all.
        downloads: folder for the archives, which stay there, and from which they are taken if they are there already; without it they lie
            in OUT_download until the set is made.

    Raises:
        DatasetError: something else is in `out`; an archive is not what was expected.
        DownloadError: see `download` and `unpack`.
        InUseError: another process makes it.
    """
    out = Path(card.name) if out is None else out
    if (existing := _find_existing(card, out)) is not None:
        return existing
    folder = downloads or out.with_name(f"{out.name}_download")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with hold_lock(folder / ".lock", f"The download of {card.name}", stays=False):
            if (existing := _find_existing(card, out)) is not None:
                return existing  # made by a process that ended meanwhile
            files = [download(file, folder) for file in list_files(card)]
            data = _make(card, files, out)
            if downloads is None:
                shutil.rmtree(folder, ignore_errors=True)
            return data
    finally:
        if downloads is None:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing was received


def _make(card: PublicSet, files: list[Download], out: Path) -> PublicData:
    with stage_folder(out.absolute().parent) as staging:
        unpacked, made = staging / "unpacked", staging / "made"
        unpacked.mkdir()
        for file in files:
            if file.path.name.lower().endswith(ARCHIVES):
                unpack(file.path, unpacked)
            else:
                shutil.copyfile(file.path, unpacked / file.path.name)
        num_images = convert(card, unpacked, made)
        notes = _compare_number(card, num_images, all(file.is_verified for file in files))
        write_text(made / TERMS_FILE, describe_terms(card))
        if not (made / "dataset.json").is_file():
            facts = DatasetFacts(labels=card.labels, licence=card.licence, reference="; ".join(card.citation))
            write_json(made / FACTS_FILE, facts.model_dump(exclude_defaults=True))
        num_cases = len(read_dataset(made).cases)
        verdicts = tuple(f"{file.path.name} ({file.num_bytes:,} bytes) {file.verdict}" for file in files)
        record = _describe_source(card, files, num_cases, verdicts, notes)
        write_json(made / SOURCE_FILE, {**record, "num_files": _count_files(made) + 1})
        if out.is_dir():
            out.rmdir()  # an empty one; with anything in it the system refuses
        made.rename(out)
    return PublicData(card.name, out, num_cases, verdicts, notes, is_new=True)


def _compare_number(card: PublicSet, num_images: int, is_verified: bool) -> tuple[str, ...]:
    """A remark on another number of images than the card's.

    Raises:
        DatasetError: it is another one, and no checksum says that the archive is the published one.
    """
    if num_images == card.num_cases:
        return ()
    if is_verified:
        return (f"the archive has {num_images} labelled images, the card says {card.num_cases}",)
    raise DatasetError(
        f"The archive of {card.name} has {num_images} labelled images; expected {card.num_cases}. It is cut off or another one, and the "
        f"publisher states no checksum to tell. {DAMAGED}"
    )


def _describe_source(
    card: PublicSet, files: list[Download], num_cases: int, verdicts: tuple[str, ...], notes: tuple[str, ...]
) -> dict[str, object]:
    from unet_pipeline import __version__

    return {
        "name": card.name,
        "made_by": f"unet-pipeline {__version__}",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_cases": num_cases,
        "conversion": card.conversion,
        "files": [
            {
                "address": file.source.address,
                "num_bytes": file.num_bytes,
                "sha256": file.sha256,
                "checksum": file.source.checksum,
            }
            for file in files
        ],
        "verdicts": list(verdicts),
        "notes": list(notes),
    }


def _find_existing(card: PublicSet, out: Path) -> PublicData | None:
    """The set, if its folder is there; None for a free place.

    Raises:
        DatasetError: the folder holds something else, or has lost files.
    """
    if not os.path.lexists(out) or (out.is_dir() and not out.is_symlink() and not any(out.iterdir())):
        return None
    remedy = "Choose another folder, or remove it."
    if not (out / SOURCE_FILE).is_file():
        raise DatasetError(f"{out.name} exists already and was not made by `data get`; expected a free name. {remedy}")
    record = read_json_of_unique_keys(out / SOURCE_FILE, DatasetError, SOURCE_FILE, remedy)
    if record.get("name") != card.name:
        raise DatasetError(f"{out.name} exists already and holds {record.get('name')!r}, not {card.name!r}. {remedy}")
    num_files = _count_files(out)
    if num_files < record.get("num_files", 0):
        raise DatasetError(
            f"{out.name} has {num_files} files; expected the {record['num_files']} that {SOURCE_FILE} records. {remedy}"
        )
    return PublicData(
        card.name, out, record["num_cases"], tuple(record["verdicts"]), tuple(record["notes"]), is_new=False
    )


def _count_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
