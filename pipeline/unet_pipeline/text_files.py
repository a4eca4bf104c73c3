"""Text, JSON and YAML that users and their programs wrote: every encoding that is plain, and one sentence about what is damaged."""

from __future__ import annotations

import codecs
import copy
import functools
import json
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unet_pipeline.errors import FileContentError, PipelineError

Model = TypeVar("Model")

if TYPE_CHECKING:
    Refuse = Callable[[str], PipelineError]

_REMEDY = "Restore it from a copy, or correct it."
_SAVE_AS_UTF8 = "Save it as UTF-8, or restore it from a copy."
_NO_FILE = "is a pipe, a socket or a device; expected a file"
_GIVE_FILE = "Put a file with this name in its place, or give the name of one."
_NOT_TEXT = "is not text in {encoding}: {wrong}"
_MARKED = "begins with a byte order mark, with which MONAI cannot read it"
_SAVE_PLAIN = "Save it as UTF-8 without a byte order mark."
_NOT_JSON = "is not valid JSON: {wrong}"
_REPEATED = "has the key {key} twice in one object, of which readers take one or the other"
_LEAVE_ONE = "Leave one of them."
_CUT = "is not valid JSON: it is cut off, {wrong}"
_EMPTY = "is not valid JSON: it is empty"
_DEEP = "is not valid JSON: it is nested too deeply"
_OTHER_KIND = "holds {found}; expected a JSON object"
_LACKS = 'has no "{key}"; expected {expected}'
_DAMAGED = "is damaged: {place}: {wrong}"
# what can be said about a damaged file, with the remedy where its reader gives none
SENTENCES = (
    (_NO_FILE, _GIVE_FILE),
    (_NOT_TEXT, _SAVE_AS_UTF8),
    (_MARKED, _SAVE_PLAIN),
    (_REPEATED, _LEAVE_ONE),
    *((cause, _REMEDY) for cause in (_NOT_JSON, _CUT, _EMPTY, _DEEP, _OTHER_KIND, _LACKS, _DAMAGED)),
)
# the longer marks first: that of UTF-32 begins as that of UTF-16
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path, refuse: Refuse | None = None, shown: str | None = None, remedy: str = _SAVE_AS_UTF8) -> str:
    """Text in UTF-8, with or without a byte order mark, or in UTF-16 or UTF-32 with one.

    Args:
        refuse: makes the error of a message; `FileContentError` if None.
        shown: the file in the message; the last folder and the name if None.
        remedy: what to do about another encoding.

    Raises:
        FileContentError: another encoding, or no text; or it is no file but a pipe, a socket or a device.
        OSError: the file cannot be read.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would wait, and a device may never end
        raise _build(path, _NO_FILE, _GIVE_FILE, refuse, shown)
    data = path.read_bytes()
    encoding = find_encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start + 1} is 0x{data[error.start]:02x}" if error.start < len(data) else "it is cut off"
        cause = _NOT_TEXT.format(encoding=encoding.removesuffix("-sig").upper(), wrong=wrong)
        raise _build(path, cause, remedy, refuse, shown) from error


def find_encoding(data: bytes) -> str:
    """What a text is in: the encoding that its byte order mark says, or UTF-8."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")


def require_plain_utf8(path: Path, refuse: Refuse | None = None, shown: str | None = None) -> None:
    """Whether a file that MONAI reads itself is in UTF-8 without a byte order mark, the only form that it knows.

    Raises:
        FileContentError: it is not.
        OSError: the file cannot be read.
    """
    read_text(path, refuse, shown)
    with path.open("rb") as stream:
        begin = stream.read(4)
    if any(begin.startswith(mark) for mark, _ in _MARKS):
        raise _build(path, _MARKED, _SAVE_PLAIN, refuse, shown)


