"""A local folder that stands for a prefix of a store: all names are there from one listing, contents when they are needed.

A file that is not fetched is empty, which suffices for images that are known by their names. DICOM is known by its content: of each kind of
file in a folder the beginning of one is fetched, and stands for all. So is a header that names the file of its voxels.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from unet_pipeline.dataset.dataset import case_name, image_suffix
from unet_pipeline.dataset.dicom_file import is_directory_file
from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.remote.cache import Cache
from unet_pipeline.remote.store import Store, StoredObject
from unet_pipeline.remote.urls import RemoteUrl, StoreError

Item = TypeVar("Item")
HEAD_BYTES = 1 << 16  # holds the elements of a DICOM file in front of its pixels
_NUM_TRANSFERS = 8  # at once, because each waits for its answer
_FIRST_IMAGES, _MOST_IMAGES = (
    4,
    256,
)  # of a portion: the first is there soon, later ones do not start the network anew too often
_TEXTS = re.compile(r"\.(csv|html?|json|log|md|pdf|sha256|tsv|txt|xlsx?|xml|ya?ml|gz|zip)", re.IGNORECASE)
_NAMES_VOXELS = (".mhd", ".nhdr")  # headers that name another file
_LISTS = (".csv", ".tsv", ".json")  # of cases, whose files lie beside them or below
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Mirror:
    """The local folder of a listing.

    Attributes:
        source: what the user named: the folder, or a file in it.
        root: the folder, named as the last part of the URL.
        url: that was listed.
        objects: of the listing, by their local path.
        store: that has them.
        cache: that contents come from.
    """

    source: Path
    root: Path
    url: RemoteUrl
    objects: dict[Path, StoredObject]
    store: Store
    cache: Cache

    def describe(self) -> str:
        """Number and size of its objects, and where they are read to."""
        size = sum(item.num_bytes for item in self.objects.values()) / _MEGABYTE
        return f"store    {self.url}: {len(self.objects)} object(s), {size:,.1f} MB; {self.cache.describe()}"

    def fetch(self, paths: Iterable[Path]) -> None:
        """Let files have their objects' contents; all of an image, with what its header names.

        Raises:
            StoreError: one cannot be read, or they do not fit into the cache together.
        """
        wanted, fetched = set(paths), set[Path]()
        while wanted:
            with ThreadPoolExecutor(_NUM_TRANSFERS, "transfer") as executor:
                for _ in executor.map(self._fetch_one, sorted(wanted)):
                    pass
            fetched |= wanted
            wanted = {file for path in wanted for file in list_image_files(path) if file in self.objects} - fetched

    def _fetch_one(self, path: Path) -> None:
        if path in self.objects:
            self.cache.provide(self.store, self.objects[path], path)

    def release(self, paths: Iterable[Path]) -> None:
        """Let files be empty again; the cache may forget their contents."""
        for path in paths:
            path.unlink(missing_ok=True)
            path.touch()

    def measure(self, paths: Iterable[Path]) -> int:
        """Bytes of the objects of some files."""
        return sum(self.objects[path].num_bytes for path in paths)

    def list_tags(self, paths: Sequence[Path]) -> dict[str, str]:
        """What tells that the content of files has not changed, by name; empty where the store does not say it for every file."""
        tags = {path.name: self.objects[path].tag for path in paths if path in self.objects}
        return tags if len(tags) == len(paths) and all(tags.values()) else {}


@contextmanager
def mirror(url: RemoteUrl, cache: Cache, stays: bool = False) -> Iterator[Mirror]:
    """The local folder of an URL: a prefix with all below it, or an object with those beside it that belong to it.

    Args:
        stays: the folder has the same place in the cache whenever the URL is opened, and is there afterwards.

    Raises:
        StoreError: there is nothing, or it cannot be listed.
    """
    store = Store(url.scheme)
    objects = store.list_below(url)
    is_object = len(objects) == 1 and objects[0].url == url
    if is_object:
        names_others = is_directory_file(Path(url.name)) or url.name.lower().endswith(_LISTS)
        beside = store.list_below(url.parent, deep=names_others)
        objects = [item for item in beside if names_others or _stem(item.name) == _stem(url.name)]
    if not objects:
        raise StoreError(f"{url} has no object: there is no such bucket or prefix, or it is empty. Check the URL.")
    if stays:
        place = cache.root / "datasets" / hashlib.sha256(str(url).encode()).hexdigest()[:16]
        shutil.rmtree(place, ignore_errors=True)  # what was removed from the store; contents are in the cache
    else:
        place = Path(tempfile.mkdtemp(prefix="mirror-", dir=cache.root))
    try:
        root = place / ((url.parent.name if is_object else url.name) or "bucket")
        made = Mirror(
            root / url.name if is_object else root,
            root,
            url,
            {root / item.name: item for item in objects},
            store,
            cache,
        )
        _lay_out(made)
        yield made
    finally:
        if not stays:
            shutil.rmtree(place, ignore_errors=True)


def _stem(name: str) -> str:
    return case_name(Path(name)) if image_suffix(Path(name)) else PurePosixPath(name).stem


def _lay_out(made: Mirror) -> None:
    """Make the files, empty or with the beginning that tells DICOM."""
    kinds: dict[tuple[Path, str], list[Path]] = {}
    for path in made.objects:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            raise StoreError(
                f"{made.objects[path].url} cannot lie in a folder: its name is too long, or another object has the name of its folder. "
                "Rename it."
            ) from error
        if is_directory_file(path):
            made.fetch([path])
        elif path.suffix.lower() in _NAMES_VOXELS:
            kinds[path, ""] = [path]
        elif not image_suffix(path) and not path.name.startswith(".") and not _TEXTS.fullmatch(path.suffix):
            kind = path.suffix.lower() if path.suffix[1:].isalpha() else ""
            kinds.setdefault((path.parent, kind), []).append(path)
    with ThreadPoolExecutor(_NUM_TRANSFERS, "transfer") as executor:
        heads = executor.map(lambda paths: made.store.read_head(made.objects[paths[0]].url, HEAD_BYTES), kinds.values())
        for paths, head in zip(kinds.values(), heads, strict=True):
            paths[0].write_bytes(head)
            for path in paths[1:]:
                path.unlink()
                _link(paths[0], path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@dataclass
class Portion(Generic[Item]):
    """Images that are there together; `failures` are those of them that could not be fetched, each with the reason."""

    items: list[Item] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    num_bytes: int = 0
    failures: dict[Item, StoreError] = field(default_factory=dict)


def iterate_portions(
    made: Mirror, items: Sequence[Item], list_files: Callable[[Item], Sequence[Path]]
) -> Generator[Portion[Item], None, None]:
    """Images in portions whose files are there; the next portion is fetched while the caller has the present one.

    The files of a portion are released when the next one is asked for. Close the iterator when it is left early.

    Args:
        list_files: of an image, from names alone.
    """
    portions = _divide(made, items, list_files)
    with ThreadPoolExecutor(1, "ahead") as executor:
        ahead: Future[None] | None = None
        for number, portion in enumerate(portions):
            if ahead is not None:
                ahead.result()
            else:
                _fill(made, portion, list_files)
            following = portions[number + 1] if number + 1 < len(portions) else None
            ahead = None
            if following is not None and portion.num_bytes + following.num_bytes <= made.cache.limit_bytes:
                ahead = executor.submit(_fill, made, following, list_files)
            try:
                yield portion
            finally:
                made.release(portion.files)


def _divide(made: Mirror, items: Sequence[Item], list_files: Callable[[Item], Sequence[Path]]) -> list[Portion[Item]]:
    portions = [Portion[Item]()]
    most_images = _FIRST_IMAGES
    for item in items:
        num_bytes = made.measure(_list_own(made, list_files(item)))
        last = portions[-1]
        if last.items and (last.num_bytes + num_bytes > made.cache.limit_bytes // 2 or len(last.items) >= most_images):
            most_images = min(2 * most_images, _MOST_IMAGES)
            portions.append(last := Portion[Item]())
        last.items.append(item)
        last.num_bytes += num_bytes
    return portions if items else []


def _list_own(made: Mirror, paths: Sequence[Path]) -> list[Path]:
    """All files of an image, by their names and by what is there of its headers."""
    return [file for path in paths for file in list_image_files(path) if file in made.objects]


def _fill(made: Mirror, portion: Portion[Item], list_files: Callable[[Item], Sequence[Path]]) -> None:
    """Fetch the images of a portion; one that fails is taken out."""
    for item in list(portion.items):
        files = _list_own(made, list_files(item))
        portion.files += files
        try:
            made.fetch(files)
            portion.files += set(_list_own(made, files)) - set(files)
        except StoreError as error:
            portion.items.remove(item)
            portion.failures[item] = error
            made.release(files)
