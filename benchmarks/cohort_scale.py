"""A thousand workers and ten million items by simulated time: `.venv/bin/python benchmarks/cohort_scale.py [--items N] [--workers N]`.

The runner and the record are the real ones (`cohort/run.py`, `cohort/record.py`); the engine has a clock of its own and a heap of the
times at which attempts end. The seconds of processor that the coordinator takes between two calls of the engine pass on that clock too, so
that a coordinator that is too slow leaves workers idle. The run is cut off once on its way, resumed, and resumed again when nothing is left.
"""

from __future__ import annotations

import argparse
import heapq
import platform
import resource
import shlex
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import unet_pipeline
from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Item, Outcome, State, Work
from unet_pipeline.cohort.record import RECORD, Record, open_record
from unet_pipeline.cohort.run import run_items
from unet_pipeline.files import write_text
from unet_pipeline.progress import show_progress

TARGET = Path(__file__).parent / "results" / "cohort_scale.md"
MEDIAN_S, SPREAD, FORECAST_SPREAD = 10.0, 0.6, 0.2  # log-normal: an image, and how well its time is forecast
SHARES = {State.LOST: 1e-3, State.OUT_OF_MEMORY: 1e-3, State.BAD_INPUT: 1e-4, State.ERROR: 1e-4}  # of attempts
NUM_POISON = 20
REPLACE_S = 30.0  # until a worker that died is replaced
COLUMNS = (
    "call of the command",
    "attempts",
    "simulated s",
    "attempts/s",
    "workers busy",
    "tail s",
    "coordinator's processor s",
    "its wall s",
    "ms an attempt",
    "record MiB",
    "peak memory MiB",
)
LIMITS = """Workers are busy also with attempts that fail. The tail is the time from the first worker that finds nothing to do, for good, to
the end. The last call finds everything done but what ended with an error: it shows what reading the record takes.

Limits. The coordinator is one process: with {per_item_ms:.2f} ms of processor an attempt it hands out {rate:,.0f} a second,
enough for {workers:,} workers whose items take {shortest_s:.2f} s or more, or for {most_workers:,.0f} workers with items
of {median_s:g} s. The attempts in flight when it is cut off are done again, at most {in_flight:,}. Not simulated: the engine's own
dispatch (Ray's takes some 3 ms an item, in a second process), hashing the inputs before the run, networks and disks, and `is_there`, by
which a resumed run looks at each output file."""


class Items(Sequence[Item]):
    """Items that are made as they are asked for; three arrays are all that is kept."""

    def __init__(self, num_items: int) -> None:
        rng = np.random.default_rng(0)
        self.duration_s = rng.lognormal(np.log(MEDIAN_S), SPREAD, num_items).astype(np.float32)
        self.expected_s = self.duration_s * rng.lognormal(0, FORECAST_SPREAD, num_items).astype(np.float32)
        self.poison = frozenset(rng.choice(num_items, min(NUM_POISON, num_items), replace=False).tolist())

    def __len__(self) -> int:
        return len(self.duration_s)

    def __getitem__(self, place: int) -> Item:  # type: ignore[override]
        if not 0 <= place < len(self):
            raise IndexError(place)
        key = f"{place:064x}"
        arguments = {"place": place, "image": f"images/case_{place:08d}.nii.gz"}
        return Item(f"case_{place:08d}", key, arguments, float(self.expected_s[place]), {"image": key})


class CutOffError(Exception):
    """The coordinator is killed here."""


@dataclass
class Tally:
    """What a simulated engine counts."""

    now_s: float = 0.0
    busy_s: float = 0.0  # of all workers, with attempts that are over
    first_idle_s: float | None = None  # a worker has nothing to do and nothing waits
    num_attempts: int = 0
    states: Counter[str] = field(default_factory=Counter)


