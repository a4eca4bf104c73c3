"""The case loop: every image of a file or folder, finished label maps kept, one bad image not fatal to the others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from pipeline.bundle_folder import BundleFolder
from pipeline.dataset.problems import Problem
from pipeline.errors import PredictionError
from pipeline.files import stage_folder
from pipeline.planning.plan import Plan, read_plan
from pipeline.prediction.case_steps import CaseSteps
from pipeline.prediction.forecast import Forecast, forecast_images
from pipeline.prediction.inference import build_predictor
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.outputs import output_path, probabilities_path
from pipeline.prediction.overlap import Outcome, Overlap, choose_overlap, count_cores, run_cases, run_side_by_side
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.reuse import Ledger, without_record
from pipeline.prediction.runtime import TORCH, choose_device
from pipeline.prediction.window_choice import describe_windowing, settle_windows
from pipeline.progress import progress_bar

_Outcome = Outcome[PredictionInput, tuple[Problem, ...]]


@dataclass(frozen=True)
class Predictions:
    """Label map files of one call: `written` now, `kept` because they were finished before, from the same images in the same way.

    `again` are the images whose label map was there and was not kept, with the reason. `notes` are what was seen in the images and should
    be known: warnings and notes. `shares` are those of the time in reading, preprocessing, network, postprocessing and writing.
    """

    out: Path
    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    notes: tuple[Problem, ...] = ()
    precision: str = "float32"
    shares: Mapping[str, float] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)


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
    overlap: Overlap | None = None,
    announce: Callable[[str], None] = lambda line: None,
    ledger: Ledger | None = None,
) -> Predictions:
    """Predict images into `out`, one label map per image under the image's name.

    Args:
        folder: the bundle.
        inputs: with distinct names.
        out: made when missing; a finished label map in it is kept as `ledger` says.
        weights: see `build_predictor`.
        device: see `build_predictor`.
        mirror: see `build_predictor`.
        probabilities: write them too, beside each label map (`write_probabilities`).
        runtime: see `build_predictor`.
        precision: of the network; see `choose_precision`.
        overlap: what runs beside the network; several images side by side or else `choose_overlap`, if None.
        announce: called once before the first image, with how many windows and images at once there will be.
        ledger: of `out`; none is kept, if None.

    Raises:
        PredictionError: `out` is the folder of an image; or an image failed (the message names each; the others are done).
    """
    plan = read_plan(folder.plan)
    ledger = ledger or without_record(out)
    finals, todo, kept = _sort_inputs(inputs, out, plan, probabilities, ledger)
    if not todo:
        return Predictions(out, (), kept)
    with stage_folder(out) as staging:
        predictor = build_predictor(folder, weights, staging, device, mirror, runtime=runtime, precision=precision)
        windowing = settle_windows(predictor, todo, runtime, probabilities)
        announce(describe_windowing(windowing, predictor.obstacle is None))
        predictor = predictor.with_windowing(windowing)
        build = partial(CaseSteps, staging=staging, finals=finals, probabilities=probabilities, ledger=ledger)
        outcomes = _start(todo, predictor, build, windowing.num_images if overlap is None else 1, overlap)
        with closing(outcomes):
            found = _watch(outcomes, len(todo))
        for note in predictor.list_notes():
            announce(f"device   {note}")
    _require_all(found, finals, plan.output_suffix, ledger)
    written = tuple(finals[outcome.item] for outcome in found)
    notes = tuple(note for outcome in found for note in outcome.result or ())
    shares = predictor.stopwatch.list_shares()
    return Predictions(out, written, kept, notes, predictor.precision, shares, dict(ledger.again))


def _require_all(
    found: Sequence[_Outcome], finals: Mapping[PredictionInput, Path], suffix: str, ledger: Ledger
) -> None:
    """Whether every image was predicted; under the name of one that was not lies no label map of another image afterwards."""
    failures = [outcome for outcome in found if outcome.error is not None]
    for outcome in failures:
        final = finals[outcome.item]
        ledger.make_room(outcome.item, final, probabilities_path(final, suffix))
    if failures:
        listed = "\n".join(f"  {outcome.error}" for outcome in failures)
        raise PredictionError(f"{len(failures)} of {len(found)} images could not be predicted:\n{listed}")


def _start(
    todo: Sequence[PredictionInput],
    predictor: Predictor,
    build: Callable[..., CaseSteps],
    num_images: int,
    overlap: Overlap | None,
) -> Generator[_Outcome, None, None]:
    """The outcomes of all images, side by side or one after the other."""
    num_threads = torch.get_num_threads()
    if num_images > 1:
        workers = [build(predictor.copy_for_thread(), prepares_ahead=False).run for _ in range(num_images)]
        return run_side_by_side(todo, workers, max(1, num_threads // num_images), _measure_input)
    taken = overlap or choose_overlap(predictor.device, num_threads, count_cores())
    steps = build(predictor, prepares_ahead=taken.preprocessing)
    return run_cases(todo, steps.read, steps.compute, steps.write, taken.files)


def _measure_input(source: PredictionInput) -> float:
    """Bytes of its files; those that are not there are for `read` to complain about."""
    return float(sum(file.stat().st_size for file in source.files if file.exists()))


def _watch(outcomes: Iterable[_Outcome], total: int) -> list[_Outcome]:
    """The outcomes, with a progress bar while they come."""
    found = []
    with progress_bar("predict", total) as bar:
        for outcome in outcomes:
            found.append(outcome)
            bar.advance(note=outcome.item.name)
    return found


def forecast_prediction(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    device: str | None = None,
    mirror: bool = False,
    probabilities: bool = False,
    runtime: str = TORCH,
    precision: str = "float32",
    ledger: Ledger | None = None,
) -> Forecast:
    """What `predict_images` would do with the same arguments, from the headers of the images; nothing is written.

    Raises:
        PredictionError: as `predict_images`, before the first image; or the preprocessing is not what `plan` writes.
    """
    _, todo, kept = _sort_inputs(inputs, out, read_plan(folder.plan), probabilities, ledger or without_record(out))
    # an exported network takes what PyTorch's takes, up to its library's own buffers
    taken = "float32" if runtime != TORCH else precision
    predictor = build_predictor(folder, weights, out, choose_device(runtime, device), mirror, precision=taken)
    overlap = choose_overlap(predictor.device, torch.get_num_threads(), count_cores())
    return forecast_images(predictor, todo, kept, overlap, probabilities)


def _sort_inputs(
    inputs: Sequence[PredictionInput], out: Path, plan: Plan, probabilities: bool, ledger: Ledger
) -> tuple[dict[PredictionInput, Path], list[PredictionInput], tuple[Path, ...]]:
    """The label map of each input, the inputs that are left to do, and the label maps that are there."""
    refuse_own_folder(inputs, out)
    finals = {source: output_path(source, out, plan.output_suffix) for source in inputs}
    beside = [probabilities_path(final, plan.output_suffix) for final in finals.values()] if probabilities else []
    require_places(finals.values(), beside)
    todo, kept = ledger.sort(finals, plan.output_suffix if probabilities else None)
    return finals, todo, kept


def require_places(finals: Iterable[Path], beside: Iterable[Path] = ()) -> None:
    """Whether every result gets a file of its own, and what lies under its name is one that may be replaced.

    Args:
        finals: the label maps.
        beside: other results, such as probabilities.

    Raises:
        PredictionError: two results have one name, or a folder, a device or a pipe lies there.
    """
    seen: set[Path] = set()
    for path in (*finals, *beside):
        if path in seen:
            raise PredictionError(
                f"Two results would be named {path.name}: the label map of one image, and the probabilities of another. Rename an image."
            )
        seen.add(path)
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise PredictionError(
                f"{path.name} in the output folder is {kind}; expected a file, or none. Remove it, or choose another folder."
            )


def refuse_own_folder(inputs: Sequence[PredictionInput], out: Path) -> None:
    """Whether results may be written there.

    Raises:
        PredictionError: an image lies in that folder, and its result would take its name.
    """
    for source in inputs:
        if any(file.resolve().parent == out.resolve() for file in source.files):
            raise PredictionError(
                f"The output folder holds the image {source.files[0].name}, whose name its label map would take. "
                "Choose another folder."
            )
