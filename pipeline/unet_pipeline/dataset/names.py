"""Names of labels, regions and channels and the values of labels, wherever they stand: one rule for all of them.

A name is a text that a reader can see and that a config of MONAI takes for nothing else; a value is a whole number.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unet_pipeline.config_values import find_syntax
from unet_pipeline.errors import DatasetError
from unet_pipeline.messages import ERROR, Message, Problem
from unet_pipeline.types import BACKGROUND

MOST_LETTERS = 200
_SHOWN_LETTERS = 40
_MOST_DIGITS = 20
LABEL, REGION, CHANNEL = "label", "region", "channel"
_RENAME = {
    LABEL: "Give all labels other names with --label NAME=VALUE, or rename it where it stands",
    REGION: "Rename it in the description of the dataset",
    CHANNEL: "Rename it in the description of the dataset, or in the names of its files",
}

NAME_IS_SYNTAX = Message(
    "name-is-syntax",
    ERROR,
    "has the {kind} {name}, which a config of MONAI takes for {meaning}",
    "{remedy}; letters, digits, blanks and hyphens are always names.",
)


def show_value(value: object) -> str:
    """A value for a message: its Python form in ASCII where it has letters that nobody sees, and cut where it is long."""
    text = ascii(value) if isinstance(value, str) and not (_is_one_line(value) and _is_seen(value)) else repr(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}... ({len(text)} characters)"


def require_name(value: object, kind: str, file: str) -> str:
    """The name of a label, a region or a channel; a whole number is one too.

    Args:
        value: as the file or option has it.
        kind: `LABEL`, `REGION` or `CHANNEL`.
        file: where it stands, for the message.

    Raises:
        DatasetError: it is no text, or one that is empty, blank, too long, or has letters that cannot be shown.
    """
    name = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not _is_seen(name) or len(name) > MOST_LETTERS or not _is_one_line(name):
        raise DatasetError(
            f"{file} has the {kind} name {show_value(value)}; expected text of 1 to {MOST_LETTERS} characters, without control "
            "characters. Rename it."
        )
    return name


def _is_seen(text: str) -> bool:
    """Whether a text has a letter that is no blank and takes a place."""
    return any(unicodedata.category(letter)[0] not in "CZ" for letter in text)


def _is_one_line(text: str) -> bool:
    """Whether a text has no control character, line break or half of a surrogate pair."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def parse_whole_number(value: object) -> int:
    """A whole number that a file writes as a number or as text.

    Raises:
        ValueError: it is something else, or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("no number")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not whole")
    return int(value)


def parse_label_value(value: object, name: object, file: str) -> int:
    """The value of a label, of any size.

    Raises:
        DatasetError: it is no whole number.
    """
    try:
        return parse_whole_number(value)
    except ValueError as error:
        raise DatasetError(
            f'{file} has no usable "labels": {show_value(name)} has the value {show_value(value)}; expected a whole number from 0 to '
            '255, as in {"background": 0, "liver": 1}. Correct it.'
        ) from error


def collect_labels(named: Iterable[tuple[object, object]], file: str) -> dict[str, int]:
    """Labels of pairs (name, value), each with a usable name of its own.

    Raises:
        DatasetError: a name or a value is unusable, or a name has two values.
    """
    table: dict[str, int] = {}
    for given, number in named:
        name, value = require_name(given, LABEL, file), parse_label_value(number, given, file)
        if name in table:
            raise DatasetError(
                f"{file} has the label name {name!r} twice, with the values {_show_number(table[name])} and {_show_number(value)}; expected "
                "a name of its own for every value. Rename or remove one of them."
            )
        table[name] = value
    return table


def build_label_table(named: Iterable[tuple[object, object]], file: str) -> dict[str, int]:
    """Label table of pairs (name, value), sorted by value, once it is a usable one.

    Raises:
        DatasetError: a name or a value is unusable, a name has two values, or as in `order_labels`.
    """
    return order_labels(collect_labels(named, file), file)


def order_labels(labels: Mapping[str, int], file: str = "") -> dict[str, int]:
    """Label table sorted by value, once it is a usable one.

    The position in the table is the network's output channel; the value is what label and prediction files carry.

    Args:
        labels: name and value of each.
        file: where the table stands, for the message.

    Raises:
        DatasetError: fewer than two labels, an unusable name, a value that is negative, above 255 or used twice, or no value 0.
    """
    what = f"The label table of {file}" if file else "The label table"
    for name in labels:
        require_name(name, LABEL, file or what)
    table = dict(sorted(labels.items(), key=lambda item: item[1]))
    values = list(table.values())
    shown = _show_table(table)
    if len(values) < 2:
        raise DatasetError(
            f"{what} has {len(values)} label(s) ({shown}); expected at least two. Name what is to be segmented, and the rest."
        )
    if len(set(values)) != len(values):
        raise DatasetError(
            f"{what} gives one value to two names ({shown}); expected distinct values. Leave one name per value."
        )
    if values[0] < 0:
        raise DatasetError(f"{what} has the value {values[0]} ({shown}); expected 0 to 255. Renumber the labels.")
    if values[0] != 0:
        raise DatasetError(
            f"{what} has no value 0 ({shown}); expected one, named {BACKGROUND!r} or otherwise. "
            "What belongs to no other label has it, and 0 is what padding gets."
        )
    if values[-1] > 255:
        raise DatasetError(
            f"{what} has the value {_show_number(values[-1])} ({shown}); expected 0 to 255, because predictions are "
            "written as unsigned 8-bit integers. Renumber the labels."
        )
    return table


def _show_table(table: Mapping[str, int]) -> str:
    pairs = [f"{name}={_show_number(value)}" for name, value in table.items()]
    return ", ".join(pairs[:10]) + (f", ... {len(pairs)} labels" if len(pairs) > 10 else "")


def _show_number(value: int) -> str:
    return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"


def find_names_that_are_syntax(names: Mapping[str, Iterable[str]], file: str) -> list[Problem]:
    """Names by their kind that a config of MONAI would take for something else than a name, in one verb or another."""
    return [
        NAME_IS_SYNTAX.about(file, kind=kind, name=show_value(name), meaning=meaning, remedy=_RENAME[kind])
        for kind, listed in names.items()
        for name in listed
        if (meaning := find_syntax(name))
    ]


def read_channel_names(numbered: Any, key: str, file: str) -> tuple[str, ...]:
    """Names of channels in the order of their numbers, from {"0": "T1"}, a list, or the name of the only one.

    Args:
        numbered: the names.
        key: under which they stand.
        file: where they stand, for the message.

    Raises:
        DatasetError: they have another form, a name is unusable, or two have the same number.
    """
    if isinstance(numbered, str):
        return (require_name(numbered, CHANNEL, file),)
    if isinstance(numbered, list):
        return tuple(require_name(name, CHANNEL, file) for name in numbered)
    if not isinstance(numbered, dict) or not all(text.strip().isdecimal() for text in numbered):
        raise DatasetError(
            f'{file} has no usable "{key}": it is {show_value(numbered)}; expected an object such as {{"0": "MRI"}}. Correct it.'
        )
    name_of: dict[int, str] = {}
    for text, name in numbered.items():
        number = int(text[:_MOST_DIGITS])
        if number in name_of:
            raise DatasetError(
                f'{file} has the number {number} twice in "{key}"; expected one name per number. Remove one of them.'
            )
        name_of[number] = require_name(name, CHANNEL, file)
    return tuple(name_of[number] for number in sorted(name_of))


def name_region_value(value: int, regions: Mapping[str, Sequence[int]]) -> str:
    """Name of a value that only regions name, labels that join several values: the regions that have it, and the value."""
    return f"{' and '.join(name for name, values in regions.items() if value in values)} {value}"
