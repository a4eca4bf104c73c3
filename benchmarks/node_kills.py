"""Small series sent by two senders at once to a node that is killed at random; what an archive has of them afterwards.

    .venv/bin/python benchmarks/node_kills.py [--series 200] [--kills 20]

Writes results/node_kills.md. The series have 16 slices of 16 x 16 pixels; the network is small and nobody trained it.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from unet_pipeline.cohort.status import read_jobs

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    chosen = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.cohort_phantoms import build_bundle
    from tests.node_network import name_series, run_through_kills

    with tempfile.TemporaryDirectory() as name:
        work, begun_s = Path(name), time.perf_counter()
        archive, _ = run_through_kills(work, build_bundle(work), chosen.series, chosen.kills)
        took_s, jobs = time.perf_counter() - begun_s, read_jobs(work / "node")
        left = sum(1 for _ in (work / "node").rglob("*.dcm"))
    targets = {
        "none lost": set(archive.results) == set(map(name_series, range(chosen.series))),
        "one object for each": all(len(uids) == 1 for uids in archive.results.values()),
        "all sent by the record": jobs.counts == {"finished": chosen.series},
        "nothing left on the node's disk": not left,
    }
    rows = [
        ("series", f"{chosen.series} of 16 slices"),
        ("node killed", chosen.kills),
        ("objects that came twice, with the same UID", archive.arrivals.total() - len(archive.arrivals)),
        ("time with the kills", f"{took_s:.0f} s"),
        *((name, "yes" if is_met else "NO") for name, is_met in targets.items()),
    ]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d')}"
    )
    table = "\n".join(f"| {what} | {value} |" for what, value in rows)
    command = f"benchmarks/node_kills.py --series {chosen.series} --kills {chosen.kills}"
    text = f"# A node that is killed\n\n`{command}`, {machine}\n\n| | |\n|---|---|\n{table}\n"
    (RESULTS / "node_kills.md").write_text(text, encoding="utf-8")
    print(text)
    if not all(targets.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
