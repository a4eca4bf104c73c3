"""`demo` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.commands.evaluate import evaluation_as_data, print_evaluation
from unet_pipeline.commands.options import Json, write_json_option
from unet_pipeline.commands.output import say, show_path, tell, tell_next


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
    tell("Look at the picture; the report has the plan, the curves and all numbers.")
    tell_next("report", result.bundle.root)
    tell("Then, on your own folder of images and label maps:")
    tell_next("check", "DATASET")
    write_json_option(json_file, evaluation_as_data(result.evaluation))
