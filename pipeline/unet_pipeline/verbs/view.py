"""`view`: images, references, predictions and their errors in the browser, from one file or a server on the loopback address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.errors import EvaluationError
from unet_pipeline.files import write_text

if TYPE_CHECKING:
    from unet_pipeline.viewer.page import Looks
    from unet_pipeline.viewer.server import ViewerServer


@dataclass(frozen=True)
class View:
    """What `view` made.

    Attributes:
        cases: names of the cases, in the order of the list.
        path: of the HTML file; None where a server shows the page.
        num_bytes: of the file.
        is_exact: whether the values are the images' own; otherwise they were rounded to 256 steps so that the file is small enough.
        slides: the presentation, None where none was asked for.
        server: runs until its `close`; None for a file.
    """

    cases: tuple[str, ...]
    path: Path | None = None
    num_bytes: int = 0
    is_exact: bool = True
    slides: Path | None = None
    server: ViewerServer | None = None


def view(
    target: Path | str,
    other: Path | str | None = None,
    dataset: Path | str | None = None,
    cases: str | None = None,
    out: Path | str | None = None,
    serve: bool = False,
    predictions: Path | str | None = None,
    slides: Path | str | None = None,
    port: int = 0,
) -> View:
    """Look at label maps beside their references.

    Args:
        target: an evaluated bundle, the folder of an evaluation, or one that `predict` wrote.
        other: a second one of them, shown beside it; on the same images.
        dataset: folder of the images, if it is not where the evaluation or the bundle's plan says.
        cases: `worst:20`, `median:3`, `best:5`, `failed`, names, several of them with commas; all, the worst first, if None.
        out: the HTML file; TARGET_view.html beside the bundle or folder if None.
        serve: show the page on 127.0.0.1 instead, with whole images, each read when it is looked at.
        predictions: folder of the label maps of `target`, if they are not below it.
        slides: also write worst, median and best case with the table of results into this .pptx file.
        port: of the server; a free one if 0.

    Raises:
        EvaluationError: nothing to look at, data that are not where they should be, or a file that would be too large.
    """
    looks = _find_looks(target, other, dataset, cases, predictions)
    presentation = None
    if slides is not None:
        from unet_pipeline.viewer.slides import write_slides

        presentation = write_slides(looks.results[0], _require_suffix(Path(slides), ".pptx"))
    if serve:
        from unet_pipeline.viewer.server import ViewerServer

        return View(looks.cases, slides=presentation, server=ViewerServer(looks, port))
    from unet_pipeline.viewer.page import build_file

    path = _require_suffix(Path(out), ".html") if out is not None else _name_page(Path(target))
    html, is_exact = build_file(looks)
    write_text(path, html)
    return View(looks.cases, path, path.stat().st_size, is_exact, presentation)


def _find_looks(
    target: Path | str,
    other: Path | str | None,
    dataset: Path | str | None,
    cases: str | None,
    predictions: Path | str | None,
) -> Looks:
    from unet_pipeline.viewer.page import Looks, require_alike
    from unet_pipeline.viewer.results import choose_cases, open_result

    data = None if dataset is None else Path(dataset)
    results = [open_result(Path(target), data, None if predictions is None else Path(predictions))]
    if other is not None:
        results.append(open_result(Path(other), data))
        require_alike(results)
    return Looks(tuple(results), tuple(choose_cases(results, cases)))


def _require_suffix(path: Path, suffix: str) -> Path:
    if path.suffix.lower() != suffix:
        raise EvaluationError(f"{path.name} is to be written; expected a name that ends in {suffix}. Choose one.")
    return path


def _name_page(target: Path) -> Path:
    """Beside the bundle, whose files a seal may cover and others may get: the page holds images of patients."""
    from unet_pipeline.evidence.records.case_files import name_page

    root = target.resolve()
    inside = next((folder for folder in root.parents if BundleFolder(folder).is_bundle), None)
    is_evaluation = inside is not None and root.parent == BundleFolder(inside).evaluations
    return name_page(BundleFolder(inside or root), root if is_evaluation else None)
