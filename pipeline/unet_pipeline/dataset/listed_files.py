"""The lists and instance maps of a dataset: recorded with the manifest, and compared with it later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from unet_pipeline.dataset import decathlon, table
from unet_pipeline.dataset.annotated_labels import FILE as ANNOTATED_FILE
from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.dataset_facts import FACTS_FILE
from unet_pipeline.dataset.given_splits import SPLITS_FILE
from unet_pipeline.dataset.image_files import list_image_files
from unet_pipeline.dataset.instance_maps import list_instances
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.listing_facts import FileEntry, Listing, describe_listing, find_changed_facts
from unet_pipeline.dataset.manifest import CHANGED, GONE, NEW, Difference, Manifest, Stamp, find_differences
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.errors import DatasetError
from unet_pipeline.files import compute_sha256

_LISTS_OF_FOLDERS = (
    decathlon.FILE,
    *table.NAMES,
    SPLITS_FILE,
)  # one that comes into a folder may say what its cases are


def record_listing(dataset: Dataset) -> Listing:
    """What a dataset's lists say, with the SHA-256 of the lists and of the instance maps.

    Args:
        dataset: as its reader found it.
    """
    files = [_record(dataset.root / path, path.as_posix()) for path in dataset.lists]
    labels = {case.name: dataset.root / case.label for case in dataset.cases if case.label is not None}
    instances = {
        name: [_record(file, file.relative_to(dataset.root).as_posix()) for file in list_image_files(path)]
        for name, path in list_instances(labels).items()
    }
    return describe_listing(dataset, files, instances)


def _record(file: Path, shown: str) -> FileEntry:
    return FileEntry(path=shown, num_bytes=file.stat().st_size, sha256=compute_sha256(file))


def find_changed_lists(manifest: Manifest, root: Path, stamps: dict[str, Stamp]) -> tuple[list[str], list[str]]:
    """Lists that say something else than they did, or that are gone.

    Only a list whose SHA-256 differs is read again, and only what it says counts.

    Args:
        root: of the dataset, as it is now.
        stamps: as in `find_differences`.

    Returns:
        Names of the lists, and what they say otherwise in words; both empty where nothing is another.
    """
    listing = manifest.listing
    if listing is None:
        return [], []
    expected: dict[str, tuple[int | None, str]] = {
        entry.path: (entry.num_bytes, entry.sha256) for entry in listing.files
    }
    differences = find_differences(root, expected, {}, stamps)
    gone = [
        difference.path
        for difference in differences
        if difference.kind == GONE and not difference.path.startswith("..")
    ]
    if gone:
        return gone, [f"{path} is gone" for path in gone]
    changed = [difference.path for difference in differences if difference.kind == CHANGED]
    possible = (FACTS_FILE, ANNOTATED_FILE, *(_LISTS_OF_FOLDERS if listing.given is None else ()))
    changed += [name for name in possible if name not in expected and (root / name).is_file()]
    if not changed:
        return [], []
    try:
        dataset = _read_again(manifest, listing, root)
    except DatasetError as error:
        return changed, [f"it cannot be read any more: {str(error).rstrip('.')}"]
    facts = find_changed_facts(manifest.cases, listing, dataset)
    return (changed, facts) if facts else ([], [])


def _read_again(manifest: Manifest, listing: Listing, root: Path) -> Dataset:
    options = ReadOptions.model_validate(manifest.reading)
    if listing.given is None:
        return read_dataset(root, options.layout, options.follow_links, None, options.missing_channels)
    return read_dataset(root / listing.given, options.layout, options.follow_links, root, options.missing_channels)


def find_changed_instances(manifest: Manifest, root: Path, stamps: dict[str, Stamp]) -> list[Difference]:
    """Instance maps of the dataset's own label maps that changed, are gone or are new, of the cases whose label map is there."""
    if manifest.listing is None:
        return []
    labels = {name: case.label for name, case in manifest.cases.items() if case.label is not None}
    recorded: dict[str, tuple[str, int | None, str]] = {
        entry.path: (name, entry.num_bytes, entry.sha256)
        for name, entries in manifest.listing.instances.items()
        for entry in entries
    }
    return list(_compare_instances(root, labels, recorded, stamps))


def find_changed_copies(manifest: Manifest, root: Path, stamps: dict[str, Stamp]) -> list[Difference]:
    """The same for the copies that `plan` made of the instance maps."""
    if manifest.listing is None:
        return []
    recorded: dict[str, tuple[str, int | None, str]] = {
        copy.instances: (copy.case, None, copy.instances_sha256)
        for copy in manifest.prepared
        if copy.instances is not None and copy.instances_sha256 is not None
    }
    return list(_compare_instances(root, {copy.case: copy.label for copy in manifest.prepared}, recorded, stamps))


def _compare_instances(
    root: Path,
    labels: Mapping[str, str],
    recorded: Mapping[str, tuple[str, int | None, str]],
    stamps: dict[str, Stamp],
) -> Iterator[Difference]:
    """`recorded` has case, number of bytes where it is known, and SHA-256 by path."""
    there = {name: root / label for name, label in labels.items() if (root / label).exists()}
    expected = {path: (size, sha256) for path, (case, size, sha256) in recorded.items() if case in there}
    yield from find_differences(root, expected, {path: case for path, (case, _, _) in recorded.items()}, stamps)
    for name, path in list_instances(there).items():
        shown = path.relative_to(root).as_posix()
        if shown not in recorded:
            yield Difference(shown, name, NEW)
