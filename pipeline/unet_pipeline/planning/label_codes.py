"""Codes of labels, by which a hospital's systems know what a segment is: proposed from the labels' names, and edited in plan.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, model_serializer, model_validator

from unet_pipeline.planning.label_code_table import FINDINGS, MODIFIERS, PLURALS, STRUCTURES
from unet_pipeline.planning.presets import Choice
from unet_pipeline.types import BACKGROUND

if TYPE_CHECKING:
    from unet_pipeline.dataset.fingerprint import Fingerprint

# DICOM's limits: 16 characters for scheme and value, 64 for the meaning, no backslash
_CODE = re.compile(r"(?P<scheme>[!-\[\]-~]{1,16}) (?P<value>[!-\[\]-~]{1,16}) (?P<meaning>[^\s\\][^\\\x00-\x1f]{0,63})")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_EMPTY_WORDS = {"the", "of", "whole", "label", "mask", "segmentation", "structure", "region"}
_ANATOMICAL_STRUCTURE = "SCT 91723000 Anatomical Structure"
_ABNORMAL_STRUCTURE = "SCT 49755003 Morphologically Abnormal Structure"
_TISSUE = "SCT 85756007 Tissue"


def split_code(text: str) -> tuple[str, str, str]:
    """Coding scheme, value and meaning of a code.

    Raises:
        ValueError: it is none.
    """
    match = _CODE.fullmatch(text)
    if match is None:
        raise ValueError("expected a code as SCHEME VALUE MEANING, such as SCT 10200004 Liver")
    return match["scheme"], match["value"], match["meaning"]


def _require_code(text: str) -> str:
    split_code(text)
    return text


Code = Annotated[str, AfterValidator(_require_code)]


class LabelCode(BaseModel):
    """What a label is, in codes, each as "SCHEME VALUE MEANING"; a text alone is the type of an anatomical structure.

    Attributes:
        category: of CID 7150.
        type: of CID 7151 as a rule.
        modifier: of the type, such as its side.
        region: where a finding is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    category: Code
    type: Code
    modifier: Code | None = None
    region: Code | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"category": _ANATOMICAL_STRUCTURE, "type": value} if isinstance(value, str) else value

    @model_serializer
    def _without_nulls(self) -> dict[str, str]:
        return {name: value for name, value in vars(self).items() if value is not None}


UNCODED = LabelCode(category=_TISSUE, type=_TISSUE)


def choose_label_codes(fingerprint: Fingerprint) -> Choice[dict[str, LabelCode | None]]:
    """A code for every label but the background, None where its name says none."""
    names = [name for name in fingerprint.labels if name != BACKGROUND]
    codes = {name: propose_code(name, fingerprint.dataset_name) for name in names}
    unknown = [name for name, code in codes.items() if code is None]
    ask = f'; not known: {", ".join(unknown)}; write "SCT VALUE MEANING" for null' if unknown else ""
    return Choice(
        codes,
        "what each label is in DICOM results, in SNOMED CT, proposed from its name: see that it is right" + ask,
    )


def propose_code(label: str, dataset_name: str = "") -> LabelCode | None:
    """The code that a label's name says; None where it is not sure.

    Args:
        label: such as "left_kidney" or "liver tumours".
        dataset_name: tells of which structure "Anterior" is a part, and where a finding is.
    """
    words = _split_words(label)
    if structure := _find(words, STRUCTURES):
        return LabelCode(category=_ANATOMICAL_STRUCTURE, type=structure)
    modifiers = [word for word in words if _find([word], MODIFIERS)]
    rest = [word for word in words if word not in modifiers]
    if len(modifiers) > 1:
        return None
    modifier = _find(modifiers, MODIFIERS)
    if structure := _find(rest or (_find_structure_words(dataset_name) if modifier else []), STRUCTURES):
        return LabelCode(category=_ANATOMICAL_STRUCTURE, type=structure, modifier=modifier)
    return _propose_finding(rest, modifier, dataset_name)


def _propose_finding(words: list[str], modifier: str | None, dataset_name: str) -> LabelCode | None:
    """A finding, alone or in a structure that is named before or after it."""
    for cut in range(len(words) + 1):
        for finding, place in ((words[cut:], words[:cut]), (words[:cut], words[cut:])):
            code = _find(finding, FINDINGS)
            region = _find(place or _find_structure_words(dataset_name), STRUCTURES)
            if code and (region or not place):
                return LabelCode(category=_ABNORMAL_STRUCTURE, type=code, modifier=modifier, region=region)
    return None


def _split_words(text: str) -> list[str]:
    """Words in lower case and in the singular, without those that say nothing."""
    words = [word.lower() for word in _WORD.findall(text)]
    return [_singular(word) for word in words if word not in _EMPTY_WORDS]


def _singular(word: str) -> str:
    if word in PLURALS:
        return PLURALS[word]
    is_plural = word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3
    return word[:-1] if is_plural else word


def _find(words: Iterable[str], table: Mapping[str, tuple[str, ...]]) -> str | None:
    name = " ".join(words)
    return next((code for code, names in table.items() if name in _NORMALISED[code]), None) if name else None


def _find_structure_words(dataset_name: str) -> list[str]:
    """The words of the one structure that a dataset is named after; none where there are several."""
    words = _split_words(dataset_name)
    spans = [words[start:stop] for start in range(len(words)) for stop in range(start + 1, len(words) + 1)]
    named = [span for span in spans if _find(span, STRUCTURES)]
    longest = max(named, key=len, default=[])
    return longest if all(set(span) <= set(longest) for span in named) else []


_NORMALISED = {
    code: {" ".join(_split_words(name)) for name in names}
    for table in (STRUCTURES, FINDINGS, MODIFIERS)
    for code, names in table.items()
}
