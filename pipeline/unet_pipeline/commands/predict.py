"""`predict` on the command line, and what `predict --dry-run` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unet_pipeline.commands.options import Bundle, Device, Ensemble, Json, Mirror, Precision, Trust, write_json_option
from unet_pipeline.commands.output import say, tell, tell_next
from unet_pipeline.commands.problem_lines import print_problems
from unet_pipeline.commands.tables import print_table
from unet_pipeline.commands.worker_options import Address, EngineName, Jobs, Sbatch, Threads, read_settings
from unet_pipeline.errors import PredictionError
from unet_pipeline.messages import list_failures, show_shape

if TYPE_CHECKING:
    from unet_pipeline.prediction.forecast import CaseForecast, Forecast
    from unet_pipeline.prediction.run import Predictions


_Source = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="An image, a folder of images, a folder per case, a DICOM series, a folder of series, also as s3://...; or a study on a "
        "DICOMweb server, dicomweb://HOST/PATH/studies/UID.",
    ),
]
_Out = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        help="Folder for the label maps, also as s3://...; those of the same image, weights and options are kept.",
    ),
]
_Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Write the probabilities of every class too, as NAME_probabilities.")
]
_Runtime = Annotated[
    str, typer.Option(help="What runs the network: torch, torchscript or onnx; `package` exports the latter two.")
]
_Format = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="nifti, the default; png; nrrd; DICOM: dicomseg, dicomseg-labelmap, dicomseg-sr (and volumes), rtstruct, overlay, sr.",
    ),
]
_Series = Annotated[
    list[str] | None,
    typer.Option(
        "--series",
        metavar="RULE",
        help="Of a study, the series to take: SeriesNumber=3, 'SeriesDescription~REGEX', or with ! in front of the sign; repeat.",
    ),
]
_Store = Annotated[bool, typer.Option("--store", help="Send the results to the study on the server, as DICOM SEG.")]
_Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse images that are outside of what the bundle was trained on.")
]
_Review = Annotated[
    int | None,
    typer.Option("--review", min=1, metavar="N", help="List the N cases that a person should look at first."),
]
_DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Show windows, memory and what is left to do, from the headers; write nothing."),
]


def predict(
    bundle: Bundle,
    source: _Source,
    out: _Out,
    device: Device = None,
    mirror: Mirror = False,
    ensemble: Ensemble = False,
    probabilities: _Probabilities = False,
    runtime: _Runtime = "torch",
    precision: Precision = "float32",
    format: _Format = None,
    series: _Series = None,
    store: _Store = False,
    strict: _Strict = False,
    review: _Review = None,
    dry_run: _DryRun = False,
    jobs: Jobs = 1,
    engine: EngineName = "local",
    threads: Threads = None,
    address: Address = None,
    sbatch: Sbatch = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Write a label map for every image, on the image's own grid."""
    import unet_pipeline
    from unet_pipeline.bundle.folder import BundleFolder

    options = (device, mirror, ensemble, probabilities, trust, runtime, precision, format)
    if dry_run:
        show_forecast(unet_pipeline.forecast(bundle, source, out, *options, alone=True, series=series or ()), json_file)
        return
    result = unet_pipeline.predict(
        bundle,
        source,
        out,
        *options,
        alone=True,
        announce=tell,
        jobs=jobs,
        engine=engine,
        threads=threads,
        address=address,
        sbatch=read_settings(sbatch),
        series=series or (),
        store=store,
        strict=strict,
    )
    print_predictions(result)
    if review is not None:
        print_review(result.table, review)
    if source.is_dir() and BundleFolder(bundle).is_planned:
        tell_next("view", out, "--dataset", source)
    write_json_option(json_file, predictions_as_data(result))


