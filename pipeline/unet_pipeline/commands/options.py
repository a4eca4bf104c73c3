"""Arguments and options that several verbs of the command line share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unet_pipeline.dataset.options import ReadOptions

Dataset = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="Labelled folder (Medical Segmentation Decathlon, nnU-Net raw, images/ and labels/, a folder per case), or a CSV or JSON list.",
    ),
]
Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")]


def _require_place(path: Path | None) -> Path | None:
    """Refuse a name that no file can get before the work, not after it."""
    if path is not None:
        from unet_pipeline.files import require_place

        require_place(path)
    return path


def completing(list_names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Names for a shell's completion; they are listed when a shell asks for them."""
    return lambda incomplete: [name for name in list_names() if name.startswith(incomplete)]


def _list_layouts() -> Iterable[str]:
    from unet_pipeline.dataset.layouts import READERS

    return READERS


Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write what is printed as data to this file.", callback=_require_place),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; a GPU when there is one, if not given.")]
Mirror = Annotated[bool, typer.Option("--mirror", help="Average over copies mirrored as in the training; slower.")]
Precision = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Of the network: float32, as stock MONAI; bfloat16; auto takes bfloat16 where the device is fast with it.",
    ),
]
Ensemble = Annotated[bool, typer.Option("--ensemble", help="Average the probabilities of all trained folds.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the bundle although `unet-pipeline audit` finds a danger in it.")
]
Initial = Annotated[
    Path | None,
    typer.Option("--from", metavar="BUNDLE", help="Start from the weights of this trained bundle, or of a file."),
]
Tracking = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="mlflow: parameters, metrics and records go to MLFLOW_TRACKING_URI, or into BUNDLE_mlflow. none: nowhere.",
    ),
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=VALUE", help="Name a label value; repeat for every label, 0 included."),
]
Layout = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="decathlon, nnunet, table, dicom_labels, folders or case_folders; found by looking, if not given.",
        autocompletion=completing(_list_layouts),
    ),
]
CopyHeader = Annotated[
    bool, typer.Option("--copy-header", help="Labels of the image's shape that claim to lie elsewhere get its header.")
]
ResampleLabels = Annotated[
    bool,
    typer.Option("--resample-labels", help="Labels on another grid are resampled to the image's, nearest neighbour."),
]
Fix = Annotated[
    Path | None,
    typer.Option(
        "--fix",
        metavar="OUT",
        help="Write a corrected copy of the dataset into this new folder; fixes.json lists every change.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="CASE",
        help="With --fix: leave out this case, or file, that has an error; repeat for each.",
    ),
]
Also = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DATASET", help="A further dataset, taken as one with the first; labels are joined by name. Repeatable."
    ),
]
Decisions = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="CSV that the viewer exports: leave out the cases that it excludes."),
]
PagesAsSlices = Annotated[
    bool,
    typer.Option("--pages-as-slices", help="Pages of a TIFF file are slices unless its tags say otherwise."),
]
Overlaps = Annotated[
    bool,
    typer.Option("--overlaps", help="Masks of one case may overlap: each structure becomes a region of its own."),
]
LabelsAreInstances = Annotated[
    bool | None,
    typer.Option(
        "--labels-are-instances/--no-labels-are-instances",
        help="Every object of a label map has a value of its own; seen by the values if not given.",
    ),
]
FollowLinks = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Links may lead out of the dataset, as those of DVC, datalad and git-annex do."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder that the paths of a list of cases start from; found by looking near the list, if not given.",
    ),
]
MissingChannels = Annotated[
    str | None,
    typer.Option(
        metavar="any|NAME,NAME",
        help="Channels that a case may lack, with no file or one value everywhere; trained with channel dropout.",
    ),
]
Patient = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN",
        help="Regular expression; its first group is the patient in a case name, such as '(.+)_visit'. Patients stay together.",
    ),
]
Site = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the list of cases with the hospital of each; every fold leaves one out, and evaluate reports each.",
    ),
]


def read_options(
    layout: str | None,
    patient: str | None,
    copy_header: bool,
    resample_labels: bool,
    pages_as_slices: bool,
    follow_links: bool,
    labels_are_instances: bool | None = None,
    site: str | None = None,
    overlaps: bool = False,
    missing_channels: str | None = None,
) -> ReadOptions:
    """The options about the files of a dataset, in one."""
    from unet_pipeline.dataset.options import ReadOptions

    return ReadOptions(
        layout=layout,
        copy_header=copy_header,
        resample_labels=resample_labels,
        pages_as_slices=pages_as_slices,
        follow_links=follow_links,
        labels_are_instances=labels_are_instances,
        patient_pattern=patient,
        site_column=site,
        overlaps=overlaps,
        missing_channels=_split_names(missing_channels, "--missing-channels"),
    )


def _split_names(text: str | None, option: str) -> tuple[str, ...]:
    """Names with commas between them; none without the option. No name at all is wrong usage."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text is not None and not names:
        raise typer.BadParameter(f"{option} is {text!r}; expected any, or names of channels such as t1,flair")
    return names


def parse_memory(text: str | None) -> float | str | None:
    """GiB of `--memory`, or "free"; anything else is wrong usage."""
    if text is None or text == "free":
        return text
    try:
        size_gib = float(text)
    except ValueError:
        size_gib = math.nan
    if not 1 <= size_gib < math.inf:
        raise typer.BadParameter(f"--memory is {text!r}; expected a number of GiB, 1 or more, or free")
    return size_gib


def require_fold(fold: str | None) -> None:
    """Whether `--fold` is a number or "all", if it is given; anything else is wrong usage."""
    if fold is not None and fold != "all" and not fold.isdecimal():
        raise typer.BadParameter(f"--fold is {fold!r}; expected a number or all")


def parse_labels(texts: list[str] | None, are_joined: bool = False) -> dict[str, int] | None:
    """Names and values of `--label NAME=VALUE`; one of another form is wrong usage, and any where several datasets are joined by their names.

    Raises:
        DatasetError: a name or a value is none that a label can have, or there twice.
    """
    if not texts:
        return None
    if are_joined:
        raise typer.BadParameter(
            "--label and --also exclude each other; name the labels of each dataset in its dataset_facts.json"
        )
    pairs = []
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not value.isdecimal():
            raise typer.BadParameter(
                f"--label is {text!r}; expected NAME=VALUE with a whole number, such as nucleus=255"
            )
        pairs.append((name, value))
    from unet_pipeline.dataset.names import collect_labels

    return collect_labels(pairs, "--label")


def write_json_option(path: Path | None, content: Any) -> None:
    """What a verb printed, as data in the file of `--json`; nothing without one."""
    if path is not None:
        from unet_pipeline.files import write_json

        write_json(path, content)
