"""The case loop: every image of a file or folder, finished label maps kept, one bad image not fatal to the others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.bundle_folder import BundleFolder
from pipeline.dataset.problems import Problem
from pipeline.errors import PipelineError, PredictionError
from pipeline.files import PARTIAL_PREFIX
from pipeline.planning.plan import Plan, read_plan
from pipeline.prediction.inference import Predictor, build_predictor, check_input
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.outputs import (
    finish_output,
    output_path,
    probabilities_path,
    write_probabilities,
    write_volume,
)
from pipeline.prediction.runtime import TORCH
from pipeline.progress import progress_bar


@dataclass(frozen=True)
class Predictions:
    """Label map files of one call: `written` now, `kept` because they were finished before.

    `notes` are what was seen in the images and should be known: warnings and notes. `shares` are those of the time in reading,
    preprocessing, network, postprocessing and writing.
    """

    out: Path
    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    notes: tuple[Problem, ...] = ()
    precision: str = "float32"
    shares: Mapping[str, float] = field(default_factory=dict)


def predict_images(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    device: str | None = None,
    mirror: bool = False,
    probabilities: bool = False,
    runtime: str = TORCH,
    precision: str = "float32",
) -> Predictions:
    """Predict images into `out`, one label map per image under the image's name.

    Args:
        folder: the bundle.
        inputs: with distinct names.
        out: made when missing; a finished label map in it is kept.
        weights: see `build_predictor`.
        device: see `build_predictor`.
        mirror: see `build_predictor`.
        probabilities: write them too, beside each label map (`write_probabilities`).
        runtime: see `build_predictor`.
        precision: of the network; see `choose_precision`.

    Raises:
        PredictionError: `out` is the folder of an image; or an image failed (the message names each; the others are done).
    """
    plan = read_plan(folder.plan)
    _refuse_own_folder(inputs, out)
    finals = {source: output_path(source, out, plan.output_suffix) for source in inputs}
    done = {source for source, final in finals.items() if _is_done(final, plan, probabilities)}
    kept = tuple(finals[source] for source in inputs if source in done)
    todo = [source for source in inputs if source not in done]
    if not todo:
        return Predictions(out, (), kept)
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=out))
    failures: dict[str, str] = {}
    written = []
    notes: list[Problem] = []
    try:
        predictor = build_predictor(folder, weights, staging, device, mirror, runtime=runtime, precision=precision)
        with progress_bar("predict", len(todo)) as bar:
            for source in todo:
                try:
                    notes += _predict_one(predictor, source, staging, finals[source], probabilities)
                    written.append(finals[source])
                except PipelineError as error:
                    failures[source.name] = str(error)
                bar.advance(note=source.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()
    if failures:
        listed = "\n".join(f"  {message}" for message in failures.values())
        raise PredictionError(f"{len(failures)} of {len(todo)} images could not be predicted:\n{listed}")
    shares = predictor.stopwatch.list_shares()
    return Predictions(out, tuple(written), kept, tuple(notes), predictor.precision, shares)


def _refuse_own_folder(inputs: Sequence[PredictionInput], out: Path) -> None:
    for source in inputs:
        if any(file.resolve().parent == out.resolve() for file in source.files):
            raise PredictionError(
                f"The output folder holds the image {source.files[0].name}, whose name its label map would take. "
                "Choose another folder."
            )


def _is_done(final: Path, plan: Plan, probabilities: bool) -> bool:
    return final.is_file() and (not probabilities or probabilities_path(final, plan.output_suffix).is_file())


def _predict_one(
    predictor: Predictor, source: PredictionInput, staging: Path, final: Path, probabilities: bool
) -> tuple[Problem, ...]:
    """Read, check, predict, and give the label map its name; copies for MONAI lie in a folder that goes away."""
    stopwatch = predictor.stopwatch
    with stopwatch.measure("read"):
        image = source.read()
        notes = check_input(image, predictor.plan, source.files[0].name)
        copies = staging / "readable"
        copies.mkdir(exist_ok=True)
        readable = source.write_readable(image, copies, predictor.plan.image_suffix)
    affine, spatial_shape = image.affine, image.spatial_shape
    if predictor.can_stream(image):
        prepared = predictor.preprocess(image)
        del image  # its voxels are in `prepared`; both at once would be the peak of the memory
        values, found = predictor.stream(prepared, affine, spatial_shape, probabilities)
        with stopwatch.measure("write"):
            if found is not None:
                write_probabilities(probabilities_path(final, predictor.plan.output_suffix), found, readable)
            write_volume(final, values, readable)
        return notes
    del image  # MONAI reads the file again
    with stopwatch.measure("postprocess"):
        written, found = predictor.write_prediction(readable)
    with stopwatch.measure("write"):
        if probabilities:
            write_probabilities(probabilities_path(final, predictor.plan.output_suffix), found, readable)
        finish_output(staging / written, readable, spatial_shape, final)
    return notes
