"""`tune` on the command line, and the lines in which its choices are shown."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from unet_pipeline.commands.options import Bundle, Device, Json, Mirror, Trust, write_json_option
from unet_pipeline.commands.output import say, say_plan_notes, tell, tell_next
from unet_pipeline.commands.tables import print_table
from unet_pipeline.commands.worker_options import Address, EngineName, Jobs, Sbatch, Threads, read_settings

if TYPE_CHECKING:
    from unet_pipeline.tuning.choose import Tuning


def tune(
    bundle: Bundle,
    device: Device = None,
    mirror: Mirror = False,
    jobs: Jobs = 1,
    engine: EngineName = "local",
    threads: Threads = None,
    address: Address = None,
    sbatch: Sbatch = None,
    trust: Trust = False,
    json_file: Json = None,
) -> None:
    """Choose post-processing and temperature on out-of-fold predictions, into plan.yaml."""
    import unet_pipeline
    from unet_pipeline.bundle.folder import BundleFolder
    from unet_pipeline.planning.plan import read_plan

    say_plan_notes(bundle)
    workers = (jobs, engine, threads, address, read_settings(sbatch))
    result = unet_pipeline.tune(bundle, device, mirror, trust, *workers, announce=tell)
    print_tuning(result, read_plan(BundleFolder(bundle).plan).spatial_dims == 2)
    say(f"Written into {bundle / 'configs' / 'plan.yaml'}; everything tried: {bundle / 'evidence' / 'tuning.json'}")
    tell_next("evaluate", bundle)
    write_json_option(json_file, tuning_as_data(result))


def print_tuning(tuning: Tuning, is_flat: bool = False) -> None:
    """What was tried as post-processing, and the temperature; `is_flat`: of pictures."""
    headings = ("label", "candidate", "n", "Dice before", "after", "95 % interval of the gain", "taken")
    rows = []
    for decision in tuning.decisions:
        interval = f"{decision.low:+.4f} to {decision.high:+.4f}" if decision.n > 1 else "-"
        scores = (f"{decision.before:.4f}", f"{decision.after:.4f}")
        taken = "yes" if decision.taken else "no"
        rows.append((decision.label, decision.candidate, str(decision.n), *scores, interval, taken))
    print_table(f"{tuning.num_cases} out-of-fold predictions", headings, rows, num_texts=len(headings))
    calibration = tuning.calibration
    if calibration.reason:
        say(f"temperature not changed: {calibration.reason} (calibration error {calibration.error_before:.4f})")
    else:
        say(
            f"temperature {calibration.temperature:.3f}: calibration error {calibration.error_before:.4f} before, "
            f"{calibration.error_after:.4f} after; loss {calibration.loss_before:.4f} and {calibration.loss_after:.4f} "
            f"({calibration.num_voxels:,} {'pixels' if is_flat else 'voxels'})"
        )
    say("Results on the same cases are a little better than they will be on others, because the choice has seen them.")


def tuning_as_data(tuning: Tuning) -> dict[str, object]:
    """What `tune` prints, as plain values."""
    return asdict(tuning)
