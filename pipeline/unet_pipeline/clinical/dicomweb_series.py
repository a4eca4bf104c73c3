"""Which series of a study a bundle takes: by modality, by rules about attributes, and without what is no image of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_pipeline.dataset.dicom import find_reason_to_set_aside
from unet_pipeline.dataset.dicom_folders import NO_IMAGES
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.modality import compare_modality

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

SERIES_KEYWORDS = ("Modality", "SeriesNumber", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances")
_RULE = re.compile(r"\s*(?P<keyword>\w+)\s*(?P<sign>!?[~=])(?P<wanted>.*)", re.DOTALL)
_PATIENT_GROUP = 0x0010
_MOST_SHOWN = 12
_MOST_LOOKED_INTO = 64  # series of which an instance is asked for


@dataclass(frozen=True)
class SeriesRule:
    """What an attribute of a series has to be.

    Attributes:
        text: as the user wrote it.
        keyword: of the attribute, as DICOM calls it.
        wanted: a value; or with `is_pattern` a regular expression that is somewhere in it. Upper and lower case are the same.
        is_excluding: the series fits if the attribute is not so.
    """

    text: str
    keyword: str
    wanted: str
    is_pattern: bool
    is_excluding: bool

    def fits(self, header: Header) -> bool:
        """Whether a header has it; an attribute that is absent is empty."""
        value = header.get(self.keyword)
        parts = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
        texts = ["" if part is None else str(part) for part in parts]
        if self.is_pattern:
            is_so = re.search(self.wanted, "\\".join(texts), re.IGNORECASE) is not None
        else:
            is_so = any(_is_same(text, self.wanted) for text in ["\\".join(texts), *texts])
        return is_so != self.is_excluding


def read_rule(text: str) -> SeriesRule:
    """A rule of its text.

    Args:
        text: ATTRIBUTE=VALUE, ATTRIBUTE~REGEX, or one of them with ! in front of the sign for what may not be.

    Raises:
        PredictionError: it has another form, names no attribute of DICOM, or one of the patient.
    """
    from pydicom.datadict import tag_for_keyword

    match = _RULE.fullmatch(text)
    if match is None:
        raise PredictionError(
            f"--series {text!r} is no rule; expected ATTRIBUTE=VALUE or ATTRIBUTE~REGEX, such as SeriesNumber=3 or "
            "'SeriesDescription~^t1'."
        )
    tag = tag_for_keyword(match["keyword"])
    if tag is None:
        raise PredictionError(
            f"--series {text!r} names {match['keyword']}, which is no keyword of DICOM; expected one such as SeriesDescription, "
            "SeriesNumber or ProtocolName."
        )
    if tag >> 16 == _PATIENT_GROUP:
        raise PredictionError(f"--series names {match['keyword']}, which describes the patient. Choose by the series.")
    is_pattern = match["sign"].endswith("~")
    if is_pattern:
        try:
            re.compile(match["wanted"])
        except re.error as error:
            raise PredictionError(f"--series {text!r} has a regular expression that is none: {error}.") from error
    return SeriesRule(text, match["keyword"], match["wanted"].strip(), is_pattern, match["sign"].startswith("!"))


def choose_series(
    headers: Sequence[Header],
    rules: Sequence[SeriesRule],
    modalities: Sequence[str],
    look_into: Callable[[str], Header | None],
) -> Header:
    """The one series that fits.

    Args:
        headers: of the series of a study.
        rules: that all have to hold.
        modalities: that the bundle was trained on; any that is an image's, if empty.
        look_into: gives the header of an instance of a series by its UID, for what the list of series does not have.

    Raises:
        PredictionError: none fits, or several do.
    """
    in_order = sorted(headers, key=lambda header: (int(header.get("SeriesNumber") or 0), str(header.SeriesInstanceUID)))
    of_kind = [header for header in in_order if _is_of_kind(header, modalities)]
    fitting = of_kind
    # what a server lists of a series differs; asking each for an instance takes a while
    at_once = [rule for rule in rules if all(rule.keyword in header for header in of_kind)]
    for rule in at_once:
        fitting = [header for header in fitting if rule.fits(header)]
    others = [rule for rule in rules if rule not in at_once]
    if fitting and (others or len(fitting) > 1):
        fitting = _choose_by_instance(fitting, others, look_into)
    if not fitting:
        raise PredictionError(_describe_none(in_order, rules, modalities))
    if len(fitting) > 1:
        listed = "; ".join(describe_series(header) for header in fitting[:_MOST_SHOWN])
        more = " and others" if len(fitting) > _MOST_SHOWN else ""
        number = fitting[0].get("SeriesNumber")
        by_number = "" if number in (None, "") else f"--series SeriesNumber={number} or "
        raise PredictionError(
            f"{len(fitting)} series of the study fit: {listed}{more}. Choose one with {by_number}--series 'SeriesDescription~REGEX', or put "
            "/series/UID behind the study."
        )
    return fitting[0]


def describe_series(header: Header) -> str:
    """A series by what says nothing about a patient."""
    number, count = header.get("SeriesNumber"), header.get("NumberOfSeriesRelatedInstances")
    modality = re.sub(r"[^A-Z0-9]", "", str(header.get("Modality") or ""))[:16] or "of no modality"
    instances = "" if count is None else f", {int(count)} instance(s)"
    return f"series {int(number) if number not in (None, '') else 'without number'}, {modality}{instances}"


def _is_of_kind(header: Header, modalities: Sequence[str]) -> bool:
    modality = str(header.get("Modality") or "")
    return modality not in NO_IMAGES and not compare_modality(modality, modalities, "")


def _choose_by_instance(
    headers: Sequence[Header], rules: Sequence[SeriesRule], look_into: Callable[[str], Header | None]
) -> list[Header]:
    """Series of which an instance fits, and is no localizer and the like."""
    if len(headers) > _MOST_LOOKED_INTO:
        return list(headers)
    fitting = []
    for header in headers:
        instance = look_into(str(header.SeriesInstanceUID))
        if instance is None or find_reason_to_set_aside(instance):
            continue
        if all(rule.fits(header if rule.keyword in header else instance) for rule in rules):
            fitting.append(header)
    return fitting


def _describe_none(headers: Sequence[Header], rules: Sequence[SeriesRule], modalities: Sequence[str]) -> str:
    wanted = " or ".join(modalities) or "an image"
    by_rule = f" with {' and '.join(rule.text for rule in rules)}" if rules else ""
    if not headers:
        return "The server has no series there. See that the UIDs of the address are right, and that this user may see them."
    counts = Counter(describe_series(header) for header in headers)
    listed = "; ".join(
        f"{count} times {text}" if count > 1 else text for text, count in counts.most_common(_MOST_SHOWN)
    )
    more = " and others" if len(counts) > _MOST_SHOWN else ""
    return (
        f"No series fits: the bundle takes {wanted}{by_rule}; there are {listed}{more}. "
        f"{'Change --series' if rules else 'Take another study'}, or put /series/UID behind the study for one of another kind."
    )


def _is_same(text: str, wanted: str) -> bool:
    if text.strip().casefold() == wanted.casefold():
        return True
    try:
        return float(text) == float(wanted)
    except ValueError:
        return False
