"""Options about who does the work, of every verb that does many things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from unet_pipeline.errors import CohortError

Jobs = Annotated[
    int,
    typer.Option("--jobs", metavar="N", help="Work on N at the same time, each in a process of its own."),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="What has the processes: local, this machine; ray or slurm, a cluster."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", help="Of each process; its share of the cores, if not given."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster: auto, HOST:PORT or ray://HOST:PORT; this machine is one, if not given."),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option("--sbatch", metavar="NAME=VALUE", help="Option of the Slurm job, such as partition=gpu; repeat."),
]


def read_settings(words: Sequence[str] | None) -> dict[str, str]:
    """Options NAME=VALUE by their names.

    Raises:
        CohortError: a word is none.
    """
    settings = {}
    for word in words or ():
        name, separator, value = word.partition("=")
        name = name.strip().lstrip("-")
        if not (separator and name):
            raise CohortError(f"--sbatch {word!r} is no option; expected NAME=VALUE, such as partition=gpu.")
        settings[name] = value.strip()
    return settings
