"""Names, links and sizes of a bundle's entries: what unpacking it would write where, and how much."""

from __future__ import annotations

import itertools
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from unet_pipeline.audit.source import FILE, FOLDER, LINK, MAX_ENTRIES, SPECIAL, Entry
from unet_pipeline.messages import DANGER, WARNING, Message, Problem

MAX_TOTAL_BYTES = 64 << 30
_BOMB_RATIO, _BOMB_BYTES, _BOMB_TOTAL_BYTES = 200, 32 << 20, 256 << 20


def _refuse(code: str, what: str, why: str) -> Message:
    return Message.of_bundle(code, DANGER, what, why, "Do not unpack it.")


TRAVERSAL = _refuse("entry-outside", "would be unpacked outside of its folder", "It can replace any file of yours.")
ABSOLUTE = _refuse("entry-absolute", "has an absolute name", "It would be unpacked outside of its folder.")
BAD_NAME = _refuse("entry-name", "has a name with {text}", "Systems differ in where they put such a file.")
ENTRY_LINK = _refuse("entry-link", "is a link to {text}", "What is unpacked after it can be written through the link.")
LINK_OUTSIDE = Message.of_bundle(
    "link-outside",
    DANGER,
    "is a link to {text}, outside of the bundle",
    "Another file of this machine would be read or written in its place.",
    "Replace the link by the file.",
)
LINK_INSIDE = Message.of_bundle(
    "link-inside", WARNING, "is a link to {text}", "It cannot be sealed and zipped.", "Replace the link by the file."
)
SPECIAL_ENTRY = _refuse("entry-special", "is a device, a pipe, or encrypted", "A bundle has files and folders only.")
DUPLICATE = _refuse(
    "entry-twice",
    "is there {count} times",
    "Readers differ in which one they take, so that what was looked at is not what runs.",
)
CASE_COLLISION = Message.of_bundle(
    "entry-case",
    WARNING,
    "differs from {text} in capitals only",
    "On Windows and macOS one replaces the other.",
    "Rename one of them.",
)
OVERLAP = _refuse(
    "entry-overlap", "shares its bytes with another entry", "That is how a small zip becomes an endless one."
)
BOMB = _refuse(
    "size-bomb", "grows from {packed} to {size} bytes when it is unpacked", "It would fill the disk or the memory."
)
TOO_LARGE = _refuse(
    "size-total", "would take {size} bytes in {count} entries", "A bundle needs less; it would fill the disk."
)
NESTED = Message.of_bundle(
    "archive-inside",
    WARNING,
    "is an archive inside the bundle",
    "What lies deeper in it was not looked at.",
    "Unpack it only when you need it, and look at it by itself with `unet-pipeline audit`.",
)
ARCHIVES = (
    ".zip",
    ".tar",
    ".tgz",
    ".tar.gz",
    ".tar.bz2",
    ".tar.xz",
    ".7z",
    ".rar",
    ".whl",
    ".egg",
    ".gz",
    ".bz2",
    ".xz",
)


def audit_entries(entries: Sequence[Entry], name: str, archived: bool, inside: str = "") -> list[Problem]:
    """Names, links and sizes.

    Args:
        entries: of the bundle, or of an archive in it.
        name: of the bundle or archive, for what concerns all of it.
        archived: from an archive, where a link is always wrong.
        inside: put before the names, for an archive inside the bundle.
    """
    findings = [finding for entry in entries for finding in _audit_entry(entry, archived, inside)]
    findings += _find_collisions(entries, inside)
    total = sum(entry.size for entry in entries)
    packed = sum(entry.packed for entry in entries)
    if archived and total > _BOMB_TOTAL_BYTES and total > _BOMB_RATIO * packed:
        findings.append(BOMB.about(inside or name, packed=f"{packed:,}", size=f"{total:,}"))
    if archived and (total > MAX_TOTAL_BYTES or len(entries) > MAX_ENTRIES):
        findings.append(TOO_LARGE.about(inside or name, size=f"{total:,}", count=f"{len(entries):,}"))
    placed = sorted(
        (entry for entry in entries if entry.start >= 0 and entry.kind == FILE), key=lambda item: item.start
    )
    for before, after in itertools.pairwise(placed):
        if archived and before.start + before.packed > after.start:
            findings.append(OVERLAP.about(inside + after.name))
    return findings


def _audit_entry(entry: Entry, archived: bool, inside: str) -> Iterator[Problem]:
    shown = inside + entry.name
    parts = re.split(r"[\\/]", entry.name)
    if entry.name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", entry.name):
        yield ABSOLUTE.about(shown)
    elif archived and ".." in parts:
        yield TRAVERSAL.about(shown)
    elif archived and (character := re.search(r"[\\\x00-\x1f\x7f:]|[ .]$", entry.name.rstrip("/"))):
        yield BAD_NAME.about(shown, text=f"the character {character[0]!a}")
    if entry.kind == LINK:
        if archived:
            yield ENTRY_LINK.about(shown, text=entry.target or "another file")
        else:
            yield (LINK_OUTSIDE if leads_outside(entry) else LINK_INSIDE).about(shown, text=entry.target)
    if entry.kind == SPECIAL:
        yield SPECIAL_ENTRY.about(shown)
    if entry.size > _BOMB_BYTES and entry.size > _BOMB_RATIO * max(entry.packed, 1):
        yield BOMB.about(shown, packed=f"{entry.packed:,}", size=f"{entry.size:,}")
    if (
        entry.kind == FILE
        and entry.name.lower().endswith(ARCHIVES)
        and not entry.name.lower().endswith((".nii.gz", ".svg.gz"))
    ):
        yield NESTED.about(shown)


def leads_outside(entry: Entry) -> bool:
    """Whether a link of a folder, as its text stands, leaves the bundle."""
    if entry.target.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", entry.target):
        return True
    depth = len(PurePosixPath(entry.name).parts) - 1
    for part in re.split(r"[\\/]", entry.target):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False


def _find_collisions(entries: Sequence[Entry], inside: str) -> Iterator[Problem]:
    names = Counter(normalize(entry.name) for entry in entries if entry.kind != FOLDER)
    for name, count in names.items():
        if count > 1:
            yield DUPLICATE.about(inside + name, count=count)
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            yield CASE_COLLISION.about(inside + name, text=other)


def normalize(name: str) -> str:
    """A name as it would be on the disk."""
    return "/".join(part for part in re.split(r"[\\/]", name) if part not in ("", "."))


def list_zip_entries(archive: zipfile.ZipFile) -> tuple[Entry, ...]:
    """Entries of a zip that lies inside the bundle."""
    return tuple(
        Entry(
            info.orig_filename,
            LINK if stat.S_ISLNK(info.external_attr >> 16) else FOLDER if info.is_dir() else FILE,
            info.file_size,
            info.compress_size,
            start=info.header_offset,
        )
        for info in archive.infolist()
    )
