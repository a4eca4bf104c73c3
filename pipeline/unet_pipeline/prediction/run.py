"""The case loop: every image of a file or folder, finished label maps kept, one bad image not fatal to the others.

An image is read and checked, brought to the network's grid, put through the network, taken back to its own grid, and written. Reading and
writing may each have a thread of its own, or small images go side by side (`overlap.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import Seen
from unet_pipeline.dataset.dataset import is_picture
from unet_pipeline.dataset.medical_image import MedicalImage
from unet_pipeline.dataset.stock import stock_reads
from unet_pipeline.device.cores import count_cores
from unet_pipeline.errors import PipelineError, PredictionError
from unet_pipeline.files import stage_folder
from unet_pipeline.messages import Problem, list_failures
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.confidence import ConfidenceSums
from unet_pipeline.prediction.doubt import measure_doubt
from unet_pipeline.prediction.engine import Case, CasePrediction
from unet_pipeline.prediction.engines import Engines, build_engines
from unet_pipeline.prediction.forecast import Forecast, forecast_images
from unet_pipeline.prediction.input_channels import note_missing, take_missing
from unet_pipeline.prediction.input_check import check_grid, check_input, check_size, compare_sizes, see_grid
from unet_pipeline.prediction.inputs import PredictionInput, measure_input
from unet_pipeline.prediction.inspection import Inspector
from unet_pipeline.prediction.instances import list_companions, write_companions
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.out_of_memory import explain_out_of_memory
from unet_pipeline.prediction.outputs import (
    OWN,
    ResultFormat,
    list_beside,
    list_reports,
    output_path,
    probabilities_path,
)
from unet_pipeline.prediction.overlap import Outcome, Overlap, choose_overlap, run_cases, run_side_by_side
from unet_pipeline.prediction.reuse import Ledger, without_record
from unet_pipeline.prediction.runtime import TORCH, choose_device
from unet_pipeline.prediction.transforms import measure_resampled
from unet_pipeline.prediction.window_choice import describe_windowing, settle_windows
from unet_pipeline.progress import progress_bar
from unet_pipeline.results import Result

CaseOutcome = Outcome[PredictionInput, tuple[Problem, ...]]
_NO_THREADS = Overlap(False, False, "the steps of an external bundle may not be made for threads")
COPIES = "readable"  # folder of the images that MONAI cannot read as they are


@dataclass(frozen=True, repr=False)
class Predictions(Result):
    """Label map files of one call: `written` now, `kept` because they were finished before, from the same images in the same way.

    `again` are the images whose label map was there and was not kept, with the reason. `notes` are what was seen in the images and should
    be known: warnings and notes. `shares` are those of the time in reading, preprocessing, network, postprocessing and writing.
    `images` has the first file of the image of each label map, written or kept. `stored` says of files that a server has whether they were
    sent now. `table` are the rows of predictions.csv, also those of earlier calls into the folder.
    """

    out: Path
    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    notes: tuple[Problem, ...] = ()
    precision: str = "float32"
    shares: Mapping[str, float] = field(default_factory=dict)
    again: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[Path, Path] = field(default_factory=dict)
    stored: Mapping[Path, str] = field(default_factory=dict)
    table: tuple[Mapping[str, str], ...] = ()


class FailedImagesError(PredictionError):
    """Images that could not be predicted; the others were.

    Attributes:
        messages: one for each.
        num_images: of all that were tried.
    """

    def __init__(self, messages: Sequence[str], num_images: int) -> None:
        listed = "\n".join(f"  {line}" for line in list_failures(messages))
        super().__init__(f"{len(messages)} of {num_images} images could not be predicted:\n{listed}")
        self.messages, self.num_images = tuple(messages), num_images


def predict_images(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    options: PredictOptions | None = None,
    overlap: Overlap | None = None,
    announce: Callable[[str], None] = lambda line: None,
    ledger: Ledger | None = None,
    result_format: ResultFormat | None = None,
    inspector: Inspector | None = None,
) -> Predictions:
    """Predict images into `out`, one label map per image under the image's name.

    What an external bundle leaves as shares or logits stays float32; structures that may overlap, a channel for each, lie along the last
    axis of the file.

    Args:
        inputs: with distinct names.
        out: made when missing; a finished label map in it is kept as `ledger` says.
        weights: see `build_engines`.
        options: as the user chose them.
        overlap: what runs beside the network; several images side by side or else `choose_overlap`, if None.
        announce: called once before the first image, with how many windows and images at once there will be.
        ledger, result_format: of `out`, where none is kept, if None; and of the label maps, the bundle's own, if None.
        inspector: compares the images with those of the training, if given.

    Raises:
        BundleError: see `build_engines`.
        PredictionError: `out` is the folder of an image; or an image failed (the message names each; the others are done).
    """
    options, ledger, result_format = options or PredictOptions(), ledger or without_record(out), result_format or OWN
    refuse_own_folder(inputs, out)
    engines = None if folder.is_planned else build_engines(folder, weights, out, options)
    own_suffix = find_suffix(folder, engines)
    suffix = result_format.suffix or own_suffix
    finals, todo, kept = sort_inputs(inputs, out, suffix, options, ledger)
    images = {final: source.files[0] for source, final in finals.items()}
    if not todo:
        return Predictions(out, (), kept, images=images)
    with stage_folder(out) as staging:
        engines = engines or build_engines(folder, weights, staging, options)
        windowing = settle_windows(engines, todo, options)
        if folder.is_planned:
            announce(describe_windowing(windowing, engines.volumes is not None))
        steps = (staging, finals, suffix, options, ledger, result_format, own_suffix)
        loop = CaseLoop(engines.with_windowing(windowing), *steps, inspector=inspector)
        if inspector is not None:
            inspector.attach(loop.engines)
        num_at_once = 1 if overlap else windowing.num_images
        with closing(loop.start(todo, num_at_once, overlap)) as outcomes:
            finished = _watch(outcomes, len(todo), num_at_once)
        for note in loop.engines.list_notes():
            announce(f"device   {note}")
    require_all(finished, finals, suffix, ledger)
    written = tuple(finals[outcome.item] for outcome in finished)
    notes = *result_format.notes, *(note for outcome in finished for note in outcome.result or ())
    parts = engines.parts
    shares = parts.stopwatch.list_shares()
    return Predictions(out, written, kept, notes, parts.precision, shares, dict(ledger.again), images)


def find_suffix(folder: BundleFolder, engines: Engines | None) -> str:
    """Of the label maps of a bundle; of an external one its engines say it."""
    return (engines.transforms.saver.output_ext or ".nii.gz") if engines else read_plan(folder.plan).output_suffix


@dataclass(frozen=True)
class CaseLoop:
    """The steps of every case of one call; each raises PredictionError where memory runs out.

    Attributes:
        engines: of the bundle.
        staging: a folder that goes away; copies that MONAI can read lie there.
        finals: the label map of each input.
        suffix: of the label maps.
        options: of the call.
        ledger: of the folder of the label maps.
        result_format: of the label maps.
        own_suffix: that the bundle's own label maps would have.
        prepares_ahead: bring an image to the network's grid right after reading, beside the network of the case before.
        inspector: compares the images with those of the training; none are compared, if None.
    """

    engines: Engines
    staging: Path
    finals: Mapping[PredictionInput, Path]
    suffix: str
    options: PredictOptions
    ledger: Ledger
    result_format: ResultFormat = OWN
    own_suffix: str = ".nii.gz"
    prepares_ahead: bool = False
    inspector: Inspector | None = None

    def start(
        self, todo: Sequence[PredictionInput], num_images: int, overlap: Overlap | None
    ) -> Generator[CaseOutcome, None, None]:
        """The outcomes of all images, side by side or one after the other."""
        num_threads = torch.get_num_threads()
        if num_images > 1:
            workers = [replace(self, engines=self.engines.copy_for_thread()).run for _ in range(num_images)]
            return run_side_by_side(todo, workers, max(1, num_threads // num_images), measure_input)
        parts = self.engines.parts
        by_rule = choose_overlap(parts.device, num_threads, count_cores()) if parts.expected.is_planned else _NO_THREADS
        concurrency = overlap or by_rule
        steps = replace(self, prepares_ahead=concurrency.preprocessing)
        return run_cases(todo, steps.read, steps.infer, steps.write, concurrency.files)

    def run(self, source: PredictionInput) -> tuple[Problem, ...]:
        """All steps of an image, in this thread; raises what they raise."""
        return self.write(self.infer(self.read(source)))

    def read(self, source: PredictionInput) -> Case:
        """Read and check an image.

        Raises:
            ImageFileError: a file cannot be read.
            PredictionError: the network cannot take it.
        """
        with self._explain(source), self.engines.parts.stopwatch.measure("read"):
            with suppress(OSError):  # reading says it better
                self.ledger.note_image(source)
            image, missing = take_missing(self._read_checked(source), self.engines.parts.expected, source)
            notes = check_input(image, self.engines.parts.expected, source.files[0].name)
            notes = (*notes, *note_missing(missing or (), source.files[0].name))
            engine, files = self.engines.choose(image.grid), self._list_readable(source, image)
            case = Case(source, engine, files, image.affine, image.spatial_shape, image, notes=notes)
            case.missing_channels = missing
            case.confidence = self._start_confidence(len(image.spatial_shape))
            del image
            if self.inspector is not None:
                self.inspector.look(case)
        if self.prepares_ahead:
            with self._explain(source):
                engine.prepare(case)
        return case

    def _start_confidence(self, spatial_dims: int) -> ConfidenceSums | None:
        """Empty sums of what the probabilities will say of each label; None where the network has channels that are of no single label."""
        parts = self.engines.parts
        num_labels = len(parts.label_values)
        # further channels are levels of the only structure
        is_told_apart = parts.num_classes == num_labels or num_labels == 2
        return ConfidenceSums(num_labels, spatial_dims) if num_labels and is_told_apart else None

    def _read_checked(self, source: PredictionInput) -> MedicalImage:
        """The voxels, once the header is sure to be of an image that fits; a series is judged by what was read, in one pass."""
        shown, is_series = source.files[0].name, any(path.is_dir() for path in source.files)
        expected, preprocessing = self.engines.parts.expected, self.engines.parts.preprocessing
        image = source.read(expected.spatial_dims) if is_series else None
        grid = see_grid(source.read_grid(expected.spatial_dims) if image is None else image.grid, expected)
        check_grid(grid, expected, shown)
        if expected.is_planned:
            check_size(grid, preprocessing, shown)
        elif (becomes := measure_resampled(preprocessing, grid)) is not None:
            compare_sizes(grid, *becomes, shown)
        return source.read(expected.spatial_dims) if image is None else image

    def _list_readable(self, source: PredictionInput, image: MedicalImage) -> tuple[Path, ...]:
        """What MONAI reads: the image's files, or a copy of the image; a name without a file for a picture that no file can hold."""
        expected = self.engines.parts.expected
        if not expected.is_planned and len(source.files) > 1 and all(map(stock_reads, source.files)):
            return source.files
        copies = self.staging / COPIES
        copies.mkdir(exist_ok=True)
        suffix = expected.suffix or (".png" if is_picture(source.files[0]) else ".nii.gz")
        if self.engines.transforms.holds(image) and not source.is_stock_readable(suffix):
            return (copies / f"{source.name}{suffix}",)
        return (source.write_readable(image, copies, suffix),)

    def _explain(self, source: PredictionInput) -> AbstractContextManager[None]:
        """Of memory that runs out within a block."""
        return explain_out_of_memory(source.files[0].name, self.engines.parts.device, self.options.probabilities)

    def infer(self, case: Case) -> tuple[Case, CasePrediction]:
        """The image to the network's grid, through the network, and back."""
        with self._explain(case.source):
            case.engine.prepare(case)
            with nullcontext() if self.inspector is None else self.inspector.listen(case):
                prediction = case.engine.infer(case, self.options.probabilities)
            if (doubt := measure_doubt(case, prediction, self.engines.parts)) is not None:
                case.doubt = doubt.as_record()
            return case, prediction

    def write(self, computed: tuple[Case, CasePrediction]) -> tuple[Problem, ...]:
        """Give the label map its name; what the user should know about the image."""
        case, prediction = computed
        final = self.finals[case.source]
        beside = [probabilities_path(final, self.suffix)] if self.options.probabilities else []
        with self._explain(case.source), self.engines.parts.stopwatch.measure("write"):
            companions = list_companions(prediction, final, self.suffix, self.own_suffix)
            reports = list_reports(final, self.options.format)
            self.ledger.make_room(case.source, final, probabilities_path(final, self.suffix), *companions, *reports)
            if beside and prediction.probabilities is not None:
                self.result_format.write_probabilities(beside[0], case, prediction.probabilities, self.ledger.origin)
            write_companions(companions, case, prediction, self.engines.parts)
            beside += [*companions, *reports]
            seen = self.result_format.write(final, case, prediction, self.staging, self.own_suffix, self.ledger.origin)
            missing = None if case.missing_channels is None else list(case.missing_channels)
            known = Seen(contract=case.judgement, doubt=case.doubt, missing_channels=missing)
            self.ledger.finish(case.source, final, *beside, seen=known)
        return (*seen, *case.notes)


