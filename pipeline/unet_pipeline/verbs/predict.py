"""`predict`: label maps for images, and what making them will take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_for_reading, require_place_of_results
from unet_pipeline.bundle.configs import find_edited_configs
from unet_pipeline.bundle.folder import BundleFolder, open_any_bundle, require_ensemble, require_weights
from unet_pipeline.clinical.dicomweb_address import is_address
from unet_pipeline.cohort.engines import LOCAL
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.errors import BundleError, PredictionError
from unet_pipeline.files import compute_sha256
from unet_pipeline.lean_imports import arrange_lean_import
from unet_pipeline.planning.instance_rules import mends_label_maps
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.prediction.inputs import PredictionInput, list_inputs
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.verbs.predict_remote import RemoteOptions, open_source, read_remote_options, store_predictions
from unet_pipeline.verbs.stores import Places, open_places

if TYPE_CHECKING:
    from unet_pipeline.prediction.forecast import Forecast
    from unet_pipeline.prediction.inspection import Inspector
    from unet_pipeline.prediction.outputs import ResultFormat
    from unet_pipeline.prediction.reuse import Ledger
    from unet_pipeline.prediction.run import Predictions
    from unet_pipeline.verbs.predict_jobs import PredictionJob


def predict(
    bundle: Path | str,
    source: Path | str,
    out: Path | str,
    device: str | None = None,
    mirror: bool = False,
    ensemble: bool = False,
    probabilities: bool = False,
    trust: bool = False,
    runtime: str = "torch",
    precision: str = "float32",
    format: str | None = None,
    alone: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    jobs: int = 1,
    engine: str = "local",
    threads: int | None = None,
    address: str | None = None,
    sbatch: Mapping[str, str] | None = None,
    series: Sequence[str] = (),
    store: bool = False,
    strict: bool = False,
) -> Predictions:
    """Write a label map for an image, or for every image of a folder, on the image's own grid.

    Args:
        bundle: trained; a folder, or the zip that `package` made. An external bundle, such as the model zoo's, runs as its inference
            config says, without the options about the network.
        source: an image, a DICOM series, or a folder of images or of series; in an object store too, as an URL, and so may `bundle` and
            `out` be; or a study on a server, dicomweb://HOST/PATH/studies/UID.
        out: folder for the label maps, and their record, predictions_run.json. A label map that is there is kept if the record has it with
            the same image, weights, configs and options; otherwise it is made again. A file of that name which `predict` did not write, or
            that was edited since, goes into the folder `replaced`.
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None.
        mirror: average over all mirrored copies.
        ensemble: average the probabilities of all trained folds.
        probabilities: write them too.
        trust: run the bundle although its audit finds a danger, or its files are not those that were sealed.
        runtime: torch, or torchscript or onnx for a network that `package` exported.
        precision: float32, as stock MONAI computes; bfloat16; or auto, which takes bfloat16 where the device is fast with it.
        format: nifti, nrrd, png; of DICOM dicomseg, dicomseg-labelmap, dicomseg-sr, rtstruct, overlay or sr; what the bundle writes, if None.
        alone: the process does nothing after it; MONAI is then imported without its parts for training, which takes a third of the time.
        announce: called before the first image: what is left out, why label maps that are there are made again, how windows are computed.
        jobs: images at the same time, each in a process of its own. Label maps are the same as with 1 and as many threads.
        engine, threads: what has the processes (local: this machine; ray, slurm: a cluster with the same paths), and threads of each.
        address, sbatch: of the Ray cluster; options of the Slurm job, such as {"partition": "gpu"}.
        series: rules about the series of a study, such as "SeriesNumber=3" or "SeriesDescription~^t1"; all have to hold.
        store: send the results to the study, as DICOM SEG.
        strict: refuse images that are outside of the bundle's input contract.

    Raises:
        CohortError: workers cannot be had, or the disk is full.
        BundleError: no weights, for an ensemble fewer than two folds, or no export for the runtime; or the bundle needs trust.
        PredictionError: no image, or an image that the network cannot take; or the server cannot be asked, or refuses a result.
    """
    remote = read_remote_options(source, format, series, store, engine)
    options = PredictOptions(device, mirror, ensemble, probabilities, runtime, precision, remote.format, strict)
    workers = JobOptions(jobs, engine, threads, address, sbatch or {}).check()
    with open_places(bundle, Path() if is_address(source) else source, out, announce) as places:
        return _predict_source(places, source, remote, options, workers, trust, alone, announce)


def _predict_source(
    places: Places,
    source: Path | str,
    remote: RemoteOptions,
    options: PredictOptions,
    workers: JobOptions,
    trust: bool,
    alone: bool,
    announce: Callable[[str], None],
) -> Predictions:
    with (
        open_for_reading(places.bundle, trust, open_any_bundle) as folder,
        open_source(folder, source, remote, announce) as (fetched, server),
    ):
        places.source = fetched if server else places.source
        predictions = _predict_at(places, folder, options, workers, alone, announce)
        return store_predictions(predictions, server, options) if remote.store and server else predictions


def _predict_at(
    places: Places,
    folder: BundleFolder,
    options: PredictOptions,
    workers: JobOptions,
    alone: bool,
    announce: Callable[[str], None],
) -> Predictions:
    require_place_of_results(folder, places.out)
    _require_reachable(folder, places, workers)
    weights, inputs = prepare_prediction(folder, places.source, options, alone)
    from unet_pipeline.prediction.passed_over import say_passed_over

    places.refuse_own_folder(inputs)
    say_passed_over(places.source, inputs, announce)
    who = None if workers.is_plain else workers
    return predict_recorded(folder, inputs, places.out, weights, options, announce, announce, who, places, True)


def predict_recorded(
    folder: BundleFolder,
    inputs: Sequence[PredictionInput],
    out: Path,
    weights: Sequence[Path],
    options: PredictOptions,
    announce: Callable[[str], None] = lambda line: None,
    announce_windows: Callable[[str], None] = lambda line: None,
    jobs: JobOptions | None = None,
    places: Places | None = None,
    compares: bool = False,
) -> Predictions:
    """Predict images into a folder whose record, predictions_run.json, says what each label map was made of.

    Args:
        folder, inputs, out, weights, options: as for `predict_images`.
        announce, announce_windows: called with why label maps that are there are made again, and how windows are computed.
        jobs: who does the work; this process, if None.
        places: where images or label maps lie in an object store.
        compares: the images with the bundle's input contract; predictions.csv has the verdicts.

    Raises:
        CohortError: workers cannot be had, or the disk is full.
        BundleError, PredictionError: as `predict_images`.
    """
    from unet_pipeline.clinical.formats import choose_format
    from unet_pipeline.evidence.records.prediction_record import record_predictions
    from unet_pipeline.quality.doubt_tables import list_doubt_rows, read_expected_dice
    from unet_pipeline.quality.inspector import build_inspector
    from unet_pipeline.quality.predictions_table import (
        list_contract_rows,
        read_predictions_table,
        write_predictions_table,
    )
    from unet_pipeline.verbs.predict_jobs import PredictionJob

    is_mirrored = places is not None and places.mirror is not None  # the files are looked at once they are fetched
    result_format = choose_format(folder, options.format, () if is_mirrored else inputs)
    files_used = list_used_files(folder, weights, options)
    plan = settle_recorded(folder, options, result_format, jobs)
    settings = options.as_settings() if folder.is_planned else plan
    sha256 = _choose_contract(folder, announce) if compares else ""
    inspector = build_inspector(folder, files_used, options, sha256) if compares else None
    with record_predictions(folder, out, files_used, settings, plan, announce) as (record, ledger):
        ledger.contract_sha256, ledger.is_strict = sha256, options.strict
        job = PredictionJob(
            folder, (), out, weights, files_used, options, jobs or JobOptions(), result_format, announce_windows
        )
        run = partial(_predict_inputs, job, ledger, inspector)
        try:
            predictions = places.predict(inputs, ledger, options.probabilities, run) if places else run(inputs)
        finally:
            if compares and folder.is_planned and ledger.entries:
                known = list_doubt_rows(ledger.entries, read_plan(folder.plan), read_expected_dice(folder))
                table = write_predictions_table(out, known, list_contract_rows(ledger.entries))
                ledger.folder.deliver(table, compute_sha256(table))
        record.precision = predictions.precision if predictions.written else None
        record.shares = dict(predictions.shares)
    return replace(predictions, table=tuple(read_predictions_table(out))) if compares else predictions


def _choose_contract(folder: BundleFolder, announce: Callable[[str], None]) -> str:
    """SHA-256 of the contract that images are compared with; empty, and said, where the bundle has none."""
    from unet_pipeline.quality.inspector import NO_CONTRACT, hash_contract

    sha256 = hash_contract(folder)
    if folder.is_planned and not sha256:
        announce(NO_CONTRACT)
    return sha256


def _predict_inputs(
    job: PredictionJob, ledger: Ledger, inspector: Inspector | None, inputs: Sequence[PredictionInput]
) -> Predictions:
    """Predict images whose files are there, in this process or by workers."""
    from unet_pipeline.clinical.formats import choose_format
    from unet_pipeline.prediction.run import predict_images
    from unet_pipeline.verbs.predict_jobs import predict_by_jobs

    choose_format(job.folder, job.options.format, inputs)  # now that they can be looked at
    if not job.jobs.is_plain:
        return predict_by_jobs(replace(job, inputs=inputs), ledger)
    return predict_images(
        job.folder, inputs, job.out, job.weights, job.options, None, job.announce, ledger, job.result_format, inspector
    )


def settle_recorded(
    folder: BundleFolder, options: PredictOptions, result_format: ResultFormat, jobs: JobOptions | None = None
) -> dict[str, object]:
    """The options that reach the label maps, with what they come to on this machine, or on that of the workers."""
    from unet_pipeline.prediction.reuse import settle_options
    from unet_pipeline.verbs.predict_jobs import settle_remote_options

    effective: dict[str, object] = {"device": options.device}
    if folder.is_planned:
        effective = settle_remote_options(options, jobs) if jobs else settle_options(options)
    return effective | ({"format": result_format.name} if result_format.name else {})


def list_used_files(folder: BundleFolder, weights: Sequence[Path], options: PredictOptions) -> Sequence[Path]:
    """The files that predict: the weights, the export of the runtime, or all model files of an external bundle."""
    if not folder.is_planned:
        return folder.list_model_files()
    return weights if options.runtime == "torch" else (folder.export(options.runtime),)


def _require_reachable(folder: BundleFolder, places: Places, jobs: JobOptions) -> None:
    """Whether workers find bundle, images and label maps; folders that were made for this process are this machine's alone."""
    if jobs.engine == LOCAL:
        return
    if folder.root.resolve() != places.bundle.resolve():
        raise BundleError(
            f"{places.bundle.name} is unpacked for this process alone, and workers of {jobs.engine} may be on other machines. Unpack it "
            "into a folder that they all have, and give that."
        )
    if places.is_remote:
        raise PredictionError(
            f"What lies in an object store is read and written by this process alone, and workers of {jobs.engine} may be on other "
            "machines. Choose --engine local, or folders that they all have."
        )


