"""`report` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unet_pipeline.commands.options import Bundle, Json, write_json_option
from unet_pipeline.commands.output import say, show_path, tell, tell_next


def report(
    bundle: Bundle,
    out: Annotated[Path | None, typer.Option(help="The HTML file; BUNDLE/evidence/report.html if not given.")] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the images, if it is not where the evaluation or the plan says."),
    ] = None,
    card_pictures: Annotated[
        bool,
        typer.Option(
            "--card-pictures", help="Also put the pictures into the model card, where the data's licence allows it."
        ),
    ] = False,
    json_file: Json = None,
) -> None:
    """One HTML file, readable offline: data, plan, curves, results, pictures, how to get it again."""
    import unet_pipeline
    from unet_pipeline.bundle.folder import BundleFolder
    from unet_pipeline.bundle.seal import holds_seal
    from unet_pipeline.evidence.report.report import REPORT

    result = unet_pipeline.report(bundle, out, dataset, card_pictures)
    for sentence in result.missing:
        say(f"missing  {sentence}")
    say(f"report   {show_path(result.path)}  ({result.num_bytes / 1e6:.1f} MB)")
    for path in result.documents:
        edited = "  (the document was edited and kept; this is the new draft)" if ".draft" in path.name else ""
        say(f"written  {show_path(path)}{edited}")
    tell("Open it in any browser; it needs no network.")
    # `package` may store and measure the weights anew behind the report that it seals, so that this one is another
    is_packaged = holds_seal(BundleFolder(bundle), apart_from=f"evidence/{REPORT}")
    tell_next(*(("predict", bundle, "IMAGES", "OUT") if is_packaged else ("package", bundle)))
    write_json_option(
        json_file,
        {
            "report": str(result.path),
            "num_bytes": result.num_bytes,
            "missing": list(result.missing),
            "documents": list(map(str, result.documents)),
        },
    )
