"""A bounded local cache of objects: a file for each content, least recently used first out, whole or absent."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from unet_pipeline.files import PARTIAL_PREFIX
from unet_pipeline.locks import hold_lock
from unet_pipeline.remote.store import Store, StoredObject
from unet_pipeline.remote.urls import PASSING, StoreError

FOLDER_VARIABLE, SIZE_VARIABLE = "UNET_PIPELINE_CACHE", "UNET_PIPELINE_CACHE_GIB"
DEFAULT_GIB = 8.0
_GIB = 2**30


class Cache:
    """Files of objects below `root`/objects, hard-linked to where they are wanted. Threads may share it.

    Attributes:
        root: of the cache.
        limit_bytes: that its files never exceed together.
        stays: whether it is there after the run.
    """

    def __init__(self, root: Path, limit_bytes: int, stays: bool) -> None:
        self.root, self.limit_bytes, self.stays = root, limit_bytes, stays
        self._objects = root / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()
        for path in self._objects.glob(f"{PARTIAL_PREFIX}*"):  # of a process that was killed
            path.unlink(missing_ok=True)
        files = sorted(self._objects.iterdir(), key=lambda path: path.stat().st_mtime)
        self._sizes = {path.name: path.stat().st_size for path in files}  # least recently used first

    @property
    def num_bytes(self) -> int:
        """Bytes of its files, and of those that are being fetched."""
        return sum(self._sizes.values())

    def describe(self) -> str:
        """Its place and bound, for a message."""
        end = "stays" if self.stays else f"removed at the end; set {FOLDER_VARIABLE} to keep it"
        return f"cache {self.root.name} of at most {self.limit_bytes / _GIB:.3g} GiB ({end})"

    def provide(self, store: Store, item: StoredObject, target: Path) -> None:
        """Let `target` be the content of an object, fetched where the cache has not got it.

        Raises:
            StoreError: it cannot be read, changes meanwhile, or does not fit.
            OSError: it cannot be written.
        """
        if item.stamp and self._link(_name(item), target):
            return
        self._reserve(item)
        partial = self._objects / f"{PARTIAL_PREFIX}{_name(item)}"
        try:
            store.fetch(item.url, partial)
            if partial.stat().st_size != item.num_bytes:
                raise StoreError(
                    f"{item.url} has {partial.stat().st_size} bytes, and had {item.num_bytes} when the store was listed. It is being "
                    "written, or the transfer was cut; run the same command again."
                )
            os.replace(partial, self._objects / _name(item))
        except BaseException:
            partial.unlink(missing_ok=True)
            with self._lock:
                self._sizes.pop(_name(item), None)
            raise
        self._link(_name(item), target)

    def _link(self, name: str, target: Path) -> bool:
        path = self._objects / name
        with self._lock:
            if not path.is_file():
                return False
            self._sizes[name] = self._sizes.pop(name, path.stat().st_size)
            os.utime(path)
            target.unlink(missing_ok=True)
            try:
                os.link(path, target)
            except OSError:  # a file system without hard links
                shutil.copyfile(path, target)
        return True

    def _reserve(self, item: StoredObject) -> None:
        """Make room for an object, and count it as there."""
        with self._lock:
            for name in list(self._sizes):
                if self.num_bytes + item.num_bytes <= self.limit_bytes:
                    break
                path = self._objects / name
                if path.is_file() and path.stat().st_nlink == 1:  # nobody reads it
                    path.unlink()
                    del self._sizes[name]
            if self.num_bytes + item.num_bytes > self.limit_bytes:
                raise StoreError(
                    f"{item.url} has {item.num_bytes / _GIB:.3g} GiB and does not fit into the cache of {self.limit_bytes / _GIB:.3g} GiB "
                    f"with what is in use there. Set {SIZE_VARIABLE} to more, and {FOLDER_VARIABLE} to a folder on a disk that has it."
                )
            self._sizes[_name(item)] = item.num_bytes


def _name(item: StoredObject) -> str:
    """By the URL and what changes with its content."""
    return hashlib.sha256(f"{item.url}\n{item.stamp}\n{item.num_bytes}".encode()).hexdigest()


@contextmanager
def open_cache() -> Iterator[Cache]:
    """The cache that the environment asks for: its folder, which stays, and its bound in GiB; otherwise a temporary one.

    Raises:
        StoreError: the bound is no number of GiB.
        InUseError: another process has the folder.
    """
    text = os.environ.get(SIZE_VARIABLE) or str(DEFAULT_GIB)
    try:
        limit_bytes = int(float(text) * _GIB)
    except (ValueError, OverflowError):
        limit_bytes = 0
    if limit_bytes <= 0:
        raise StoreError(
            f"{SIZE_VARIABLE} is {text!r}; expected a number of GiB above 0, such as {DEFAULT_GIB:g}. Correct it."
        )
    if folder := os.environ.get(FOLDER_VARIABLE):
        root = Path(folder)
        with hold_lock(root / ".cache.lock", f"The cache {root.resolve().name}"):
            yield Cache(root, limit_bytes, stays=True)
        return
    root = Path(tempfile.mkdtemp(prefix=PASSING))
    try:
        yield Cache(root, limit_bytes, stays=False)
    finally:
        shutil.rmtree(root, ignore_errors=True)
