"""What unlabelled images add, and whether useless ones are rejected: 20 labelled and 146 unlabelled hippocampi, and pools of something else.

    .venv/bin/python benchmarks/unlabelled.py DATA [--steps 1000] [--folds 5] [--seeds 3] [--trials 20] [--jobs 1] [--work FOLDER]

DATA has Task04_Hippocampus, ct_abdomen and dicom/t1_post_mr. For each seed 20 cases are labelled, 146 are the pool, and the others
are measured too, by the ensembles of all folds before and after, which decides nothing. Each trial gives the first seed's bundle a pool
of 20 useless images: noise of four kinds, from Gaussian to the voxels of a real image in another order, and parts of other organs, as
they are or with a hippocampus's intensities. Writes results/unlabelled.md after each step, and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.dataset.dicom import read_dicom
from unet_pipeline.evidence.records.machine import describe_machine, read_code_version
from unet_pipeline.files import write_json, write_text

TARGET = Path(__file__).parent / "results" / "unlabelled.md"
NUM_LABELLED, NUM_UNLABELLED, NUM_USELESS, NUM_TRIALS = 20, 146, 20, 20
LEAST_REJECTED = 0.95
NOISE = ("Gaussian noise", "uniform noise", "smooth noise", "voxels in another order")
ORGANS = (
    "CT of the abdomen",
    "CT with a hippocampus's intensities",
    "MR of the head",
    "MR with a hippocampus's intensities",
)
KINDS = tuple(kind for pair in zip(NOISE, ORGANS, strict=True) for kind in pair)


def run(*words: object) -> None:
    """One verb of the command line in a process of its own."""
    subprocess.run([sys.executable, "-m", "unet_pipeline", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def split_cases(data: Path, work: Path, seed: int) -> None:
    """Folders of labelled, unlabelled and held-out cases, in an order that the seed shuffles."""
    source = data / "Task04_Hippocampus"
    names = np.random.default_rng(seed).permutation(sorted(path.name for path in (source / "imagesTr").glob("hippo*")))
    ends = (0, NUM_LABELLED, NUM_LABELLED + NUM_UNLABELLED, len(names))
    for part, first, last in zip(("labelled", "unlabelled", "held_out"), ends, ends[1:], strict=False):
        for kind, folder in (("images", "imagesTr"), ("labels", "labelsTr")):
            target = work / part / kind if part != "unlabelled" else work / part
            target.mkdir(parents=True, exist_ok=True)
            for name in names[first:last] if kind == "images" or part != "unlabelled" else ():
                shutil.copyfile(source / folder / name, target / name)


def train_folds(work: Path, seed: int, arguments: argparse.Namespace) -> Path:
    """A bundle with all folds trained on the labelled cases."""
    bundle = work / "bundle"
    if not bundle.is_dir():
        split_cases(arguments.data, work, seed)
        labels = ("--label", "background=0", "--label", "anterior=1", "--label", "posterior=2")
        options = ("--preset", "quick", "--folds", arguments.folds, "--seed", seed, "--no-forecast")
        run("plan", work / "labelled", bundle, *labels, *options)
    if len(BundleFolder(bundle).trained_folds()) < arguments.folds:
        overrides = ("num_epochs=1", f"iterations_per_epoch={arguments.steps}", "val_interval=1")
        started = ["--resume"] if list(bundle.glob("evidence/runs/*")) else []
        run("train", bundle, "--fold", "all", *started, *list_workers(arguments), *overrides)
    return bundle


def list_workers(arguments: argparse.Namespace) -> tuple[str, ...]:
    """The option of `train` and `evaluate`; by workers trainings have one thread each."""
    return ("--jobs", str(arguments.jobs), "--threads", "1") if arguments.jobs > 1 else ()


def measure_held_out(bundle: Path, work: Path, name: str, workers: Sequence[str]) -> Path:
    """Folder of the evaluation of a bundle's ensemble on the cases that nobody has used."""
    target = work / f"held_out_{name}"
    if not (target / "summary.json").is_file():
        run("evaluate", bundle, work / "held_out", "--ensemble", "--out", target, *workers)
    return target


