"""`predict --jobs`: 300 images while workers and the coordinator are killed, and what one process gives for the same images."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import unet_pipeline
from unet_pipeline.cohort.record import RECORD, open_record
from unet_pipeline.cohort.status import read_jobs
from unet_pipeline.errors import PipelineError, PredictionError
from unet_pipeline.files import PARTIAL_PREFIX

from .cohort_phantoms import build_bundle, hash_label_maps, write_images
from .phantom_bundles import silently
from .warm_python import find_fork

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does"),
    pytest.mark.usefixtures("warm_processes"),
]
NUM_IMAGES = 300  # benchmarks/cohort_kills.py has 10,000
WORKER_KILLS, COORDINATOR_KILL = (10, 38), 22  # label maps that are there then
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle, images, and in `alone` their label maps by one process."""
    folder = tmp_path_factory.mktemp("cohort")
    build_bundle(folder)
    write_images(folder / "images", NUM_IMAGES)
    silently(unet_pipeline.predict, folder / "bundle", folder / "images", folder / "alone")
    return folder


def start(python: Path, work: Path, out: Path) -> subprocess.Popen[str]:
    command = [python, "-m", "unet_pipeline", "predict", work / "bundle", work / "images", out, "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), os.environ["PYTHONPATH"]])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + 300
    while len(list(out.glob("image_*"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def kill_worker(python: Path, process: subprocess.Popen[str], generator: random.Random) -> None:
    children = psutil.Process(find_fork(python, process.pid)).children()
    generator.choice([child for child in children if "popen_loky" in " ".join(child.cmdline())]).kill()


def read_attempts(out: Path) -> dict[str, int]:
    from unet_pipeline.cohort.items import Item

    names = [f"image_{number:05d}" for number in range(NUM_IMAGES)]
    with open_record(out) as record:
        rows = [row for _, row in record.pair([Item(name, "", {}) for name in names])]
    assert all(row is not None and row.is_finished for row in rows)
    return {row.name: row.attempts for row in rows if row is not None}


def read_entries(out: Path) -> list[tuple[str, dict[str, object]]]:
    images = json.loads((out / "predictions_run.json").read_text(encoding="utf-8"))["images"]
    return [(name, {key: value for key, value in entry.items() if key != "started"}) for name, entry in images.items()]


@pytest.fixture(scope="module")
def killed(work: Path, warm_python: Path) -> Path:
    """Label maps by workers of which two were killed, and a coordinator that was killed once."""
    out, generator = work / "killed", random.Random(0)
    first = start(warm_python, work, out)
    wait_for(out, WORKER_KILLS[0], first)
    kill_worker(warm_python, first, generator)
    wait_for(out, COORDINATOR_KILL, first)
    os.kill(find_fork(warm_python, first.pid), signal.SIGKILL)
    first.communicate()
    second = start(warm_python, work, out)
    wait_for(out, WORKER_KILLS[1], second)
    kill_worker(warm_python, second, generator)
    # what a worker leaves that is killed while it writes: one kill in some hundred
    (out / f"{PARTIAL_PREFIX}killed-image_00001.nii.gz").write_bytes(b"half a label map")
    stdout, stderr = second.communicate(timeout=300)
    assert second.returncode == 0, stderr
    assert stdout.count("kept ") >= COORDINATOR_KILL - 4, "what was finished is kept"
    return out


def test_predict_jobs_killed_at_random_gives_what_one_process_gives(work: Path, killed: Path) -> None:
    assert len(hash_label_maps(killed)) == NUM_IMAGES
    assert hash_label_maps(killed) == hash_label_maps(work / "alone")
    by_one = dict(read_entries(work / "alone"))
    for name, entry in read_entries(killed):
        assert entry == by_one.pop(name), name
    assert not by_one
    assert not (killed / "replaced").exists(), "no label map of a killed worker is taken for somebody's own"


def test_predict_jobs_killed_at_random_does_nothing_twice_but_what_was_in_flight(killed: Path) -> None:
    attempts = read_attempts(killed)
    num_in_flight = 4  # of two workers
    assert sum(attempts.values()) - NUM_IMAGES <= len(WORKER_KILLS) + num_in_flight
    assert not list(killed.glob(".*")), "nothing half-written is left"
    jobs = read_jobs(killed)
    assert (jobs.num_finished, jobs.counts) == (NUM_IMAGES, {"finished": NUM_IMAGES})
    assert repr(jobs) == f"Jobs(predict: {NUM_IMAGES} of {NUM_IMAGES} items done, 0 failed)"


def test_predict_jobs_again_keeps_all_and_a_label_map_that_is_gone_is_made_again(work: Path, killed: Path) -> None:
    before = hash_label_maps(killed)
    (killed / "image_00007.nii.gz").unlink()
    again = silently(unet_pipeline.predict, work / "bundle", work / "images", killed, jobs=2)
    assert [path.name for path in again.written] == ["image_00007.nii.gz"]
    assert len(again.kept) == NUM_IMAGES - 1
    assert hash_label_maps(killed) == before


def test_predict_jobs_bad_image_is_named_as_by_one_process_and_not_tried_again(
    work: Path, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = work / "images" / "image_99999.nii.gz"
    damaged.write_bytes(b"no image")
    try:
        messages = []
        for out, jobs in ((work / "alone", 1), (killed, 2), (killed, 2)):
            with pytest.raises(PredictionError, match="1 of 1 images could not be predicted:\n  image_99999") as caught:
                silently(unet_pipeline.predict, work / "bundle", work / "images", out, jobs=jobs)
            messages.append(str(caught.value))
    finally:
        damaged.unlink()
    assert len(set(messages)) == 1
    jobs_of = unet_pipeline.jobs(killed)
    assert [(row.name, row.state, row.attempts) for row in jobs_of.failed] == [("image_99999", "bad input", 1)]
    assert unet_pipeline.jobs(killed, again=True).counts == {"finished": NUM_IMAGES, "waiting": 1}


def test_predict_jobs_options_that_do_not_go_together_say_so(work: Path, tmp_path: Path) -> None:
    def predict(**options: object) -> None:
        unet_pipeline.predict(work / "bundle", work / "images", tmp_path / "out", **options)  # type: ignore[arg-type]

    for options, said in (
        ({"jobs": 0}, "number of workers is 0; expected at least 1"),
        ({"threads": 0}, "number of threads is 0; expected at least 1"),
        ({"engine": "loca"}, "did you mean 'local'"),
        ({"address": "auto"}, "Add --engine ray"),
        ({"sbatch": {"partition": "gpu"}}, "Add --engine slurm"),
    ):
        with pytest.raises(PipelineError, match=said):
            predict(**options)
    assert not (tmp_path / "out").exists()


def test_predict_one_job_has_no_record_of_jobs(work: Path) -> None:
    assert not (work / "alone" / RECORD).exists()


def test_jobs_command_prints_what_is_done(killed: Path, tmp_path: Path) -> None:
    answer = tmp_path / "jobs.json"
    command = [sys.executable, "-m", "unet_pipeline", "jobs", str(killed), "--json", str(answer)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), os.environ["PYTHONPATH"]])}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"predict  {NUM_IMAGES} of ")
    assert json.loads(answer.read_text(encoding="utf-8"))["counts"]["finished"] == NUM_IMAGES
