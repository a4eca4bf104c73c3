"""Names of labels, regions and channels: one rule, whatever file or option they stand in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.audit.configs import TEXT, Config, list_runs
from unet_pipeline.commands.options import parse_labels
from unet_pipeline.config_values import find_syntax
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.names import (
    CHANNEL,
    LABEL,
    REGION,
    build_label_table,
    find_names_that_are_syntax,
    name_region_value,
    parse_whole_number,
    read_channel_names,
    require_name,
    show_value,
)
from unet_pipeline.errors import DatasetError

UNUSABLE = [
    "",
    " ",
    "\t",
    "\u200b",
    "a\nb",
    "\x1b[31m",
    "\x00",
    "\ud800",
    "a\u2028b",
    "x" * 201,
    None,
    [],
    {},
    1.5,
    True,
]
SYNTAX = [
    *("$x", "@a", "%b", "+c", "~", "~x", "$", "_target_", "_requires_", "_disabled_", "_desc_", "_mode_"),
    *("__init__", "a__class__b", "x_target_", "a@::b", "a %::b", "os.system", "builtins.eval"),
]
NAMES = [
    "liver",
    "lesion #1",
    "50 %",
    "a@b.c",
    "a::b",
    "<<",
    "{x}",
    "Gro\u00df",
    "\u8840\u7ba1",
    "5",
    "_x",
    "x_",
    "true",
    "null",
    "a=b",
    "os",
]


def edit(root: Path, **changes: Any) -> Path:
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return root


def refused(call: Callable[..., object], *arguments: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("kind", [LABEL, REGION, CHANNEL])
@pytest.mark.parametrize("value", UNUSABLE)
def test_require_name_unusable_is_one_line_with_file_value_and_expectation(value: object, kind: str) -> None:
    message = refused(require_name, value, kind, "a.json")
    assert message.startswith(f"a.json has the {kind} name {show_value(value)}; expected text of 1 to 200 characters")
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize("name", NAMES)
def test_require_name_plain_names_are_taken_as_they_are(name: str) -> None:
    assert require_name(name, LABEL, "a.json") == name
    assert require_name(3, LABEL, "a.json") == "3"
    assert find_syntax(name) == ""


@pytest.mark.parametrize("kind", [LABEL, REGION, CHANNEL])
@pytest.mark.parametrize("name", SYNTAX)
def test_find_names_that_are_syntax_is_an_error_with_a_remedy(name: str, kind: str) -> None:
    (problem,) = find_names_that_are_syntax({kind: ["liver", name]}, "dataset")
    assert (problem.severity, problem.code) == ("error", "name-is-syntax")
    assert f"the {kind} {name!r}, which a config of MONAI takes for" in problem.cause
    assert ("--label" if kind == LABEL else "Rename") in problem.remedy


@given(st.text(max_size=20) | st.from_regex(r"[$@%~_a-z.:#]{1,12}", fullmatch=True))
def test_audit_asks_for_no_trust_because_of_a_name_that_is_accepted(name: str) -> None:
    if find_syntax(name):
        return
    content = {
        "label_table": {name: 1},
        "thin_labels": [name],
        "nested": [{"classes": {"1": name}}, {name: {name: "x"}}],
    }
    runs = [run for run in list_runs(Config("plan.yaml", content)) if run.kind != TEXT or run.text.startswith("%")]
    assert runs == []


@pytest.mark.parametrize("value", UNUSABLE)
def test_read_decathlon_unusable_names_are_refused(decathlon_folder: Path, value: object) -> None:
    edit(decathlon_folder, labels={"0": "background", "1": value, "2": "core"})
    assert refused(read_dataset, decathlon_folder).startswith("dataset.json has the label name ")
    edit(decathlon_folder, labels={"0": "background", "1": "a", "2": "core"}, modality={"0": value})
    assert refused(read_dataset, decathlon_folder).startswith("dataset.json has the channel name ")


def test_read_decathlon_two_values_of_one_name_and_two_names_of_one_value_are_said(decathlon_folder: Path) -> None:
    edit(decathlon_folder, labels={"0": "background", "1": "core", "2": "core"})
    assert "dataset.json has the label name 'core' twice, with the values 1 and 2" in refused(
        read_dataset, decathlon_folder
    )
    edit(decathlon_folder, labels={"background": 0, "a": 1, "b": 1})
    assert "of dataset.json gives one value to two names (background=0, a=1, b=1)" in refused(
        read_dataset, decathlon_folder
    )
    text = json.dumps(
        edit(decathlon_folder, labels="LABELS") and json.loads((decathlon_folder / "dataset.json").read_text())
    )
    (decathlon_folder / "dataset.json").write_text(text.replace('"LABELS"', '{"background": 0, "a": 1, "a": 2}'))
    assert "dataset.json has the key 'a' twice in one object" in refused(read_dataset, decathlon_folder)


@pytest.mark.parametrize("value", ["many", None, [], 1.5, "1e400", True, {}])
def test_read_decathlon_label_values_that_are_no_whole_numbers_are_shown(decathlon_folder: Path, value: object) -> None:
    edit(decathlon_folder, labels={"background": 0, "a": value, "core": 2})
    assert f"'a' has the value {value!r}; expected a whole number" in refused(read_dataset, decathlon_folder)


def test_read_decathlon_endless_label_value_is_no_traceback(decathlon_folder: Path) -> None:
    edit(decathlon_folder, labels={"background": 0, "a": float("inf")})
    assert "'a' has the value inf" in refused(read_dataset, decathlon_folder)


@pytest.mark.parametrize("name", SYNTAX)
def test_check_dataset_label_that_is_syntax_gets_another_name_by_option(decathlon_folder: Path, name: str) -> None:
    dataset = read_dataset(edit(decathlon_folder, labels={"0": "background", "1": name, "2": "core"}))
    report = check_dataset(dataset)
    assert [problem.code for problem in report.errors] == ["name-is-syntax"]
    assert report.fingerprint is None
    assert check_dataset(dataset, {"background": 0, "shell": 1, "core": 2}).errors == ()


def test_check_dataset_channel_that_is_syntax_is_an_error(decathlon_folder: Path) -> None:
    (error,) = check_dataset(read_dataset(edit(decathlon_folder, modality={"0": "$T1"}))).errors
    assert error.cause == "has the channel '$T1', which a config of MONAI takes for code"


def test_parse_labels_follows_the_same_rule() -> None:
    assert parse_labels(["a=b=0", "x=1"]) == {"a=b": 0, "x": 1}
    assert parse_labels(None) is None
    for text, shown in ((" =1", "' '"), ("a\nb=1", r"'a\nb'"), ("\udcff=1", r"'\udcff'")):
        assert f"--label has the label name {shown}; expected text" in refused(parse_labels, ["background=0", text])
    assert "--label has the label name 'a' twice, with the values 0 and 1" in refused(parse_labels, ["a=0", "a=1"])
    with pytest.raises(typer.BadParameter, match="expected NAME=VALUE"):
        parse_labels(["=1"])


def test_build_label_table_is_sorted_and_takes_text_numbers() -> None:
    table = build_label_table([("b", "2"), ("background", 0), ("a", 1.0)], "x.json")
    assert list(table.items()) == [("background", 0), ("a", 1), ("b", 2)]


def test_build_label_table_value_of_many_digits_is_not_spelled_out() -> None:
    message = refused(build_label_table, [("background", 0), ("a", 10**300)], "x.json")
    assert "a=a number of more than 20 digits" in message


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2.5, "x", None, [], True, "1.5", "9" * 5000])
def test_parse_whole_number_anything_else_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_whole_number(value)


def test_read_channel_names_forms() -> None:
    assert read_channel_names({"1": "b", "0": "a"}, "modality", "x.json") == ("a", "b")
    assert read_channel_names(["a", "b"], "modality", "x.json") == ("a", "b")
    assert read_channel_names("a", "modality", "x.json") == ("a",)
    assert read_channel_names({}, "modality", "x.json") == ()
    message = refused(read_channel_names, {"0": "a", "00": "b"}, "modality", "x.json")
    assert message.startswith('x.json has the number 0 twice in "modality"')
    assert 'no usable "modality": it is 3; expected' in refused(read_channel_names, 3, "modality", "x.json")


def test_name_region_value_names_all_regions_that_have_it() -> None:
    regions = {"whole tumour": (1, 2, 4), "core": (1, 4)}
    assert name_region_value(4, regions) == "whole tumour and core 4"
    assert name_region_value(2, regions) == "whole tumour 2"
