"""Paths and names that MONAI's config syntax or its command line would take for something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from fire.parser import DefaultParseValue
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser

from unet_pipeline.config_values import quote_argument, quote_name, quote_paths, quote_value

PATHS = (
    "user@lab.org/data",
    "#1 50% of $HOME",
    "$x [a]",
    "$__import__('os').abort()",
    "$import os",
    "%run/b",
    "%b/c.json#d",
    "@fold",
    "a@#b",
    "50%##1/@###2",
    "it's {b}",
    'say "hi"',
    "a::b",
    "C:\\data\\new",
    "a\tb",
    "Ünïcödé $ #",
    "2024",
    "1e5",
    "True",
    "None",
    "[a]",
    "(1,2)",
    "{b}",
    "-x",
    "",
)


@pytest.mark.parametrize("path", PATHS)
def test_quote_value_is_read_by_monai_as_the_text_itself(path: str) -> None:
    parser = ConfigParser({"fold": 3, "nested": {"path": quote_value(path)}, "joined": "$@nested::path + '/x'"})
    assert parser.get_parsed_content("nested::path") == path
    assert parser.get_parsed_content("joined") == f"{path}/x"


@pytest.mark.parametrize("path", PATHS)
def test_quote_argument_goes_through_the_command_line_of_monai(path: str) -> None:
    parser = ConfigParser({"path": DefaultParseValue(quote_argument(path, True))})
    assert parser.get_parsed_content("path") == path


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quote_value_any_text_comes_back(text: str) -> None:
    assert ConfigParser({"path": quote_value(text)}).get_parsed_content("path") == text
    if "\0" not in text:
        assert ConfigParser({"a": DefaultParseValue(quote_argument(text, True))}).get_parsed_content("a") == text


@pytest.mark.parametrize("path", ["../data/Task04", "models/model.pt", "user name/data (1)", "x"])
def test_quote_value_ordinary_path_stays_readable(path: str) -> None:
    assert quote_value(path) == path


def test_quote_paths_only_the_ids_of_paths_are_taken_as_values() -> None:
    quoted = quote_paths({"dataset_dir": Path("$x"), "num_epochs": 5, "image_interpolation": "@mode", "resume": False})
    assert quoted == {
        "dataset_dir": "$'\\x24x'",
        "num_epochs": 5,
        "image_interpolation": "@mode",
        "resume": False,
    }


@pytest.mark.parametrize(("value", "argument"), [(5, "5"), (None, "None"), ([1, 2], "[1, 2]"), ("@a", "@a")])
def test_quote_argument_other_values_are_those_of_a_config(value: object, argument: str) -> None:
    assert quote_argument(value, False) == argument


@pytest.mark.parametrize(("name", "quoted"), [("%run", '"%run"'), ("$x", '"$x"'), ("@a", '"@a"'), ("50 %", "50 %")])
def test_quote_name_begins_like_no_reference(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted
    assert ConfigParser({"_meta_": {"name": quote_name(name)}}).get_parsed_content("_meta_::name") == quoted
