"""Files that are whole or absent: temporary name, flush, fsync, rename.

A file under its final name is complete, even when the process is killed or the disk fills up while it is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL_PREFIX = ".partial-"
_CHUNK_BYTES = 1 << 20


@contextmanager
def write_atomically(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Temporary path beside `path` that replaces it when the block ends without an error.

    The temporary name keeps the whole suffix of `path`, because writers choose their format by it. After an error
    the temporary file is removed and an earlier `path` is untouched. With `previous` the earlier `path` is kept under
    that name, in the same folder; a process that is killed between both renames leaves `previous` alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{PARTIAL_PREFIX}{secrets.token_hex(4)}-{path.name}")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        if previous is not None and path.is_file():
            os.replace(path, previous)
        os.replace(partial, path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with write_atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON with two spaces of indentation and a final newline, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def replace_between(text: str, begin: str, end: str, content: str) -> str:
    """Text with other content on the lines between two marks, which stay.

    Raises:
        ValueError: a mark is missing, or there are several.
    """
    before, after_begin = text.split(begin)
    _, after = after_begin.split(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def compute_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows has no file descriptor for a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
