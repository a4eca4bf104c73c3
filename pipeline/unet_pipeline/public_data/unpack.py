"""An archive from the network unpacked: files and folders below one folder, and nothing at all if an entry would do anything else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

from unet_pipeline.audit.archive import audit_entries, normalize
from unet_pipeline.audit.source import FILE, Entry, Source, open_source
from unet_pipeline.dataset.signatures import name_content
from unet_pipeline.errors import BundleError
from unet_pipeline.messages import DANGER, show
from unet_pipeline.public_data.download import DownloadError, require_space

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_LEFT_BY_SYSTEMS = re.compile(r"(^|/)(__MACOSX(/|$)|\._|\.DS_Store$|Thumbs\.db$)")


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a zip or a tar into a folder; what operating systems leave in archives (`._*`, `__MACOSX`) is left out.

    Returns:
        The number of files.

    Raises:
        DownloadError: it is no archive, a damaged one, or has an entry that leaves the folder, is a link, a device, encrypted, there twice,
            or grows without measure; nothing is unpacked then. Also where the disk has no room for it.
    """
    source = _open(archive)
    shown = f"{archive.parent.name}/{archive.name}"
    for finding in audit_entries(source.entries, archive.name, archived=True):
        if finding.severity == DANGER:
            raise DownloadError(
                f"{shown} is refused: {show(finding.file)} {finding.cause}. Nothing of it was unpacked. "
                "A published data set has no such entry: remove the file, and look at the address that it came from."
            )
    entries = [
        entry for entry in source.entries if entry.kind == FILE and not _LEFT_BY_SYSTEMS.search(normalize(entry.name))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    require_space(folder, sum(entry.size for entry in entries), archive.name)
    for entry in entries:
        _unpack_entry(source, entry, folder / PurePosixPath(normalize(entry.name)), shown)
    return len(entries)


def _open(archive: Path) -> Source:
    try:
        return open_source(archive)
    except BundleError as error:
        with archive.open("rb") as stream:
            start = stream.read(256)
        content = "a web page" if start.lstrip()[:1] == b"<" else name_content(start) or "something else"
        raise DownloadError(
            f"{archive.parent.name}/{archive.name} cannot be unpacked: it holds {content}, or is cut off or damaged; "
            "expected a zip or a tar. Remove it and run the same command again; if that does not help, the address leads elsewhere."
        ) from error


def _unpack_entry(source: Source, entry: Entry, path: Path, archive: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = source.open(entry)
    except BundleError as error:
        raise DownloadError(
            f"{archive} is damaged: {show(entry.name)} cannot be read. Remove the archive and run the same command again."
        ) from error
    with stream, path.open("wb") as target:
        try:
            shutil.copyfileobj(stream, target)
        except OSError as error:
            error.filename = str(path)
            raise
