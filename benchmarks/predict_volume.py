"""Prediction of one synthetic CT of 512x512x300 with 3 and with 60 classes: seconds, share outside the network, peak memory.

    .venv/bin/python benchmarks/predict_volume.py [--shape 512 512 300] [--classes 3 60] [--turns 1] [--overlap 0.5] [--device cuda]

For each number of classes `plan` makes a bundle (preset quick) from four small synthetic cases; its weights are random, since only time and
memory are measured. The volume's voxels are 2 % smaller than planned, so that everything is interpolated both ways. A smaller `--shape` or
`--overlap` takes less time and is another measurement. Writes results/predict_volume.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

import alternating
import synthetic_ct
from measured_process import Measured, measure_verb

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.files import write_text
from unet_pipeline.planning.plan import Plan, read_plan

TARGET = Path(__file__).parent / "results" / "predict_volume.md"
FULL_SHAPE = (512, 512, 300)
FINER = 0.98  # voxel size by the plan's
OUTSIDE_LIMITS = {3: 0.05, 60: 0.15}
PEAK_LIMIT_GB = {60: 6.0}


@dataclass(frozen=True)
class Row:
    """Medians for one number of classes.

    Attributes:
        start: the same process on a volume of one window, which is what it takes before and after the work.
        shares: of the prediction's time, stage by stage, from its own stopwatch.
    """

    num_classes: int
    plan: Plan
    num_windows: int
    volume: Measured
    start: Measured
    shares: Mapping[str, float]

    @property
    def outside(self) -> float:
        """Share of the prediction's time that is not the network's."""
        return 1 - self.shares["network"]


def plan_untrained(work: Path, num_classes: int, shape: Sequence[int], overlap: float, preset: str = "quick") -> Path:
    """A bundle for that number of classes."""
    small = [max(40, size // 4) for size in shape]
    dataset = synthetic_ct.write_dataset(work / f"cases_{num_classes}", 4, small, num_classes)
    bundle = work / f"bundle_{num_classes}"
    measure_verb(["plan", dataset, bundle, "--preset", preset, "--folds", "2"])
    synthetic_ct.set_numbers(bundle, {"window_overlap": overlap})
    synthetic_ct.write_random_weights(bundle)
    return bundle


def count_windows(plan: Plan, shape: Sequence[int]) -> int:
    """Windows of a volume once it is on the network's grid."""
    from unet_pipeline.prediction.windows import place_windows

    grid = [round((size - 1) * FINER) + 1 for size in shape]
    overlap = (plan.window_overlap,) * len(grid)
    return place_windows(grid, plan.window_size, overlap).num_windows


def predict(bundle: Path, image: Path, work: Path, options: Sequence[str | Path]) -> tuple[Measured, dict[str, float]]:
    """Predict one volume in a process of its own."""
    out, answer = work / "predicted", work / "answer.json"
    shutil.rmtree(out, ignore_errors=True)
    measured = measure_verb(["predict", bundle, image, out, *options, "--json", answer])
    return measured, json.loads(answer.read_text(encoding="utf-8"))["shares"]


def middle(measured: Sequence[Measured]) -> Measured:
    """Medians of each number."""
    return Measured(*(median(getattr(one, field.name) for one in measured) for field in fields(Measured)))