class SimulatedEngine:
    """Workers that take time from a clock that nobody waits for."""

    def __init__(self, items: Items, num_workers: int, seed: int, cut_after: int | None = None) -> None:
        self._items, self._num_workers, self._cut_after = items, num_workers, cut_after
        self.on_begin: OnBegin = ignore_beginning
        self._rng = np.random.default_rng(seed)
        self._ends: list[tuple[float, int, Attempt | None, Outcome | None]] = []
        self._waiting: deque[Attempt] = deque()
        self._num_free = num_workers
        self._processor_s = time.process_time()
        self.tally = Tally()

    @property
    def num_workers(self) -> int:
        return self._num_workers

    @property
    def num_in_flight(self) -> int:
        """As Ray's engine."""
        return self._num_workers + max(2, self._num_workers // 4)

    def start(self, work: Work) -> None:
        self._processor_s = time.process_time()

    def submit(self, attempt: Attempt) -> None:
        self._pass_time()
        self._waiting.append(attempt)
        self._give()

    def collect(self) -> list[Outcome]:
        self._pass_time()
        tally = self.tally
        if self._cut_after is not None and tally.num_attempts >= self._cut_after:
            raise CutOffError
        outcomes: list[Outcome] = []
        while not outcomes or (self._ends and self._ends[0][0] <= tally.now_s):
            end_s, _, _, outcome = heapq.heappop(self._ends)
            tally.now_s = max(tally.now_s, end_s)
            if outcome is not None and outcome.state == State.LOST:
                heapq.heappush(self._ends, (end_s + REPLACE_S, -tally.num_attempts, None, None))
            else:
                self._num_free += 1
            if outcome is not None:
                outcomes.append(outcome)
                tally.busy_s += outcome.duration_s
                tally.states[outcome.state] += 1
            self._give(end_s)
        self._processor_s = time.process_time()
        return outcomes

    def close(self) -> None:
        """Nothing is to be ended."""

    def _pass_time(self) -> None:
        """What the coordinator did since the last call took time."""
        now_s = time.process_time()
        self.tally.now_s += now_s - self._processor_s
        self._processor_s = now_s

    def _give(self, free_since_s: float | None = None) -> None:
        tally = self.tally
        while self._num_free and self._waiting:
            attempt = self._waiting.popleft()
            self._num_free -= 1
            tally.num_attempts += 1
            begun_s = tally.now_s if free_since_s is None else free_since_s
            outcome = self._draw(attempt, begun_s)
            heapq.heappush(self._ends, (begun_s + outcome.duration_s, tally.num_attempts, attempt, outcome))
        if self._num_free and tally.num_attempts > self._num_workers:
            tally.first_idle_s = tally.first_idle_s or tally.now_s
        elif not self._num_free:
            tally.first_idle_s = None

    def _draw(self, attempt: Attempt, begun_s: float) -> Outcome:
        """How an attempt ends, and when."""
        place = attempt.item.arguments["place"]
        duration_s, chance, state = float(self._items.duration_s[place]), self._rng.random(), State.FINISHED
        for kind, share in SHARES.items():
            if chance < share and not (kind == State.OUT_OF_MEMORY and attempt.smaller):
                state = kind
                break
            chance -= share
        if place in self._items.poison:
            state = State.LOST
        if state != State.FINISHED:
            return Outcome(attempt, state, {}, "simulated", "node", begun_s, duration_s * self._rng.random())
        outputs = {f"{attempt.item.name}.nii.gz": attempt.item.key}
        return Outcome(attempt, state, {"outputs": outputs}, "", f"node{place % 100}", begun_s, duration_s)


@dataclass
class Call:
    """One call of the command: what it took in truth, and what it did by the clock of the engine."""

    title: str
    tally: Tally
    wall_s: float
    processor_s: float
    record_bytes: int
    peak_mib: float

    def format_row(self, num_workers: int) -> str:
        tally = self.tally
        done = tally.num_attempts
        tail_s = tally.now_s - tally.first_idle_s if tally.first_idle_s is not None else 0.0
        cells = [
            self.title,
            f"{done:,}",
            f"{tally.now_s:,.0f}",
            f"{done / tally.now_s:,.1f}" if done else "",
            f"{tally.busy_s / tally.now_s / num_workers:.2%}" if done else "",
            f"{tail_s:,.0f}" if done else "",
            f"{self.processor_s:,.0f}",
            f"{self.wall_s:,.0f}",
            f"{self.processor_s / done * 1e3:.3f}" if done > 1000 else "",
            f"{self.record_bytes / 2**20:,.0f}",
            f"{self.peak_mib:,.0f}",
        ]
        return f"| {' | '.join(cells)} |"


def call(title: str, folder: Path, items: Items, engine: SimulatedEngine) -> Call:
    """What the command does, with the real runner and record."""
    wall_s, processor_s = time.perf_counter(), time.process_time()
    try:
        with open_record(folder) as record:
            run_items(items, Work("simulated:work"), engine, record)
    except CutOffError:
        pass
    size = sum(path.stat().st_size for path in folder.glob(f"{RECORD}*"))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    done = Call(title, engine.tally, time.perf_counter() - wall_s, time.process_time() - processor_s, size, peak_mib)
    print(done.format_row(engine.num_workers), file=sys.stderr, flush=True)
    return done


def count_states(record: Record, items: Items) -> Counter[str]:
    """States in the record, by which each item is read."""
    return Counter(row.state for _, row in record.pair(items) if row is not None)


def write_result(calls: Sequence[Call], states: Counter[str], arguments: argparse.Namespace, items: Items) -> str:
    """The table, with what was simulated and where that ends."""
    lines = list(_describe(calls, states, arguments, items))
    return "\n".join(lines) + "\n"


def _describe(
    calls: Sequence[Call], states: Counter[str], arguments: argparse.Namespace, items: Items
) -> Iterator[str]:
    ideal_s = float(items.duration_s.sum(dtype=np.float64)) / arguments.workers
    failures = ", ".join(f"{share * 1e6:,.0f} with {kind}" for kind, share in SHARES.items())
    per_item_s = max(one.processor_s / one.tally.num_attempts for one in calls[:2])
    yield f"# {len(items):,} items on {arguments.workers:,} workers, by simulated time\n"
    yield f"`.venv/bin/python {shlex.join(sys.argv)}`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python"
    yield f"{platform.python_version()}, numpy {np.__version__}, unet_pipeline {unet_pipeline.__version__}; the processor was shared.\n"
    yield f"An item takes {MEDIAN_S:g} s (median; log-normal, {SPREAD}), and its forecast is off by {FORECAST_SPREAD:.0%}."
    yield f"Of 1,000,000 attempts end {failures}; {len(items.poison)} items end every worker. A worker that died is"
    yield f"away for {REPLACE_S:g} s. The durations alone, divided among the workers, are {ideal_s:,.0f} s.\n"
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" + "|---:" * (len(COLUMNS) - 1) + "|"
    for one in calls:
        yield one.format_row(arguments.workers)
    yield "\nIn the end: " + ", ".join(f"{number:,} {state}" for state, number in sorted(states.items())) + ".\n"
    yield LIMITS.format(
        per_item_ms=per_item_s * 1e3,
        rate=1 / per_item_s,
        workers=arguments.workers,
        shortest_s=arguments.workers * per_item_s,
        most_workers=MEDIAN_S / per_item_s,
        median_s=MEDIAN_S,
        in_flight=arguments.workers + max(2, arguments.workers // 4),
    )


def main() -> None:
    """Cut off, resume, resume once more; then look at what the record has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10**7)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    show_progress(False)
    items = Items(arguments.items)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cut_after = int(arguments.items * 0.4)
        calls = [
            call("cut off at 40 %", folder, items, SimulatedEngine(items, arguments.workers, 1, cut_after)),
            call("the same again, to the end", folder, items, SimulatedEngine(items, arguments.workers, 2)),
            call("the same again, what had an error", folder, items, SimulatedEngine(items, arguments.workers, 3)),
        ]
        with open_record(folder) as record:
            states = count_states(record, items)
    write_text(arguments.out, write_result(calls, states, arguments, items))
    print(arguments.out)


if __name__ == "__main__":
    main()
