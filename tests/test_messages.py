"""Messages: filled in, as problems and as exceptions, and all of them listed in the documentation."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import (
    DANGER,
    ERROR,
    SEVERITIES,
    WARNING,
    Message,
    Problem,
    list_failures,
    name_elements,
    show_all_cases,
    show_cases,
    show_clauses,
    show_first,
    show_shape,
)

DOCS = Path(__file__).parents[1] / "docs"
TORN = Message("torn", ERROR, "is torn at line {line}", "Mend line {line}.")


def load_builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_messages", DOCS / "build_messages.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = load_builder()
MESSAGES: list[Message] = BUILDER.collect_messages()


def test_about_fills_in_cause_and_remedy() -> None:
    problem = TORN.about("a/b.nii", line=3)
    assert str(problem) == "error: a/b.nii is torn at line 3. Mend line 3."
    assert problem.code == "torn"


def test_error_and_problem_say_the_same() -> None:
    error = TORN.error("a.nii", line=3)
    assert isinstance(error, ImageFileError)
    again = TORN.about("a.nii", line=3).as_error()
    assert (str(error), error.code) == (str(again), again.code) == ("a.nii is torn at line 3. Mend line 3.", "torn")


def test_about_missing_value_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError):
        TORN.about("a.nii")


def test_messages_there_are_many_of_each_severity() -> None:
    assert len(MESSAGES) > 40
    assert {message.severity for message in MESSAGES} == set(SEVERITIES)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.code)
def test_message_reads_as_a_sentence(message: Message) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", message.code)
    assert message.severity in SEVERITIES
    assert not message.cause.endswith(".")  # the sentence ends with a full stop of its own
    assert not message.cause[:1].isupper()
    assert message.remedy.endswith(".")
    assert message.remedy[:1].isupper() or message.remedy[:1] in "`{"
    if message.severity in (ERROR, WARNING) and not message.why:
        assert len(message.remedy) > 10


@pytest.mark.parametrize("message", BUILDER.collect_messages("unet_pipeline.audit"), ids=lambda message: message.code)
def test_message_of_an_audit_says_why_it_matters(message: Message) -> None:
    assert message.is_of_bundle
    assert message.why.endswith(".")
    assert message.why[:1].isupper() or message.why[:1] == "`"


def test_messages_of_every_verb_that_gives_them_are_collected() -> None:
    packages = (
        "unet_pipeline.dataset",
        "unet_pipeline.prediction",
        "unet_pipeline.quality",
        "unet_pipeline.evidence.reproduce",
        "unet_pipeline.audit",
        "unet_pipeline.clinical",
    )
    counts = [len(BUILDER.collect_messages(package)) for package in packages]
    assert min(counts) > 0
    assert sum(counts) == len(MESSAGES)
    text = (DOCS / "messages.md").read_text(encoding="utf-8")
    assert all(f"| `{message.code}` |" in text for message in MESSAGES)


def test_about_of_a_bundle_is_printable_and_short() -> None:
    message = Message.of_bundle("odd", DANGER, "has {text}", "It may be bad.", "Leave it.")
    problem = message.about("a\nb", "id\t1", text="x\x1b[1m" + "y" * 500)
    assert problem == Problem(DANGER, "a\\nb", problem.cause, "Leave it.", "odd", "id\\t1", "It may be bad.")
    assert problem.cause == "has x\\x1b[1m" + "y" * (160 - 3 - 8) + "..."
    assert str(problem) == f"danger: a\\nb (id\\t1) {problem.cause}. It may be bad. Leave it."


def test_messages_page_is_what_the_script_makes() -> None:
    assert (DOCS / "messages.md").read_text(encoding="utf-8") == BUILDER.build_messages_text(), (
        "run `.venv/bin/python docs/build_messages.py`"
    )
    assert (DOCS / "check.schema.json").read_text(encoding="utf-8") == BUILDER.build_schema_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Every voxel has a label", "Every pixel has a label"),
        ("Voxels, 8 voxels, Volume error, volumes", "Pixels, 8 pixels, Area error, areas"),
        ("a supervoxel and a voxel_volume", "a supervoxel and a voxel_volume"),
    ],
)
def test_name_elements_of_pictures(text: str, expected: str) -> None:
    assert name_elements(text) == expected
    assert name_elements(text, is_flat=False) == text


def test_list_failures_says_one_remedy_once() -> None:
    grey = [f"{n}.png has {n} channels; expected 1. Save it as grey." for n in range(2, 9)]
    assert list(list_failures([grey[0], "cut.mha is truncated. Copy it again.", *grey[1:], "failed"], most=2)) == [
        "7 images: Save it as grey.",
        "  2.png has 2 channels; expected 1",
        "  3.png has 3 channels; expected 1",
        "  and 5 more",
        "cut.mha is truncated. Copy it again.",
        "failed",
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        ([Path("a/b"), 2, 3, 4], "a/b, 2 and 2 more"),
    ],
)
def test_show_first_names_some_and_counts_the_others(names: list[object], expected: str) -> None:
    assert show_first(names, 2) == expected


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [([], ""), (["a is new", "b is gone"], "a is new; b is gone"), (["a", "b", "c", "d"], "a; b; and 2 more")],
)
def test_show_clauses_says_some_and_counts_the_others(clauses: list[str], expected: str) -> None:
    assert show_clauses(clauses, 2) == expected


def test_show_shape_is_read_along_the_axes() -> None:
    assert (show_shape((35, 51, 35)), show_shape(size for size in (8, 9))) == ("35x51x35", "8x9")


def test_one_case_is_said_in_plain_english() -> None:
    assert [show_cases(count) for count in (0, 1, 3)] == ["0 cases", "1 case", "3 cases"]
    assert [show_all_cases(count) for count in (1, 3)] == ["the one case", "all 3 cases"]