def measure(
    work: Path, shape: Sequence[int], classes: Sequence[int], turns: int, overlap: float, options: Sequence[str]
) -> list[Row]:
    """One row per number of classes, measured in turns."""
    spacing_mm = [FINER * size for size in synthetic_ct.SPACING_MM]
    labels = synthetic_ct.draw_labels(shape, 3)
    large = synthetic_ct.write_volume(work / "large" / "ct.nii.gz", synthetic_ct.draw_image(labels, 0), spacing_mm)
    bundles = {count: plan_untrained(work, count, shape, overlap) for count in classes}
    plans = {count: read_plan(open_bundle(bundle).plan) for count, bundle in bundles.items()}
    tiny = {
        count: synthetic_ct.write_volume(
            work / f"tiny_{count}" / "ct.nii.gz",
            synthetic_ct.draw_image(synthetic_ct.draw_labels(plan.window_size, 3), 0),
            spacing_mm,
        )
        for count, plan in plans.items()
    }
    found: dict[int, list[tuple[Measured, Measured, dict[str, float]]]] = {count: [] for count in classes}
    for _ in range(turns):
        for count, bundle in bundles.items():
            start, _ = predict(bundle, tiny[count], work, options)
            volume, shares = predict(bundle, large, work, options)
            found[count].append((volume, start, shares))
    return [
        Row(
            count,
            plans[count],
            count_windows(plans[count], shape),
            middle([volume for volume, _, _ in turns_of]),
            middle([start for _, start, _ in turns_of]),
            {stage: median(shares[stage] for _, _, shares in turns_of) for stage in turns_of[0][2]},
        )
        for count, turns_of in found.items()
    ]


def build_table(rows: Sequence[Row]) -> str:
    """Seconds, shares and peak of each row, with the targets where there are any."""
    lines = [
        "| classes | windows | seconds | of it start | outside the network | peak memory (GB) | read | preprocess | postprocess | write |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        outside, peak = OUTSIDE_LIMITS.get(row.num_classes), PEAK_LIMIT_GB.get(row.num_classes)
        cells = [
            str(row.num_classes),
            f"{row.num_windows} of {'x'.join(map(str, row.plan.window_size))}",
            f"{row.volume.seconds:.1f}",
            f"{row.start.seconds:.1f}",
            f"{row.outside:.1%}" + (f" (at most {outside:.0%})" if outside else ""),
            f"{row.volume.peak_mib * 2**20 / 1e9:.2f}" + (f" (under {peak:g})" if peak else ""),
            *(f"{row.shares.get(stage, 0.0):.1%}" for stage in ("read", "preprocess", "postprocess", "write")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(rows: Sequence[Row]) -> str:
    """The plans in words."""
    parts = [
        f"{row.num_classes} classes: {'-'.join(map(str, row.plan.filters))} channels, overlap {row.plan.window_overlap:g}"
        for row in rows
    ]
    return f"Plans of preset quick, random weights; {'; '.join(parts)}."


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=FULL_SHAPE)
    parser.add_argument("--classes", type=int, nargs="+", default=[3, 60])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--overlap", type=float, default=0.5, help="of the windows; the plan has 0.5")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "auto"))
    parser.add_argument("--device", default="cpu", help="such as cuda; a GPU's table belongs into another --out")
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    shape, classes = tuple(arguments.shape), arguments.classes
    words = f"--shape {' '.join(map(str, shape))} --classes {' '.join(map(str, classes))} --turns {arguments.turns}"
    words += f" --overlap {arguments.overlap:g} --precision {arguments.precision} --device {arguments.device}"
    described = alternating.describe_run(
        f"benchmarks/predict_volume.py {words}", f"Python {sys.version.split()[0]}, {alternating.list_versions()}"
    )
    with tempfile.TemporaryDirectory() as work:
        options = ["--precision", arguments.precision, "--device", arguments.device]
        rows = measure(Path(work), shape, classes, arguments.turns, arguments.overlap, options)
    text = (
        f"# Prediction of a volume of {'x'.join(map(str, shape))}\n\n{described} Whole processes; medians, n = {arguments.turns}.\n\n"
        f"{describe(rows)} The volume's voxels are {1 - FINER:.0%} smaller than planned, so that image and probabilities are interpolated. "
        "`of it start` is the same process on a volume of one window; the shares are those of the prediction's own stopwatch, without the "
        f"start.\n\n{build_table(rows)}\n"
    )
    write_text(arguments.out, text)
    print(text)


if __name__ == "__main__":
    main()
