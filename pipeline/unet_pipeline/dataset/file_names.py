"""What the name of a file says: which case it belongs to, whether it is an image or a label map, and which channel or structure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# of folders and, at either end of a name, of files; letter case and separators do not matter
LABEL_WORDS = _words(
    """
    label labels lbl labelmap labelmaps label_map mask masks msk seg segs segm segmentation
    segmentations segmented gt truth groundtruth ground_truth annotation annotations annotated annot
    anno roi rois contour contours manual delineation
    """
)
IMAGE_WORDS = _words(
    """
    image images img imgs im scan volume vol orig original raw
    """
)
MODALITIES = _words(
    """
    ct cta ctp cect ncct cbct mr mri mra pet spect suv us ultrasound xray cxr dx mg t1 t1w t1c t1ce t1gd
    t1n t1post t1pre t1wce t2 t2w t2f t2star flair t2flair dwi adc hbv dce swi pd pdw bold dti fa md cbf
    cbv mtt tmax
    """
)
_SEPARATOR = r"[-_. ]+"
_CHANNEL_NUMBER = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # nnU-Net's names


def _at_either_end(words: Iterable[str]) -> re.Pattern[str]:
    listed = "|".join(sorted((word.replace("_", "[-_. ]?") for word in words), key=len, reverse=True))
    return re.compile(
        rf"(?P<last>{listed}){_SEPARATOR}(?P<after>.+)|(?P<before>.+?){_SEPARATOR}(?P<first>{listed})", re.IGNORECASE
    )


_LABEL_NAME = _at_either_end(LABEL_WORDS)
_IMAGE_NAME = _at_either_end(IMAGE_WORDS | MODALITIES)


def is_label_word(text: str) -> bool:
    """Whether a whole name says label map, such as "Segmentation" or "labels-"."""
    return re.sub(r"[-. ]+", "_", text.strip("-_. ").lower()) in LABEL_WORDS


def is_image_word(text: str) -> bool:
    """Whether a whole name says image or a modality, such as "CT"."""
    return text.strip("-_. ").lower() in IMAGE_WORDS | MODALITIES


def strip_label_words(name: str) -> str:
    """A name without words such as "seg" or "label" at its ends; a name that consists of nothing else stays.

    "case0.seg", "label_case0" and "case0-Segmentation-label" give "case0".
    """
    while (match := _LABEL_NAME.fullmatch(name)) and _is_name(rest := match["after"] or match["before"]):
        name = rest
    return name


def split_image_word(name: str) -> tuple[str, str]:
    """A name without one word such as "image" or "T1" at its end or start, and that word, which is "" where it names no modality."""
    match = _IMAGE_NAME.fullmatch(name)
    if match is None or not _is_name(rest := match["before"] or match["after"]):
        return name, ""
    word = (match["first"] or match["last"]).lower()
    return rest, "" if word in IMAGE_WORDS else word


def split_channel_number(name: str) -> tuple[str, str]:
    """A name without nnU-Net's channel number, and the number; "" for a name without one."""
    match = _CHANNEL_NUMBER.fullmatch(name)
    return (match["case"], match["channel"]) if match else (name, "")


def split_case(name: str, cases: Collection[str]) -> tuple[str, str] | None:
    """The longest case name that stands at the start, or else at the end, of a name, and the rest without separators; None for none."""
    if name in cases:
        return name, ""
    gaps = [match.span() for match in re.finditer(_SEPARATOR, name) if match.start() > 0 and match.end() < len(name)]
    for start, end in reversed(gaps):
        if name[:start] in cases:
            return name[:start], name[end:]
    for start, end in gaps:
        if name[end:] in cases:
            return name[end:], name[:start]
    return None


def remove_common_start(names: Iterable[str]) -> dict[str, str]:
    """Names without the start that all share, up to a separator; a single name stays."""
    listed = list(names)
    if len(listed) < 2:
        return {name: name for name in listed}
    split = {name: re.split(f"({_SEPARATOR})", name) for name in listed}
    shared = 0
    while all(
        len(parts) > shared + 2 and parts[: shared + 1] == split[listed[0]][: shared + 1] for parts in split.values()
    ):
        shared += 2
    return {name: "".join(parts[shared:]) for name, parts in split.items()}


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts names with numbers by the numbers' size, letter case aside."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def _is_name(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
