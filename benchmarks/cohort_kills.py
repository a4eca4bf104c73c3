"""Many images predicted by workers while workers and the coordinating process are killed at random; compared with one process.

    .venv/bin/python benchmarks/cohort_kills.py [--images 10000] [--worker-kills 100] [--coordinator-kills 5] [--engine local|ray]
        [--work FOLDER]

Writes results/cohort_kills_ENGINE.md. The images have 16^3 voxels; the network is small and nobody trained it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import psutil

from unet_pipeline.cohort.items import Item
from unet_pipeline.cohort.record import open_record

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
WORKERS = {"local": "popen_loky", "ray": "ray::RayWorker"}  # in the command line of a worker's process
STALL_S = 600.0
REMEDY = "run the same command again"  # in the message of a run that gave up, because a worker was killed three times while it began
TARGETS = (
    "every kill took place",
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
    """Workers of the run and of no other: descendants, of Ray those that its daemon started and named after their class."""
    workers = []
    for candidate in psutil.Process(process.pid).children(recursive=True):
        try:
            if WORKERS[engine] in " ".join(candidate.cmdline()):
                workers.append(candidate)
        except psutil.Error:
            continue
    return workers


class Victim:
    """A run that is killed and begun again.

    Attributes:
        killed: workers and coordinators so far.
        num_given_up: times that the run ended with a message that says to begin it again.
    """

    def __init__(self, work: Path, out: Path, setting: Setting) -> None:
        self.work, self.out, self.setting = work, out, setting
        self.killed, self.num_given_up = {"worker": 0, "coordinator": 0}, 0
        self.process = start(work, out, setting)

    def wait_for(self, place: int) -> bool:
        """Wait until so many label maps are there; False when the run is over before."""
        num_before, since_s = -1, time.monotonic()
        while self.is_running() and (num_images := self.count()) < place:
            if num_images != num_before:
                num_before, since_s = num_images, time.monotonic()
            elif time.monotonic() - since_s > STALL_S:
                self.process.kill()
                raise SystemExit(f"no label map came for {STALL_S:.0f} s after {num_images}")
            time.sleep(0.1)
        return self.is_running()

    def count(self) -> int:
        """Label maps so far."""
        return sum(1 for _ in self.out.glob("image_*"))

    def is_running(self) -> bool:
        """Whether there is a run; one that gave up is begun again."""
        status = self.process.poll()
        if not status:
            return status is None
        complaints = self.process.communicate()[1].decode()
        if REMEDY not in complaints:
            raise SystemExit(complaints)
        self.num_given_up += 1
        self.process = start(self.work, self.out, self.setting)
        return True

    def kill(self, kind: str, generator: random.Random) -> None:
        """Kill the coordinator, or any of the workers as soon as there is one."""
        if kind == "coordinator":
            self.process.kill()
            self.process.wait()
            self.process = start(self.work, self.out, self.setting)
        else:
            while not (workers := list_workers(self.process, self.setting.engine)):
                time.sleep(0.1)
                if not self.is_running():
                    return
            generator.choice(workers).kill()
        self.killed[kind] += 1
        print(f"{self.count()} images, killed {self.killed}, gave up {self.num_given_up}", file=sys.stderr, flush=True)


def run(work: Path, out: Path, setting: Setting) -> Victim:
    """Predict all images through the kills."""
    generator = random.Random(setting.seed)
    kinds = ["worker"] * setting.worker_kills + ["coordinator"] * setting.coordinator_kills
    generator.shuffle(kinds)
    places = sorted(generator.sample(range(1, setting.num_images), len(kinds)))
    victim = Victim(work, out, setting)
    for place, kind in zip(places, kinds, strict=True):
        if not victim.wait_for(place):
            break
        victim.kill(kind, generator)
    while victim.is_running():
        time.sleep(0.1)
    return victim


def judge(work: Path, victim: Victim, most_again: int) -> tuple[dict[str, bool], int, str]:
    """The targets, attempts more than images, and a hash over the names and hashes of all label maps."""
    from tests.cohort_phantoms import hash_label_maps

    setting, out = victim.setting, victim.out
    names = [f"image_{number:05d}" for number in range(setting.num_images)]
    with open_record(out) as record:
        rows = [row for _, row in record.pair([Item(name, "", {}) for name in names]) if row is not None]
    again = sum(row.attempts for row in rows) - setting.num_images
    label_maps = hash_label_maps(out)
    verdicts = (
        victim.killed == {"worker": setting.worker_kills, "coordinator": setting.coordinator_kills},
        len(rows) == setting.num_images and all(row.is_finished for row in rows),
        again <= most_again,
        label_maps == hash_label_maps(work / "alone"),
        not list(out.glob(".partial*")),
    )
    digest = hashlib.sha256(json.dumps(label_maps, sort_keys=True).encode()).hexdigest()
    return dict(zip(TARGETS, verdicts, strict=True)), again, digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--worker-kills", type=int, default=100)
    parser.add_argument("--coordinator-kills", type=int, default=5)
    parser.add_argument("--engine", choices=tuple(WORKERS), default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="keeps images, bundle and what one process predicts, for another engine"
    )
    chosen = parser.parse_args()
    setting = Setting(
        chosen.images, chosen.worker_kills, chosen.coordinator_kills, chosen.engine, chosen.workers, chosen.seed
    )
    sys.path.insert(0, str(ROOT))
    from tests.cohort_phantoms import build_bundle, write_images

    with nullcontext(chosen.work) if chosen.work else tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if not (work / "bundle").is_dir():
            work.mkdir(exist_ok=True)
            build_bundle(work)
        write_images(work / "images", setting.num_images)
        shutil.rmtree(work / "out", ignore_errors=True)
        alone = [sys.executable, "-m", "unet_pipeline", "--quiet", "predict", work / "bundle", work / "images"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*alone, work / "alone", "--device", "cpu"], check=True, capture_output=True, env=environment)
        begun_s = time.perf_counter()
        victim = run(work, work / "out", setting)
        took_s = time.perf_counter() - begun_s
        # a coordinator that ends has two attempts for each worker in flight, of Ray's more (`num_in_flight`)
        num_ends = victim.killed["coordinator"] + victim.num_given_up
        most_again = victim.killed["worker"] + num_ends * (2 * setting.num_workers + 2)
        targets, again, digest = judge(work, victim, most_again)
    rows = [
        ("images", f"{setting.num_images:,} of 16^3"),
        ("workers killed", victim.killed["worker"]),
        ("coordinators killed", victim.killed["coordinator"]),
        ("given up by itself, and begun again as its message says", victim.num_given_up),
        ("attempts more than images", f"{again} of at most {most_again}"),
        ("time with the kills", f"{took_s:.0f} s, {setting.num_workers} workers with a thread each"),
        ("SHA-256 over the hashes of all label maps", f"`{digest[:16]}`"),
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
