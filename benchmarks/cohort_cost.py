"""What the record and the dispatch of a run cost: per item, of a million rows, and what two workers gain on images and on folds.

    .venv/bin/python benchmarks/cohort_cost.py [--rows 1000000] [--images FOLDER --bundle BUNDLE] [--dataset DATASET] [NAME=VALUE ...]

Of --images the first --num-images are predicted by the trained --bundle. Of DATASET a bundle of the preset quick is planned, and its five
folds are trained with a thread each, one after another and by two workers; NAME=VALUE as for `train`, such as num_epochs=2.

Writes results/cohort_cost.md. Each measurement is in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import overload

from unet_pipeline.cohort.engine import OnBegin, ignore_beginning
from unet_pipeline.cohort.items import Attempt, Item, Outcome, Share, State, Work
from unet_pipeline.cohort.local import LocalEngine
from unet_pipeline.cohort.record import RECORD, open_record
from unet_pipeline.cohort.run import run_items

RESULT = Path(__file__).parent / "results" / "cohort_cost.md"
NUM_DISPATCHED = 2000
ITEM_LIMIT_MS, OPEN_LIMIT_S, OPEN_LIMIT_MB, SPEEDUP_LIMIT, FOLDS_SPEEDUP_LIMIT = 5, 10, 300, 1.7, 1.5


class LazyItems(Sequence[Item]):
    """Items that are made as they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        if isinstance(place, slice):
            raise TypeError("one at a time")
        if place >= self.count:
            raise IndexError(place)
        name = f"image_{place:08d}"
        return Item(name, f"{place:064x}", {"name": name}, 1.0, {f"{name}.nii.gz": f"{place:064x}"})

    def __iter__(self) -> Iterator[Item]:
        return (self[place] for place in range(self.count))


def open_nothing(arguments: object, share: Share) -> object:
    """Work that takes no time."""
    return lambda item, smaller: {"outputs": {f"{item['name']}.nii.gz": "0" * 64}}


def finish(item: Item) -> Outcome:
    return Outcome(Attempt(item), State.FINISHED, {"outputs": {f"{item.name}.nii.gz": "0" * 64}}, "", "host", 1.0, 1.0)


def measure_dispatch(folder: Path, count: int) -> dict[str, float]:
    """Milliseconds per item of record and dispatch, by one worker."""
    items = LazyItems(count)
    work, engine = Work("cohort_cost:open_nothing"), LocalEngine(1, Share(1))
    with open_record(folder) as record:
        run_items(LazyItems(1), work, LocalEngine(1, Share(1)), record)
        engine.start(work)
        engine.start = lambda work: None  # type: ignore[method-assign]
        begun_s = time.perf_counter()
        run_items(items, work, engine, record)
        took_s = time.perf_counter() - begun_s
    return {"ms": 1000 * took_s / (count - 1)}


def measure_commits(folder: Path, count: int, synchronous: str) -> dict[str, float]:
    """Milliseconds per item of the record alone, committed one by one."""
    items = LazyItems(count)
    with open_record(folder) as record:
        record.start_run("x", {}, "none", 1, count)
        record.enter(items)
        record._connection.execute(f"PRAGMA synchronous={synchronous}")
        begun_s = time.perf_counter()
        for item in items:
            record.begin(Attempt(item))
            record.settle(finish(item), State.FINISHED)
            record.commit()
        took_s = time.perf_counter() - begun_s
    return {"ms": 1000 * took_s / count}


def fill(folder: Path, count: int) -> dict[str, float]:
    """A record of so many finished rows, but ten."""
    items, begun_s = LazyItems(count), time.perf_counter()
    with open_record(folder) as record:
        record.start_run("x", {}, "none", 1, count)
        record.enter(items)
        for place in range(count - 10):
            record.settle(finish(items[place]), State.FINISHED)
        record.end_run()
    return {"s": time.perf_counter() - begun_s, "file_mb": (folder / RECORD).stat().st_size / 1e6}


class AtOnce:
    """An engine that has finished what it is given."""

    num_workers, num_in_flight = 1, 2

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.on_begin: OnBegin = ignore_beginning

    def start(self, work: Work) -> None:
        pass

    def submit(self, attempt: Attempt) -> None:
        self.outcomes.append(finish(attempt.item))

    def collect(self) -> list[Outcome]:
        outcomes, self.outcomes = self.outcomes, []
        return outcomes

    def close(self) -> None:
        pass


