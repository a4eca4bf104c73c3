"""Files that are whole or absent: temporary name, flush, fsync, rename.

A file under its final name is complete, even when the process is killed or the disk fills up while it is written. What is no file, such
as a device or a pipe, is written into and never replaced.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

PARTIAL_PREFIX = ".partial-"
_CHUNK_BYTES = 1 << 20
_MAX_NAME_BYTES = 255  # of most file systems
_READER_WAIT_S = 5.0  # for a program that is started beside this one
_OPEN_ALREADY = ("/dev/fd/", "/dev/std", "/proc/")  # names of what a process has open


class _Finished(NamedTuple):
    """A whole file under its temporary name."""

    partial: Path
    path: Path
    previous: Path | None
    new_folders: tuple[Path, ...]


_together: ContextVar[list[_Finished] | None] = ContextVar("together", default=None)


@contextmanager
def write_atomically(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Temporary path beside `path` that replaces it when the block ends without an error.

    The temporary name keeps the whole suffix of `path`, because writers choose their format by it. After an error
    the temporary file and the folders that were made for it are removed, and an earlier `path` is untouched. With `previous` the
    earlier `path` is kept under that name, in the same folder; a process that is killed between both renames leaves `previous` alone.
    What is written for a device or a pipe is copied into it.

    Raises:
        OSError: it cannot be written; `filename` is `path` where the system names no file.
    """
    if _is_stream(path):
        with _write_through(path) as partial:
            yield partial
        return
    new_folders = _make_folders(path.parent)
    partial = path.with_name(_name_partial(path.name))
    try:
        with _naming(path):
            yield partial
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
            _finish(_Finished(partial, path, previous, new_folders))
    except BaseException:
        _remove(partial, new_folders)
        raise


def _name_partial(name: str) -> str:
    """A temporary name with the whole suffix; of a name that would be too long with more in front of it only the end."""
    begin = f"{PARTIAL_PREFIX}{secrets.token_hex(4)}-"
    kept = name
    while kept and len(os.fsencode(begin + kept)) > _MAX_NAME_BYTES:
        kept = kept[1:]
    return begin + kept


@contextmanager
def write_together() -> Iterator[None]:
    """Files that are written in the block get their names when it ends, all of them; after an error none does.

    A block that reads what it has written sees the earlier file.
    """
    if _together.get() is not None:
        yield
        return
    finished: list[_Finished] = []
    token = _together.set(finished)
    try:
        yield
    except BaseException:
        for one in finished:
            _remove(one.partial, ())
        for one in reversed(finished):
            _remove_empty(one.new_folders)
        raise
    finally:
        _together.reset(token)
    for one in finished:
        with _naming(one.path):
            _rename(one)


@contextmanager
def stage_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` for files that are not finished.

    It is removed at the end, and `parent` with it if it was made here and is empty. That never hides an error of the block.
    """
    new_folders = _make_folders(parent)
    try:
        with _naming(parent):
            staging = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=parent))
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        _remove_empty(new_folders)


def remove_partial(folder: Path) -> None:
    """Remove what processes that were killed left unfinished in a folder; none other may be writing there."""
    for path in folder.glob(f"{PARTIAL_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def require_place(path: Path) -> None:
    """Whether a file can get this name, before the work that it is the result of.

    Raises:
        OSError: it is a folder or a link that leads to itself, lies below a file, or its folder may not be written to.
    """
    if _is_stream(path):
        return
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    data = text.encode("utf-8")
    with write_atomically(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with two spaces of indentation and a final newline, whole or not at all."""
    write_text(path, format_json(content) + "\n")


def format_json(content: Any) -> str:
    """JSON with two spaces of indentation; a name of a file whose bytes are no UTF-8 is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    with suppress(UnicodeEncodeError):
        text.encode("utf-8")
        return text
    return json.dumps(content, indent=2)


def replace_between(text: str, begin: str, end: str, content: str) -> str:
    """Text with other content on the lines between two marks, which stay.

    Raises:
        ValueError: a mark is missing, or there are several.
    """
    before, after_begin = text.split(begin)
    _, after = after_begin.split(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def find_relative(path: Path | str, start: Path) -> str | None:
    """The way from the folder `start` to `path`, with "/"; None where none leads, as to another drive."""
    try:
        return Path(os.path.relpath(Path(path).resolve(), start.resolve())).as_posix()
    except ValueError:
        return None


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read, or is a device or a pipe, which has no end or waits for a writer.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "it is a device or a pipe", str(path))
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _is_stream(path: Path) -> bool:
    """Whether the name is that of a device, a pipe or a socket, or of something that a process has open.

    Raises:
        OSError: it is a folder, or a link that leads to itself.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode) or str(path.absolute()).startswith(_OPEN_ALREADY)


@contextmanager
def _write_through(path: Path) -> Iterator[Path]:
    """Temporary path whose content is copied into a device or a pipe when the block ends without an error."""
    with tempfile.TemporaryDirectory(prefix="unet-pipeline-", ignore_cleanup_errors=True) as folder:
        partial = Path(folder) / path.name
        yield partial
        with _naming(path), partial.open("rb") as source, _open_stream(path) as stream:
            while chunk := source.read(_CHUNK_BYTES):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[stream.write(rest) or 0 :]


def _open_stream(path: Path) -> io.FileIO:
    """A device or a pipe for writing.

    Raises:
        OSError: no program reads the pipe, and none has come while it was waited for.
    """
    if not path.is_fifo():
        return path.open("wb", buffering=0)
    until_s = time.monotonic() + _READER_WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > until_s:
                raise
            time.sleep(0.05)
        else:
            os.set_blocking(descriptor, True)
            return io.FileIO(descriptor, "wb")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error of the system while a file is written, such as a full disk, has the file's name."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _make_folders(folder: Path) -> tuple[Path, ...]:
    """Make a folder and those above it; gives back what was not there, the innermost first."""
    missing = []
    for place in (folder, *folder.parents):
        if place.exists():
            break
        missing.append(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_empty(missing)
        raise
    return tuple(missing)


def _finish(one: _Finished) -> None:
    waiting = _together.get()
    if waiting is None:
        _rename(one)
    else:
        waiting.append(one)


def _rename(one: _Finished) -> None:
    if one.previous is not None and one.path.is_file():
        os.replace(one.path, one.previous)
    os.replace(one.partial, one.path)
    _sync_folder(one.path.parent)


def _remove(partial: Path, new_folders: tuple[Path, ...]) -> None:
    """Clean up after an error, which is the one to be seen."""
    with suppress(OSError):
        partial.unlink(missing_ok=True)
    _remove_empty(new_folders)


def _remove_empty(folders: tuple[Path, ...] | list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no file descriptor for a folder
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one that may be written and not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:  # a file system that does not know it; the file itself is written
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
