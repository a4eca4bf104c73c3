"""`train --unlabelled` on the command line: what came of a pool, in lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.commands.options import write_json_option
from unet_pipeline.commands.output import say, say_plan_notes, tell, tell_next
from unet_pipeline.commands.stopping import preemptible
from unet_pipeline.errors import PreemptedError

if TYPE_CHECKING:
    from unet_pipeline.verbs.unlabelled import PoolTrial


def try_pool(
    bundle: Path,
    pool: Path,
    overrides: dict[str, object],
    options: dict[str, Any],
    json_file: Path | None,
) -> None:
    """Try unlabelled images and say what was decided; `options` are who works, tracking and trust."""
    import unet_pipeline

    say_plan_notes(bundle)
    try:
        with preemptible():
            trial = unet_pipeline.train_with_unlabelled(bundle, pool, overrides, announce=tell, **options)
    except PreemptedError as stop:
        _say_stopped(stop.signal_name)
        return
    if trial.record is None:
        _say_stopped(str(trial.stopped_by))
        return
    _say_decision(bundle, trial)
    write_json_option(json_file, trial.record.model_dump(mode="json"))


def _say_stopped(signal_name: str) -> None:
    say(f"stopped by {signal_name}; nothing is lost, and the bundle is as it was")
    tell("Next: the same command again")


def _say_decision(bundle: Path, trial: PoolTrial) -> None:
    record = trial.record
    if record is None:
        return
    verdict = "accepted" if record.accepted else "rejected"
    weights = "models/ has the weights that were trained with it" if record.accepted else "models/ is as it was"
    say(f"pool {record.pool} {verdict}: {record.reason}")
    if record.gain is not None:
        say(
            f"Dice of {record.gain.label}: {record.gain.before:.4f} before, {record.gain.after:.4f} with {record.num_kept} images"
        )
    say(f"weights  {weights}\nrecord   {trial.path}")
    if trial.work.is_dir():
        say(f"work     {trial.work} (label maps and trainings; may be removed)")
    if record.accepted:
        tell_next("evaluate", bundle)
