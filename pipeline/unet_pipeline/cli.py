"""The command line: parse, call a verb, print. torch and monai are imported by the verbs, not here."""

from __future__ import annotations

import os
import platform
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, get_type_hints

import typer

from unet_pipeline import VERBS, __version__
from unet_pipeline.boundary import guarded, let_streams_print
from unet_pipeline.commands.hints import HintingCommand, HintingGroup
from unet_pipeline.commands.output import flush_output, say, set_quiet
from unet_pipeline.commands.problem_lines import format_error
from unet_pipeline.errors import PipelineError
from unet_pipeline.lean_imports import arrange_quick_start
from unet_pipeline.library_warnings import silence_libraries

EXIT_PROBLEM, EXIT_INTERRUPTED = 1, 130
_OWN_OPTIONS = ("--debug", "--quiet", "--version")

app = typer.Typer(
    name="unet-pipeline",
    help="A labelled folder of medical images goes in, a MONAI bundle comes out, with the evidence for every number.",
    no_args_is_help=True,
    cls=HintingGroup,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(is_asked: bool) -> None:
    if not is_asked:
        return
    from unet_pipeline.evidence.records.machine import describe_device, read_versions

    versions = read_versions()
    shown = {
        "python": platform.python_version(),
        **{name: versions.get(name, "missing") for name in ("torch", "monai")},
    }
    say(f"unet-pipeline {__version__}")
    for name, text in {**shown, "device": describe_device()}.items():
        say(f"{name:<13} {text}")
    raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Results and errors only: no progress, no steps on the way, no next step.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Versions of this program, Python, PyTorch and MONAI, and the device that is used.",
            callback=_say_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    context.obj = {"debug": debug}
    set_quiet(quiet)


for _verb in VERBS:
    _command = getattr(import_module(f"unet_pipeline.commands.{_verb}"), _verb)
    # who may read a path is for the verbs to find out: they say what to do, and an administrator's rights are not seen by typer
    _command.__annotations__ = get_type_hints(_command, include_extras=True)
    for _hint in _command.__annotations__.values():
        for _option in getattr(_hint, "__metadata__", ()):
            _option.readable = False
    app.command(_verb.replace("_", "-"), cls=HintingCommand)(_command)


def main() -> None:
    """Entry of `unet-pipeline`: runs a verb; a problem of the user's becomes one message and exit status 1."""
    arrange_quick_start()
    sys.argv[1:] = _put_own_options_first(sys.argv[1:])
    if "--debug" not in sys.argv:
        silence_libraries()
    let_streams_print()
    try:
        with guarded(), _naming_output():
            try:
                app()
            except SystemExit:  # of every verb that ends well
                flush_output()
                raise
    except PipelineError as error:
        if "--debug" in sys.argv:
            raise
        _leave_output()
        print(format_error(error), file=sys.stderr)
        raise SystemExit(EXIT_PROBLEM) from None
    except (KeyboardInterrupt, SystemExit) as end:  # typer makes an exit of an interrupt
        if isinstance(end, SystemExit) and end.code != EXIT_INTERRUPTED:
            raise
        print("Interrupted. `unet-pipeline train BUNDLE --resume` continues a training.", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # the reader of a pipe went away
        _leave_output()
        raise SystemExit(EXIT_PROBLEM) from None


def _put_own_options_first(words: list[str]) -> list[str]:
    """The program's own options may stand behind the verb too."""
    end = words.index("--") if "--" in words else len(words)
    own = [word for word in words[:end] if word in _OWN_OPTIONS]
    return [*own, *(word for word in words[:end] if word not in _OWN_OPTIONS), *words[end:]]


@contextmanager
def _naming_output() -> Iterator[None]:
    """The system names no file for a stdout that is full; what the commands could not write gets a name."""
    try:
        yield
    except OSError as error:
        files = (Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__))
        own = [file for file in files if file.is_relative_to(Path(__file__).parent)]
        if error.filename is None and own[-1].parent.name == "commands":
            error.filename = "What is printed"
        raise


def _leave_output() -> None:
    """Write nothing more to a stdout that fails, as Python would try at the end of the process, and complain."""
    try:
        flush_output()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
