"""Where the time of a training goes: each part in its place, the sum the whole, and a verdict."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents

from unet_pipeline.training import profile
from unet_pipeline.training.profile import Phases, ProfileHandler, describe, judge
from unet_pipeline.training.step import LOSS, TrainingStep

EVEN = {"data": 0.05, "augmentation": 0.1, "network": 0.75, "validation": 0.1, "writing": 0.0, "other": 0.0}


class Clock:
    """A clock that only the parts of a training move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 50.0
        clock = SimpleNamespace(perf_counter=lambda: self.now_s)
        monkeypatch.setattr(profile, "time", clock)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class SlowDataset(Dataset):
    """Loading takes 2 seconds of the clock."""

    clock: Clock

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        self.clock.pass_s(2)
        return {"image": torch.rand(1, 4, 4), "label": torch.zeros(1, 4, 4)}


def run_profiled(clock: Clock, num_epochs: int = 2) -> ProfileHandler:
    """Two iterations an epoch: 2 s data, 1 s augmentation, 7 s network each; 4 s validation, 3 s writing, 0.5 s statistics."""

    def step(engine: Engine, _: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clock.pass_s(1)
        engine.state.augmented_s = clock.now_s
        clock.pass_s(7)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {LOSS: torch.tensor(0.0)}

    dataset = SlowDataset([{}, {}])
    dataset.clock = clock
    network = torch.nn.Conv2d(1, 1, 1)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), DataLoader(Dataset([{"image": torch.rand(1, 4, 4)}]), batch_size=1), network
    )
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda _: clock.pass_s(4))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=num_epochs,
        train_data_loader=DataLoader(dataset, batch_size=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=torch.nn.MSELoss(),
        iteration_update=step,
        decollate=False,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda _: clock.pass_s(0.25))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run())
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: clock.pass_s(3))
    handler = ProfileHandler(evaluator, num_workers=0)
    handler.attach(trainer)
    trainer.run()
    assert trainer.state.profile == handler.describe()
    return handler


def test_profile_handler_known_times_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = run_profiled(Clock(monkeypatch))
    expected = Phases(data_s=4, augmentation_s=2, network_s=14, validation_s=4, writing_s=3, other_s=0.5)
    assert handler.epoch == expected
    assert handler.training.total_s == 2 * expected.total_s == 55
    assert handler.num_epochs == 2
    assert handler.line.startswith("time: data 15 %, augmentation 7 %, network 51 %, validation 15 %, writing 11 %")


def test_profile_handler_data_counts_the_whole_training(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_profiled(Clock(monkeypatch), num_epochs=3).describe().model_dump()
    assert found["num_epochs"] == 3
    assert found["seconds"] == {
        "data": 12,
        "augmentation": 6,
        "network": 42,
        "validation": 12,
        "writing": 9,
        "other": 1.5,
    }
    assert sum(found["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert str(found["verdict"]).startswith("waiting for data")


def test_list_shares_nothing_measured_is_zero() -> None:
    assert set(Phases().list_shares().values()) == {0.0}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "the network"),
        ({"data": 0.11}, "waiting for data: raise num_workers (now 3)"),
        ({"validation": 0.26}, "validation takes much of the time: raise val_interval"),
        ({"augmentation": 0.26}, "augmentation takes much"),
        ({"writing": 0.11}, "writing takes much"),
    ],
)
def test_judge_names_what_holds_up(changed: dict[str, float], expected: str) -> None:
    assert judge({**EVEN, **changed}, num_workers=3).startswith(expected)


def test_describe_leaves_out_what_is_nothing() -> None:
    text = describe(EVEN, "fine")
    assert text == "time: data 5 %, augmentation 10 %, network 75 %, validation 10 %; fine"


def test_training_step_says_when_the_augmentation_was_done() -> None:
    state = SimpleNamespace(device=torch.device("cpu"), epoch=1, iteration=1, epoch_length=1)
    network = torch.nn.Conv2d(1, 1, 1)
    engine = SimpleNamespace(
        state=state,
        non_blocking=False,
        to_kwargs={},
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["label"]),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        inferer=lambda images, net: net(images),
        loss_function=torch.nn.MSELoss(),
        fire_event=lambda _: None,
    )
    TrainingStep(1.0, autocast=False)(engine, {"image": torch.rand(1, 1, 4, 4), "label": torch.rand(1, 1, 4, 4)})
    assert state.augmented_s > 0
