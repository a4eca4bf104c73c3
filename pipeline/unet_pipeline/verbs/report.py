"""`report`: one HTML file from a bundle's evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import open_bundle

if TYPE_CHECKING:
    from unet_pipeline.evidence.report.report import Report


def report(
    bundle: Path | str,
    out: Path | str | None = None,
    dataset: Path | str | None = None,
    card_pictures: bool = False,
) -> Report:
    """Write one HTML file that tells what a bundle was trained on, how, with which result, and how to get it again.

    Model card and drafts of the reporting checklists are written too, into the docs/ of a bundle that is not sealed. What is missing,
    such as an evaluation or the images, is said in the report.

    Args:
        bundle: planned, trained or evaluated.
        out: the HTML file; evidence/report.html of the bundle by default.
        dataset: folder of the images, if it is not where the evaluation or the plan says.
        card_pictures: also put the pictures into the model card; only for data whose licence allows it.

    Raises:
        BundleError: no bundle.
        PlanError: its plan is not valid.
    """
    from unet_pipeline.evidence.report.report import write_report

    folder = open_bundle(bundle)
    folder.require_data()
    data = Path(dataset) if dataset is not None else None
    return write_report(folder, Path(out) if out is not None else None, data, card_pictures)