def try_pool(bundle: Path, pool: Path, result: Path, workers: Sequence[str]) -> dict[str, Any]:
    """What `train --unlabelled` decides; kept in a file."""
    if not result.is_file():
        run("train", bundle, "--unlabelled", pool, "--json", result, *workers)
    return dict(json.loads(result.read_text(encoding="utf-8")))


def measure_seed(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Gains of one seed: that which decided, and that of the held-out cases."""
    work = arguments.work / f"seed_{seed}"
    bundle = train_folds(work, seed, arguments)
    workers = list_workers(arguments)
    before = measure_held_out(bundle, work, "before", workers)
    untouched = work / "untouched"  # for the useless pools, whatever comes of this one
    if not untouched.is_dir():
        shutil.copytree(bundle, untouched)
    record = try_pool(bundle, work / "unlabelled", work / "trial.json", workers)
    if record["gain"] is None:
        return {"record": record, "held_out": None}
    after = measure_held_out(work / f"bundle_unlabelled_{record['key']}", work, "after", workers)
    comparison = work / "held_out_comparison"
    if not (comparison / "comparison.json").is_file():
        run("compare", before, after, "--metric", "dice", "--out", comparison)
    rows = json.loads((comparison / "comparison.json").read_text(encoding="utf-8"))["rows"]
    return {"record": record, "held_out": rows[0]}


def read_volumes(data: Path) -> dict[str, np.ndarray]:
    """Voxels of the other organs."""
    scan = nib.load(data / "ct_abdomen" / "example_ct_sm.nii.gz")
    return {
        "CT": np.asarray(scan.dataobj, float),
        "MR": read_dicom(data / "dicom" / "t1_post_mr", "t1_post_mr").array[0].astype(float),
    }


def draw_useless(
    kind: str, real: nib.Nifti1Image, volumes: dict[str, np.ndarray], draw: np.random.Generator
) -> np.ndarray:
    """An image of that kind with the shape of a real one."""
    voxels, shape = np.asarray(real.dataobj, float), real.shape
    if kind in ORGANS:
        volume = volumes[kind[:2]]
        start = [int(draw.integers(max(1, size - part))) for size, part in zip(volume.shape, shape, strict=True)]
        part = volume[tuple(slice(first, first + size) for first, size in zip(start, shape, strict=True))]
        part = np.pad(part, [(0, size - own) for size, own in zip(shape, part.shape, strict=True)], mode="edge")
        if kind.endswith("intensities"):
            part = voxels.mean() + (part - part.mean()) / max(part.std(), 1e-6) * voxels.std()
        return part
    if kind == "voxels in another order":
        return draw.permutation(voxels.reshape(-1)).reshape(shape)
    noise = draw.uniform(-1, 1, shape) if kind == "uniform noise" else draw.normal(size=shape)
    noise = ndimage.gaussian_filter(noise, 3) if kind == "smooth noise" else noise
    return voxels.mean() + noise / noise.std() * voxels.std()


def write_useless(pool: Path, trial: int, real_images: Path, volumes: dict[str, np.ndarray]) -> None:
    """A pool of one kind, with the headers of real images."""
    draw = np.random.default_rng(trial)
    pool.mkdir(exist_ok=True)
    for path in sorted(real_images.glob("*.nii.gz"))[:NUM_USELESS]:
        real = nib.load(path)
        values = draw_useless(KINDS[trial % len(KINDS)], real, volumes, draw)
        nib.save(nib.Nifti1Image(values.astype(np.float32), real.affine), pool / path.name)


def measure_trial(trial: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Whether a useless pool is rejected; its images and trainings are removed then."""
    work = arguments.work / "seed_0"
    tested, pool, result = work / f"tested_{trial}", work / f"useless_{trial}", work / f"useless_{trial}.json"
    if not result.is_file():
        if not tested.is_dir():
            shutil.copytree(work / "untouched", tested)
        write_useless(pool, trial, work / "unlabelled", read_volumes(arguments.data))
    record = try_pool(tested, pool, result, list_workers(arguments))
    for folder in (tested, pool, *work.glob(f"tested_{trial}_unlabelled_*")):
        shutil.rmtree(folder, ignore_errors=True)
    return record


def describe_seed(seed: int, result: dict[str, Any]) -> str:
    """A row of the table of gains."""
    record, held_out = result["record"], result["held_out"]
    gain = record["gain"]
    cells = [str(seed), f"{record['num_kept']} of {len(record['images'])}"]
    if gain is None:
        return f"| {' | '.join([*cells, '-', '-', record['reason']])} |"
    shown = [
        f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f}), n = {one['num_patients']}"
        for one in (gain, held_out)
    ]
    return f"| {' | '.join([*cells, *shown, 'accepted' if record['accepted'] else 'rejected'])} |"


