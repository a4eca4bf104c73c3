"""The data that a bundle is reproduced on: where they are, or copies made again from the user's own files as `plan` made them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.manifest import read_manifest
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.prepare import prepare_dataset
from unet_pipeline.evidence.reproduce.reproduction_checks import compare_files, list_sources
from unet_pipeline.messages import Problem
from unet_pipeline.planning.plan import read_plan


@contextmanager
def provide_data(folder: BundleFolder, dataset: Path | None) -> Iterator[tuple[Path | None, tuple[Problem, ...]]]:
    """Where the files lie that a bundle trains on.

    A bundle whose files `plan` copied may be given the dataset that they were copied from: its files are compared with the manifest, and
    copied again into a folder that goes away.

    Args:
        dataset: what the user names; None for the place in the plan.

    Yields:
        The folder, `dataset` itself unless copies were made; and the files of the dataset that have changed since.

    Raises:
        DatasetError: the dataset cannot be read as it was.
    """
    manifest = read_manifest(folder.dataset_manifest, folder.name)
    copies = manifest.prepared
    if dataset is None or not copies or (dataset / copies[0].image).is_file() or not dataset.exists():
        yield dataset, ()
        return
    options = ReadOptions.model_validate(manifest.reading)
    source = read_dataset(dataset, options.layout, options.follow_links, None, options.missing_channels)
    findings = tuple(compare_files(source.root, list_sources(manifest)))
    report = check_dataset(source, read_plan(folder.plan).label_table, options)
    with tempfile.TemporaryDirectory(prefix="reproduce-data-") as scratch:
        target = Path(scratch) / "copies"
        prepare_dataset(report, target)
        yield target, findings
