"""Channels that a case lacks: no file of them, an empty cell in a list of cases, or one value everywhere.

Where the user says that they may, such a case is used: the channel is 0 everywhere, which the z-score leaves as it is, at the channel's mean.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_pipeline.dataset.case_building import CHANNEL_FILE
from unet_pipeline.dataset.dataset import Case, Dataset
from unet_pipeline.dataset.nnunet import NO_CHANNEL
from unet_pipeline.errors import DatasetError, suggest
from unet_pipeline.messages import ERROR, NOTE, WARNING, Message, Problem

if TYPE_CHECKING:
    from unet_pipeline.dataset.case_check import CaseFindings

ANY = "any"  # channel may be missing
COLUMN, COMPLETE = "missing_channels", "none"  # of the further columns of a list of cases
_ERRORS = (CHANNEL_FILE.code, NO_CHANNEL.code)
_MAX_SHOWN = 5

SOME_LACK = Message(
    "channels-missing",
    WARNING,
    "has {count} of {total} cases without {channels} ({shown}); a missing channel counts as its mean everywhere",
    "Nothing has to be done, if that is meant; otherwise add the files, or leave out --missing-channels.",
)
ALL_LACK = Message(
    "channel-never-there",
    ERROR,
    "has the channel {name}, which no case has",
    "Add its files, or remove it from the names of the channels.",
)
_OF_ALL = (SOME_LACK.code, ALL_LACK.code)  # are said again where datasets were joined
SOME_CONSTANT = Message(
    "channel-constant",
    NOTE,
    "has {count} of {total} cases whose channel {name} has one value everywhere ({shown}), as where it was not acquired",
    "Give --missing-channels any to train a network that does without such channels.",
)


def settle_missing_channels(dataset: Dataset, allowed: Collection[str]) -> Dataset:
    """The dataset without the cases that lack a channel which has to be there, each of which is an error.

    Cases that may lack theirs are a warning, and get the further column `COLUMN`.

    Args:
        dataset: as its reader found it, with all of its cases.
        allowed: names of the channels that a case may lack, or `ANY`; empty for none.

    Raises:
        DatasetError: there is no channel of that name.
    """
    names = _name_by_files(dataset)
    if len(names) == 1:
        return dataset
    places = {names.index(name) for name in resolve_allowed(allowed, names)}
    cases = [_see_absent_files(dataset.root, case, places) for case in dataset.cases]
    kept = tuple(case for case in cases if places.issuperset(case.missing_channels))
    files = {path.as_posix() for case in kept for path in case.images}
    problems = [
        one
        for one in dataset.problems_of_layout
        if one.code not in _OF_ALL and (one.code not in _ERRORS or Path(one.file).as_posix() not in files)
    ]
    told = {Path(problem.file) for problem in problems if problem.code in _ERRORS}
    for case in cases:
        if case not in kept and not told.intersection(case.images):
            problems += [
                CHANNEL_FILE.about(case.image, case=case.name, channel=names[place], expected="it")
                for place in case.missing_channels
                if place not in places
            ]
    if any(case.missing_channels for case in kept):
        lacking = {case.name: tuple(names[place] for place in case.missing_channels) for case in kept}
        problems += _describe_patterns(lacking, names, len(kept))
        return mark_patterns(replace(dataset, cases=kept, problems_of_layout=tuple(problems)), lacking)
    return replace(dataset, cases=kept, problems_of_layout=tuple(problems))


def fit_to_channels(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """A dataset with a file per channel that has some of a network's channels, in the network's order; the others are missing.

    Args:
        dataset: as its reader found it; one without names, or with other ones, is returned as it is.
        names: of the network's channels.
    """
    own, wanted = ([name.casefold() for name in channels] for channels in (dataset.channels or (), names))
    if not own or own == wanted or not set(own) <= set(wanted):
        return dataset
    if any(len(case.channel_files) != len(own) for case in dataset.cases):
        return dataset
    cases = []
    for case in dataset.cases:
        files = dict(zip(own, case.channel_files, strict=True))
        first, *others = (path for name in wanted if (path := files.get(name)) is not None)
        missing = tuple(place for place, name in enumerate(wanted) if files.get(name) is None)
        cases.append(replace(case, image=first, further_channels=tuple(others), missing_channels=missing))
    lacking = {case.name: [names[place] for place in case.missing_channels] for case in cases}
    return mark_patterns(replace(dataset, cases=tuple(cases), channels=tuple(names)), lacking)


def unite_channels(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Datasets with the channels of all of them, by their names; those that a dataset does not have are missing in its cases."""
    names: dict[str, str] = {}
    for dataset in datasets:
        for name in dataset.channels or ():
            names.setdefault(name.casefold(), name)
    return [fit_to_channels(dataset, tuple(names.values())) for dataset in datasets]


