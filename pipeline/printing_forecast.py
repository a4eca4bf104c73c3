"""What `predict --dry-run` prints, and `plan` about the time of the training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.printing import say
from pipeline.progress import describe_time

if TYPE_CHECKING:
    from pipeline.prediction.forecast import CaseForecast, Forecast
    from pipeline.training.forecast import TrainingForecast

_MAX_CASES = 10  # printed one by one; `--json` has all
_GIB = 2**30
_SHORTEST = ("quick", "demo")  # presets that none is shorter than


def print_forecast(forecast: Forecast) -> None:
    """How the network runs, a line for each case or for the largest of many, and the memory."""
    many = f"{forecast.num_networks} networks, averaged" if forecast.num_networks > 1 else "one network"
    mirrored = f", {forecast.mirrored} mirrored copies of each window" if forecast.mirrored > 1 else ""
    say(f"network  {many}, on {forecast.device} in {forecast.precision}{mirrored}")
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


def _describe_windows(forecast: Forecast) -> list[str]:
    if forecast.window_size is None:
        return ["windows  of the bundle's own inferer"]
    batch = forecast.windowing.batch_size
    at_once = "one at a time" if batch == 1 else f"up to {batch} at once"
    where = f"as a whole ({forecast.whole_because})" if forecast.whole_because else "in rows"
    size = _show(forecast.window_size)
    return [f"windows  of {size}, {at_once}, blended on {forecast.windowing.blended_on} {where}"]


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _describe_case(case: CaseForecast) -> str:
    windows = "" if case.num_windows is None else f", {case.num_windows} window(s)"
    memory = f"{case.peak_bytes / _GIB:.2f} GiB"
    if case.device_bytes:
        memory += f" and {case.device_bytes / _GIB:.2f} GiB of the GPU"
    return f"{case.name}  {_show(case.shape)}, {_show(case.network_shape)} for the network{windows}, {memory}"


def _print_totals(forecast: Forecast) -> None:
    counted = [case.num_windows for case in forecast.cases if case.num_windows is not None]
    windows = f", {sum(counted):,} windows" if counted else ""
    say(f"total    {len(forecast.cases)} image(s) to predict{windows}")
    if not forecast.cases:
        return
    lines = [("memory", forecast.peak_bytes, forecast.free_bytes)]
    if forecast.device_bytes:
        lines.append(("GPU", forecast.device_bytes, forecast.free_device_bytes))
    for name, peak, free in lines:
        verdict = "" if peak <= free else "; that is NOT ENOUGH"
        say(f"{name:<8} at most about {peak / _GIB:.2f} GiB, {free / _GIB:.2f} GiB are free{verdict}")


def forecast_as_data(forecast: Forecast) -> dict[str, Any]:
    """What is printed, for every case, as plain values."""
    return {
        "device": forecast.device,
        "precision": forecast.precision,
        "num_networks": forecast.num_networks,
        "mirrored": forecast.mirrored,
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


def _case_as_data(case: CaseForecast) -> dict[str, Any]:
    data = {name: value for name, value in vars(case).items() if not name.endswith("_bytes")}
    sizes = {"peak_gib": case.peak_bytes, "device_peak_gib": case.device_bytes}
    return data | {name: round(value / _GIB, 3) for name, value in sizes.items()}


def print_training_forecast(forecast: TrainingForecast, bundle: Path) -> None:
    """How long the training will take on this machine and, where that is more than the preset promises, what to do."""
    steps = f"{forecast.num_steps:,} steps of {_describe_step(forecast.step_s)} on {forecast.device}"
    say(f"  time      {describe_time(forecast.total_s)} for one fold on this machine ({steps})")
    if forecast.slowdown > 1:
        busy = describe_time(forecast.total_s * forecast.slowdown)
        say(f"            when nothing else runs; {busy} beside the other work that runs now")
    if forecast.reading_s > forecast.total_s / 2:
        say(
            f"            most of it is reading images: {forecast.cache_rate:.0%} of them stay in memory; a larger cache_rate in plan.yaml "
            "helps where there is memory for it"
        )
    if forecast.promised_s is None or forecast.keeps_promise:
        return
    promised = describe_time(forecast.promised_s).removeprefix("about ")
    changes = " ".join(f"{key}={value}" for key, value in forecast.shorten().items())
    say(
        f"            the preset {forecast.preset} promises {promised} at most, which this machine cannot keep. Train on a GPU,"
    )
    say(
        f"            or shorter and most likely less accurately: unet-pipeline train {shlex.quote(str(bundle))} {changes}"
    )
    if forecast.preset not in _SHORTEST:
        say("            or plan again with --preset quick")


def _describe_step(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.3g} s"
