"""Time and peak memory of `unet-pipeline check` on synthetic CT: `.venv/bin/python benchmarks/check_memory.py [--cases 40]`.

The peak is the process's resident memory less that of a check of one tiny volume, which is what the program itself takes;
it is compared with the size of the largest volume (its voxels in the file's own type) and the number of workers.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
from measured_process import measure_verb

from unet_pipeline.dataset.check import _MAX_WORKERS
from unet_pipeline.files import write_text

TARGET = Path(__file__).parent / "results" / "check_memory.md"
_MIB = 2**20


def write_dataset(root: Path, num_cases: int, shape: tuple[int, int, int]) -> int:
    """Volumes of int16 in HU with an organ; returns the bytes of one image's voxels."""
    generator = np.random.default_rng(0)
    grid = np.indices(shape, dtype=np.float32)
    distance = sum(((axis - size / 2) / size) ** 2 for axis, size in zip(grid, shape, strict=True))
    label = ((distance < 0.05).astype(np.uint8) + (distance < 0.01)).astype(np.uint8)
    image = (label * 60 - 1000 * (distance > 0.2) + generator.integers(-20, 20, shape, np.int16)).astype(np.int16)
    for number in range(num_cases):
        for folder, array in (("images", np.roll(image, number, axis=2)), ("labels", np.roll(label, number, axis=2))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            written = nib.Nifti1Image(array, np.diag([0.8, 0.8, 1.5, 1]))
            nib.save(written, root / folder / f"case_{number:03d}.nii.gz")
    return image.nbytes


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 200))
    arguments = parser.parse_args()
    nib.openers.Opener.default_compresslevel = 1  # the volumes are thrown away
    with tempfile.TemporaryDirectory() as folder:
        tiny, large = Path(folder) / "tiny", Path(folder) / "large"
        write_dataset(tiny, 1, (16, 16, 16))
        num_bytes = write_dataset(large, arguments.cases, tuple(arguments.shape))
        base, found = measure_verb(["check", tiny]), measure_verb(["check", large])
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    volume_mib = num_bytes / _MIB
    ratio = (found.peak_mib - base.peak_mib) / volume_mib / workers
    shown = "x".join(map(str, arguments.shape))
    text = f"""# Memory of check

`.venv/bin/python benchmarks/check_memory.py --cases {arguments.cases} --shape {shown.replace("x", " ")}`,
{datetime.now(UTC).date()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}. n = 1.

| what | value |
| --- | --- |
| volumes | {arguments.cases} of {shown}, int16, {volume_mib:.0f} MiB each, with a label map each |
| time | {found.seconds:.1f} s ({base.seconds:.1f} s for one tiny volume) |
| peak resident memory | {found.peak_mib:.0f} MiB ({base.peak_mib:.0f} MiB for one tiny volume) |
| workers | {workers} |
| peak over the tiny one, by volume and worker | {ratio:.2f} |
"""
    write_text(TARGET, text)
    print(text)


if __name__ == "__main__":
    main()
