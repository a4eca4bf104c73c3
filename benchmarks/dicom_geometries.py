"""A thousand random DICOM series: whether the SEG of a label map has every voxel in its place, by three independent readers.

highdicom and dcmqi decode it, dciodvfy of Debian's dicom3tools judges it; LABELMAP objects, which dcmqi and dciodvfy do not know, are
decoded by highdicom alone. Run it from the repository's root: `python benchmarks/dicom_geometries.py [NUMBER] [--out FILE]`.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests import dicom_geometries as geometries
from unet_pipeline.clinical.segmentation import BINARY, LABELMAP

RESULT = Path(__file__).parent / "results" / "dicom_geometries.md"


def try_geometry(seed: int, folder: Path) -> tuple[geometries.Geometry, list[str]]:
    """The geometry of a seed, and what is wrong with the SEG of a label map on it."""
    geometry = geometries.draw_geometry(seed)
    labels = geometries.draw_labels(seed, geometry.volume.shape)
    source, wrong = geometries.write_geometry(folder / "a", geometry), []
    for kind in (BINARY, LABELMAP):
        final = folder / f"{kind}.dcm"
        geometries.write_result(source, final, geometry.as_read(labels), kind)
        values = [segment.value for segment in geometries.SEGMENTS]
        numbers = dict(zip(values if kind == LABELMAP else range(1, 5), values, strict=True))
        decoded = {"highdicom": geometries.read_by_highdicom(final, numbers)}
        if kind == BINARY:
            decoded["dcmqi"] = geometries.read_by_dcmqi(final, numbers, folder / "dcmqi")
            wrong += [f"dciodvfy: {line}" for line in geometries.list_violations(final)]
        for reader, parts in decoded.items():
            try:
                placed = geometries.place_voxels(parts, labels.shape, geometry.affine)
                wrong += [] if np.array_equal(placed, labels) else [f"{reader}, {kind}: other voxels"]
            except AssertionError:
                wrong.append(f"{reader}, {kind}: voxels off the grid")
    return geometry, wrong


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


def try_seed(seed: int) -> tuple[list[str], list[str]]:
    """What is counted of the geometry of a seed, and what is wrong with its SEG."""
    with tempfile.TemporaryDirectory() as folder:
        geometry, wrong = try_geometry(seed, Path(folder))
    return describe(geometry), [f"seed {seed}: {line}" for line in wrong]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int, nargs="?", default=1000)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    if geometries.find_dcmqi() is None or shutil.which("dciodvfy") is None:
        sys.exit("This needs dcmqi's segimage2itkimage and dicom3tools' dciodvfy; `make test-dicom` installs both.")
    counts, wrong, begun_s = Counter[str](), [], time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        for kinds, seen in pool.map(try_seed, range(arguments.number), chunksize=10):
            counts.update(kinds)
            wrong += seen
    lines = [
        "# Voxels of DICOM SEG at their places in the world",
        "",
        f"`python benchmarks/dicom_geometries.py {arguments.number}`, {datetime.date.today()}, {platform.system()}, "
        f"highdicom {version('highdicom')}, dcmqi {version('dcmqi')}, pydicom {version('pydicom')}, dciodvfy of dicom3tools; "
        f"{time.monotonic() - begun_s:.0f} s.",
        "",
        f"{arguments.number} random series, {len(wrong)} findings.",
        "",
        "| of the series | number |",
        "|---|---:|",
        *(f"| {name} | {count} |" for name, count in sorted(counts.items())),
        "",
        *(f"- {line}" for line in wrong[:50]),
    ]
    arguments.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
