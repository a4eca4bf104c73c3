"""A labelled dataset that `evaluate` measures: every reference is one label map, whatever form its files have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.dataset import Dataset
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.dataset.joining import fit_to_labels, is_recoded
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.missing_channels import ANY, fit_to_channels
from unet_pipeline.dataset.overlaps import combine_by
from unet_pipeline.dataset.pages import read_label_pages
from unet_pipeline.dataset.paths import LEAVES, LINK_BROKEN, LINK_LOOP
from unet_pipeline.dataset.prepare import LABELS, write_joined_label, write_split_instances
from unet_pipeline.dataset.structure_masks import has_masks, name_structures
from unet_pipeline.progress import progress_bar

if TYPE_CHECKING:
    from unet_pipeline.planning.plan import Plan

REFERENCES = "references"
_LINKS = {message.code for message in (LEAVES, LINK_BROKEN, LINK_LOOP)}


def read_references(
    dataset: Path | str,
    follow_links: bool = False,
    data_root: Path | str | None = None,
    missing_channels: Sequence[str] = (),
) -> Dataset:
    """The dataset to evaluate on.

    Args:
        dataset: a labelled folder, or a list of cases.
        follow_links: links may lead out of it.
        data_root: as in `check`.
        missing_channels: names of channels that a case may lack, or "any".

    Raises:
        DatasetError: it cannot be read, or has a link that is not to be followed or leads nowhere.
    """
    references = read_dataset(dataset, None, follow_links, data_root, missing_channels)
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


def split_references(dataset: Dataset, plan: Plan, target: Path) -> Dataset:
    """The dataset with a mask and an instance map per case, in `references` below `target`, where its label maps number objects.

    They do where the plan is for instances of one label, the dataset has neither names nor `instances/`, and a value is none of the
    plan's.

    Args:
        dataset: from `read_references`, not joined.
        plan: of the bundle that is measured.

    Raises:
        ImageFileError: a label map cannot be read.
    """
    if not _may_number_objects(dataset, plan):
        return dataset
    values = list(plan.label_table.values())
    if not any(_has_others(dataset.root / case.require_label(), plan, values) for case in dataset.cases):
        return dataset
    folder, cases = target.resolve() / REFERENCES, []
    with progress_bar("instance maps", len(dataset.cases)) as bar:
        for case in dataset.cases:
            label = read_label_pages(dataset.root / case.require_label(), plan.spatial_dims)
            cases.append(replace(case, label=write_split_instances(case, label, folder, values[-1])))
            bar.advance(note=case.name)
    return replace(dataset, cases=tuple(cases))


def list_split_notes(dataset: Dataset) -> list[str]:
    """For the summary: that the label maps of a dataset were split."""
    labels = [case.label for case in dataset.cases if case.label and case.label.is_absolute()]  # below the evaluation
    if not any(label.parts[-3:-1] == (REFERENCES, LABELS) for label in labels):
        return []
    return [f"The label maps of {dataset.name} number their objects: they were taken for instance maps."]


def _may_number_objects(dataset: Dataset, plan: Plan) -> bool:
    is_unnamed = dataset.labels is None and dataset.ignore_value is None and not has_masks(dataset)
    has_one_label = plan.instance_targets is not None and len(plan.label_table) == 2 and plan.ignore_value is None
    if not (has_one_label and is_unnamed):
        return False
    return all(case.label is not None and not find_instances(dataset.root / case.label) for case in dataset.cases)


def _has_others(path: Path, plan: Plan, values: Sequence[int]) -> bool:
    """Whether a label map has a value that the plan does not know."""
    return not np.isin(np.unique(read_label_pages(path, plan.spatial_dims).array), values).all()


def _names_regions(dataset: Dataset, regions: Mapping[str, Sequence[int]]) -> bool:
    """Whether masks are those of regions, and not of the labels that they join."""
    structures = {mask.structure.casefold() for case in dataset.cases for mask in case.masks or ()}
    return any(name.casefold() in structures for name in regions)


def open_references(
    dataset: Path | str | None,
    plan: Plan,
    target: Path,
    follow_links: bool = False,
    data_root: Path | str | None = None,
) -> Dataset | None:
    """`read_references`, then `split_references` and `join_references`, for the bundle of a plan; None without a dataset.

    Where the plan knows cases that lack labels, the dataset's labels are the plan's by their names, and those that it lacks are unknown
    in its cases.
    """
    if dataset is None:
        return None
    references = read_references(dataset, follow_links, data_root, (ANY,) if plan.missing_channels else ())
    if plan.missing_channels:
        references = fit_to_channels(references, plan.channel_names)
    if plan.missing_labels:
        references = fit_to_labels(references, dict(plan.label_table))
    references = split_references(references, plan, target)
    return join_references(references, plan.label_table, target, plan.spatial_dims, plan.regions)
