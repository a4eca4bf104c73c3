"""Shares of processes, and what is said where they do not fit or are lost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import TrainingError
from unet_pipeline.training import joint_validation, processes, samples
from unet_pipeline.training.joint_validation import JointMeanDice, deal_cases
from unet_pipeline.training.processes import find_share
from unet_pipeline.training.samples import SampleOrder, SharedBatches


@given(total=st.integers(0, 40), num_processes=st.integers(1, 9))
def test_find_share_parts_are_in_a_row_and_differ_by_one_at_most(total: int, num_processes: int) -> None:
    shares = [find_share(total, process, num_processes) for process in range(num_processes)]
    assert [number for share in shares for number in share] == list(range(total))
    sizes = [len(share) for share in shares]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


def be(monkeypatch: pytest.MonkeyPatch, process: int, num_processes: int) -> None:
    """Let this be one of several processes."""
    for module in (processes, samples, joint_validation):
        monkeypatch.setattr(module, "rank", lambda: process)
        monkeypatch.setattr(module, "num_processes", lambda: num_processes)


@pytest.mark.parametrize("num_processes", [2, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 9])
@pytest.mark.parametrize("start", [0, 1])
def test_shared_batches_together_are_those_of_one_process(
    monkeypatch: pytest.MonkeyPatch, num_processes: int, batch_size: int, start: int
) -> None:
    order = SampleOrder(5, 20, seed=0, fold=0)  # of which the last batch of 9 has 2
    order.epoch, order.start = 3, start * batch_size
    whole = list(order)
    shares, sizes = [], []
    for process in range(num_processes):
        be(monkeypatch, process, num_processes)
        batches = SharedBatches(order, batch_size)
        shares.append(list(batches))
        sizes = [batches.count_samples(number) for number in range(start, len(batches))]
        assert len(batches) == -(-20 // batch_size)
    assert all(len(batch) >= 1 for share in shares for batch in share)
    joint = [
        key
        for step, step_sizes in enumerate(sizes)
        for process, size in enumerate(step_sizes)
        for key in shares[process][step][:size]
    ]
    assert joint == whole


@pytest.mark.parametrize("num_cases", [1, 2, 3, 7])
def test_validation_of_several_processes_is_that_of_all_cases_each_once(
    monkeypatch: pytest.MonkeyPatch, num_cases: int
) -> None:
    cases, rows = list(range(num_cases)), []
    for process in range(4):
        be(monkeypatch, process, 4)
        rows += deal_cases(cases)
    assert len(rows) % 4 == 0  # so many in each, or they would wait for each other
    metric = JointMeanDice(num_cases, num_classes=2)
    monkeypatch.setattr(metric.metric_fn, "get_buffer", lambda: torch.tensor(rows).float()[:, None])
    monkeypatch.setattr(JointMeanDice.__mro__[2], "compute", lambda handler: handler.metric_fn._synced_tensors[0])
    assert metric.compute().flatten().tolist() == cases


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    processes.require_gpus(2)
    with pytest.raises(TrainingError, match=r"4 processes for 2 GPU\(s\); expected one GPU each"):
        processes.require_gpus(4)


def test_lost_process_is_explained_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = RuntimeError("[pair.cc:537] Connection closed by peer [127.0.0.1]:4242")
    assert processes.explain_lost_process(lost) is None  # a single process has no others
    be(monkeypatch, 2, 4)
    assert "Process 2 of 0 to 3 has lost the others" in str(processes.explain_lost_process(lost))
    assert processes.explain_lost_process(RuntimeError("shapes differ")) is None


@pytest.mark.parametrize(("world_size", "expected"), [(None, False), ("1", False), ("2", True)])
def test_is_launched_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, world_size: str | None, expected: bool
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world_size is not None:
        monkeypatch.setenv("WORLD_SIZE", world_size)
    assert processes.is_launched() is expected