def describe_trials(trials: Sequence[dict[str, Any]]) -> list[str]:
    """How many useless pools were rejected, and a row for each."""
    num_rejected = sum(not one["accepted"] for one in trials)
    num_early = sum(one["gain"] is None and not one["accepted"] for one in trials)
    is_met = len(trials) >= NUM_TRIALS and num_rejected >= LEAST_REJECTED * len(trials)
    return [
        f"{num_rejected} of {len(trials)} useless pools are rejected, {num_early} of them before any training; target 19 of 20: "
        f"{'met' if is_met else 'not met'}.",
        "",
        "| trial | pool | images kept | decision |",
        "|---:|---|---:|---|",
        *(
            f"| {trial} | {KINDS[trial % len(KINDS)]} | {one['num_kept']} of {len(one['images'])} | "
            f"{'accepted' if one['accepted'] else 'rejected'}: {one['reason']} |"
            for trial, one in enumerate(trials)
        ),
    ]


def write_table(
    seeds: Sequence[dict[str, Any]], trials: Sequence[dict[str, Any]], arguments: argparse.Namespace
) -> None:
    """The results so far."""
    machine, code = describe_machine(), read_code_version()
    gains = [one["held_out"]["difference"] for one in seeds if one["held_out"]]
    lines = [
        "# Unlabelled images: what they add, and whether useless ones are rejected",
        "",
        f"`benchmarks/unlabelled.py DATA --steps {arguments.steps} --folds {arguments.folds} --seeds {arguments.seeds} --trials "
        f"{arguments.trials} --jobs {arguments.jobs}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"commit {str(code.commit)[:10]}{' with changes' if code.changed else ''}, "
        f"{machine.num_cores} cores {machine.processor}, {machine.gpu or 'no GPU'}. Hippocampus, preset quick, {arguments.steps} steps; "
        f"{NUM_LABELLED} labelled cases, {NUM_UNLABELLED} unlabelled; gains in mean Dice, 95 % intervals over patients. The held-out cases "
        "are predicted by the ensemble of all folds; they decide nothing.",
        "",
        "| seed | images kept | gain on validation | gain on held-out cases | decision |",
        "|---:|---:|---|---|---|",
        *(describe_seed(seed, one) for seed, one in enumerate(seeds)),
        "",
        *([f"Mean gain on held-out cases over {len(gains)} seeds: {np.mean(gains):+.4f}.", ""] if gains else []),
        *describe_trials(trials),
    ]
    write_json(
        TARGET.with_suffix(".json"),
        {"seeds": list(seeds), "trials": [{**one, "images": len(one["images"])} for one in trials]},
    )
    write_text(TARGET, "\n".join(lines) + "\n")


def main() -> None:
    """Measure what is missing, and write the table after each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=NUM_TRIALS)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at the same time")
    parser.add_argument("--work", type=Path, default=Path("unlabelled"), help="folder for data and bundles")
    parser.add_argument("--trials-first", action="store_true", help="before what the unlabelled hippocampi add")
    arguments = parser.parse_args()
    seeds: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    if arguments.trials_first:
        prepare_trials(arguments)
    else:
        measure_seeds(seeds, trials, arguments)
    for trial in range(arguments.trials):
        trials.append(measure_trial(trial, arguments))
        write_table(seeds, trials, arguments)
    if arguments.trials_first:
        measure_seeds(seeds, trials, arguments)


def prepare_trials(arguments: argparse.Namespace) -> None:
    """The first seed's bundle as it is before any pool."""
    work = arguments.work / "seed_0"
    bundle = train_folds(work, 0, arguments)
    if not (work / "untouched").is_dir():
        shutil.copytree(bundle, work / "untouched")


def measure_seeds(seeds: list[dict[str, Any]], trials: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Add the result of every seed."""
    for seed in range(arguments.seeds):
        seeds.append(measure_seed(seed, arguments))
        write_table(seeds, trials, arguments)


if __name__ == "__main__":
    main()
