"""A bundle as a list of entries that can be read and are never written: a folder, a zip, or a tar.

Archives are read in place. What an entry claims about itself (name, size, link) is kept as it stands, to be judged.
"""

from __future__ import annotations

import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from unet_pipeline.dataset.signatures import name_content
from unet_pipeline.errors import BundleError
from unet_pipeline.files import PARTIAL_PREFIX

FILE, FOLDER, LINK, SPECIAL = "file", "folder", "link", "special"
MAX_READ_BYTES = 2 << 30  # of one file in memory; larger ones are reported and not examined
MAX_ENTRIES = 100_000
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class Entry:
    """One entry of a bundle.

    Attributes:
        name: with "/", relative to the root; of an archive exactly as stored.
        kind: file, folder, link or special (device, pipe, encrypted).
        size: bytes, as claimed.
        packed: bytes that it takes in the archive; equal to `size` in a folder.
        target: of a link.
        start: of its data in a zip; -1 elsewhere.
    """

    name: str
    kind: str
    size: int
    packed: int
    target: str = ""
    start: int = -1


_START_BYTES = 132


class Source(Protocol):
    """Something that holds a bundle."""

    @property
    def name(self) -> str:
        """As shown to the user."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries; names may repeat in archives."""

    def open(self, entry: Entry) -> BinaryIO:
        """The entry's bytes from the start, seekable.

        Raises:
            BundleError: they cannot be read.
        """


def read_entry(source: Source, entry: Entry, limit: int = MAX_READ_BYTES) -> bytes:
    """All bytes of a file.

    Raises:
        BundleError: it cannot be read, or has more than `limit` bytes.
    """
    with _as_bundle_error(entry), source.open(entry) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise BundleError(f"{entry.name} has more than {limit:,} bytes; expected less. Look at it yourself.")
    return content


@contextmanager
def _as_bundle_error(entry: Entry) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise BundleError(f"{entry.name} cannot be read: {_describe(error)}. Get the bundle again.") from error


def _describe(error: BaseException) -> str:
    """What is wrong with an archive or a file, without the library's own words about its inside."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is cut off or damaged ({type(error).__name__})"


class FolderSource:
    """A folder; links are listed and not followed."""

    def __init__(self, root: Path, left_out: tuple[str, ...] = ()) -> None:
        """`left_out` are names of folders directly below the root that are not looked into."""
        self.root, self.name = root, root.resolve().name
        self.entries = tuple(_list_folder(root, left_out))

    def open(self, entry: Entry) -> BinaryIO:
        """See `Source`; a file that became a link meanwhile is refused."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        with _as_bundle_error(entry):
            return os.fdopen(os.open(self.root / entry.name, flags), "rb")


def _list_folder(root: Path, left_out: tuple[str, ...]) -> Iterator[Entry]:
    pending = [""]
    while pending:
        folder = pending.pop()
        for found in sorted(os.scandir(root / folder), key=lambda item: item.name):
            if found.name.startswith(PARTIAL_PREFIX):
                continue  # of a run that was killed
            name = f"{folder}/{found.name}".lstrip("/")
            mode = found.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                yield Entry(name, LINK, 0, 0, str(Path(found.path).readlink()))
            elif stat.S_ISDIR(mode):
                yield Entry(name, FOLDER, 0, 0)
                if name not in left_out:
                    pending.append(name)
            elif stat.S_ISREG(mode):
                size = found.stat(follow_symlinks=False).st_size
                yield Entry(name, FILE, size, size)
            else:
                yield Entry(name, SPECIAL, 0, 0)


class ZipSource:
    """A zip, from a file or from bytes."""

    def __init__(self, file: Path | BinaryIO, name: str) -> None:
        """Reads the list of entries.

        Raises:
            BundleError: it is no zip, or a damaged one.
        """
        self.name = name
        try:
            self.archive = zipfile.ZipFile(file)
            infos = self.archive.infolist()
        except (*_BROKEN, UnicodeError) as error:
            raise BundleError(f"{name} cannot be read as a zip: {_describe(error)}. Get it again.") from error
        pairs = [(_describe_zip_entry(info), info) for info in infos]
        self.entries = tuple(entry for entry, _ in pairs)
        self._by_start = {entry.start: info for entry, info in pairs}

    def open(self, entry: Entry) -> BinaryIO:
        """See `Source`."""
        with _as_bundle_error(entry):
            return _in_memory(self.archive.open(self._by_start[entry.start]), entry)


