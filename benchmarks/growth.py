"""How time and peak memory of check, plan, one epoch of training and predict grow with the number of cases and the size of a volume.

    .venv/bin/python benchmarks/growth.py [--cases 10 100 1000] [--sizes 64 128 256 512] [--turns 3] [--largest-turns 1] [--verbs ...]

Synthetic CT. Cases are counted in volumes of 48^3, sizes measured on three volumes of SIZE^3. What a process takes in any case is that of
two cases of 48^3. The time of a case is that of the cases that one data set has more than the one before it, so that the start cancels
out. The network has 8 channels at its first level, so that it does not hide what surrounds it; an epoch has 10 steps, whatever the
number of cases, and validates one fold of two. The largest number of cases and the largest size are measured `--largest-turns` times, the
others `--turns` times, in turns. Writes results/growth.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import alternating
import synthetic_ct
from measured_process import Measured, measure_verb

from unet_pipeline.files import write_text

TARGET = Path(__file__).parent / "results" / "growth.md"
VERBS = ("check", "plan", "train", "predict")
SMALL_SIZE, NUM_LABELS = 48, 3
FEWEST_CASES, CASES_PER_SIZE = 2, 3
ALLOWED_GROWTH = 0.15
MIN_SERIES = 3  # two steps between them to compare
STEPS = 10
SMALL_NETWORK = {
    "num_epochs": 1,
    "val_interval": 1,
    "iterations_per_epoch": STEPS,
    "warmup_iterations": 1,
}
FIRST_CHANNELS = 8


@dataclass
class Series:
    """One data set, and what each verb took on it.

    Attributes:
        num_cases: of the data set.
        size: voxels along each axis.
        measured: by verb, one entry per turn.
    """

    num_cases: int
    size: int
    measured: dict[str, list[Measured]] = field(default_factory=dict)

    def middle(self, verb: str, number: str) -> float:
        """Median of "seconds", "processor_s" or "peak_mib" over the turns."""
        return median(getattr(one, number) for one in self.measured[verb])


def list_work(dataset: Path, work: Path, verbs: Sequence[str]) -> Iterator[tuple[str, Callable[[], Measured]]]:
    """Each verb on a data set, in the order that they need each other; what was made before is removed first."""
    bundle, out = work / "bundle", work / "predicted"

    def plan() -> Measured:
        shutil.rmtree(bundle, ignore_errors=True)
        return measure_verb(["plan", dataset, bundle, "--preset", "quick", "--folds", "2"])

    def train() -> Measured:
        shrink(bundle)
        return measure_verb(["train", bundle])

    def predict() -> Measured:
        shutil.rmtree(out, ignore_errors=True)
        if not (bundle / "models" / "model.pt").is_file():
            shrink(bundle)
            synthetic_ct.write_random_weights(bundle)
        return measure_verb(["predict", bundle, dataset / "imagesTr", out])

    makers = {
        "check": lambda: measure_verb(["check", dataset]),
        "plan": plan,
        "train": train,
        "predict": predict,
    }
    needs_bundle = bool({"train", "predict"} & set(verbs))
    return ((verb, makers[verb]) for verb in VERBS if verb in verbs or (verb == "plan" and needs_bundle))


def shrink(bundle: Path) -> None:
    """A short epoch of a narrow network."""
    from unet_pipeline.bundle.folder import open_bundle
    from unet_pipeline.planning.plan import read_plan

    levels = len(read_plan(open_bundle(bundle).plan).filters)
    filters = [FIRST_CHANNELS * 2**level for level in range(levels)]
    synthetic_ct.set_numbers(bundle, {**SMALL_NETWORK, "filters": filters})


def measure(series: Sequence[Series], turns: int, largest_turns: int, verbs: Sequence[str], work: Path) -> None:
    """Fill in all series, in turns, the last of several `largest_turns` times; a data set lies on the disk as long as it is needed."""
    datasets = {}
    for number, one in enumerate(series):
        root = work / f"{one.num_cases}_of_{one.size}"
        datasets[number] = synthetic_ct.write_dataset(root / "data", one.num_cases, (one.size,) * 3, NUM_LABELS)
    for turn in range(turns):
        for number, one in enumerate(series):
            is_largest = number == len(series) - 1 and number > 1
            if is_largest and turn >= largest_turns:
                continue
            for verb, run in list_work(datasets[number], datasets[number].parent, verbs):
                one.measured.setdefault(verb, []).append(run())
    for root in datasets.values():
        shutil.rmtree(root.parent)


def list_steps(series: Sequence[Series], verb: str, number: str = "seconds") -> list[float]:
    """Seconds, or "processor_s", of each further case from one data set to the next."""
    return [
        (later.middle(verb, number) - one.middle(verb, number)) / (later.num_cases - one.num_cases)
        for one, later in pairwise(series)
    ]


def build_case_table(series: Sequence[Series], verb: str) -> str:
    """Growth with the number of cases; the first series is the fixed part."""
    lines = [
        "| cases | seconds | n | each further case (ms) | on the processor (ms) | peak memory (MiB) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    steps = [None, *list_steps(series, verb)], [None, *list_steps(series, verb, "processor_s")]
    for one, *each_s in zip(series, *steps, strict=True):
        cells = [
            str(one.num_cases),
            f"{one.middle(verb, 'seconds'):.2f}",
            str(len(one.measured[verb])),
            *("" if value is None else f"{1000 * value:.1f}" for value in each_s),
            f"{one.middle(verb, 'peak_mib'):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def build_size_table(series: Sequence[Series], fewest: Series, verb: str) -> str:
    """Growth with the size of a volume; the fixed part is that of the fewest small cases."""
    lines = [
        "| size | seconds | n | per case, less the fixed part (s) | ns a voxel | peak memory (MiB) | above the fixed part, bytes a voxel |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in series:
        each_s = (one.middle(verb, "seconds") - fewest.middle(verb, "seconds")) / one.num_cases
        peak_mib = one.middle(verb, "peak_mib")
        cells = [
            f"{one.size}^3",
            f"{one.middle(verb, 'seconds'):.2f}",
            str(len(one.measured[verb])),
            f"{each_s:.2f}",
            f"{1e9 * each_s / one.size**3:.1f}",
            f"{peak_mib:.0f}",
            f"{(peak_mib - fewest.middle(verb, 'peak_mib')) * 2**20 / one.size**3:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def judge(series: Sequence[Series], verb: str) -> str:
    """Whether a further case costs the same at the end as before, and memory what it cost with the first that were counted."""
    if len(series) < MIN_SERIES:
        return ""
    (_, counted, *_, before, last), (*_, earlier_s, each_s) = series[:2] + series[-2:], list_steps(series, verb)
    time = each_s / earlier_s - 1 if earlier_s > 0 else float("inf")
    memory = last.middle(verb, "peak_mib") / counted.middle(verb, "peak_mib") - 1
    words = ["flat" if growth <= ALLOWED_GROWTH else "GROWS" for growth in (time, memory)]
    return (
        f"A case beyond the first {before.num_cases} takes {time:+.0%} of the time of one before them: {words[0]}. Memory from "
        f"{counted.num_cases} to {last.num_cases} cases changes by {memory:+.0%}: {words[1]}. Wanted is at most {ALLOWED_GROWTH:.0%}."
    )


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256, 512])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--largest-turns", type=int, default=1)
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    words = " ".join(
        f"--{name} {' '.join(map(str, values))}".strip()
        for name, values in (("cases", arguments.cases), ("sizes", arguments.sizes), ("verbs", arguments.verbs))
    )
    described = alternating.describe_run(
        f"benchmarks/growth.py {words} --turns {arguments.turns} --largest-turns {arguments.largest_turns}",
        f"Python {sys.version.split()[0]}, {alternating.list_versions()}",
    )
    by_cases = [Series(number, SMALL_SIZE) for number in (FEWEST_CASES, *sorted(arguments.cases))]
    by_size = [Series(CASES_PER_SIZE, size) for size in sorted(arguments.sizes)]
    with tempfile.TemporaryDirectory() as work:
        measure(by_cases, arguments.turns, arguments.largest_turns, arguments.verbs, Path(work))
        measure(by_size, arguments.turns, arguments.largest_turns, arguments.verbs, Path(work))
    write_text(arguments.out, describe(described, by_cases, by_size))
    print(arguments.out.read_text(encoding="utf-8"))


def describe(described: str, by_cases: Sequence[Series], by_size: Sequence[Series]) -> str:
    """The whole result."""
    text = (
        f"# Growth\n\n{described} Whole processes, medians. An epoch of training is {STEPS} steps of 2 patches, with loading of the cases "
        f"that it takes, and the validation of one fold of two; {FIRST_CHANNELS} channels at the network's first level.\n"
    )
    for verb in by_cases[0].measured:
        text += f"\n## {verb}\n"
        if len(by_cases) > 1:
            text += f"\nVolumes of {SMALL_SIZE}^3:\n\n{build_case_table(by_cases, verb)}\n"
            if verdict := judge(by_cases, verb):
                text += f"\n{verdict}\n"
        if by_size:
            text += f"\n{CASES_PER_SIZE} volumes each:\n\n{build_size_table(by_size, by_cases[0], verb)}\n"
    return text


if __name__ == "__main__":
    main()
