"""The captured step's bookkeeping, with a graph that is simulated on the CPU; what a real one gives is tested where there is a GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from unet_pipeline.training.captured_step import CapturedStep

CPU = torch.device("cpu")


class Recorder:
    """Stands for PyTorch's graph: what is run while it captures is undone, and done again at each replay."""

    network: torch.nn.Linear
    work: Callable[[], Any]
    failure: Exception | None = None
    num_replays = 0

    def replay(self) -> None:
        type(self).num_replays += 1
        Recorder.network.zero_grad(set_to_none=True)
        Recorder.work()


class Stream:
    """A stream that does everything at once."""

    def __init__(self, *_: object) -> None:
        return None

    def wait_stream(self, _: object) -> None:
        return None


@contextlib.contextmanager
def capture(_: Recorder, stream: Stream, capture_error_mode: str) -> Iterator[None]:
    before = {name: value.clone() for name, value in Recorder.network.state_dict().items()}
    yield
    Recorder.network.load_state_dict(before)
    if Recorder.failure is not None:
        raise Recorder.failure


@pytest.fixture(autouse=True)
def simulated_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CUDAGraph": Recorder,
        "graph": capture,
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda _: contextlib.nullcontext(),
        "synchronize": lambda _: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    Recorder.failure, Recorder.num_replays = None, 0


def build(rates_seen: list[Any]) -> tuple[CapturedStep, torch.optim.SGD, torch.nn.Linear]:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def work() -> dict[str, Any]:
        rates_seen.append(optimizer.param_groups[0]["lr"])
        loss = network(torch.ones(1, 3)).square().sum()
        loss.backward()
        optimizer.step()
        return {"loss": loss.detach()}

    Recorder.network, Recorder.work = network, work
    return CapturedStep(work, optimizer, CPU), optimizer, network


def test_captured_step_warms_up_three_times_and_then_replays() -> None:
    seen: list[Any] = []
    step, optimizer, network = build(seen)
    plain = torch.nn.Linear(3, 1)
    plain.load_state_dict(network.state_dict())
    for _ in range(6):
        step()
        assert optimizer.param_groups[0]["lr"] == 0.1  # what schedule and checkpoint see stays a number
    assert Recorder.num_replays == 3
    assert all(isinstance(rate, torch.Tensor) for rate in seen[:4])
    reference = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(6):
        reference.zero_grad()
        plain(torch.ones(1, 3)).square().sum().backward()
        reference.step()
    torch.testing.assert_close(network.weight, plain.weight)


def test_captured_step_follows_the_learning_rate_of_the_schedule() -> None:
    seen: list[Any] = []
    step, optimizer, _ = build(seen)
    rates = []
    for value in (0.3, 0.2, 0.1, 0.05, 0.025):
        optimizer.param_groups[0]["lr"] = value
        step()
        rates.append(float(step._rates[0]))
    assert rates == pytest.approx([0.3, 0.2, 0.1, 0.05, 0.025])
    assert seen[0] is seen[3]  # one place in memory, which a graph reads


def test_captured_step_failure_falls_back_says_why_and_loses_no_step() -> None:
    step, _, network = build([])
    Recorder.failure = RuntimeError("operation not permitted\nwhen stream is capturing")
    before = network.weight.clone()
    losses = [float(step()["loss"]) for _ in range(6)]
    assert step.failure == "RuntimeError: operation not permitted when stream is capturing"
    assert Recorder.num_replays == 0
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 6
    assert not torch.equal(network.weight, before)


def test_captured_step_forgets_a_graph_whose_buffers_were_replaced() -> None:
    step, _, _ = build([])
    for _ in range(5):
        step()
    first = step._graph
    step.forget()
    step()
    assert step._graph is not None
    assert step._graph is not first


def test_captured_step_sets_the_optimizer_up_for_a_capture_and_back() -> None:
    network = torch.nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    inside: dict[str, Any] = {}
    step = CapturedStep(lambda: inside.update(optimizer.param_groups[0]) or {}, optimizer, CPU)  # type: ignore[func-returns-value]
    before = dict(optimizer.param_groups[0])
    step()
    assert inside["capturable"]
    assert inside["fused"]
    assert isinstance(inside["lr"], torch.Tensor)
    assert dict(optimizer.param_groups[0]) == before
