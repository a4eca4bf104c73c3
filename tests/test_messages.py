"""Messages: filled in, as problems and as exceptions, and all of them listed in the documentation."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from unet_pipeline.audit.findings import Notice
from unet_pipeline.errors import ImageFileError
from unet_pipeline.messages import ERROR, SEVERITIES, WARNING, Message

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
    if message.severity in (ERROR, WARNING):
        assert len(message.remedy) > 10


@pytest.mark.parametrize("notice", BUILDER.collect_notices(), ids=lambda notice: notice.code)
def test_notice_of_an_audit_reads_as_sentences(notice: Notice) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", notice.code)
    assert not notice.what.endswith(".")
    assert not notice.what[:1].isupper()
    for sentence in (notice.why, notice.remedy):
        assert sentence.endswith(".")
        assert sentence[:1].isupper() or sentence[:1] == "`"


def test_messages_page_is_what_the_script_makes() -> None:
    assert (DOCS / "messages.md").read_text(encoding="utf-8") == BUILDER.build_messages_text(), (
        "run `.venv/bin/python docs/build_messages.py`"
    )
    assert (DOCS / "check.schema.json").read_text(encoding="utf-8") == BUILDER.build_schema_text()
