"""Everything that is measured on a GPU, in one command and under 8 minutes, on a machine that needs no network.

    python benchmarks/gpu.py DATASET [--parts bare,loop,nnunet,quick,predict,evaluate,profile,volume,ct] [--commit HASH] [--out FOLDER]
    python benchmarks/gpu.py DATASET --device cpu --short      # whether every part runs; the numbers mean nothing

DATASET is Task04_Hippocampus. The package may lie on PYTHONPATH uninstalled. Each part
runs in a process of its own with a time limit; what fails or takes too long is a row that says so. After every part
FOLDER/gpu_CARD.json and .md are written, with the targets and whether they are met. nnU-Net's part needs nnunetv2 on PYTHONPATH too.

  bare      a step of the bare network of nnU-Net's plan for the hippocampus in several forms, on a batch that is there already
  loop      a step of `train.json` on the same plan, measured from inside the training
  nnunet    a step of nnU-Net's trainer on its own plan
  quick     `train` of preset quick from start to end, and its Dice
  predict   52 cases, and evaluate: the validation cases; whole processes
  profile   time in which a kernel runs by wall time of a step
  volume    `predict` of 512x512x300 with 3 and 60 classes in float32 and bfloat16; whole processes, and the network's part
  ct        preset standard for synthetic CT: the bare compiled network, our loop, and its memory against the forecast
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import alternating
import gpu_parts
from gpu_results import Row, read_results, read_rows, write_results

from unet_pipeline.evidence.records.machine import describe_machine, read_code_version, read_versions

RESULTS = Path(__file__).parent / "results"
NAMES = ("bare", "loop", "nnunet", "quick", "predict", "evaluate", "profile", "volume", "ct")
_SHOWN = ("unet-pipeline", "torch", "monai", "numpy", "nibabel")
_SHORT_CASES = 10
_LEAST_S = 15  # a part that has less left is not begun
_SLOWER_ON_CPU = 3  # time limits, for a processor that others use too
_WORDS_OF_FAILURE = 400


def main() -> None:
    """Measure the parts one after the other, and write what there is after each."""
    arguments = read_arguments()
    if arguments.worker:
        rows = arguments.work / f"{arguments.worker}.jsonl"
        setting = gpu_parts.Setting(arguments.dataset, arguments.work, arguments.device, arguments.short, rows)
        gpu_parts.PARTS[arguments.worker].work(setting)
        return
    started_s = time.monotonic()
    run = describe_run(arguments)
    name = f"gpu_{re.sub(r'[^a-z0-9]+', '_', (run['machine']['gpu'] or 'none').lower()).strip('_')}"
    rows = recall_rows(arguments, name)
    with tempfile.TemporaryDirectory(prefix="gpu_benchmark_", ignore_cleanup_errors=True) as temporary:
        arguments.work = arguments.work or Path(temporary)
        arguments.work.mkdir(parents=True, exist_ok=True)
        dataset = arguments.dataset
        if arguments.short:
            dataset = gpu_parts.write_small_dataset(dataset, arguments.work / dataset.name, _SHORT_CASES)
        setting = gpu_parts.Setting(dataset, arguments.work, arguments.device, arguments.short, arguments.work / "none")
        gpu_parts.prepare(setting)
        for part in list_parts(arguments.parts):
            left_s = 60 * arguments.minutes - (time.monotonic() - started_s)
            rows += run_part(part, setting, left_s)
            run["minutes"] = (time.monotonic() - started_s) / 60
            write_results(arguments.out, name, run, rows)
    print((arguments.out / f"{name}.md").read_text(encoding="utf-8"))


def read_arguments() -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="Task04_Hippocampus")
    parser.add_argument("--parts", default=",".join(NAMES), help="separated by commas; all if not given")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--short", action="store_true", help="a few steps on a few cases, to see that every part runs")
    parser.add_argument(
        "--minutes", type=float, default=8, help="for all parts together; what does not fit is left out"
    )
    parser.add_argument("--add", action="store_true", help="keep the other parts of the results file that is there")
    parser.add_argument("--commit", help="of the code, where the tree has no .git")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="folder that stays; a temporary one if not given")
    parser.add_argument("--worker", choices=list(gpu_parts.PARTS), help="for the script itself: one of its processes")
    arguments = parser.parse_args()
    unknown = set(arguments.parts.split(",")) - set(NAMES)
    if unknown:
        parser.error(f"--parts has {', '.join(sorted(unknown))}; expected some of {', '.join(NAMES)}")
    return arguments


def recall_rows(arguments: argparse.Namespace, name: str) -> list[Row]:
    """Rows of an earlier call on the same card that --add keeps: those of the parts that are not measured now."""
    if not arguments.add:
        return []
    measured = [name.split()[0] for name in list_parts(arguments.parts)]
    return [row for row in read_results(arguments.out / f"{name}.json") if row.part.split()[0] not in measured]


def list_parts(text: str) -> list[str]:
    """The processes that the named parts take, in the order in which they run."""
    wanted = set(text.split(","))
    return [name for name in gpu_parts.PARTS if name.split()[0] in wanted]


def run_part(part: str, setting: gpu_parts.Setting, left_s: float) -> list[Row]:
    """One part in a process of its own, which is ended with all that it has started when its time is over.

    Returns:
        Its rows, with one more that says why, if it failed.
    """
    limit_s = min(gpu_parts.PARTS[part].limit_s * (1 if setting.device == "cuda" else _SLOWER_ON_CPU), left_s)
    if limit_s < _LEAST_S:
        return [Row(part, "all", failure=f"not begun: {left_s:.0f} s were left of --minutes")]
    rows, log = setting.work / f"{part}.jsonl", setting.work / f"{part}.log"
    rows.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__)), str(setting.dataset), "--device", setting.device]
    command += ["--work", str(setting.work), "--worker", part, *(["--short"] if setting.is_short else [])]
    print(f"{part} ...", flush=True)
    started_s, failure = time.monotonic(), ""
    compiled = setting.work / f"compiled{'' if gpu_parts.PARTS[part].shares_compiled else f'_{part}'}"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(compiled)},
            start_new_session=True,
        )
        try:
            if status := process.wait(limit_s):
                failure = f"ended with status {status}: {read_end(log)}"
        except subprocess.TimeoutExpired:
            failure = f"ended after {limit_s:.0f} s, its time limit; its rows so far are above: {read_end(log)}"
        finally:
            alternating.stop_group(process)
    found = read_rows(rows)
    if failure:
        found.append(Row(part, "rest", failure=failure))
    for row in found:
        print(f"  {row.what}: {row.failure or f'{row.middle:.4g} {row.unit}'}", flush=True)
    print(f"  {time.monotonic() - started_s:.0f} s", flush=True)
    return found


def read_end(log: Path) -> str:
    """The end of what a process said, in one line."""
    return " ".join(log.read_text(encoding="utf-8", errors="replace").split())[-_WORDS_OF_FAILURE:]


def describe_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Command, date, commit, machine, versions and load."""
    words = [arguments.dataset.name, "--device", arguments.device, *(["--short"] if arguments.short else [])]
    words += [] if arguments.parts == ",".join(NAMES) else ["--parts", arguments.parts]
    words += ["--add"] if arguments.add else []
    versions, machine = read_versions(), describe_machine().model_dump()
    if arguments.device == "cpu":
        machine |= {"gpu": None}
    commit = arguments.commit or read_code_version().commit
    return {
        "command": f"benchmarks/gpu.py {' '.join(words)}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": str(commit or "unknown")[:10],
        "machine": machine,
        "versions": {name: versions[name] for name in _SHOWN if name in versions},
        "load": alternating.check_load(),
        "is_short": arguments.short,
        "minutes": 0.0,
    }


if __name__ == "__main__":
    main()
