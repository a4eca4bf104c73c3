"""`data` on the command line: the public sets, the terms of one, and what was received."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say, show_path, tell_next
from unet_pipeline.messages import show_cases

if TYPE_CHECKING:
    from unet_pipeline.public_data.card import PublicSet
    from unet_pipeline.public_data.fetch import PublicData


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    GET = "get"


def data(
    action: Annotated[
        Action, typer.Argument(metavar="ACTION", help="list: the sets and their licences; get: download one.")
    ],
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of the set, for get.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="New folder for the set; its name in the current folder, if not given.")
    ] = None,
    downloads: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the archives, which stay there; those that lie there already are not downloaded.",
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """List public data sets, or download one and write it in a layout that the other verbs read."""
    import unet_pipeline

    if (name is None) != (action is Action.LIST):
        raise typer.BadParameter("list takes no name" if name else "get needs the name of a set; `data list` shows all")
    if action is Action.LIST:
        cards = unet_pipeline.list_data()
        for card in cards:
            _print_card(card)
        write_json_option(json_file, [_card_as_data(card) for card in cards])
        return
    result = unet_pipeline.get_data(str(name), out, downloads, announce=say)
    print_data(result)
    write_json_option(json_file, _data_as_data(result))


def _print_card(card: PublicSet) -> None:
    say(
        f"{card.name}\n  {card.what}\n  {card.modality}; {card.num_cases} labelled images in the archive; licence: {card.licence}"
    )


def print_data(result: PublicData) -> None:
    """What was received, where it lies, and the next command."""
    for verdict in result.verdicts:
        say(f"received  {verdict}")
    for note in result.notes:
        say(f"warning   {note}")
    shown = show_path(result.root)
    say(
        f"{'written' if result.is_new else 'there'.ljust(7)}   {shown}: {show_cases(result.num_cases)}; terms and origin beside them"
    )
    tell_next("check", shown)


def _card_as_data(card: PublicSet) -> dict[str, object]:
    names = ("name", "what", "modality", "num_cases", "licence", "terms", "citation", "address")
    return {name: getattr(card, name) for name in names}


def _data_as_data(result: PublicData) -> dict[str, object]:
    return {
        "name": result.name,
        "folder": show_path(result.root),
        "num_cases": result.num_cases,
        "verdicts": list(result.verdicts),
        "notes": list(result.notes),
        "is_new": result.is_new,
    }
