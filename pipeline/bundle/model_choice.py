"""How the weights of a training were chosen among its epochs, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.bundle.history import History


def tell_model_choice(history: History) -> str:
    """How the epoch was chosen, and which it was."""
    chosen = [(run.get("result") or {}).get("best_epoch", 1) for run in history.finished_runs]
    if chosen and all((epoch or 0) < 1 for epoch in chosen):
        return "The weights at the end of the training; no validation picked an epoch."
    told = (
        "The weights of the epoch with the highest mean Dice on the validation cases, on the resampled grid; this Dice only picks the "
        "weights and is no result. "
    )
    if not history.finished_runs:
        return f"{told}Planned: validated every {history.plan.val_interval} epochs."
    return told + " ".join(_tell_choice(run, history.plan.val_interval) for run in history.finished_runs)


def _tell_choice(run: dict[str, Any], planned_interval: int) -> str:
    interval = (run.get("settings") or {}).get("val_interval", planned_interval)
    best = (run.get("result") or {}).get("best_epoch")
    chosen = f", epoch {best} chosen" if best is not None else ""
    return f"{run.get('id', 'run')}: validated every {interval} epochs{chosen}."
