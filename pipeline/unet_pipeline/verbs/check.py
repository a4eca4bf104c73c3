"""`check`: reads every file of a dataset, and with `fix` writes a corrected copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.decisions import apply_decisions
from unet_pipeline.dataset.layouts import read_datasets
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.report import write_report
from unet_pipeline.files import write_together
from unet_pipeline.verbs.stores import fetches

if TYPE_CHECKING:
    from unet_pipeline.dataset.fix import FixedDataset


@fetches("dataset")
def check(
    dataset: Path | str,
    out: Path | str | None = None,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    data_root: Path | str | None = None,
    decisions: Path | str | None = None,
    with_tiles: bool = True,
    also: Sequence[Path | str] = (),
    announce: Callable[[str], None] = lambda line: None,
) -> CheckReport:
    """Read every file of a labelled folder and report all problems.

    Args:
        dataset: the folder, or a table of cases.
        out: gets check.html, problems.json, contact_sheet.png and, for a usable dataset, fingerprint.json and dataset_manifest.json.
        labels: names for the label values, where the layout does not give them.
        options: how the files are to be read.
        data_root: folder that the paths of a list of cases start from; found by looking when None.
        decisions: CSV file of the viewer; what it excludes is left out.
        with_tiles: keep a small picture of each case for the report's own page; always with `out`.
        also: further datasets, read as one with the first; see `join_datasets`.
        announce: called with what is fetched first, where `dataset` is an URL.

    Raises:
        DatasetError: there is no dataset to check.
    """
    options = options or ReadOptions()
    reading = (options.layout, options.follow_links, data_root, options.missing_channels)
    read = apply_decisions(read_datasets([dataset, *also], *reading), decisions)
    report = check_dataset(read, labels, options, with_tiles=with_tiles or out is not None)
    if out is not None:
        from unet_pipeline.evidence.report.check_page import CHECK_PAGE, write_check_page

        with write_together():  # one folder never describes two datasets
            write_report(report, Path(out))
            write_check_page(report, Path(out) / CHECK_PAGE)
    return report


@fetches("dataset")
def fix(
    dataset: Path | str,
    out: Path | str,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    exclude: Sequence[str] = (),
    data_root: Path | str | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> FixedDataset:
    """Write a corrected copy of a labelled folder; nothing of the source is touched. `check --fix` on the command line.

    Args:
        dataset: the folder, or a table of cases.
        out: does not exist yet; gets all files, corrected where that needs no choice, and fixes.json with every change.
        labels: names for the label values, which the copy then has.
        options: how the source is to be read. What they decide (`copy_header`, `resample_labels`, ...) is done in the copy.
        exclude: cases, or files, that `check` names in an error and that are to be left out.
        data_root, announce: as in `check`.

    Returns:
        The report of the source, that of the copy, and what was changed; `copy.errors` is empty when everything was mended.

    Raises:
        DatasetError: `out` exists, or lies in the source or around it; there is no dataset; `exclude` has what no error is about.
        FileError: something cannot be written; nothing is left of the copy then.
    """
    from unet_pipeline.dataset.fix import fix_dataset

    return fix_dataset(dataset, Path(out), labels, options, exclude, data_root)
