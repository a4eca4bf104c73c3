"""Where the time of a training goes: shares of every epoch, and what to change about them.

The times are the host's, taken between events that fire anyway; nothing is synchronised for them. On a GPU the work is queued, and the
host waits for it where the loss is checked, which counts as network.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields

from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents

from unet_pipeline.bundle.run_record import Profile

_MUCH_WAITING, _MUCH_VALIDATION, _MUCH_AUGMENTATION, _MUCH_WRITING = 0.1, 0.25, 0.25, 0.1


@dataclass
class Phases:
    """Seconds of each part of a training.

    Attributes:
        data_s: waiting for the next batch.
        augmentation_s: copying to the device, and augmentation.
        network_s: forward, loss, backward and the optimizer's step.
        validation_s: network and metric on the validation cases.
        writing_s: checkpoints, and whatever else is done at the end of an epoch.
        other_s: the engine, statistics and the progress bar.
    """

    data_s: float = 0.0
    augmentation_s: float = 0.0
    network_s: float = 0.0
    validation_s: float = 0.0
    writing_s: float = 0.0
    other_s: float = 0.0

    @property
    def total_s(self) -> float:
        return sum(asdict(self).values())

    def list_shares(self) -> dict[str, float]:
        """Part -> 0 to 1 of the total; all 0 before anything was measured."""
        total_s = self.total_s
        return {name.removesuffix("_s"): value / total_s if total_s else 0.0 for name, value in asdict(self).items()}

    def add(self, other: Phases) -> None:
        """Add the seconds of other phases to these."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


def judge(shares: dict[str, float], num_workers: int) -> str:
    """What holds a training up, and what to do about it.

    Args:
        shares: from `Phases.list_shares`.
        num_workers: processes that load data.
    """
    if shares["data"] > _MUCH_WAITING:
        return f"waiting for data: raise num_workers (now {num_workers}), or cache_rate if it is below 1"
    if shares["validation"] > _MUCH_VALIDATION:
        return "validation takes much of the time: raise val_interval"
    if shares["augmentation"] > _MUCH_AUGMENTATION:
        return "augmentation takes much of the time: lower its probabilities in the plan"
    if shares["writing"] > _MUCH_WRITING:
        return "writing takes much of the time: more iterations_per_epoch, or a faster disk for output_dir"
    return "the network is what takes the time"


def describe(shares: dict[str, float], verdict: str) -> str:
    """Shares in percent and the verdict in one line; parts under half a percent are left out."""
    parts = [f"{name} {100 * share:.0f} %" for name, share in shares.items() if share >= 0.005]
    return f"time: {', '.join(parts)}; {verdict}"


class ProfileHandler:
    """Measures the parts of every epoch; `engine.state.time_shares` has those of the last epoch, and `engine.state.profile` those of the
    whole training.

    Attach it behind the handlers that write at the end of an epoch. `line` describes the last epoch.

    Args:
        evaluator: the validation.
        num_workers: processes that load data, for the verdict.
    """

    def __init__(self, evaluator: Engine, num_workers: int) -> None:
        self.evaluator, self.num_workers = evaluator, num_workers
        self.training, self.epoch = Phases(), Phases()
        self.num_epochs = 0
        self.line = ""
        self._started_s = self._mark_s = self._iterated_s = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._start_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._start_clock)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._add_data)
        engine.add_event_handler(Events.ITERATION_STARTED, self._start_clock)
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._add_step)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)
        self.evaluator.add_event_handler(Events.STARTED, self._start_clock)
        self.evaluator.add_event_handler(Events.EPOCH_COMPLETED, self._add_validation)

    def _start_epoch(self, _: Engine) -> None:
        self.epoch = Phases()
        self._started_s = self._iterated_s = time.perf_counter()

    def _start_clock(self, _: Engine) -> None:
        self._mark_s = time.perf_counter()

    def _add_data(self, _: Engine) -> None:
        self.epoch.data_s += time.perf_counter() - self._mark_s

    def _add_step(self, engine: Engine) -> None:
        augmented_s = getattr(engine.state, "augmented_s", self._mark_s)
        self.epoch.augmentation_s += augmented_s - self._mark_s
        self.epoch.network_s += time.perf_counter() - augmented_s

    def _note_iteration(self, _: Engine) -> None:
        self._iterated_s = time.perf_counter()

    def _add_validation(self, _: Engine) -> None:
        self.epoch.validation_s += time.perf_counter() - self._mark_s

    def _finish_epoch(self, engine: Engine) -> None:
        now_s = time.perf_counter()
        self.epoch.writing_s = max(0.0, now_s - self._iterated_s - self.epoch.validation_s)
        self.epoch.other_s = max(0.0, now_s - self._started_s - self.epoch.total_s)
        self.training.add(self.epoch)
        self.num_epochs += 1
        shares = self.epoch.list_shares()
        self.line = describe(shares, judge(shares, self.num_workers))
        engine.state.time_shares, engine.state.profile = shares, self.describe()

    def describe(self) -> Profile:
        """Seconds and shares of the training so far, and the verdict."""
        shares = self.training.list_shares()
        return Profile(
            num_epochs=self.num_epochs,
            seconds={name.removesuffix("_s"): round(value, 2) for name, value in asdict(self.training).items()},
            shares={name: round(share, 4) for name, share in shares.items()},
            verdict=judge(shares, self.num_workers),
        )