def arrange_process(folder: BundleFolder, alone: bool, device: str | None) -> None:
    """Make the process ready for predictions of a bundle: a short import of MONAI, and a GPU that starts beside it.

    Args:
        alone: the process does nothing else that needs MONAI's parts for training.
        device: as in `predict`.
    """
    plan = read_plan(folder.plan)
    # a config that was edited may name any part of MONAI
    if alone and folder.generated_configs.is_file() and not find_edited_configs(folder):
        arrange_lean_import(with_label_maps=mends_label_maps(plan))
    if alone:
        from unet_pipeline.device.gpu_start import start_device

        start_device(device)


def prepare_prediction(
    folder: BundleFolder, source: Path | str, options: PredictOptions, alone: bool
) -> tuple[tuple[Path, ...], list[PredictionInput]]:
    """The weights and the images of a prediction, for `predict` and `forecast`; and the process is ready for it.

    Raises:
        BundleError: no weights, for an ensemble fewer than two folds, or no export for the runtime.
        PredictionError: no image, or an option that an external bundle does not have.
    """
    if not folder.is_planned:
        return (), _prepare_external(folder, source, options)
    weights = require_ensemble(folder) if options.ensemble else (require_weights(folder),)
    plan = read_plan(folder.plan)
    arrange_process(folder, alone, options.device if options.runtime == "torch" else "cpu")
    from unet_pipeline.device.allocator import keep_freed_pages
    from unet_pipeline.prediction.runtime import check_runtime

    check_runtime(folder, options.runtime, options.ensemble)
    keep_freed_pages()
    channels = len(plan.channel_names), plan.channel_names, plan.missing_channels
    return tuple(weights), list_inputs(Path(source), *channels)