def resolve_allowed(allowed: Collection[str], names: Sequence[str]) -> tuple[str, ...]:
    """The channels, in their order, that a case may lack.

    Args:
        allowed: names, or numbers from 0; letter case does not matter. `ANY` stands for all.
        names: of the channels.

    Raises:
        DatasetError: there is one channel only, or none of that name.
    """
    if allowed and len(names) < 2:
        raise DatasetError(
            "--missing-channels is given, and the images have one channel; expected several, because a case needs one at least. Leave it out."
        )
    known = {text: place for place, name in enumerate(names) for text in (str(place), name.casefold())}
    if {text.casefold() for text in allowed} == {ANY}:
        return tuple(names)
    if unknown := sorted(text for text in allowed if text.casefold() not in known):
        raise DatasetError(
            f"--missing-channels names the channel {unknown[0]!r}; {suggest(unknown[0], names)}. Give names of channels, or {ANY}."
        )
    places = {known[text.casefold()] for text in allowed}
    return tuple(name for place, name in enumerate(names) if place in places)


def mark_patterns(dataset: Dataset, lacking: Mapping[str, Sequence[str]]) -> Dataset:
    """The dataset with a further column of its cases that names the channels which each lacks, for results by subgroup.

    Args:
        lacking: of each case that is known; empty for no column.
    """
    cases = (
        replace(case, columns={**case.columns, COLUMN: name_pattern(lacking[case.name])})
        if case.name in lacking
        else case
        for case in dataset.cases
    )
    return replace(dataset, cases=tuple(cases))


def name_pattern(lacking: Sequence[str]) -> str:
    """Channels that are missing together, such as "t2+flair"; `COMPLETE` for none."""
    return "+".join(lacking) or COMPLETE


def insert_missing(array: np.ndarray, missing: Collection[int]) -> np.ndarray:
    """An image with zeros for the channels that it lacks.

    Args:
        array: shape (channels, *spatial), those that are there.
        missing: places of the others among all channels.
    """
    if not missing:
        return array
    whole = np.zeros((len(array) + len(missing), *array.shape[1:]), array.dtype, order="F")
    whole[[place for place in range(len(whole)) if place not in set(missing)]] = array
    return whole


def find_constant(array: np.ndarray) -> tuple[int, ...]:
    """Places of the channels that have one value everywhere in the network's numbers; none of an image of one channel.

    Args:
        array: shape (channels, *spatial).
    """
    if len(array) < 2:
        return ()
    return tuple(place for place, one in enumerate(array) if np.float32(one.min()) == np.float32(one.max()))


def zero_constant(array: np.ndarray) -> np.ndarray:
    """An image whose channels of one value are 0: a z-score of another value may leave a rest of rounding.

    Args:
        array: shape (channels, *spatial); returned as it is where there is nothing to change.
    """
    wrong = [place for place in find_constant(array) if array[place].any()]
    if not wrong:
        return array
    changed = array.copy(order="K")
    changed[wrong] = 0
    return changed


