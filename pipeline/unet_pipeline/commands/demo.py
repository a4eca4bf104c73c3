"""`demo` on the command line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.commands.evaluate import evaluation_as_data, print_evaluation
from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say, show_path, tell, tell_next


def name_opener(platform: str) -> str:
    """The command of an operating system that opens a file in the browser."""
    return {"darwin": "open", "win32": "explorer"}.get(platform, "xdg-open")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the cohort, the bundle and the picture.")] = Path("demo"),
    json_file: Json = None,
) -> None:
    """Run the main job end to end on the embedded cohort."""
    from unet_pipeline.verbs.demo import demo

    result = demo(out, announce=lambda step: tell(f"== {step}"))
    say()
    print_evaluation(result.evaluation)
    say()
    say(
        "The test case is the real MNI152 head, the training heads are simulated from it: this shows that the pipeline works, and says "
        "nothing about generalisation."
    )
    say(f"bundle   {result.bundle.root}  (sealed: {show_path(result.package.zip_file)})")
    say(f"picture  {result.overlay}")
    say(f"report   {show_path(result.report)}")
    say(f"viewer   {show_path(result.page)}")
    tell("Open report and viewer in a browser: a double click does it, or")
    tell(f"  {name_opener(sys.platform)} {shlex.quote(str(show_path(result.report)))}")
    tell(f"  {name_opener(sys.platform)} {shlex.quote(str(show_path(result.page)))}")
    tell("The report's case names lead to the cases in the viewer.")
    tell("Then, on your own folder of images and label maps:")
    tell_next("check", "DATASET")
    write_json_option(json_file, evaluation_as_data(result.evaluation))
