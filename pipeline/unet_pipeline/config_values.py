"""A path as a value of MONAI's config syntax, which takes "$" for code, "@" and "%" for references and "#" for a separator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# ids of the configs that are paths, never code
PATH_IDS = ("bundle_root", "dataset_dir", "output_dir", "weights_path", "initial_weights", "split_file")
_PLAIN = re.compile(r"[^$%@#:\\\x00-\x1f\x7f]*")
_KEPT_IN_QUOTES = re.compile(r"[^\w ./+,;=()\[\]{}~&!^-]", re.ASCII)
_PLAIN_WORD = re.compile(r"(?=.*[A-Za-z])[A-Za-z./][\w./-]*", re.ASCII)
_FIRE_CONSTANTS = ("True", "False", "None")


def quote_value(text: str) -> str:
    """A text that MONAI's parser reads as this text and as nothing else.

    Returns:
        The text itself where no character of it has a meaning in a config; otherwise a quoted literal, in which all such
        characters are written by their numbers.
    """
    return text if _PLAIN.fullmatch(text) else _write_literal(text)


def quote_paths(values: Mapping[str, object]) -> dict[str, object]:
    """Ids and values for a config, those of `PATH_IDS` as MONAI reads them."""
    return {
        key: quote_value(str(value)) if key in PATH_IDS and isinstance(value, (str, Path)) else value
        for key, value in values.items()
    }


def quote_argument(value: Any, is_path: bool) -> str:
    """A value for the command line of `monai.bundle`, which takes numbers, lists and comments of Python for what they are.

    Args:
        value: of an id.
        is_path: whether it is the text of a path and no config syntax.
    """
    if not isinstance(value, str):
        return repr(value)
    if not is_path or (_PLAIN_WORD.fullmatch(value) and value not in _FIRE_CONSTANTS):
        return value
    return _write_literal(value)


def quote_name(name: str) -> str:
    """A name for metadata.json, which MONAI parses like a config: in quotation marks where it begins like code or a reference."""
    return f'"{name}"' if name.startswith(("$", "%", "@")) else name


def _write_literal(text: str) -> str:
    return "$'" + _KEPT_IN_QUOTES.sub(_write_number, text) + "'"


def _write_number(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
