"""The rules of a run, by an engine with a clock of its own; what failed, what is tried again, what an earlier run has left."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Item, Outcome, State, Work
from unet_pipeline.cohort.record import Row, open_record
from unet_pipeline.cohort.run import MAX_LOST, Run, run_items
from unet_pipeline.errors import CohortError

ANY_WORK = Work("nowhere:nothing")


class SimulatedEngine:
    """Workers in simulated time. The fate of an item is the states of its attempts, the last one for all that follow.

    `dies_after` attempts the coordinator is killed.
    """

    def __init__(self, num_workers: int, seed: int = 0, dies_after: int | None = None) -> None:
        self.num_workers, self.num_in_flight, self.dies_after = num_workers, num_workers + 2, dies_after
        self.clock_s, self.attempts = 0.0, list[Attempt]()
        self.on_begin: OnBegin = ignore_beginning
        self.is_open, self.most_in_flight = False, 0
        self._random, self._ends = random.Random(seed), list[tuple[float, int, Attempt]]()

    def start(self, work: Work) -> None:
        self.is_open = True

    def submit(self, attempt: Attempt) -> None:
        if len(self.attempts) == self.dies_after:
            raise SystemError("killed")
        self.attempts.append(attempt)
        duration_s = attempt.item.arguments.get("duration_s", 1.0) * self._random.uniform(0.5, 1.5)
        heapq.heappush(self._ends, (self.clock_s + duration_s, len(self.attempts), attempt))
        self.most_in_flight = max(self.most_in_flight, len(self._ends))

    def collect(self) -> list[Outcome]:
        self.clock_s, _, attempt = heapq.heappop(self._ends)
        fates = attempt.item.arguments.get("fates", [State.FINISHED])
        state = fates[min(attempt.number, len(fates)) - 1]
        result = {"outputs": {attempt.item.name: "0" * 64}} if state == State.FINISHED else {}
        return [Outcome(attempt, state, result, f"{attempt.item.name} is {state}", "host", self.clock_s, 1.0)]

    def close(self) -> None:
        self.is_open = False


def build_items(*fates: list[State], **arguments: object) -> list[Item]:
    return [
        Item(f"case_{number:03d}", f"key_{number}", {"fates": fate, **arguments}) for number, fate in enumerate(fates)
    ]


def run(folder: Path, items: list[Item], engine: SimulatedEngine | None = None, **keywords: object) -> Run:
    with open_record(folder) as record:
        ended = run_items(items, ANY_WORK, engine or SimulatedEngine(2), record, **keywords)  # type: ignore[arg-type]
        rows = list(ended.iterate())
    ended.__dict__["rows"] = rows
    return ended


def list_states(ended: Run) -> list[str]:
    return [settled.row.state for settled in ended.__dict__["rows"]]


def test_run_items_all_kinds_of_failure_leave_the_state_that_says_what_to_do(tmp_path: Path) -> None:
    kinds = [State.FINISHED, State.BAD_INPUT, State.ERROR, State.OUT_OF_MEMORY, State.LOST]
    engine = SimulatedEngine(3)
    ended = run(tmp_path, build_items(*[[kind] for kind in kinds]), engine)
    assert list_states(ended) == ["finished", "bad input", "error", "out of memory", "poison"]
    attempts = Counter(attempt.item.name for attempt in engine.attempts)
    assert list(dict(sorted(attempts.items())).values()) == [1, 1, 1, 2, MAX_LOST]
    assert [attempt.smaller for attempt in engine.attempts if attempt.item.name == "case_003"] == [False, True]
    assert not engine.is_open


def test_run_items_what_gets_better_is_finished(tmp_path: Path) -> None:
    ok = State.FINISHED
    items = build_items([State.LOST, State.LOST, ok], [State.OUT_OF_MEMORY, ok], [State.OUT_OF_MEMORY, State.LOST, ok])
    ended = run(tmp_path, items)
    assert list_states(ended) == ["finished"] * 3
    assert [settled.row.attempts for settled in ended.__dict__["rows"]] == [3, 2, 3]
    assert all(settled.row.message == "" or settled.is_finished for settled in ended.__dict__["rows"])


def test_run_items_again_does_what_is_missing_and_leaves_alone_what_is_set_aside(tmp_path: Path) -> None:
    items = build_items([State.FINISHED], [State.BAD_INPUT], [State.ERROR], [State.LOST], [State.OUT_OF_MEMORY])
    run(tmp_path, items)
    again = SimulatedEngine(2)
    ended = run(tmp_path, items, again)
    assert {attempt.item.name for attempt in again.attempts} == {"case_002", "case_004"}
    assert [settled.is_kept for settled in ended.__dict__["rows"]] == [True, True, False, True, False]
    changed = [Item(item.name, f"{item.key} anew", item.arguments) for item in items[1:2]]
    last = SimulatedEngine(2)
    run(tmp_path, changed, last)
    assert [attempt.item.name for attempt in last.attempts] == ["case_001"]


def test_run_items_nothing_to_do_starts_no_worker(tmp_path: Path) -> None:
    items = build_items([State.FINISHED])
    run(tmp_path, items)
    engine = SimulatedEngine(1)
    engine.start = lambda work: pytest.fail("a worker was started")  # type: ignore[method-assign]
    assert list_states(run(tmp_path, items, engine)) == ["finished"]
    assert list_states(run(tmp_path / "empty", [], engine)) == []


def test_run_items_outputs_that_are_gone_are_made_again(tmp_path: Path) -> None:
    items = build_items([State.FINISHED], [State.FINISHED])
    run(tmp_path, items)
    asked: list[Row] = []

    def is_there(item: Item, row: Row) -> bool:
        asked.append(row)
        return item.name == "case_000"

    engine = SimulatedEngine(2)
    run(tmp_path, items, engine, is_there=is_there)
    assert [attempt.item.name for attempt in engine.attempts] == ["case_001"]
    assert [row.outputs for row in asked] == [{item.name: "0" * 64} for item in items]


def test_run_items_longest_first_and_results_in_the_order_of_the_items(tmp_path: Path) -> None:
    items = [Item(f"case_{number}", "k", {"duration_s": number}, expected_s=number) for number in (2, 9, 4, 7)]
    engine = SimulatedEngine(2)
    ended = run(tmp_path, items, engine)
    assert [attempt.item.name for attempt in engine.attempts] == ["case_9", "case_7", "case_4", "case_2"]
    assert [settled.item.name for settled in ended.__dict__["rows"]] == ["case_2", "case_9", "case_4", "case_7"]


def test_run_items_full_disk_stops_the_run_with_its_message(tmp_path: Path) -> None:
    items = build_items([State.FINISHED], [State.DISK_FULL], *[[State.FINISHED]] * 20)
    engine = SimulatedEngine(1)
    with pytest.raises(CohortError, match="case_001 is disk full"):
        run(tmp_path, items, engine)
    assert not engine.is_open
    assert len(engine.attempts) < 8
    ended = run(tmp_path, [items[0], *items[2:]])
    assert set(list_states(ended)) == {"finished"}


def test_run_items_killed_coordinator_leaves_no_finished_item_to_be_done_again(tmp_path: Path) -> None:
    items = build_items(*[[State.FINISHED]] * 40)
    first, second = SimulatedEngine(3, dies_after=20), SimulatedEngine(3)
    with pytest.raises(SystemError, match="killed"):
        run(tmp_path, items, first)
    ended = run(tmp_path, items, second)
    assert set(list_states(ended)) == {"finished"}
    both = Counter(attempt.item.name for attempt in (*first.attempts, *second.attempts))
    assert len(both) == 40
    assert sum(both.values()) - 40 <= first.num_in_flight


def test_require_all_lists_the_failed_and_says_of_how_many(tmp_path: Path) -> None:
    with open_record(tmp_path) as record:
        ended = run_items(build_items([State.FINISHED], [State.BAD_INPUT]), ANY_WORK, SimulatedEngine(1), record)
        with pytest.raises(CohortError) as caught:
            ended.require_all("images")
    assert str(caught.value) == "1 of 2 images failed:\n  case_001 (bad input): case_001 is bad input"


FATES = st.lists(
    st.sampled_from([State.FINISHED, State.BAD_INPUT, State.OUT_OF_MEMORY, State.LOST, State.ERROR]),
    min_size=1,
    max_size=4,
)


@settings(max_examples=20)
@given(
    fates=st.lists(FATES, max_size=25),
    num_workers=st.integers(1, 6),
    dies_after=st.lists(st.integers(0, 30), max_size=3),
    seed=st.integers(0, 99),
)
def test_run_items_any_fates_and_deaths_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    fates: list[list[State]],
    num_workers: int,
    dies_after: list[int],
    seed: int,
) -> None:
    """No item is lost, no finished one is begun again, no more is in flight than the engine takes, and each fails as its last attempt."""
    folder, items = tmp_path_factory.mktemp("run"), build_items(*fates)
    finished: list[str] = []
    on_finish = lambda outcome: finished.append(outcome.attempt.item.name)  # noqa: E731
    for number in (*dies_after, None):
        engine = SimulatedEngine(num_workers, seed, number)
        done = set(finished)
        try:
            ended = run(folder, items, engine, on_finish=on_finish)
        except SystemError:
            continue
        finally:
            assert engine.most_in_flight <= engine.num_in_flight
            assert not engine.is_open
            assert not done & {attempt.item.name for attempt in engine.attempts}
    assert len(finished) == len(set(finished))
    rows = ended.__dict__["rows"]
    assert [settled.item.name for settled in rows] == [item.name for item in items]
    assert {settled.item.name for settled in rows if settled.is_finished} == set(finished)
    assert {settled.row.state for settled in rows} <= set(State) - {State.LOST}
