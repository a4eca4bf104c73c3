"""Text and JSON in every plain encoding; what is damaged is said with its place."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline import text_files
from unet_pipeline.errors import DatasetError, FileContentError
from unet_pipeline.text_files import parse_json, read_json, read_json_object, read_text, require_plain_utf8

CONTENT = {"Größe": [1, 2.5, None], "deep": {"a": {"b": "Ω"}}}
TEXT = json.dumps(CONTENT, ensure_ascii=False, indent=2)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write_bytes(data: bytes) -> Path:
        path = tmp_path / "set" / "dataset.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return write_bytes


@pytest.mark.parametrize("kind", ["pipe", "socket", "endless device"])
def test_read_text_what_is_no_file_is_not_waited_for(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's name may not be long
        socket.socket(socket.AF_UNIX).bind(path.name)
    else:
        path.symlink_to("/dev/zero")
    for read in (read_text, read_json, require_plain_utf8):
        with pytest.raises(
            FileContentError, match=r"set\.json is a pipe, a socket or a device; expected a file\. Put a file"
        ):
            read(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_read_json_every_plain_encoding_gives_the_same(encoding: str, write: Callable[[bytes], Path]) -> None:
    path = write(TEXT.encode(encoding))
    assert read_json(path) == CONTENT
    assert read_text(path) == TEXT
    assert read_json_object(path, ("deep",)) == CONTENT


@pytest.mark.parametrize("order", ["le", "be"])
def test_read_text_utf16_of_both_orders(order: str, write: Callable[[bytes], Path]) -> None:
    mark = {"le": b"\xff\xfe", "be": b"\xfe\xff"}[order]
    assert read_text(write(mark + TEXT.encode(f"utf-16-{order}"))) == TEXT


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not valid JSON: it is empty"),
        (b" \n ", "is not valid JSON: it is empty"),
        (b'{"a": 1', "is not valid JSON: it is cut off, expecting ',' delimiter in line 1, column 8"),
        (b'{"a": "b', "is not valid JSON: it is cut off, unterminated string starting at in line 1, column 7"),
        (b'{"a" 1}', "is not valid JSON: expecting ':' delimiter in line 1, column 6"),
        (b"[1,\n2,]", "is not valid JSON: "),
        (b"[" * 100_000, "is not valid JSON: it is nested too deeply"),
        (b'{"a":' * 100_000, "is not valid JSON: it is nested too deeply"),
        (b"1" * 10_000, "is not valid JSON: Exceeds the limit"),
        (b"\x00" * 100, "is not valid JSON: expecting value in line 1, column 1"),
        (b'{"a": "\xfc"}', "is not text in UTF-8: byte 8 is 0xfc"),
        (b"\xff\xfe\x00", "is not text in UTF-16: byte 3 is 0x00"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_read_json_damage_is_said_with_its_place(data: bytes, words: str, write: Callable[[bytes], Path]) -> None:
    with pytest.raises(FileContentError) as caught:
        read_json(write(data))
    assert str(caught.value).startswith(f"set/dataset.json {words}")
    assert str(caught.value).endswith(f". {caught.value.remedy}")
    assert isinstance(caught.value, ValueError)  # as the parsers raise


def test_read_json_message_takes_error_name_and_remedy_of_the_reader(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(DatasetError) as caught:
        read_json(write(b"{"), DatasetError, "dataset.json", "Correct it or remove it.")
    assert str(caught.value).startswith("dataset.json is not valid JSON: it is cut off")
    assert str(caught.value).endswith("Correct it or remove it.")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("[1]", "a list"), ("null", "null"), ('"a"', "a text"), ("3", "a number"), ("true", "true or false")],
)
def test_read_json_object_other_kinds_are_named(text: str, kind: str, write: Callable[[bytes], Path]) -> None:
    with pytest.raises(FileContentError, match=f"holds {kind}; expected a JSON object"):
        read_json_object(write(text.encode()))


def test_read_json_object_missing_key_is_named(write: Callable[[bytes], Path]) -> None:
    with pytest.raises(FileContentError, match='has no "validation"; expected training, validation'):
        read_json_object(write(b'{"training": []}'), ("training", "validation"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_require_plain_utf8_other_forms_are_refused(encoding: str, write: Callable[[bytes], Path]) -> None:
    require_plain_utf8(write(TEXT.encode()))
    with pytest.raises(FileContentError, match="begins with a byte order mark, with which MONAI cannot read it"):
        require_plain_utf8(write(TEXT.encode(encoding)))


@given(st.binary(max_size=60))
def test_read_json_any_bytes_give_content_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    with suppress(FileContentError):  # nothing else
        read_json(path)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_parse_json_what_json_wrote_comes_back(content: Any) -> None:
    assert parse_json(json.dumps(content), Path("a.json")) == content


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_read_json_of_unique_keys_names_the_key_that_stands_twice(tmp_path: Path, text: str) -> None:
    path = write_text_file(tmp_path / "a.json", text)
    with pytest.raises(FileContentError, match="has the key 'a' twice in one object") as caught:
        text_files.read_json_of_unique_keys(path)
    assert caught.value.remedy == "Leave one of them."
    assert text_files.read_json(path)


def test_read_json_of_unique_keys_equals_read_json_elsewhere(tmp_path: Path) -> None:
    path = write_text_file(tmp_path / "a.json", '{"a": {"a": [1, {"a": null}]}, "b": {}}')
    assert text_files.read_json_of_unique_keys(path) == text_files.read_json(path)


def write_text_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
