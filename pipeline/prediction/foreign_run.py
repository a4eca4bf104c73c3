"""The case loop for bundles of others: finished files kept, one bad image not fatal to the others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.boundary import describe_failure, list_causes
from pipeline.bundle_folder import BundleFolder
from pipeline.dataset.dataset import PICTURE_SUFFIXES, image_suffix
from pipeline.dataset.image import read_image
from pipeline.dataset.medical_image import ImageGrid
from pipeline.dataset.problems import WARNING, Message, Problem
from pipeline.dataset.stock import stock_reads
from pipeline.errors import PipelineError, PredictionError
from pipeline.files import stage_folder
from pipeline.prediction.foreign import (
    ForeignFormat,
    ForeignPredictor,
    build_foreign_predictor,
    check_image,
    read_format,
)
from pipeline.prediction.input_check import check_box, check_values, compare_sizes, note_content
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.out_of_memory import is_out_of_memory
from pipeline.prediction.outputs import output_path, write_volume
from pipeline.prediction.reuse import Ledger, without_record
from pipeline.prediction.run import Predictions, refuse_own_folder, require_places
from pipeline.progress import progress_bar

MOVED = Message(
    "result-moved",
    WARNING,
    "has its result on the bundle's own grid; it was taken to the image's, each voxel from the nearest one",
    "The bundle's postprocessing lacks Invertd: borders are as coarse as that grid.",
)


def predict_foreign(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    device: str | None = None,
    ledger: Ledger | None = None,
) -> Predictions:
    """Predict images with a bundle that this package did not make.

    Label maps are uint8; what the bundle leaves as shares or logits stays float32; structures that may overlap, a channel for each, lie along
    the last axis of the file.

    Args:
        folder: the bundle.
        inputs: with distinct names.
        out: made when missing; a finished file in it is kept as `ledger` says.
        device: see `build_foreign_predictor`.
        ledger: of `out`; none is kept, if None.

    Raises:
        BundleError: the bundle cannot be built.
        PredictionError: `out` is the folder of an image; or an image failed (the message names each; the others are done).
    """
    refuse_own_folder(inputs, out)
    predictor = build_foreign_predictor(folder, device)
    expected = read_format(folder.read_metadata(), folder.name)
    finals = {source: output_path(source, out, predictor.saver.output_ext or ".nii.gz") for source in inputs}
    require_places(finals.values())
    ledger = ledger or without_record(out)
    todo, kept = ledger.sort(finals)
    if not todo:
        return Predictions(out, (), kept)
    failures, notes = list[str](), list[Problem]()
    written = []
    with stage_folder(out) as staging, progress_bar("predict", len(todo)) as bar:
        for source in todo:
            try:
                notes += _predict_one(predictor, expected, source, staging, finals[source], ledger)
                written.append(finals[source])
            except PipelineError as error:
                failures.append(str(error))
                ledger.make_room(source, finals[source])
            bar.advance(note=source.name)
    if failures:
        listed = "\n".join(f"  {message}" for message in failures)
        raise PredictionError(f"{len(failures)} of {len(todo)} images could not be predicted:\n{listed}")
    return Predictions(out, tuple(written), kept, tuple(notes), again=dict(ledger.again))


def _predict_one(
    predictor: ForeignPredictor,
    expected: ForeignFormat,
    source: PredictionInput,
    staging: Path,
    final: Path,
    ledger: Ledger,
) -> tuple[Problem, ...]:
    with suppress(OSError):  # reading says it better
        ledger.note_image(source)
    shown, is_series = source.files[0].name, any(path.is_dir() for path in source.files)
    image = source.read(expected.spatial_dims) if is_series else None
    _check_grid(source.read_grid(expected.spatial_dims) if image is None else image.grid, predictor, expected, shown)
    image = source.read(expected.spatial_dims) if image is None else image
    check_values(image, shown)
    place = Path(tempfile.mkdtemp(dir=staging))
    (place / "result").mkdir()
    if len(source.files) > 1 and all(stock_reads(file) for file in source.files):
        files = source.files
    else:
        is_picture = image_suffix(source.files[0]) in PICTURE_SUFFIXES
        files = (source.write_readable(image, place, ".png" if is_picture else ".nii.gz"),)
    try:
        written, moved = predictor.predict(files, place / "result")
    except Exception as error:  # whatever the bundle's own transforms raise
        if any(map(is_out_of_memory, list_causes(error))):
            raise PredictionError(
                f"{shown} does not fit into the memory of this machine. See that the voxel size in its header is right, crop it, or predict "
                "it on a machine with more."
            ) from error
        cause = describe_failure(error.__cause__ or error, 300).replace(str(place), "").rstrip(".")
        raise PredictionError(f"{shown} cannot be predicted by the bundle: {cause}. Ask its makers.") from error
    ledger.make_room(source, final)
    _finish(written, files[0], image.spatial_shape, final)
    ledger.finish(source, final)
    seen = note_content(image, shown, expected.modalities)
    return (*((MOVED.about(shown),) if moved else ()), *seen, *image.notes)


def _check_grid(grid: ImageGrid, predictor: ForeignPredictor, expected: ForeignFormat, shown: str) -> None:
    """Whether the bundle can take an image, by its header.

    Raises:
        PredictionError: other dimensions or channels, sheared axes, or a voxel size with which it becomes too large or too small.
    """
    check_image(len(grid.spatial_shape), grid.num_channels, expected, shown)
    check_box(grid, shown)
    if (becomes := predictor.measure_resampled(grid)) is not None:
        compare_sizes(grid, *becomes, shown)


def _finish(written: Path, image: Path, spatial_shape: tuple[int, ...], final: Path) -> None:
    """Give a file that the bundle wrote its final name, once it is on the image's grid; a NIfTI file gets exactly the image's header.

    Raises:
        PredictionError: it is on another grid.
    """
    in_nifti = image_suffix(written).startswith(".nii")
    values = np.asarray(nib.load(written).dataobj) if in_nifti else read_image(written).array[0]
    while in_nifti and values.ndim > len(spatial_shape) and values.shape[-1] == 1:
        values = values[..., 0]
    if values.shape[: len(spatial_shape)] != tuple(spatial_shape):
        raise PredictionError(
            f"The bundle wrote a result of shape {values.shape} for {image.name}; expected the image's grid, {tuple(spatial_shape)}. Its "
            "postprocessing does not lead back to it."
        )
    if in_nifti and image_suffix(image).startswith(".nii"):
        whole = values.size == 0 or (
            values.min() >= 0 and values.max() <= 255 and np.array_equal(values, np.rint(values))
        )
        write_volume(final, values.astype(np.uint8 if whole else np.float32), image)
    else:
        os.replace(written, final)
