"""Folders of results: local ones, and those that stand for a prefix of a store, where a file is uploaded once it is whole."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from unet_pipeline import files
from unet_pipeline.locks import InUseError
from unet_pipeline.remote.store import Store
from unet_pipeline.remote.urls import RemoteUrl

LOCK = ".predictions.lock"
_SILENCE_S = 3600.0  # after which the writer of a lock is taken for dead; the lock is written again with the record
_NUM_QUESTIONS = 16  # at once


class OutputFolder:
    """A local folder of results, as it is."""

    def compute_sha256(self, path: Path) -> str:
        """SHA-256 of a result that is there."""
        return files.compute_sha256(path)

    def remove(self, path: Path) -> None:
        """Take a result away."""
        path.unlink()

    def move(self, path: Path, target: Path) -> None:
        """Give a result another name in the folder or below it."""
        os.replace(path, target)

    def deliver(self, path: Path, sha256: str) -> None:
        """A result is whole; afterwards it is where it belongs."""

    def publish(self) -> None:
        """The record was written; afterwards it is where it belongs."""


@dataclass
class RemoteOutputFolder(OutputFolder):
    """A local folder whose files stand for objects: names from one listing, each empty unless its content is needed.

    Attributes:
        local: the folder.
        url: of the prefix.
        store: that has it.
        record: name of the file that says what results were made of.
        sha256: of objects whose metadata say it, by name.
    """

    local: Path
    url: RemoteUrl
    store: Store
    record: str
    sha256: dict[str, str] = field(default_factory=dict)
    _last_record: bytes = b""

    def compute_sha256(self, path: Path) -> str:
        """See `OutputFolder`; fetched where the metadata do not say it."""
        if (name := self._name(path)) not in self.sha256:
            self.sha256[name] = self.store.compute_sha256(self.url / name, path)
            path.write_bytes(b"")
        return self.sha256[name]

    def remove(self, path: Path) -> None:
        """See `OutputFolder`."""
        self.store.remove(self.url / self._name(path))
        self.sha256.pop(self._name(path), None)
        path.unlink()

    def move(self, path: Path, target: Path) -> None:
        """See `OutputFolder`; the new name is there before the old one goes."""
        self.store.fetch(self.url / self._name(path), path)
        sha256 = files.compute_sha256(path)
        self.store.upload(path, self.url / self._name(target), sha256)
        self.store.remove(self.url / self._name(path))
        self.sha256.pop(self._name(path), None)
        path.unlink()
        target.touch()

    def deliver(self, path: Path, sha256: str) -> None:
        """See `OutputFolder`; the local file is empty then, or away if it could not be uploaded."""
        try:
            self.store.upload(path, self.url / self._name(path), sha256)
        except BaseException:
            path.unlink()
            raise
        self.sha256[self._name(path)] = sha256
        path.write_bytes(b"")

    def publish(self) -> None:
        """See `OutputFolder`; and the lock is as fresh as the record."""
        path = self.local / self.record
        content = path.read_bytes() if path.is_file() else b""
        if content and content != self._last_record:
            self.store.write(self.url / self.record, content)
            self._last_record = content
            self.store.write(self.url / LOCK, _describe_holder())

    def _name(self, path: Path) -> str:
        return path.relative_to(self.local).as_posix()


@contextmanager
def open_output(url: RemoteUrl, record: str, locks: bool = True) -> Iterator[RemoteOutputFolder]:
    """The local folder that stands for a prefix of results.

    Args:
        url: of the prefix.
        record: name of the file that says what results were made of; it is fetched.
        locks: keep other writers away.

    Raises:
        StoreError: the prefix cannot be listed or written.
        InUseError: another process writes there.
    """
    store = Store(url.scheme)
    with tempfile.TemporaryDirectory(prefix="unet-pipeline-out-", ignore_cleanup_errors=True) as place:
        folder = RemoteOutputFolder(Path(place) / url.name, url, store, record)
        folder.local.mkdir()
        if locks:
            _take_lock(store, url)
        try:
            _lay_out(folder)
            yield folder
        finally:
            if locks:
                _finish(folder)


def _lay_out(folder: RemoteOutputFolder) -> None:
    """Make the local files, and ask for the checksums of those that the record has."""
    names = {item.name for item in folder.store.list_below(folder.url) if item.name != LOCK}
    for name in names:
        path = folder.local / name
        with suppress(OSError):  # a name that no file can have is none of a result
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    if folder.record not in names:
        return
    path = folder.local / folder.record
    folder.store.fetch(folder.url / folder.record, path)
    folder._last_record = path.read_bytes()
    recorded = [name for name in _list_recorded(path) if name in names]
    with ThreadPoolExecutor(_NUM_QUESTIONS, "question") as executor:
        stated = executor.map(lambda name: folder.store.read_sha256(folder.url / name), recorded)
        folder.sha256.update({name: sha256 for name, sha256 in zip(recorded, stated, strict=True) if sha256})


def _list_recorded(record: Path) -> list[str]:
    """Names of the results that a record has; none of a damaged one, which its reader passes over too."""
    try:
        entries = json.loads(record.read_bytes())["images"].values()
        return [
            name
            for entry in entries
            for key in ("label_map", "probabilities")
            if isinstance(name := entry.get(key), str)
        ]
    except (ValueError, KeyError, AttributeError, TypeError):
        return []


def _finish(folder: RemoteOutputFolder) -> None:
    """The last state of the record, then the lock goes; a store that fails here does not hide what went wrong before."""
    try:
        folder.publish()
        if folder._last_record and not (folder.local / folder.record).is_file():
            folder.store.remove(folder.url / folder.record)
    finally:
        with suppress(Exception):
            folder.store.remove(folder.url / LOCK)


def _describe_holder() -> bytes:
    holder = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "last": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(holder).encode()


def _take_lock(store: Store, url: RemoteUrl) -> None:
    if store.create(url / LOCK, _describe_holder()):
        return
    with tempfile.TemporaryDirectory(prefix="unet-pipeline-") as place:
        path = Path(place) / "lock"
        store.fetch(url / LOCK, path)
        text = path.read_text("utf-8", "replace")
    if _is_dead(text):
        store.write(url / LOCK, _describe_holder())
        return
    raise InUseError(
        f"{url} is in use by another process ({' '.join(text.split())[:200] or 'unknown'}). Wait until it ends, or stop it. If it was "
        f"killed, remove the object {LOCK} there, or wait an hour; two at a time would overwrite each other's record."
    )


def _is_dead(text: str) -> bool:
    """Whether the holder of a lock is a process of this machine that is gone, or was silent for long."""
    import psutil

    try:
        holder = json.loads(text)
        silent_s = (datetime.now(UTC) - datetime.fromisoformat(holder["last"])).total_seconds()
        is_gone = holder["host"] == socket.gethostname() and not psutil.pid_exists(int(holder["process"]))
    except (ValueError, KeyError, TypeError):
        return False
    return is_gone or silent_s > _SILENCE_S
