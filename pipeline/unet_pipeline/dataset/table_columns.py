"""Names of the columns in lists of cases, and what may stand in them."""

from __future__ import annotations

import re
from collections.abc import Sequence

COLUMNS = ("case", "image", "label", "patient", "split", "spacing_mm", "annotated")
_OTHER_NAMES = {
    "image": ("images", "img", "image_path", "image_file", "image_filename", "img_path", "image path", "image file"),
    "label": (
        *(
            "labels",
            "mask",
            "masks",
            "seg",
            "segmentation",
            "label_path",
            "label_file",
            "mask_path",
            "mask_file",
            "mask_filename",
        ),
        *("seg_path", "segmentation_path", "label path", "mask path", "label file", "mask file"),
    ),
    "case": ("case_id", "caseid", "case id"),
    "patient": ("patient_id", "patientid", "patient id", "subject", "subject_id", "subjectid", "subject id"),
    "annotated": ("annotated_labels", "annotated labels", "annotated_structures", "annotated structures"),
    "spacing_mm": ("spacing", "spacing (mm)", "spacing [mm]"),
}
_STANDARD = {other: name for name, others in _OTHER_NAMES.items() for other in others}
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def name_column(text: object, header: Sequence[object]) -> str:
    """The standard name of a column, in lower case; another name of it counts only where the header lacks the standard one."""
    name = str(text).strip().lower()
    standard = _STANDARD.get(name)
    names = [str(other).strip().lower() for other in header]
    if standard is None or standard in names:
        return name
    first = next(other for other in names if _STANDARD.get(other) == standard)
    return standard if first == name else name


def parse_spacing(value: object) -> tuple[float, ...] | None:
    """Millimetres per axis: a number, or several as "0.5x0.5x2", "0,5 0,5 2", "[0.5, 0.5, 2.0]" or a list; None for anything else.

    A single comma is a decimal comma; several, or one with a blank or beside a point, separate numbers.
    """
    if isinstance(value, list):
        parts = [str(part) for part in value]
    else:
        text = str(value).strip().strip("[]()")
        commas_separate = text.count(",") > 1 and not re.search(r"[x;]", text)
        if commas_separate and len(re.findall(r"\d+,\d+", text)) > 1 and re.search(r"\d\s+\d", text):
            commas_separate = False  # "0,5 0,5 2,0"
        if "," in text and ("." in text or re.search(r",\s", text) or commas_separate):
            text = text.replace(",", " ")
        parts = [part for part in re.split(r"[x×;\s]+", text.lower().replace(",", ".")) if part]
    try:
        spacing = tuple(float(part) for part in parts)
    except ValueError:
        return None
    return spacing if 1 <= len(spacing) <= 3 and all(0 < size < float("inf") for size in spacing) else None