def _describe_zip_entry(info: zipfile.ZipInfo) -> Entry:
    mode = info.external_attr >> 16
    name = info.orig_filename
    if stat.S_ISLNK(mode):
        kind = LINK
    elif info.flag_bits & 1 or (stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))):
        kind = SPECIAL
    else:
        kind = FOLDER if name.endswith("/") else FILE
    return Entry(name, kind, info.file_size, info.compress_size, start=info.header_offset)


class TarSource:
    """A tar, compressed or not."""

    def __init__(self, file: Path | BinaryIO, name: str) -> None:
        """Reads the list of entries.

        Raises:
            BundleError: it is no tar, or a damaged one.
        """
        self.name = name
        try:
            self.archive = tarfile.open(file) if isinstance(file, Path) else tarfile.open(fileobj=file)  # noqa: SIM115
            members = []
            for member in self.archive:
                members.append(member)
                if len(members) > MAX_ENTRIES:
                    break
        except _BROKEN as error:
            raise BundleError(f"{name} cannot be read as a tar: {_describe(error)}. Get it again.") from error
        pairs = [(_describe_tar_member(member), member) for member in members]
        self.entries = tuple(entry for entry, _ in pairs)
        self._members = {entry.start: member for entry, member in pairs}

    def open(self, entry: Entry) -> BinaryIO:
        """See `Source`."""
        with _as_bundle_error(entry):
            stream = self.archive.extractfile(self._members[entry.start])
            if stream is None:
                raise OSError("not a file")
            return _in_memory(stream, entry)


def _describe_tar_member(member: tarfile.TarInfo) -> Entry:
    if member.issym() or member.islnk():
        return Entry(member.name, LINK, 0, 0, member.linkname, member.offset)
    kind = FOLDER if member.isdir() else FILE if member.isreg() else SPECIAL
    return Entry(member.name, kind, member.size, member.size, start=member.offset)


def _in_memory(stream: object, entry: Entry) -> BinaryIO:
    """Bytes of an archive's entry, so that they can be read in any order; never more than the entry claims and the limit."""
    with stream as opened:  # type: ignore[attr-defined]
        content = opened.read(min(entry.size, MAX_READ_BYTES) + 1)
    if len(content) > entry.size:
        raise OSError("longer than its header says")
    return io.BytesIO(content)


def open_source(bundle: Path | str, left_out: tuple[str, ...] = ()) -> Source:
    """A folder, a zip, a tar, or the file:// address of one.

    Args:
        bundle: where it lies.
        left_out: of a folder, see `FolderSource`.

    Raises:
        BundleError: it does not exist, is no bundle, or lies on another machine.
    """
    path = find_path(bundle)
    if path.is_dir():
        try:
            return FolderSource(path, left_out)
        except OSError as error:
            raise BundleError(f"{path.name} cannot be read: {error.strerror}. Check its permissions.") from error
    if not path.is_file():
        raise BundleError(f"Bundle not found: {bundle}. Expected a folder, a zip, or a file:// address of one.")
    with path.open("rb") as stream:
        start = stream.read(_START_BYTES)
    if start[:2] != b"PK" and is_tar(path):
        return TarSource(path, path.name)
    # a zip may have anything in front of it, so only its own reader knows
    if not zipfile.is_zipfile(path) and start[:2] != b"PK":
        found = name_content(start) or ("nothing, it is empty" if not start else "something else")
        raise BundleError(
            f"{path.name} holds {found}; expected a bundle as a folder, zip or tar. Check the path, or get it again."
        )
    return ZipSource(path, path.name)


def is_tar(file: Path | BinaryIO) -> bool:
    """Whether it begins like a tar, compressed or not."""
    try:
        return tarfile.is_tarfile(file)
    except _BROKEN:
        return False


def find_path(bundle: Path | str) -> Path:
    """Path of a bundle that may be given as an address.

    Raises:
        BundleError: an address of another machine; nothing is downloaded.
    """
    text = str(bundle)
    if "://" not in text and not text.startswith("file:"):
        return Path(bundle)
    address = urlsplit(text)
    if address.scheme != "file" or address.netloc not in ("", "localhost"):
        raise BundleError(
            f"{bundle} lies on another machine; expected a local file. Download it first, without unpacking it."
        )
    return Path(unquote(address.path))