def name_channels(dataset: Dataset, findings: Sequence[CaseFindings]) -> tuple[str, ...]:
    """Names of the channels, by number where the dataset does not say them; none where no case could be read."""
    if not findings or dataset.channels:
        return dataset.channels or ()
    num_channels = findings[0].num_channels
    if num_channels == 1 and all(finding.modality == "CT" for finding in findings):
        return ("CT",)  # its unit decides how it is scaled
    return tuple(f"channel_{place}" for place in range(num_channels))


def mark_constant_channels(
    dataset: Dataset,
    findings: Sequence[CaseFindings],
    names: Sequence[str],
    allowed: Collection[str],
    problems: list[Problem],
) -> Dataset:
    """The dataset with the column of what its cases lack by what they hold.

    A channel of one value in every case is none that some lack.

    Args:
        dataset: of the cases.
        findings: of the cases that could be read.
        names: of the channels.
        allowed: as in `settle_missing_channels`.
        problems: gets what is to be said about it.
    """
    alike = [one for one in findings if one.num_channels == len(names)]
    everywhere = set(range(len(names))).intersection(*(one.constant_channels for one in alike)) if alike else set()
    own = {one.case.name: set(one.constant_channels) - everywhere for one in alike}
    if not any(own.values()):
        return dataset
    if not allowed:
        problems += _note_constant(own, names)
        return dataset
    optional = set(resolve_allowed(allowed, names))
    lacking = {
        case: tuple(names[place] for place in sorted(places) if names[place] in optional)
        for case, places in own.items()
    }
    by_file = {one.case.name for one in alike if one.case.missing_channels}
    more = {case: missing for case, missing in lacking.items() if case not in by_file}
    problems += _describe_patterns(more, (), len(own))
    return mark_patterns(dataset, lacking)


def _note_constant(places_of: Mapping[str, set[int]], names: Sequence[str]) -> Iterator[Problem]:
    for place, name in enumerate(names):
        if cases := [case for case, places in places_of.items() if place in places]:
            values = {"count": len(cases), "total": len(places_of), "name": name, "shown": _shorten(cases)}
            yield SOME_CONSTANT.about("dataset", **values)


def _name_by_files(dataset: Dataset) -> tuple[str, ...]:
    """Names of the channels; by their numbers where the dataset has none, and one where there is one file for all of them."""
    if dataset.channels:
        return dataset.channels
    count = max((len(case.images) + len(case.missing_channels) for case in dataset.cases), default=0)
    return tuple(f"channel_{place}" for place in range(max(1, count)))


def _see_absent_files(root: Path, case: Case, places: Collection[int]) -> Case:
    """The case without the listed files that do not exist, of channels that it may lack."""
    if not places or len(case.images) < 2:
        return case
    files = case.channel_files
    absent = {
        place
        for place, path in enumerate(files)
        if place in places and path is not None and not os.path.lexists(root / path)
    }
    there = [path for place, path in enumerate(files) if path is not None and place not in absent]
    if not absent or not there:
        return case
    missing = tuple(sorted({*case.missing_channels, *absent}))
    return replace(case, image=there[0], further_channels=tuple(there[1:]), missing_channels=missing)


def _describe_patterns(lacking: Mapping[str, tuple[str, ...]], names: Sequence[str], total: int) -> list[Problem]:
    """A warning for every set of channels that some cases lack, and an error for every one of `names` that all do."""
    problems = [
        ALL_LACK.about("dataset", name=name) for name in names if all(name in missing for missing in lacking.values())
    ]
    for missing in dict.fromkeys(missing for missing in lacking.values() if missing):
        cases = [case for case, own in lacking.items() if own == missing]
        values = {"channels": " and ".join(missing), "shown": _shorten(cases)}
        problems.append(SOME_LACK.about("dataset", count=len(cases), total=total, **values))
    return problems


def _shorten(cases: Sequence[str]) -> str:
    return ", ".join(cases[:_MAX_SHOWN]) + (", ..." if len(cases) > _MAX_SHOWN else "")
