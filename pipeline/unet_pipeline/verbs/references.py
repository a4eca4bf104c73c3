"""A labelled dataset that `evaluate` measures: every reference is one label map, whatever form its files have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.joining import fit_to_labels, is_recoded
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.overlaps import combine_by
from unet_pipeline.dataset.paths import LEAVES, LINK_BROKEN, LINK_LOOP
from unet_pipeline.dataset.prepare import write_joined_label
from unet_pipeline.dataset.structure_masks import has_masks, name_structures
from unet_pipeline.progress import progress_bar

REFERENCES = "references"
_LINKS = {message.code for message in (LEAVES, LINK_BROKEN, LINK_LOOP)}


def read_references(dataset: Path | str, follow_links: bool = False, data_root: Path | str | None = None) -> Dataset:
    """The dataset to evaluate on.

    Args:
        dataset: a labelled folder, or a list of cases.
        follow_links: links may lead out of it.
        data_root: as in `check`.

    Raises:
        DatasetError: it cannot be read, or has a link that is not to be followed or leads nowhere.
    """
    references = read_dataset(dataset, follow_links=follow_links, data_root=data_root)
    for problem in references.problems_of_layout:
        if problem.code in _LINKS:
            raise problem.as_error()
    return references


def join_references(
    dataset: Dataset,
    labels: Mapping[str, int] | None,
    target: Path,
    spatial_dims: int | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> Dataset:
    """The dataset with one label map per case; masks per structure are joined into files of the folder `references` below `target`.

    Args:
        dataset: from `read_references`.
        labels: names and values of the structures that are measured; those of the dataset if None.
        spatial_dims: of the network, as in `read_pages`.
        regions: of the plan: the masks are structures that may overlap, whose combinations have the values of `labels`.

    Returns:
        The dataset; the label of a joined case is the path of the new file, which the dataset's root does not change.

    Raises:
        DatasetError: a mask cannot be read, or does not lie on its image's grid.
    """
    if not has_masks(dataset) and not any(is_recoded(case) for case in dataset.cases):
        return dataset
    if labels is not None and regions and _names_regions(dataset, regions):
        named = combine_by(dataset, labels, regions)
    else:
        named = name_structures(dataset, dict(labels) if labels is not None else None)
    cases = []
    with progress_bar("join masks", len(named.cases)) as bar:
        for case in named.cases:
            path = write_joined_label(named.root, case, target.resolve() / REFERENCES, spatial_dims)
            cases.append(replace(case, label=path, masks=None, values=None, combinations=None))
            bar.advance(note=case.name)
    return replace(named, cases=tuple(cases))


def _names_regions(dataset: Dataset, regions: Mapping[str, Sequence[int]]) -> bool:
    """Whether masks are those of regions, and not of the labels that they join."""
    structures = {mask.structure.casefold() for case in dataset.cases for mask in case.masks or ()}
    return any(name.casefold() in structures for name in regions)


def open_references(
    dataset: Path | str | None,
    labels: Mapping[str, int],
    target: Path,
    follow_links: bool = False,
    data_root: Path | str | None = None,
    spatial_dims: int | None = None,
    is_partial: bool = False,
    regions: Mapping[str, Sequence[int]] | None = None,
) -> Dataset | None:
    """`read_references`, then `join_references`; None without a dataset.

    With `is_partial` its labels are those of `labels` by their names, and those that it lacks are unknown in its cases.
    """
    if dataset is None:
        return None
    references = read_references(dataset, follow_links, data_root)
    if is_partial:
        references = fit_to_labels(references, dict(labels))
    return join_references(references, labels, target, spatial_dims, regions)