def require_all(
    finished: Sequence[CaseOutcome], finals: Mapping[PredictionInput, Path], suffix: str, ledger: Ledger
) -> None:
    """Whether every image was predicted; under the name of one that was not lies no label map of another image afterwards.

    Raises:
        PredictionError: lists those that were not.
    """
    failures = [outcome for outcome in finished if outcome.error is not None]
    for outcome in failures:
        with suppress(PipelineError):  # of a store that fails again; its record says what lies there
            ledger.make_room(outcome.item, finals[outcome.item], probabilities_path(finals[outcome.item], suffix))
    if failures:
        raise FailedImagesError([str(outcome.error) for outcome in failures], len(finished))


def _watch(outcomes: Iterable[CaseOutcome], total: int, num_at_once: int) -> list[CaseOutcome]:
    """The outcomes, with a progress bar while they come."""
    finished = []
    with progress_bar("predict", total, num_at_once=num_at_once) as bar:
        for outcome in outcomes:
            finished.append(outcome)
            bar.advance(note=outcome.item.name)
    return finished


def forecast_prediction(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    options: PredictOptions,
    ledger: Ledger | None = None,
    result_format: ResultFormat | None = None,
) -> Forecast:
    """What `predict_images` would do with the same arguments, from the headers of the images; nothing is written.

    Raises:
        PredictionError: as `predict_images`, before the first image; or the preprocessing is not what `plan` writes.
    """
    refuse_own_folder(inputs, out)
    plan = read_plan(folder.plan)
    suffix = (result_format or OWN).suffix or plan.output_suffix
    _, todo, kept = sort_inputs(inputs, out, suffix, options, ledger or without_record(out))
    if options.runtime != TORCH:  # an exported network takes what PyTorch's takes, up to its library's own buffers
        device = choose_device(options.runtime, options.device)
        options = replace(options, runtime=TORCH, device=device, precision="float32")
    engines = build_engines(folder, weights, out, options)
    overlap = choose_overlap(engines.parts.device, torch.get_num_threads(), count_cores())
    return forecast_images(engines, todo, kept, overlap, options.probabilities, 2 ** len(plan.mirrored_axes))


def sort_inputs(
    inputs: Sequence[PredictionInput], out: Path, suffix: str, options: PredictOptions, ledger: Ledger
) -> tuple[dict[PredictionInput, Path], list[PredictionInput], tuple[Path, ...]]:
    """The label map of each input, the inputs that are left to do, and the label maps that are there."""
    finals = {source: output_path(source, out, suffix) for source in inputs}
    beside = [
        path for final in finals.values() for path in list_beside(final, suffix, options.probabilities, options.format)
    ]
    require_places(finals.values(), beside)
    todo, kept = ledger.sort(finals, suffix if options.probabilities else None)
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
