"""A path as a value of MONAI's config syntax, which takes "$" for code, "@" and "%" for references and "#" for a separator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# ids of the configs that are paths, never code
PATH_IDS = ("bundle_root", "dataset_dir", "output_dir", "weights_path", "initial_weights", "split_file")
# ids by which a config finds its bundle and the modules in it; they say nothing of what is computed
FINDING_IDS = ("config_folders", "bundle_root", "bundle_path", "module_imports", "modules")
_PLAIN = re.compile(r"[^$%@#:\\\x00-\x1f\x7f]*")
_KEPT_IN_QUOTES = re.compile(r"[^\w ./+,;=()\[\]{}~&!^-]", re.ASCII)
_PLAIN_WORD = re.compile(r"(?=.*[A-Za-z])[A-Za-z./][\w./-]*", re.ASCII)
_FIRE_CONSTANTS = ("True", "False", "None")
# modules of whose functions the audit takes the names in a text for code
CODE_MODULES = frozenset(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "builtins",
        "sys",
        "shutil",
        "pty",
        "runpy",
        "importlib",
        "ctypes",
        "pickle",
        "socket",
    ]
)
_BEGINS = {"$": "code", "@": "a reference", "%": "a part of a file", "+": "a part to add", "~": "a home folder"}
_KEYWORD = re.compile(r"_\w*_|.*_target_", re.DOTALL)
_INSIDE = re.compile(r"__\w+__")
_RELATIVE = re.compile(r"[@%](?:::|#)")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


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


def find_syntax(name: str) -> str:
    """What a config of MONAI takes a name for, such as "code"; "" for one that is only a name, as key and as value."""
    if name[:1] in _BEGINS:
        return _BEGINS[name[:1]]
    if _RELATIVE.search(name):
        return "a reference"
    if _KEYWORD.fullmatch(name) or _INSIDE.search(name):
        return "a keyword"
    if _DOTTED.fullmatch(name) and name.partition(".")[0] in CODE_MODULES:
        return "a function"
    return ""


def _write_literal(text: str) -> str:
    return "$'" + _KEPT_IN_QUOTES.sub(_write_number, text) + "'"


def _write_number(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