def measure_resume(folder: Path, count: int) -> dict[str, float]:
    """Seconds and memory of opening a record and doing the ten items that are left."""
    before_mb, begun_s = peak_mb(), time.perf_counter()
    with open_record(folder) as record:
        run = run_items(LazyItems(count), Work("none:none"), AtOnce(), record)
    if (num_begun := sum(run.is_begun)) != 10:
        raise SystemExit(f"{num_begun} items were begun; expected 10")
    return {"s": time.perf_counter() - begun_s, "peak_mb": peak_mb(), "start_mb": before_mb}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measure_verb(*words: object) -> float:
    """Seconds of a whole process of the command line with a thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begun_s = time.perf_counter()
    command = [sys.executable, "-m", "unet_pipeline", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - begun_s


def measure_predict(bundle: Path, images: Path, folder: Path, num_images: int) -> list[tuple[str, str, str]]:
    """What two workers gain on images, each of them and the one alone with a thread."""
    chosen = sorted(images.glob("[!.]*"))[:num_images]
    (folder / "images").mkdir()
    for image in chosen:
        shutil.copyfile(image, folder / "images" / image.name)

    def predict(jobs: int) -> float:
        shutil.rmtree(folder / "out", ignore_errors=True)
        return measure_verb("predict", bundle, folder / "images", folder / "out", "--jobs", jobs, "--threads", 1)

    pairs = [[predict(jobs) for jobs in (1, 2)] for _ in range(3)]
    one_s, two_s = (median(times) for times in zip(*pairs, strict=True))
    return compare(f"predict, {len(chosen)} images, median of 3", one_s, two_s, SPEEDUP_LIMIT)


def measure_folds(dataset: Path, folder: Path, overrides: list[str]) -> list[tuple[str, str, str]]:
    """What two workers gain on the five folds of a dataset, each of them and the one alone with a thread."""
    measure_verb("plan", dataset, folder / "one", "--preset", "quick")
    shutil.copytree(folder / "one", folder / "two")
    one_s = measure_verb("train", folder / "one", "--fold", "all", *overrides)
    two_s = measure_verb("train", folder / "two", "--fold", "all", "--jobs", 2, "--threads", 1, *overrides)
    title = f"train, five folds of {dataset.name}{''.join(f' {word}' for word in overrides)}"
    return compare(title, one_s, two_s, FOLDS_SPEEDUP_LIMIT)


def compare(title: str, one_s: float, two_s: float, limit: float) -> list[tuple[str, str, str]]:
    """Rows of one and of two workers."""
    return [
        (f"{title}: one worker with a thread", f"{one_s:.1f} s", ""),
        ("two workers with a thread each", f"{two_s:.1f} s", ""),
        ("gain", f"{one_s / two_s:.2f}", f"at least {limit}"),
    ]


def in_process(name: str, folder: Path, *arguments: object) -> dict[str, float]:
    """One of the measurements above in a process of its own."""
    command = [sys.executable, __file__, "--measure", name, str(folder), *map(str, arguments)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(answer.stdout.splitlines()[-1])  # type: ignore[no-any-return]


MEASURES = {
    "dispatch": measure_dispatch,
    "commits": measure_commits,
    "fill": fill,
    "resume": measure_resume,
}


def measure_all(options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """What was measured, its value, and what it may be."""
    num_rows = options.rows
    load = f"{os.getloadavg()[0]:.1f}"
    rows = [("load of the machine before", load, "")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("dispatch", "normal", "full", "rows"):
            (folder / part).mkdir()
        dispatch = in_process("dispatch", folder / "dispatch", NUM_DISPATCHED)
        rows.append(
            (
                f"record and dispatch, one worker, n = {NUM_DISPATCHED}",
                f"{dispatch['ms']:.2f} ms",
                f"{ITEM_LIMIT_MS} ms",
            )
        )
        for kind in ("normal", "full"):
            commits = in_process("commits", folder / kind, NUM_DISPATCHED, kind.upper())
            rows.append((f"record alone, a commit per item, synchronous={kind.upper()}", f"{commits['ms']:.2f} ms", ""))
        filled = in_process("fill", folder / "rows", num_rows)
        rows.append((f"file of {num_rows:,} rows", f"{filled['file_mb']:.0f} MB", ""))
        resumed = in_process("resume", folder / "rows", num_rows)
        rows.append(("opened and resumed", f"{resumed['s']:.1f} s", f"{OPEN_LIMIT_S} s"))
        rows.append(
            (
                "peak memory of that process",
                f"{resumed['peak_mb']:.0f} MB ({resumed['start_mb']:.0f} before)",
                f"{OPEN_LIMIT_MB} MB",
            )
        )
        if options.bundle and options.images:
            rows += measure_predict(options.bundle, options.images, folder, options.num_images)
        if options.dataset:
            rows += measure_folds(options.dataset, folder, options.overrides)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--num-images", type=int, default=100)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, folder, count, *others = options.measure
        print(json.dumps(MEASURES[name](Path(folder), int(count), *others)))  # type: ignore[operator]
        return
    rows = measure_all(options)
    table = "\n".join(f"| {what} | {value} | {limit} |" for what, value, limit in rows)
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    command = (
        f"benchmarks/cohort_cost.py --rows {options.rows}{' --images FOLDER --bundle BUNDLE' if options.bundle else ''}"
        f"{f' --dataset {options.dataset.name}' if options.dataset else ''}{''.join(f' {word}' for word in options.overrides)}"
    )
    head = f"# Cost of the record and the dispatch\n\n`{command}`, {machine}, {time.strftime('%Y-%m-%d')}\n"
    text = f"{head}\n| what | measured | limit |\n|---|---|---|\n{table}\n"
    RESULT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
