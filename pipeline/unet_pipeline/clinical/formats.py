"""The formats of results by their names: files of their own, and DICOM objects that refer to the series they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.segments import list_segments
from unet_pipeline.dataset.dicom_file import is_dicom_file
from unet_pipeline.dataset.dicom_folders import list_dicom_files
from unet_pipeline.dataset.dicom_index import is_series_address
from unet_pipeline.errors import PredictionError, suggest
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.outputs import OWN, WITH_REPORT, ResultFormat, build_file_format

FILE_FORMATS = ("nifti", "nrrd", "png")
DICOM_FORMATS = ("dicomseg", "dicomseg-labelmap", WITH_REPORT, "rtstruct", "overlay", "sr")
_MOST_SHOWN = 5


def choose_format(folder: BundleFolder, name: str | None, inputs: Sequence[PredictionInput]) -> ResultFormat:
    """A format by its name.

    Args:
        folder: the bundle.
        name: of the format; None for the bundle's own.
        inputs: that are to be predicted.

    Raises:
        PredictionError: there is no such format, or one cannot hold the results or refer to the images.
    """
    if name is None:
        return OWN
    if name in FILE_FORMATS:
        plan = read_plan(folder.plan) if folder.is_planned else None
        return build_file_format(name, plan.output_suffix if plan else "", plan.spatial_dims if plan else 2)
    if name not in DICOM_FORMATS:
        choices = (*FILE_FORMATS, *DICOM_FORMATS)
        raise PredictionError(f"--format is {name!r}; {suggest(name, choices)}. Expected one of {', '.join(choices)}.")
    _require_dicom(name, inputs)
    return _build_dicom_format(folder, name)


def _build_dicom_format(folder: BundleFolder, name: str) -> ResultFormat:
    """A format whose writers take long to import; probabilities are a SEG beside each of them."""
    from unet_pipeline.clinical.segmentation import BINARY, LABELMAP, build_segmentation_format

    segments = list_segments(folder)
    kind = LABELMAP if name == "dicomseg-labelmap" else BINARY
    segmentation = build_segmentation_format(folder, name, kind, segments)
    if name == WITH_REPORT:
        from unet_pipeline.clinical.volume_report import add_report

        return add_report(folder, segmentation, segments)
    if name == "rtstruct":
        from unet_pipeline.clinical.structure_set import build_structure_set_format

        chosen = build_structure_set_format(folder, name, segments)
    elif name == "overlay":
        from unet_pipeline.clinical.overlay import build_overlay_format

        chosen = build_overlay_format(folder, name, segments)
    elif name == "sr":
        from unet_pipeline.clinical.volume_report import build_report_format

        chosen = build_report_format(folder, name, segments)
    else:
        return segmentation
    return replace(chosen, save_probabilities=segmentation.save_probabilities)


def _require_dicom(name: str, inputs: Sequence[PredictionInput]) -> None:
    """Whether every image is DICOM, to which the results are to refer."""
    others = [source.files[0].name for source in inputs if not _is_dicom(source)]
    if others:
        shown = ", ".join(others[:_MOST_SHOWN]) + (" and others" if len(others) > _MOST_SHOWN else "")
        raise PredictionError(
            f"--format is {name}, whose files refer to the DICOM series they were made of; {len(others)} of {len(inputs)} image(s) are no "
            f"DICOM: {shown}. Give DICOM series, or choose nifti or nrrd."
        )


def _is_dicom(source: PredictionInput) -> bool:
    path = source.files[0]
    if is_series_address(path):
        return True
    return bool(list_dicom_files(path)) if path.is_dir() else is_dicom_file(path)