def _prepare_external(folder: BundleFolder, source: Path | str, options: PredictOptions) -> list[PredictionInput]:
    if changed := options.list_changed():
        raise PredictionError(
            f"{folder.name} was not made by `unet-pipeline plan`: it runs as its inference config says. Leave out "
            f"{', '.join(f'--{name}' for name in changed)}."
        )
    from unet_pipeline.device.allocator import keep_freed_pages
    from unet_pipeline.prediction.external import read_format

    keep_freed_pages()
    channel_names = read_format(folder.read_metadata(), folder.name).images.channel_names
    return list_inputs(Path(source), len(channel_names), channel_names)


def forecast(
    bundle: Path | str,
    source: Path | str,
    out: Path | str,
    device: str | None = None,
    mirror: bool = False,
    ensemble: bool = False,
    probabilities: bool = False,
    trust: bool = False,
    runtime: str = "torch",
    precision: str = "float32",
    format: str | None = None,
    alone: bool = False,
    series: Sequence[str] = (),
) -> Forecast:
    """Windows, memory and the rest of what `predict` would do with the same arguments; the network does not run, nothing is written.

    Only the headers of the images are read, so damaged voxels do not show.

    Raises:
        BundleError: as `predict`.
        PredictionError: as `predict`, before the first image; or the bundle's preprocessing is not what `plan` writes.
    """
    remote = read_remote_options(source, format, series, store=False)
    with (
        open_places(
            bundle, Path() if is_address(source) else source, out, lambda line: None, reads_only=True
        ) as places,
        open_for_reading(places.bundle, trust, open_any_bundle) as folder,
        open_source(folder, source, remote, lambda line: None) as (fetched, server),
    ):
        if not folder.is_planned:
            raise PredictionError(
                f"{folder.name} was not made by `plan`, so what its prediction takes cannot be told from headers. "
                "Predict without --dry-run."
            )
        require_place_of_results(folder, places.out)
        options = PredictOptions(device, mirror, ensemble, probabilities, runtime, precision, format)
        places.source = fetched if server else places.source
        weights, inputs = prepare_prediction(folder, places.source, options, alone)
        from unet_pipeline.clinical.formats import choose_format
        from unet_pipeline.evidence.records.prediction_record import open_ledger
        from unet_pipeline.prediction.run import forecast_prediction

        files_used = list_used_files(folder, weights, options)
        result_format = choose_format(folder, format, inputs)
        ledger = open_ledger(folder, places.out, files_used, settle_recorded(folder, options, result_format))
        ledger.folder = places.output
        return forecast_prediction(folder, inputs, places.out, weights, options, ledger, result_format)
