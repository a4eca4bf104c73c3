"""What was probably meant by an option that a command does not have."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from unet_pipeline.commands.output import show_program
from unet_pipeline.remote.urls import require_local

# words of other programs, and what they are called here: options, arguments and ids of train.json
_SYNONYMS = {
    "b": "batch_size",
    "bs": "batch_size",
    "batch": "batch_size",
    "d": "device",
    "e": "num_epochs",
    "epoch": "num_epochs",
    "epochs": "num_epochs",
    "max_epochs": "num_epochs",
    "cuda": "device",
    "gpu": "device",
    "gpus": "device",
    "f": "fold",
    "folds": "fold",
    "force": "trust",
    "i": "input",
    "images": "input",
    "iterations": "iterations_per_epoch",
    "steps": "iterations_per_epoch",
    "lr": "learning_rate",
    "model": "network",
    "o": "out",
    "output": "out",
    "output_dir": "out",
    "q": "quiet",
    "silent": "quiet",
    "tta": "mirror",
    "v": "version",
    "verbose": "debug",
    "wd": "weight_decay",
    "workers": "num_workers",
}
_MAY_BE_URL = {
    "predict": ("bundle", "source", "out"),
    "evaluate": ("dataset", "predictions"),
    "check": ("dataset",),
    "plan": ("dataset",),
}
_NEAR = 0.7  # likeness of two names that are taken for one
_WITH_OVERRIDES = "train"
_NUMBER = "It is a number of the plan: edit configs/plan.yaml, or `unet-pipeline train BUNDLE {key}={value}` for one training."


class _Hinting:
    """A command whose message about an unknown option says what to write instead."""

    def parse_args(self: Any, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)  # what is parsed is taken away from it
        try:
            parsed: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except typer.BadParameter.__base__ as error:  # type: ignore[misc]
            option = getattr(error, "option_name", None)
            if option and hasattr(error, "possibilities") and (hint := explain_option(ctx, option, words)):
                error.message = f"{error.message}. {hint}"
                error.possibilities = None
            elif not option and (hint := _explain_override(ctx, words)):
                error.message = f"{error.message}. {hint}"
            raise
        return parsed


class HintingCommand(_Hinting, TyperCommand):
    """A verb."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, unless an URL stands where only a local file or folder will do.

        Raises:
            StoreError: one does.
        """
        for parameter in self.params:
            if parameter.name not in _MAY_BE_URL.get(str(self.name), ()):
                values, shown = ctx.params.get(parameter.name), parameter.opts[0]
                for value in values if isinstance(values, (list, tuple)) else [values]:
                    require_local(value, shown if shown.startswith("-") else f"The argument {shown}")
        return super().invoke(ctx)


class HintingGroup(_Hinting, TyperGroup):
    """The program, whose own options stand before the verb."""


def explain_option(ctx: Any, option: str, words: Sequence[str]) -> str:
    """What to write instead of an option that a command does not have; empty where nothing is like it.

    Args:
        ctx: of the command.
        option: as it was written, with its dashes.
        words: all that was written behind the command's name.
    """
    name = option.lstrip("-").lower().replace("-", "_")
    root = ctx.find_root().command
    parameters = [*ctx.command.params, *root.params]  # the program's own may stand behind the verb
    own = {_short(opt): opt for parameter in parameters for opt in parameter.opts if opt.startswith("--")}
    arguments = [_short(parameter.metavar or parameter.name) for parameter in _list_arguments(ctx.command)]
    ids = list_ids()
    meant = name if name in ids else _SYNONYMS.get(name, name)
    known = [*own, *arguments, *(ids if ctx.command.name == _WITH_OVERRIDES else ())]
    if meant not in known and (elsewhere := _explain_elsewhere(root, meant, ids)):
        return elsewhere
    near = [meant] if meant in known else difflib.get_close_matches(meant, known, 1, _NEAR)
    near = near or [one for one in known if min(len(meant), len(one)) > 2 and (meant in one or one in meant)][:1]
    if not near:
        return ""
    if near[0] in own:
        return f"Did you mean {own[near[0]]}?"
    if near[0] in arguments:
        shown = " ".join(parameter.metavar or "" for parameter in _list_arguments(ctx.command))
        return f"It is an argument and has no name: {show_program()} {ctx.command.name} {shown}"
    return f"Write it without dashes: {_rewrite(ctx, option, near[0], words)}"


def _explain_elsewhere(root: Any, meant: str, ids: Sequence[str]) -> str:
    """Where a name has its place: other verbs, or the numbers of a training."""
    option = f"--{meant.replace('_', '-')}"
    verbs = [
        verb
        for verb, command in getattr(root, "commands", {}).items()
        if any(option in parameter.opts for parameter in command.params)
    ]
    if verbs:
        return f"{option} is an option of {', '.join(verbs)}."
    return _NUMBER.format(key=meant, value="VALUE") if meant in ids else ""


def _explain_override(ctx: Any, words: Sequence[str]) -> str:
    """Where KEY=VALUE has its place, behind another verb than `train`."""
    for word in words:
        key, separator, value = word.partition("=")
        if separator and ctx.command.name != _WITH_OVERRIDES and key in list_ids():
            return f"{key}: {_NUMBER.format(key=key, value=shlex.quote(value))}"
    return ""


def _short(name: str) -> str:
    return name.strip("-[].{}").lower().replace("-", "_")


def list_ids() -> list[str]:
    """Numbers that a training can be told on the command line: those of the plan that its wiring refers to, and the wiring's own."""
    from importlib import resources

    from unet_pipeline.planning.plan import Plan

    folder = resources.files("unet_pipeline.wiring")
    wiring = "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("shared.yaml", "train.yaml"))
    referred = set(re.findall(r"@(\w+)", wiring))
    return [*(name for name in Plan.model_fields if name in referred), *re.findall(r"^(\w+): .", wiring, re.MULTILINE)]


def _list_arguments(command: Any) -> list[Any]:
    return [parameter for parameter in command.params if parameter.param_type_name == "argument"]


def _rewrite(ctx: Any, option: str, key: str, words: Sequence[str]) -> str:
    """The command as it was meant, with KEY=VALUE behind the other words."""
    rest, value = list[str](), ""
    left = iter(words)
    for word in left:
        if word == option:
            value = next(left, "")
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    return shlex.join([show_program(), ctx.command.name, *rest]) + f" {key}={shlex.quote(value) if value else 'VALUE'}"
