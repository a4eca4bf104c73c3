"""Writes docs/cli.md from the command objects of the command line: `.venv/bin/python docs/build_cli.py`.

A test compares the file with what is made here, so that it cannot drift from `--help`.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import typer

from unet_pipeline.cli import app

PROGRAM = "unet-pipeline"
TARGET = Path(__file__).with_name("cli.md")
USAGE_WIDTH = 112

_HEAD = """\
# Command line

<!-- Made by docs/build_cli.py from the commands themselves; change pipeline/unet_pipeline/commands/ and run it again. -->

{help}

`{program} VERB` is the same as `python -m unet_pipeline VERB`. `--help` after the program or a verb prints what stands here.

| exit status | meaning |
|---|---|
| 0 | done |
| 1 | the input or the run has a problem: one message on stderr names the file, the cause and what to do |
| 2 | wrong usage: unknown verb or option, missing argument, value of the wrong form |
| 130 | interrupted from the keyboard |

Before the verb, the first three behind it as well:

{options}

Results go to stdout; progress and errors go to stderr, as a bar on a terminal and as plain lines elsewhere. Bar and tables fit terminals of
60 columns and more.

`{program} --install-completion` lets bash, zsh, fish or PowerShell complete verbs, options, presets, networks and the ids of `train` with the
Tab key, from the next shell on; `{program} --show-completion zsh` prints the script for one shell, to keep it elsewhere.

| verb | what it does |
|---|---|
{verbs}
"""

_VERB = """
## {verb}

{help}

{usage}

{parameters}
"""


def build_cli_text() -> str:
    """Contents of docs/cli.md."""
    group: Any = typer.main.get_command(app)
    verbs = "\n".join(f"| [{verb}](#{verb}) | {_cell(command.help)} |" for verb, command in group.commands.items())
    head = _HEAD.format(help=group.help, program=PROGRAM, options=_build_table(group.params), verbs=verbs)
    return head + "".join(_describe(verb, command) for verb, command in group.commands.items())


def _describe(verb: str, command: Any) -> str:
    return _VERB.format(
        verb=verb, help=command.help, usage=_build_usage(verb, command), parameters=_build_table(command.params)
    )


def _build_usage(verb: str, command: Any) -> str:
    """The command with its arguments and options, as an indented block; a line breaks between two of them only."""
    arguments = [parameter for parameter in command.params if not _is_option(parameter)]
    options = [parameter for parameter in command.params if _is_option(parameter)]
    pieces = [_show(parameter) for parameter in (*arguments, *options)]
    # a space inside a piece must not become a line break
    text = " ".join(piece.replace(" ", "\0") for piece in pieces)
    lead = f"    {PROGRAM} {verb} "
    return textwrap.fill(
        text,
        width=USAGE_WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\0", " ")


def _show(parameter: Any) -> str:
    """A parameter as usage lines write it: optional ones in brackets, repeatable ones with dots."""
    shown = _name(parameter) if parameter.required else f"[{_name(parameter)}]"
    return f"{shown}..." if parameter.nargs == -1 or parameter.multiple else shown


def _name(parameter: Any) -> str:
    """DATASET, --mirror or --out OUT."""
    metavar = (parameter.metavar or parameter.opts[0].lstrip("-").upper()).strip("[].")
    if not _is_option(parameter):
        return metavar
    return parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]} {metavar}"


def _build_table(parameters: list[Any]) -> str:
    rows = [f"| `{_name(parameter)}` | {_cell(parameter.help)} | {_default(parameter)} |" for parameter in parameters]
    return "\n".join(["| argument or option | meaning | default |", "|---|---|---|", *rows])


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default is None or getattr(parameter, "is_flag", False) else f"`{parameter.default}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


if __name__ == "__main__":
    TARGET.write_text(build_cli_text(), encoding="utf-8")