def read_json(path: Path, refuse: Refuse | None = None, shown: str | None = None, remedy: str = _REMEDY) -> Any:
    """Content of a JSON file.

    Args:
        path, refuse, shown: as in `read_text`.
        remedy: what to do about a damaged file.

    Raises:
        FileContentError: as `read_text`; or it is cut off, nested too deeply or otherwise damaged.
        OSError: the file cannot be read.
    """
    return parse_json(read_text(path, refuse, shown), path, refuse, shown, remedy)


def parse_json(
    text: str,
    path: Path,
    refuse: Refuse | None = None,
    shown: str | None = None,
    remedy: str = _REMEDY,
    build: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> Any:
    """Content of JSON that is the text of a file; `build` makes an object of its keys and values, a dict if None.

    Raises:
        FileContentError: it is cut off, nested too deeply or otherwise damaged.
    """
    try:
        return json.loads(text, object_pairs_hook=build)
    except PipelineError:  # of `build`
        raise
    except json.JSONDecodeError as error:
        wrong = f"{error.msg[:1].lower()}{error.msg[1:]} in line {error.lineno}, column {error.colno}"
        is_cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
        cause = (_CUT if is_cut else _NOT_JSON).format(wrong=wrong) if text.strip() else _EMPTY
        raise _build(path, cause, remedy, refuse, shown) from error
    except RecursionError as error:
        raise _build(path, _DEEP, remedy, refuse, shown) from error
    except ValueError as error:  # a number of thousands of digits
        raise _build(path, _NOT_JSON.format(wrong=error), remedy, refuse, shown) from error


def read_json_object(
    path: Path,
    keys: Sequence[str] = (),
    refuse: Refuse | None = None,
    shown: str | None = None,
    remedy: str = _REMEDY,
) -> dict[str, object]:
    """Content of a JSON file that holds an object with at least these keys.

    Args and errors: as `read_json`; FileContentError also where it holds something else.
    """
    content = read_json(path, refuse, shown, remedy)
    if not isinstance(content, dict):
        raise _build(path, _OTHER_KIND.format(found=_name_kind(content)), remedy, refuse, shown)
    if missing := [key for key in keys if key not in content]:
        raise _build(path, _LACKS.format(key=missing[0], expected=", ".join(keys)), remedy, refuse, shown)
    return content


def read_json_of_unique_keys(
    path: Path, refuse: Refuse | None = None, shown: str | None = None, remedy: str = _REMEDY
) -> Any:
    """Content of a JSON file that somebody wrote by hand, in which a key stands once in its object.

    Args and errors: as `read_json`; FileContentError also where a key is repeated.
    """

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise _build(path, _REPEATED.format(key=ascii(repeated)), _LEAVE_ONE, refuse, shown)
        return content

    return parse_json(read_text(path, refuse, shown), path, refuse, shown, remedy, build)


def read_model(
    path: Path, kind: type[Model], refuse: Refuse | None = None, shown: str | None = None, remedy: str = _REMEDY
) -> Model:
    """Content of a JSON file that holds such a model of pydantic, or such a dataclass, or a table of them.

    Args and errors: as `read_json`; FileContentError also where a value is missing or of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(read_json_object(path, (), refuse, shown, remedy))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise _build(path, _DAMAGED.format(place=place, wrong=first["msg"].lower()), remedy, refuse, shown) from error


def _name_kind(content: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(content), "a number")


def _build(path: Path, cause: str, remedy: str, refuse: Refuse | None, shown: str | None) -> PipelineError:
    name = shown or "/".join(path.parts[-2:])
    return FileContentError(name, cause, remedy) if refuse is None else refuse(f"{name} {cause}. {remedy}")


def parse_yaml(text: str) -> Any:
    """Plain values of YAML; the same text is parsed once in a process, because a plan takes longer to parse than all else about it.

    Raises:
        YAMLError: it is none.
        RecursionError: it is nested too deeply.
    """
    return copy.deepcopy(_parse_yaml_once(text))


@functools.lru_cache(maxsize=16)
def _parse_yaml_once(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)
