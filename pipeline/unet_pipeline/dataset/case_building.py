"""Files by case, channel and structure -> cases; what is missing is a problem of the layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unet_pipeline.dataset.dataset import Case, Dataset, StructureMask, image_suffix
from unet_pipeline.dataset.file_names import natural_key
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, NOTE, Message, Problem
from unet_pipeline.types import BACKGROUND

MOST_STRUCTURES = 255  # label maps are unsigned 8-bit, and 0 is the background

CHANNEL_FILE = Message(
    "channel-file-missing",
    ERROR,
    "is of case {case}, which has no file of channel {channel}; other cases have one",
    "Add {expected}, or remove the case; if cases may lack channels, say so with --missing-channels any.",
)
MAP_AND_MASKS = Message(
    "label-map-and-masks",
    ERROR,
    "is a label map, and beside it the case has masks of single structures ({masks})",
    "Keep the label map or the masks.",
)
STRUCTURE_WITHOUT_FILE = Message(
    "structure-without-file",
    NOTE,
    "has the structure {name}, and {count} of {total} cases have no mask of it, for example {case}",
    "It is taken to be absent there; add the mask where it is not.",
)

Files = Mapping[str, Mapping[str, Path]]  # case -> channel or structure ("" for the only one) -> path below the root


@dataclass(frozen=True)
class BuiltCases:
    """Cases with the names of their channels and, where there is a mask per structure, the label table."""

    cases: tuple[Case, ...]
    channels: tuple[str, ...] | None
    labels: dict[str, int] | None
    problems: tuple[Problem, ...]

    def as_dataset(self, root: Path, layout: str, problems: Iterable[Problem]) -> Dataset:
        """The dataset of these cases, with the problems that its reader found before."""
        of_layout = (*problems, *self.problems)
        return Dataset(root, layout, self.cases, self.channels, self.labels, problems_of_layout=of_layout)


def build_cases(images: Files, labels: Files, root: Path) -> BuiltCases:
    """Cases of files that were found and sorted by name.

    Channels stand in the order of their names. Structures have the same value in all cases, 1 for the first name.

    Args:
        images: by case and channel.
        labels: of the same cases, by structure; the structure "" alone is a label map.
        root: of the dataset, for messages.

    Raises:
        DatasetError: more structures than a label map has values, or masks whose names no two cases share.
    """
    channels = sorted({channel for files in images.values() for channel in files}, key=natural_key)
    structures = _name_structures(labels, root)
    users_of = Counter(folder for files in labels.values() for folder in {path.parent for path in files.values()})
    problems: list[Problem] = []
    cases = []
    for name in sorted(images):
        channel_files = images[name]
        problems += _find_missing_channels(name, channel_files, channels)
        masks = {part.casefold(): path for part, path in labels[name].items() if part}
        if "" in labels[name] and masks:
            shown = ", ".join(sorted(path.name for path in masks.values())[:3])
            problems.append(MAP_AND_MASKS.about(labels[name][""].as_posix(), masks=shown))
        else:
            first, *others = (channel_files[channel] for channel in channels if channel in channel_files)
            missing = tuple(place for place, channel in enumerate(channels) if channel not in channel_files)
            case = Case(name, first, None, further_channels=tuple(others), missing_channels=missing)
            if masks:
                joined = tuple(
                    StructureMask(structure, value, masks[structure.casefold()])
                    for value, structure in enumerate(structures, start=1)
                    if structure.casefold() in masks
                )
                path = min(masks.values())
                label = path.parent if users_of[path.parent] == 1 else path
                cases.append(replace(case, label=label, masks=joined))
            else:
                cases.append(replace(case, label=labels[name][""]))
    problems += find_missing_structures(cases, structures)
    table = {BACKGROUND: 0} | {name: value for value, name in enumerate(structures, start=1)} if structures else None
    named = [channel for channel in channels if channel and not channel.isdecimal()]
    return BuiltCases(tuple(cases), tuple(channels) if named == channels else None, table, tuple(problems))


def _name_structures(labels: Files, root: Path) -> list[str]:
    """The names of all structures, sorted; letter case does not make two of one."""
    spelled: dict[str, str] = {}
    cases_of: dict[str, set[str]] = {}
    for case in sorted(labels):
        for part in labels[case]:
            if part and part.casefold() != BACKGROUND:
                spelled.setdefault(part.casefold(), part)
                cases_of.setdefault(part.casefold(), set()).add(case)
    names = [spelled[key] for key in sorted(spelled, key=natural_key)]
    shared = any(len(cases) > 1 for cases in cases_of.values())
    if len(names) > MOST_STRUCTURES or (len(labels) > 1 and len(names) > 1 and not shared):
        shown = ", ".join(names[:3])
        raise DatasetError(
            f"Dataset folder {root} has {len(names)} mask files with names of their own ({shown}, ...) in {len(labels)} cases; expected one "
            f"name per structure in all cases, and at most {MOST_STRUCTURES}. Rename the masks after their structures, or join those of a "
            "case into one label map."
        )
    return names


def _find_missing_channels(name: str, files: Mapping[str, Path], channels: list[str]) -> list[Problem]:
    have, path = next(iter(files.items()))
    return [
        CHANNEL_FILE.about(
            path.as_posix(), case=name, channel=channel or "image", expected=_rename(path, have, channel)
        )
        for channel in channels
        if channel not in files
    ]


def _rename(path: Path, have: str, wanted: str) -> str:
    """The path of another channel of the same case."""
    start, part, end = path.name.rpartition(have) if have else ("", "", "")
    if not part:
        return f"an image of the channel {wanted}"
    return path.with_name(
        f"{start}{wanted}{end}" if wanted else f"{start.rstrip('-_. ')}{image_suffix(path)}"
    ).as_posix()


def find_missing_structures(cases: Sequence[Case], structures: Sequence[str]) -> list[Problem]:
    """A note about every structure that not all cases have a mask of."""
    problems = []
    for structure in structures:
        without = [case.name for case in cases if structure not in {mask.structure for mask in case.masks or ()}]
        if without:
            values = {"name": structure, "count": len(without), "total": len(cases), "case": without[0]}
            problems.append(STRUCTURE_WITHOUT_FILE.about("dataset", **values))
    return problems
