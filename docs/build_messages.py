"""Writes docs/messages.md and docs/check.schema.json from the code: `.venv/bin/python docs/build_messages.py`.

A test compares the files with what is made here, so that no message goes without its line.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import unet_pipeline.dataset
from unet_pipeline.boundary import list_sentences
from unet_pipeline.dataset.fix_record import KINDS
from unet_pipeline.dataset.report import CheckRecord
from unet_pipeline.messages import SEVERITIES, Message
from unet_pipeline.text_files import SENTENCES

TARGET = Path(__file__).with_name("messages.md")
SCHEMA = Path(__file__).with_name("check.schema.json")

_HEAD = """\
# Messages

<!-- Made by docs/build_messages.py from the messages themselves; change them where the code gives them and run it again. -->

## Messages of `check`

Everything that `unet-pipeline check` can say about a file, by severity. A problem is shown as `SEVERITY: FILE CAUSE. REMEDY`,
several of one kind under one heading; words in braces are filled in. The code is what `check --json` and problems.json give under `code`;
their form is [check.schema.json](check.schema.json). An error stops `plan`, a warning may be meant, a note says what was done.
Those about images are also shown [in pictures](howto/messages_in_pictures.md).
"""
_TABLE = """
### {title}

| {heads} |
|{lines}
{rows}
"""

_REFUSALS = """
### The dataset as a whole

Before any image is read, a folder, a list or an option may be refused:

{refusals}
"""

_FIXES = """
### Changes of `check --fix`

Everything that is other in a corrected copy is in its fixes.json, with the file, what was wrong, what was done, the values before and after,
and the SHA-256 of source and result:

| kind | what |
|---|---|
{kinds}
"""
_FILES = """
## Files that cannot be read or written

What every verb says, on the command line and from Python, when the system refuses a file, as `Error: FILE CAUSE. REMEDY`; the
verb ends with status 1, nothing half-written is left, and the same command works once the cause is gone.

| system | cause | what to do |
|---|---|---|
{system}

About a text or JSON file that can be read and is damaged:

| cause | what to do |
|---|---|
{damaged}
"""
_OTHER_VERBS = {
    "unet_pipeline.prediction": """
## Messages of `predict`

What `unet-pipeline predict` can say about an image beside the refusals, in the form of `check`.
""",
    "unet_pipeline.quality": """
## Messages of `predict` about the input contract

They compare an image with those of the training ([explanation](explanation/contract.md)). `predict` goes on; with `--strict` it refuses what
is outside.
""",
    "unet_pipeline.clinical": """
## Messages of `predict --format` with DICOM results

They stand beside those of `predict`, and end nothing.
""",
    "unet_pipeline.evidence.reproduce": """
## Messages of `reproduce`

What `unet-pipeline reproduce` can say about a difference to the record, in the form of `check`. An error stops the run; a note may
change the last digits.
""",
}
_AUDIT_PACKAGE = "unet_pipeline.audit"
_AUDIT = """
## Messages of `audit`

What `unet-pipeline audit` can say about a file of a bundle, shown as `SEVERITY: FILE (PLACE) CAUSE. WHY REMEDY`; the code is what
`audit --json` gives. A danger means that the bundle needs trust.
"""


def collect_messages(*packages: str) -> list[Message]:
    """Every message constant of some packages, by code; of all of them without a name."""
    messages: dict[str, tuple[str, Message]] = {}
    for package in ("unet_pipeline.dataset", *_OTHER_VERBS, _AUDIT_PACKAGE):
        for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
            for value in vars(import_module(module.name)).values():
                if isinstance(value, Message) and messages.setdefault(value.code, (package, value))[1] is not value:
                    raise ValueError(f"two messages have the code {value.code!r}; expected one each")
    return [messages[code][1] for code in sorted(messages) if not packages or messages[code][0] in packages]


def collect_refusals() -> list[str]:
    """The texts with which a dataset as a whole, its list or its options are refused, in the order of the modules."""
    texts = []
    for path in sorted(Path(next(iter(unet_pipeline.dataset.__path__))).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Raise(exc=ast.Call(func=ast.Name(id="DatasetError"), args=[message])):
                    texts.append(_text_of(message))
    return texts


def _text_of(node: ast.expr) -> str:
    """A string of the code; what is filled in stands in braces under its last name."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(_text_of, parts))
        case ast.FormattedValue(value=value):
            named = (part for part in ast.walk(value) if isinstance(part, ast.Attribute | ast.Name))
            names = [part.attr if isinstance(part, ast.Attribute) else part.id for part in named]
            return f"{{{names[0] if names else 'value'}}}"
        case ast.BinOp(left=left, right=right):
            return _text_of(left) + _text_of(right)
    return "{more}"


def build_messages_text() -> str:
    """Contents of docs/messages.md."""
    refusals = "\n".join(f"- {_cell(text)}" for text in collect_refusals())
    return (
        _HEAD
        + _build_tables("unet_pipeline.dataset", "{}s")
        + _REFUSALS.format(refusals=refusals)
        + _FIXES.format(kinds="\n".join(f"| `{kind}` | {words} |" for kind, words in KINDS.items()))
        + _build_files()
        + "".join(
            heading + _build_tables(package, f"{{}}s of `{heading.split('`')[1]}`")
            for package, heading in _OTHER_VERBS.items()
        )
        + _AUDIT
        + _build_tables(_AUDIT_PACKAGE, "{}s of an audit")
    )


def _build_tables(package: str, title: str) -> str:
    """A table per severity that has messages."""
    columns = {
        "cause": "cause",
        **({"why": "why it matters"} if package == _AUDIT_PACKAGE else {}),
        "remedy": "what to do",
    }
    tables = []
    for severity in SEVERITIES:
        messages = [message for message in collect_messages(package) if message.severity == severity]
        rows = [
            " | ".join([f"| `{one.code}`", *(_cell(getattr(one, name)) for name in columns)]) + " |" for one in messages
        ]
        if rows:
            heads = " | ".join(["code", *columns.values()])
            lines = "---|" * (1 + len(columns))
            tables.append(
                _TABLE.format(title=title.format(severity.capitalize()), heads=heads, lines=lines, rows="\n".join(rows))
            )
    return "".join(tables)


def _build_files() -> str:
    """What is said about files that the system refuses, or whose text is damaged."""
    system = [f"| {name} | {_cell(cause)} | {_cell(remedy)} |" for name, cause, remedy in list_sentences()]
    damaged = [f"| {_cell(cause)} | {_cell(remedy)} |" for cause, remedy in SENTENCES]
    return _FILES.format(system="\n".join(system), damaged="\n".join(damaged))


def build_schema_text() -> str:
    """Contents of docs/check.schema.json."""
    return json.dumps(CheckRecord.model_json_schema(), indent=2) + "\n"


def _cell(text: str) -> str:
    """Of a table; what is filled in stands there by its name alone, without how it is written."""
    named = re.sub(r"\{(\w+)(?:![rsa])?(?::[^{}]*)?\}", r"{\1}", text)
    return " ".join(named.split()).replace("|", "\\|")


if __name__ == "__main__":
    TARGET.write_text(build_messages_text(), encoding="utf-8")
    SCHEMA.write_text(build_schema_text(), encoding="utf-8")
