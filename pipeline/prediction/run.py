"""The case loop: every image of a file or folder, finished label maps kept, one bad image not fatal to the others."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle_folder import BundleFolder
from pipeline.dataset.dataset import case_name
from pipeline.errors import PipelineError, PredictionError
from pipeline.files import PARTIAL_PREFIX
from pipeline.planning.plan import read_plan
from pipeline.prediction.inference import build_predictor
from pipeline.prediction.outputs import finish_output, output_path
from pipeline.progress import progress_bar


@dataclass(frozen=True)
class Predictions:
    """Label map files of one call: `written` now, `kept` because they were finished before."""

    out: Path
    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def predict_images(
    folder: BundleFolder,
    images: Sequence[Path],
    out: Path,
    weights: Path,
    device: str | None = None,
    mirror: bool = False,
) -> Predictions:
    """Predict images into `out`, one label map per image under the image's name.

    Args:
        folder: the bundle.
        images: files with distinct case names.
        out: made when missing; a finished label map in it is kept.
        weights: a state_dict file.
        device: see `build_predictor`.
        mirror: see `build_predictor`.

    Raises:
        PredictionError: `out` is the folder of an image; or an image failed (the message names each; the others are done).
    """
    suffix = read_plan(folder.plan).output_suffix
    if same := [image for image in images if image.resolve().parent == out.resolve()]:
        raise PredictionError(
            f"The output folder holds the image {same[0].name}, whose name its label map would take. Choose another folder."
        )
    finals = {image: output_path(image, out, suffix) for image in images}
    kept = tuple(final for final in finals.values() if final.is_file())
    todo = [image for image, final in finals.items() if not final.is_file()]
    if not todo:
        return Predictions(out, (), kept)
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=out))
    failures: dict[str, str] = {}
    written = []
    try:
        predictor = build_predictor(folder, weights, staging, device, mirror)
        with progress_bar("predict", len(todo)) as bar:
            for image in todo:
                try:
                    predictor.write_prediction(image)
                    finish_output(staging / f"{case_name(image)}{suffix}", image, finals[image])
                    written.append(finals[image])
                except PipelineError as error:
                    failures[image.name] = str(error)
                bar.advance(note=image.name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not any(out.iterdir()):
            out.rmdir()
    if failures:
        listed = "\n".join(f"  {message}" for message in failures.values())
        raise PredictionError(f"{len(failures)} of {len(todo)} images could not be predicted:\n{listed}")
    return Predictions(out, tuple(written), kept)