def print_review(table: Sequence[Mapping[str, str]], most: int) -> None:
    """The cases that a person should see first, from predictions.csv."""
    from unet_pipeline.quality.doubt_tables import EXPECTED_COLUMN, NOTE_COLUMN, RANK_COLUMN, show_lowest_interval

    rows = [row for row in table if row.get(RANK_COLUMN)]
    rows = sorted(rows, key=lambda row: int(row[RANK_COLUMN]))[:most]
    lines: list[tuple[str, ...]] = [
        (
            row["case"],
            row[EXPECTED_COLUMN] or "-",
            show_lowest_interval(row) or "-",
            row.get("contract", ""),
            row[NOTE_COLUMN],
        )
        for row in rows
    ]
    headings = ["case", "expected Dice", "90 % interval", "contract", "note"]
    if not any(line[-1] for line in lines):  # so that it fits into 80 columns
        headings, lines = headings[:-1], [line[:-1] for line in lines]
    print_table("look at these first", headings, lines, num_texts=len(headings))


def print_predictions(result: Predictions) -> None:
    """What was seen in the images, the label maps, and where the time went."""
    print_problems(result.notes, indent="")
    for path in result.kept:
        say(f"kept     {path}  (finished before)")
    for path in result.written:
        say(f"written  {path}")
    for path, outcome in result.stored.items():
        say(f"stored   {path}" + ("  (the server had it)" if outcome != "stored" else ""))
    _print_table_of(result)
    if result.shares:
        shown = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in result.shares.items())
        say(f"time     {shown}; {result.precision}")


def _print_table_of(result: Predictions) -> None:
    """Where the table of this call's cases is, and how many of them are like those of the training."""
    from unet_pipeline.quality.predictions_table import PREDICTIONS_TABLE, count_verdicts

    own = {path.name for path in (*result.written, *result.kept)}
    counts = count_verdicts(row for row in result.table if Path(row["label_map"]).name in own)
    if counts:
        say(
            f"table    {result.out / PREDICTIONS_TABLE}  (input contract: {', '.join(f'{n} {w}' for w, n in counts.items())})"
        )


def predictions_as_data(result: Predictions) -> dict[str, object]:
    """What is printed, as plain values."""
    return {
        "written": list(map(str, result.written)),
        "kept": list(map(str, result.kept)),
        "again": dict(result.again),
        "stored": {str(path): outcome for path, outcome in result.stored.items()},
        "precision": result.precision,
        "shares": {stage: round(share, 4) for stage, share in result.shares.items()},
        "notes": [vars(note) for note in result.notes],
        "table": [dict(row) for row in result.table],
    }


def show_forecast(forecast: Forecast, json_file: Path | None) -> None:
    """Print what a prediction will take.

    Raises:
        PredictionError: a case cannot be predicted.
    """
    print_forecast(forecast)
    write_json_option(json_file, forecast_as_data(forecast))
    if forecast.failures:
        listed = "\n".join(f"  {line}" for line in list_failures(forecast.failures))
        count = len(forecast.cases) + len(forecast.failures)
        raise PredictionError(f"{len(forecast.failures)} of {count} images cannot be predicted:\n{listed}")


_MAX_CASES = 10  # printed one by one; `--json` has all
_GIB = 2**30


def print_forecast(forecast: Forecast) -> None:
    """How the network runs, a line for each case or for the largest of many, and the memory."""
    many = f"{forecast.num_networks} networks, averaged" if forecast.num_networks > 1 else "one network"
    say(f"network  {many}, on {forecast.device} in {forecast.precision}")
    say(f"copies   {_describe_copies(forecast)}")
    for line in _describe_windows(forecast):
        say(line)
    beside = "reading and writing" if forecast.overlap.files else "nothing"
    beside = "reading, preprocessing and writing" if forecast.overlap.preprocessing else beside
    say(f"beside   {beside} beside the network: {forecast.overlap.reason}")
    if forecast.kept:
        say(f"kept     {len(forecast.kept)} label map(s), finished before")
    if len(forecast.cases) > _MAX_CASES:
        largest = max(forecast.cases, key=lambda case: (case.num_windows or 0, case.peak_bytes))
        say(f"largest  {_describe_case(largest)}")
    else:
        for case in forecast.cases:
            say(f"case     {_describe_case(case)}")
    _print_totals(forecast)


