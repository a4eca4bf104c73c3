"""Where the files of an evaluation's cases lie: images, references, and the page of the viewer that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.records import ListedCase, SplitRecord
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.missing_channels import ANY
from unet_pipeline.dataset.prepare import write_joined_label
from unet_pipeline.dataset.structure_masks import has_masks, name_structures
from unet_pipeline.errors import EvaluationError, PipelineError
from unet_pipeline.evaluation.files import METRICS_FILE, DataRecord
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.inputs import PredictionInput, list_inputs
from unet_pipeline.text_files import read_model

_joined: list[TemporaryDirectory[str]] = []  # label maps joined of masks, until the process ends


@dataclass(frozen=True)
class Source:
    """The image of a case, its reference label map where there is one, and the groups that the list can be filtered by."""

    image: PredictionInput
    reference: Path | None


@dataclass(frozen=True)
class Labels:
    """What the values of the label maps mean.

    Attributes:
        table: name and value; the first is the background.
        regions: names for several values together.
        scored: the labels and regions that count.
        ignore_value: of voxels without annotation in the references, None for none.
        spatial_dims: of the network, None where it is not known.
        channels: names of the image's channels, () where they are not known.
    """

    table: dict[str, int]
    regions: dict[str, tuple[int, ...]]
    scored: tuple[str, ...]
    ignore_value: int | None = None
    spatial_dims: int | None = None
    channels: tuple[str, ...] = ()


def choose_evaluation(bundle: BundleFolder) -> Path:
    """The validation cases' evaluation, or else the first by name."""
    if (chosen := find_evaluation(bundle)) is None:
        raise EvaluationError(
            f"{bundle.name} has no evaluation to look at. Run `unet-pipeline evaluate {bundle.root}` first, or give a folder that "
            "`predict` wrote."
        )
    return chosen


def find_evaluation(bundle: BundleFolder) -> Path | None:
    """As `choose_evaluation`; None where there is none."""
    folders = sorted(path.parent for path in bundle.evaluations.glob(f"*/{METRICS_FILE}"))
    return next((path for path in folders if path.name == "validation"), folders[0] if folders else None)


def name_page(bundle: BundleFolder, evaluation: Path | None = None) -> Path:
    """The viewer's page of an evaluation: beside the bundle, whose files a seal may cover and others may get, for it holds images.

    Args:
        evaluation: its folder; the one that `choose_evaluation` takes, if None.
    """
    root = bundle.root.resolve()
    preferred = find_evaluation(bundle)
    is_preferred = evaluation is None or preferred is None or evaluation.name == preferred.name
    return root.with_name(
        f"{root.name}_view.html" if evaluation is None or is_preferred else f"{root.name}_{evaluation.name}_view.html"
    )


def find_sources(
    bundle: BundleFolder | None,
    dataset: Path | None,
    labels: Labels,
    name: str,
    recorded: DataRecord | None = None,
) -> dict[str, Source]:
    """Image and reference of every case.

    Args:
        bundle: the plan of which says where its data lie.
        dataset: folder of the images; where the record or the plan says, if None.
        name: of the evaluation, for messages.
        recorded: the data that were measured, by summary.json; an old one has no place.

    Raises:
        EvaluationError: the data are not where they should be.
    """
    if dataset is not None:
        return _read_sources(dataset, labels)
    if bundle is None or not (bundle.is_planned or (recorded and recorded.place)):
        raise EvaluationError(f"Where the images of {name} lie is not known. Give their folder: --dataset DIR.")
    is_own = recorded is None or recorded.manifest_sha256 is not None or recorded.place is None
    stated = read_plan(bundle.plan).dataset_dir if recorded is None or is_own else str(recorded.place)
    root = bundle.root / stated
    if not root.exists():
        raise EvaluationError(
            f"The dataset of {bundle.name} is not where {'the plan' if is_own else name} says: {stated} (from the bundle's root). "
            "Give its folder: --dataset DIR."
        )
    return _list_sources(bundle, root) if is_own else _read_sources(root, labels)


def _list_sources(bundle: BundleFolder, root: Path) -> dict[str, Source]:
    """Of the bundle's own cases, by its lists."""
    plan = read_plan(bundle.plan)
    listed: list[ListedCase] = []
    for fold in range(plan.num_folds):
        lists = bundle.read_split(fold)
        listed += [*lists.training, *lists.validation]
    if bundle.split_record.is_file():
        listed += read_model(bundle.split_record, SplitRecord).test
    return {
        entry.case: Source(PredictionInput(entry.case, (root / entry.image,)), root / entry.label) for entry in listed
    }


def _read_sources(dataset: Path, labels: Labels) -> dict[str, Source]:
    """Of a labelled folder, or of one with images only."""
    try:
        found = read_dataset(dataset, missing_channels=(ANY,))
    except PipelineError:
        if not dataset.is_dir():
            raise
        channels = max(1, len(labels.channels))
        return {image.name: Source(image, None) for image in list_inputs(dataset, channels, labels.channels)}
    if has_masks(found):
        found = name_structures(found, dict(labels.table))
    sources = {}
    for case in found.cases:
        reference = None if case.label is None else found.root / case.label
        if case.masks is not None:
            if not _joined:
                _joined.append(TemporaryDirectory(prefix="unet_pipeline_view_"))
            reference = write_joined_label(found.root, case, Path(_joined[0].name), labels.spatial_dims)
        images = tuple(found.root / image for image in case.images)
        sources[case.name] = Source(PredictionInput(case.name, images, case.missing_channels), reference)
    return sources
