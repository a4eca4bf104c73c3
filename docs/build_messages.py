"""Writes docs/messages.md and docs/check.schema.json from the code: `.venv/bin/python docs/build_messages.py`.

A test compares the files with what is made here, so that no message goes without its line.
"""

from __future__ import annotations

import json
import pkgutil
from importlib import import_module
from pathlib import Path

import pipeline.dataset
from pipeline.dataset.problems import SEVERITIES, Message
from pipeline.dataset.report import CheckRecord

TARGET = Path(__file__).with_name("messages.md")
SCHEMA = Path(__file__).with_name("check.schema.json")

_HEAD = """\
# Messages of `check`

<!-- Made by docs/build_messages.py from the messages themselves; change them in pipeline/dataset/ and run it again. -->

Everything that `unet-pipeline check` can say about a file, by severity. A problem is shown as `SEVERITY: FILE CAUSE. REMEDY`;
words in braces are filled in. The code is what `check --json` and problems.json give under `code`; their form is
[check.schema.json](check.schema.json). An error stops `plan`, a warning may be meant, a note says what was done.
"""
_TABLE = """
## {title}

| code | cause | what to do |
|---|---|---|
{rows}
"""


def collect_messages() -> list[Message]:
    """Every message constant of the dataset stage, by code."""
    found: dict[str, Message] = {}
    for module in pkgutil.iter_modules(pipeline.dataset.__path__, "pipeline.dataset."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Message):
                if found.setdefault(value.code, value) is not value:
                    raise ValueError(f"two messages have the code {value.code!r}; expected one each")
    return [found[code] for code in sorted(found)]


def build_messages_text() -> str:
    """Contents of docs/messages.md."""
    messages = collect_messages()
    tables = [
        _TABLE.format(
            title=f"{severity.capitalize()}s",
            rows="\n".join(
                f"| `{message.code}` | {_cell(message.cause)} | {_cell(message.remedy)} |"
                for message in messages
                if message.severity == severity
            ),
        )
        for severity in SEVERITIES
    ]
    return _HEAD + "".join(tables)


def build_schema_text() -> str:
    """Contents of docs/check.schema.json."""
    return json.dumps(CheckRecord.model_json_schema(), indent=2) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(build_messages_text(), encoding="utf-8")
    SCHEMA.write_text(build_schema_text(), encoding="utf-8")