def _describe_copies(forecast: Forecast) -> str:
    """What mirrored copies cost, or would."""
    if forecast.mirrored > 1:
        return f"{forecast.mirrored} of each window, mirrored: {forecast.mirrored} times the network's time"
    if forecast.num_copies > 1:
        times = f"{forecast.num_copies} of each window, {forecast.num_copies} times the network's time"
        return f"none; contract and expected Dice need none. --mirror would average {times}"
    return "none; the training mirrored no axis, so --mirror has none either"


def _describe_windows(forecast: Forecast) -> list[str]:
    if forecast.window_size is None:
        return ["windows  of the bundle's own inferer"]
    batch = forecast.windowing.batch_size
    at_once = "one at a time" if batch == 1 else f"up to {batch} at once"
    where = f"as a whole ({forecast.whole_because})" if forecast.whole_because else "in rows"
    size = show_shape(forecast.window_size)
    return [f"windows  of {size}, {at_once}, blended on {forecast.windowing.blended_on} {where}"]


def _describe_case(case: CaseForecast) -> str:
    windows = "" if case.num_windows is None else f", {case.num_windows} window(s)"
    memory = f"{case.peak_bytes / _GIB:.2f} GiB"
    if case.device_bytes:
        memory += f" and {case.device_bytes / _GIB:.2f} GiB of the GPU"
    return f"{case.name}  {show_shape(case.shape)}, {show_shape(case.network_shape)} for the network{windows}, {memory}"


def _print_totals(forecast: Forecast) -> None:
    counted = [case.num_windows for case in forecast.cases if case.num_windows is not None]
    passes = sum(counted) * forecast.num_networks * forecast.mirrored
    windows = f", {sum(counted):,} windows" if counted else ""
    windows += f", {passes:,} passes through a network" if passes > sum(counted) else ""
    say(f"total    {len(forecast.cases)} image(s) to predict{windows}")
    if not forecast.cases:
        return
    lines = [("memory", forecast.peak_bytes, forecast.free_bytes)]
    if forecast.device_bytes:
        lines.append(("GPU", forecast.device_bytes, forecast.free_device_bytes))
    for name, peak, free in lines:
        verdict = "" if peak <= free else "; that is NOT ENOUGH"
        say(f"{name:<8} at most about {peak / _GIB:.2f} GiB, {free / _GIB:.2f} GiB are free{verdict}")


def forecast_as_data(forecast: Forecast) -> dict[str, object]:
    """What is printed, for every case, as plain values."""
    return {
        "device": forecast.device,
        "precision": forecast.precision,
        "num_networks": forecast.num_networks,
        "mirrored": forecast.mirrored,
        "num_copies": forecast.num_copies,
        "window_size": forecast.window_size,
        "window_batch_size": forecast.windowing.batch_size,
        "images_at_once": forecast.windowing.num_images,
        "blended_on": str(forecast.windowing.blended_on),
        "in_rows": not forecast.whole_because,
        "overlap": vars(forecast.overlap),
        "kept": list(map(str, forecast.kept)),
        "cases": [_case_as_data(case) for case in forecast.cases],
        "failures": list(forecast.failures),
        "peak_gib": round(forecast.peak_bytes / _GIB, 3),
        "free_gib": round(forecast.free_bytes / _GIB, 3),
        "device_peak_gib": round(forecast.device_bytes / _GIB, 3),
        "device_free_gib": round(forecast.free_device_bytes / _GIB, 3),
        "fits": forecast.fits,
    }


def _case_as_data(case: CaseForecast) -> dict[str, object]:
    data = {name: value for name, value in vars(case).items() if not name.endswith("_bytes")}
    sizes = {"peak_gib": case.peak_bytes, "device_peak_gib": case.device_bytes}
    return data | {name: round(value / _GIB, 3) for name, value in sizes.items()}
