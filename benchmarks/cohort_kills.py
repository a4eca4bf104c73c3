"""Many images predicted by workers while workers and the coordinating process are killed at random; compared with one process.

    .venv/bin/python benchmarks/cohort_kills.py [--images 10000] [--worker-kills 100] [--coordinator-kills 5] [--engine local|ray]

Writes results/cohort_kills_ENGINE.md. The images have 16^3 voxels; the network is small and nobody trained it.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from unet_pipeline.cohort.items import Item
from unet_pipeline.cohort.record import open_record

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
WORKERS = {"local": ("popen_loky",), "ray": ("ray::",)}  # in the command line of a worker's process
TARGETS = (
    "none lost",
    "none done again but what was in flight",
    "label maps as by one process",
    "nothing half-written",
)


@dataclass(frozen=True)
class Setting:
    """What is predicted, by whom, and how often who is killed."""

    num_images: int
    worker_kills: int
    coordinator_kills: int
    engine: str
    num_workers: int
    seed: int


def start(work: Path, out: Path, setting: Setting) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unet_pipeline", "--quiet", "predict", work / "bundle", work / "images", out]
    command += ["--jobs", str(setting.num_workers), "--engine", setting.engine, "--threads", "1", "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def list_workers(process: subprocess.Popen[bytes], engine: str) -> list[psutil.Process]:
    """Workers of the run; those of Ray belong to its own daemon, which is no child."""
    pool = psutil.Process(process.pid).children(recursive=True) if engine == "local" else psutil.process_iter()
    workers = []
    for candidate in pool:
        try:
            if any(word in " ".join(candidate.cmdline()) for word in WORKERS[engine]):
                workers.append(candidate)
        except psutil.Error:
            continue
    return workers


def run(work: Path, out: Path, setting: Setting) -> tuple[int, int]:
    """Predict all images through the kills; how many workers and coordinators were killed."""
    generator = random.Random(setting.seed)
    kinds = ["worker"] * setting.worker_kills + ["coordinator"] * setting.coordinator_kills
    generator.shuffle(kinds)
    places = sorted(generator.sample(range(1, setting.num_images), len(kinds)))
    killed = {"worker": 0, "coordinator": 0}
    process = start(work, out, setting)
    for place, kind in zip(places, kinds, strict=True):
        while process.poll() is None and sum(1 for _ in out.glob("image_*")) < place:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        if kind == "coordinator":
            process.kill()
            process.wait()
            process = start(work, out, setting)
        elif workers := list_workers(process, setting.engine):
            generator.choice(workers).kill()
        else:
            continue
        killed[kind] += 1
    _, complaints = process.communicate()
    if process.returncode:
        raise SystemExit(complaints.decode())
    return killed["worker"], killed["coordinator"]


def judge(work: Path, out: Path, setting: Setting, most_again: int) -> tuple[dict[str, bool], int]:
    """The targets, and attempts more than images."""
    from tests.cohort_phantoms import hash_label_maps

    names = [f"image_{number:05d}" for number in range(setting.num_images)]
    with open_record(out) as record:
        rows = [row for _, row in record.pair([Item(name, "", {}) for name in names]) if row is not None]
    again = sum(row.attempts for row in rows) - setting.num_images
    verdicts = (
        len(rows) == setting.num_images and all(row.is_finished for row in rows),
        again <= most_again,
        hash_label_maps(out) == hash_label_maps(work / "alone"),
        not list(out.glob(".partial*")),
    )
    return dict(zip(TARGETS, verdicts, strict=True)), again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--worker-kills", type=int, default=100)
    parser.add_argument("--coordinator-kills", type=int, default=5)
    parser.add_argument("--engine", choices=tuple(WORKERS), default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    setting = Setting(
        chosen.images, chosen.worker_kills, chosen.coordinator_kills, chosen.engine, chosen.workers, chosen.seed
    )
    sys.path.insert(0, str(ROOT))
    from tests.cohort_phantoms import build_bundle, write_images

    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        build_bundle(work)
        write_images(work / "images", setting.num_images)
        alone = [sys.executable, "-m", "unet_pipeline", "--quiet", "predict", work / "bundle", work / "images"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*alone, work / "alone", "--device", "cpu"], check=True, capture_output=True, env=environment)
        begun_s = time.perf_counter()
        workers, coordinators = run(work, work / "out", setting)
        took_s = time.perf_counter() - begun_s
        # a coordinator that is killed has two attempts for each worker in flight, of Ray's more (`num_in_flight`)
        most_again = workers + coordinators * (2 * setting.num_workers + 2)
        targets, again = judge(work, work / "out", setting, most_again)
    rows = [
        ("images", f"{setting.num_images:,} of 16^3"),
        ("workers killed", workers),
        ("coordinators killed", coordinators),
        ("attempts more than images", f"{again} of at most {most_again}"),
        ("time with the kills", f"{took_s:.0f} s, {setting.num_workers} workers with a thread each"),
        *((name, "yes" if is_met else "NO") for name, is_met in targets.items()),
    ]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}"
    )
    command = (
        f"benchmarks/cohort_kills.py --images {setting.num_images} --worker-kills {setting.worker_kills} "
        f"--coordinator-kills {setting.coordinator_kills} --engine {setting.engine}"
    )
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    text = f"# Killed workers and coordinators, engine {setting.engine}\n\n`{command}`, {machine}\n\n| | |\n|---|---|\n{table}\n"
    (RESULTS / f"cohort_kills_{setting.engine}.md").write_text(text, encoding="utf-8")
    print(text)
    if not all(targets.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
