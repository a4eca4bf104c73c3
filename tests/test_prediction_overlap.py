"""Cases beside each other: the same outcomes as one after the other, never more than one ahead and one behind."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import closing

import pytest
import torch

from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.overlap import Outcome, choose_overlap, run_cases, run_side_by_side

LIMIT_S = 20  # of waiting for another thread; only a fault lasts as long


class Voxels:
    """What a case holds; its life can be followed."""

    def __init__(self, number: int) -> None:
        self.number = number


def fail_at(step: str, number: int) -> dict[str, Callable]:
    """Three steps, of which one fails for one item."""

    def build(name: str, work: Callable) -> Callable:
        def run(value: int) -> int:
            if name == step and value % 100 == number:
                raise PredictionError(f"{name} of {number}")
            return work(value)

        return run

    work = {"read": lambda value: value, "compute": lambda value: value + 100, "write": lambda value: value + 100}
    return {name: build(name, function) for name, function in work.items()}


@pytest.mark.parametrize("step", ["none", "read", "compute", "write"])
@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("overlap", [False, True])
def test_run_cases_error_belongs_to_its_case_and_stops_no_other(step: str, number: int, overlap: bool) -> None:
    outcomes = list(run_cases(range(5), **fail_at(step, number), overlap=overlap))
    assert [outcome.item for outcome in outcomes] == [0, 1, 2, 3, 4]
    for outcome in outcomes:
        if step != "none" and outcome.item == number:
            assert outcome.result is None
            assert str(outcome.error) == f"{step} of {number}"
        else:
            assert outcome == Outcome(outcome.item, outcome.item + 200, None)


@pytest.mark.parametrize("count", [0, 1])
def test_run_cases_one_case_needs_no_thread(count: int) -> None:
    threads = []

    def read(number: int) -> int:
        threads.append(threading.current_thread())
        return number

    assert len(list(run_cases(range(count), read, lambda n: n, lambda n: n, overlap=True))) == count
    assert set(threads) <= {threading.main_thread()}


def test_run_cases_next_is_read_and_last_is_written_during_the_network() -> None:
    is_read, is_written = [threading.Event() for _ in range(4)], [threading.Event() for _ in range(4)]

    def read(number: int) -> int:
        is_read[number].set()
        return number

    def compute(number: int) -> int:
        assert number == 3 or is_read[number + 1].wait(LIMIT_S), "the next one waits for the network"
        assert number == 0 or is_written[number - 1].wait(LIMIT_S), "the last one waits for the network"
        return number

    outcomes = list(run_cases(range(4), read, compute, lambda number: is_written[number].set(), overlap=True))
    assert [outcome.error for outcome in outcomes] == [None] * 4


def test_run_cases_holds_one_case_ahead_and_one_behind() -> None:
    opened, computed = weakref.WeakSet(), weakref.WeakSet()
    most, reading = [0, 0], threading.Semaphore(0)

    def make(number: int, followed: weakref.WeakSet) -> Voxels:
        voxels = Voxels(number)
        followed.add(voxels)
        return voxels

    def read(number: int) -> Voxels:
        reading.release()
        return make(number, opened)

    def compute(case: Voxels) -> Voxels:
        if case.number < 9:
            assert reading.acquire(timeout=LIMIT_S)
        most[0] = max(most[0], len(opened))
        found = make(case.number, computed)
        most[1] = max(most[1], len(computed))
        return found

    assert len(list(run_cases(range(10), read, compute, lambda case: case.number, overlap=True))) == 10
    assert most[0] <= 2
    assert most[1] <= 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_run_cases_interrupted_finishes_the_file_and_begins_no_other(error: type[BaseException]) -> None:
    begun, may_end, written = threading.Event(), threading.Event(), []

    def compute(number: int) -> int:
        if number == 1:
            assert begun.wait(LIMIT_S)
            threading.Timer(0.05, may_end.set).start()
            raise error
        return number

    def write(number: int) -> None:
        begun.set()
        assert may_end.wait(LIMIT_S)
        written.append(number)

    read = []
    before = threading.active_count()
    with pytest.raises(error), closing(run_cases(range(9), lambda n: read.append(n) or n, compute, write, True)) as run:
        list(run)
    assert written == [0]
    assert len(read) <= 3
    assert threading.active_count() <= before + 1, "the timer at most"


def test_run_cases_defect_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(run_cases(range(3), lambda n: n, lambda n: n, lambda n: 1 // (n - 1), overlap=True))


def test_run_cases_threads_split_sums_as_this_one_does() -> None:
    def read(number: int) -> int:
        return torch.get_num_threads()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        outcomes = list(run_cases(range(3), read, lambda n: n, lambda n: (n, torch.get_num_threads()), overlap=True))
        assert {outcome.result for outcome in outcomes} == {(2, 2)}
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("device", "num_threads", "num_cores", "expected"),
    [
        ("cpu", 2, 2, (False, False)),
        ("cpu", 8, 8, (False, False)),
        ("cpu", 1, 2, (True, False)),
        ("cpu", 4, 8, (True, False)),
        ("cuda", 8, 8, (True, True)),
        ("cuda", 1, 1, (False, False)),
    ],
)
def test_choose_overlap_never_takes_the_network_s_cores(
    device: str, num_threads: int, num_cores: int, expected: tuple[bool, bool]
) -> None:
    found = choose_overlap(torch.device(device), num_threads, num_cores)
    assert (found.files, found.preprocessing) == expected


def count_at_once(num_workers: int, num_items: int) -> tuple[int, list[Outcome]]:
    """The most items that were worked on at the same time; every worker waits until all others are busy too."""
    barrier = threading.Barrier(num_workers)
    busy, most, lock = [0], [0], threading.Lock()

    def work(number: int) -> int:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        if number < num_workers:
            barrier.wait(LIMIT_S)
        with lock:
            busy[0] -= 1
        return number + 200

    outcomes = list(run_side_by_side(range(num_items), [work] * num_workers, 1))
    return most[0], outcomes


@pytest.mark.parametrize(("num_workers", "num_items"), [(1, 3), (2, 2), (3, 8)])
def test_run_side_by_side_works_on_as_many_as_there_are_workers(num_workers: int, num_items: int) -> None:
    most, outcomes = count_at_once(num_workers, num_items)
    assert most == num_workers
    assert outcomes == [Outcome(number, number + 200, None) for number in range(num_items)]


def test_run_side_by_side_begins_with_the_largest_and_keeps_the_order_of_outcomes() -> None:
    begun: list[int] = []
    outcomes = list(run_side_by_side([3, 9, 1, 9, 5], [lambda size: begun.append(size) or size], 1, float))
    assert begun == [9, 9, 5, 3, 1]
    assert [outcome.result for outcome in outcomes] == [3, 9, 1, 9, 5]


def test_run_side_by_side_no_items() -> None:
    assert list(run_side_by_side([], [lambda number: number], 1)) == []


def test_run_side_by_side_a_worker_has_one_item_at_a_time() -> None:
    busy = {"a": threading.Lock(), "b": threading.Lock()}

    def build(name: str) -> Callable[[int], str]:
        def work(number: int) -> str:
            assert busy[name].acquire(blocking=False), "two items at once"
            time.sleep(0.001)
            busy[name].release()
            return name

        return work

    outcomes = list(run_side_by_side(range(40), [build(name) for name in busy], 1))
    assert {outcome.result for outcome in outcomes} == {"a", "b"}


def test_run_side_by_side_error_belongs_to_its_item_and_stops_no_other() -> None:
    def work(number: int) -> int:
        if number in (0, 3):
            raise PredictionError(f"bad {number}")
        return number

    outcomes = list(run_side_by_side(range(6), [work, work], 1))
    assert [str(outcome.error) for outcome in outcomes if outcome.error is not None] == ["bad 0", "bad 3"]
    assert [outcome.result for outcome in outcomes] == [None, 1, 2, None, 4, 5]


def test_run_side_by_side_defect_is_raised_and_what_has_begun_is_finished() -> None:
    done: list[int] = []
    release = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            threading.Timer(0.05, release.set).start()
            raise ZeroDivisionError
        assert release.wait(LIMIT_S)
        done.append(number)
        return number

    with pytest.raises(ZeroDivisionError), closing(run_side_by_side(range(50), [work, work], 1)) as run:
        list(run)
    assert 1 in done
    assert len(done) < 49, "items that had not begun are left"


def test_run_side_by_side_threads_of_pytorch_are_shared_out_and_given_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        outcomes = list(run_side_by_side(range(3), [lambda _: torch.get_num_threads()] * 2, 2))
        assert [outcome.result for outcome in outcomes] == [2, 2, 2]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
