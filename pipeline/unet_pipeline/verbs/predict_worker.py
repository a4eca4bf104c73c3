"""A worker of `predict --jobs`: the network is loaded once, and each image goes through the same case loop as without workers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.run_record import LabelMapEntry, Seen
from unet_pipeline.cohort.items import Arguments, Function, Share, read_values, write_values
from unet_pipeline.errors import BundleError, PredictionError
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import Problem
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.origin import ImageResult, Origin

if TYPE_CHECKING:
    from unet_pipeline.prediction.engines import Engines
    from unet_pipeline.prediction.inspection import Inspector
    from unet_pipeline.prediction.outputs import ResultFormat

OPENER = "unet_pipeline.verbs.predict_worker:open_prediction"


class PredictionWork(BaseModel):
    """What `open_prediction` needs; see `describe_work`."""

    bundle: Path
    out: Path
    staging: Path
    weights: tuple[Path, ...]
    files_used: tuple[Path, ...]
    options: PredictOptions
    origin: Origin
    suffix: str
    contract_sha256: str
    largest: PredictionInput


class ImageItem(BaseModel):
    """An image for a worker.

    Attributes:
        source: the image.
        entry: of the label map that is there.
        started: when the call began, as its label maps are recorded.
        begun: the same, in seconds since 1970.
    """

    source: PredictionInput
    entry: LabelMapEntry | None
    started: str
    begun: float


class PredictedImage(BaseModel):
    """What a worker tells of an image: the parts of `ImageResult`, and what the call says about all images.

    One that an earlier call predicted without workers has no more than the former.
    """

    outputs: dict[str, str] = {}
    files_sha256: dict[str, str]
    seen: Seen | None = None
    started: str
    notes: tuple[Problem, ...] = ()
    precision: str | None = None
    seconds: dict[str, float] = {}
    device_notes: tuple[str, ...] = ()

    def as_result(self) -> ImageResult:
        """What the record of predictions needs."""
        return ImageResult(self.outputs, self.files_sha256, self.started, self.seen)


def describe_work(
    *,
    folder: BundleFolder,
    out: Path,
    staging: Path,
    weights: Sequence[Path],
    files_used: Sequence[Path],
    options: PredictOptions,
    origin: Origin,
    suffix: str,
    contract_sha256: str,
    largest: PredictionInput,
) -> Arguments:
    """What `open_prediction` needs, in JSON, with absolute paths: a worker may stand elsewhere.

    Args:
        folder: the bundle.
        out: of the label maps.
        staging: gets what is not finished.
        weights: state_dict files that predict.
        files_used: whose hashes the origin has: the weights, an export, or the model files of an external bundle.
        options, origin: of the call.
        suffix: of the label maps.
        contract_sha256: of what images are compared with; empty for nothing.
        largest: the image by which windows are chosen.
    """
    work = PredictionWork(
        bundle=folder.root.absolute(),
        out=out.absolute(),
        staging=staging.absolute(),
        weights=tuple(path.absolute() for path in weights),
        files_used=tuple(path.absolute() for path in files_used),
        options=options,
        origin=origin,
        suffix=suffix,
        contract_sha256=contract_sha256,
        largest=largest.absolute(),
    )
    return write_values(work)


def open_prediction(arguments: Arguments, share: Share) -> Function:
    """Load the network; see `Work`.

    Args:
        arguments: from `describe_work`.
        share: of this worker.

    Raises:
        BundleError: the bundle is not what it was when the run began.
        PredictionError: the device is not what label maps are recorded with.
    """
    from unet_pipeline.device.allocator import keep_freed_pages
    from unet_pipeline.verbs.predict import arrange_process

    work = read_values(arguments, PredictionWork, "What a worker of `predict` was given")
    folder, options = BundleFolder(work.bundle), replace(work.options, device=share.device or work.options.device)
    _require_unchanged(folder, work.origin, work.files_used)
    if folder.is_planned:
        arrange_process(folder, True, options.device)
    keep_freed_pages()
    return _build_worker(folder, work, options)


def _require_unchanged(folder: BundleFolder, origin: Origin, files_used: Sequence[Path]) -> None:
    """Label maps are recorded with the hashes that the files had when the run began."""
    now = {path: compute_sha256(folder.root / path) for path in origin.configs_sha256}
    changed = [path for path, sha256 in origin.configs_sha256.items() if now[path] != sha256]
    changed += [
        file.name
        for file, sha256 in zip(files_used, origin.weights_sha256, strict=True)
        if compute_sha256(file) != sha256
    ]
    if changed:
        raise BundleError(
            f"{', '.join(changed)} of {folder.name} changed while images were predicted. Run the same command again."
        )


def _build_worker(folder: BundleFolder, work: PredictionWork, options: PredictOptions) -> Function:
    from unet_pipeline.clinical.formats import choose_format
    from unet_pipeline.prediction.engines import build_engines
    from unet_pipeline.prediction.run import find_suffix
    from unet_pipeline.prediction.window_choice import settle_windows
    from unet_pipeline.quality.inspector import build_inspector
    from unet_pipeline.verbs.predict import settle_recorded

    result_format, origin, weights = choose_format(folder, options.format, ()), work.origin, work.weights
    if folder.is_planned and (here := settle_recorded(folder, options, result_format)) != origin.options:
        raise PredictionError(
            f"A worker would compute on {here['device']} in {here['precision']}, the record says {origin.options['device']} in "
            f"{origin.options['precision']}. Give --device and --precision."
        )
    staging = Path(tempfile.mkdtemp(dir=work.staging))
    engines = build_engines(folder, weights, staging, options)
    windowing = settle_windows(engines, [work.largest], options)
    engines = engines.with_windowing(replace(windowing, num_images=1))
    own_suffix = find_suffix(folder, None if folder.is_planned else engines)
    inspector = build_inspector(folder, weights, options, work.contract_sha256)
    if inspector is not None:
        inspector.attach(engines)
    return _Worker(engines, staging, options, work, result_format, own_suffix, inspector).predict


@dataclass(frozen=True)
class _Worker:
    engines: Engines
    staging: Path
    options: PredictOptions
    work: PredictionWork
    result_format: ResultFormat
    own_suffix: str
    inspector: Inspector | None = None

    def predict(self, item: Arguments, smaller: bool) -> Arguments:
        """The label map of one image.

        Args:
            item: of `ImageItem`.
            smaller: one window at a time, blended in main memory.

        Returns:
            Of `PredictedImage`.
        """
        from unet_pipeline.prediction.outputs import output_path
        from unet_pipeline.prediction.reuse import Ledger
        from unet_pipeline.prediction.run import COPIES, CaseLoop

        image = read_values(item, ImageItem, "What a worker of `predict` was given of an image")
        source, suffix = image.source, self.work.suffix
        ledger = Ledger(self.work.out, self.work.origin, started=image.started)
        if image.entry is not None:
            ledger.enter(source.name, image.entry)
        finals = {source: output_path(source, self.work.out, suffix)}
        final = finals[source]
        if final.is_file() and final.stat().st_mtime >= image.begun:
            final.unlink()  # of an attempt of this run whose worker was lost before it could say so
        engines = _take_less(self.engines) if smaller else self.engines
        loop = CaseLoop(
            engines, self.staging, finals, suffix, self.options, ledger, self.result_format, self.own_suffix
        )
        loop = replace(loop, inspector=self.inspector)
        before = dict(engines.parts.stopwatch.seconds)
        try:
            notes = loop.run(source)
        finally:  # a worker may live for months, as that of a node, and copies of images may be of patients
            shutil.rmtree(self.staging / COPIES, ignore_errors=True)
        entry = ledger.find(source.name)
        if entry is None:
            raise TypeError("the case loop has made no entry")
        seconds = {stage: now_s - before[stage] for stage, now_s in engines.parts.stopwatch.seconds.items()}
        predicted = PredictedImage(
            outputs=list_outputs(entry),
            files_sha256=entry.files_sha256,
            seen=entry.seen,
            started=entry.started,
            notes=notes,
            precision=engines.parts.precision,
            seconds={stage: round(taken_s, 6) for stage, taken_s in seconds.items()},
            device_notes=tuple(engines.list_notes()),
        )
        return write_values(predicted)


def list_outputs(entry: LabelMapEntry) -> dict[str, str]:
    """SHA-256 of the files of an entry by their names, the label map first."""
    outputs = {entry.label_map: entry.label_map_sha256}
    if entry.probabilities is not None and entry.probabilities_sha256 is not None:
        outputs[entry.probabilities] = entry.probabilities_sha256
    return outputs | (entry.companions_sha256 or {})


def _take_less(engines: Engines) -> Engines:
    import torch

    from unet_pipeline.prediction.out_of_memory import release_cached_memory
    from unet_pipeline.prediction.parts import Windowing

    release_cached_memory(engines.parts.device)
    return engines.with_windowing(Windowing(1, torch.device("cpu")))
