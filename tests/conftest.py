"""Phantoms: small datasets with known content, written below a temporary folder.

The builders are plain functions; fixtures of the same name hand them to the tests, so that no test has to know how this
file is imported.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image as PillowImage

from unet_pipeline import lean_imports
from unet_pipeline.cli import main
from unet_pipeline.dataset.check import CheckReport, check_dataset
from unet_pipeline.dataset.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.files import write_json

# the same examples in every run, and no time limit on a busy machine
settings.register_profile("phantoms", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("phantoms")

# the search for unreachable objects waits until all is imported; see `pytest_collection_finish`
gc.disable()

SPACING_MM = (0.8, 1.0, 1.5)
VOLUME_SHAPE = (12, 16, 10)
PICTURE_SIZE = (48, 32)  # width, height
CASE_NAMES = ("case_01", "case_02", "case_03", "case_04")


# phantoms are too small for more than one thread, and on a busy machine threads wait for each other
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# whether bytes outlive a power cut is nothing that a test can see, and to wait for the disk takes longer than most of what is tested;
# that it is asked for stands in test_files.py
os.fsync = lambda descriptor: None

QUICK_START = str(Path(__file__).with_name("quick_start"))
USERS_PATH = os.environ.get("PYTHONPATH", "")


def pytest_configure(config: pytest.Config) -> None:
    """Processes that tests start, and those that these start, start quickly; pytest's own workers find all libraries."""
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [QUICK_START, USERS_PATH]))
        sys.path.append(QUICK_START)  # PyTorch's launcher hands this on


def pytest_itemcollected(item: pytest.Item) -> None:
    """A test is marked `real_data` because it takes the real data, and for no other reason: it is skipped exactly where they are missing."""
    takes_data = pipeline_data.__name__ in getattr(item, "fixturenames", ())
    if takes_data:
        item.add_marker("real_data")
    elif item.get_closest_marker("real_data") is not None:
        raise pytest.UsageError(
            f"{item.nodeid} is marked real_data and does not take the fixture pipeline_data; take the fixture, or remove the mark."
        )


def pytest_collection_finish() -> None:
    """What is loaded by now stays: Python need not search it for unreachable objects again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Neither the end of a worker nor the removal of the folders of a session that passed, half a minute, is waited for."""
    gc.freeze()
    factory = getattr(session.config, "_tmp_path_factory", None)
    root = getattr(factory, "_basetemp", None)
    if exitstatus == 0 and root is not None and factory._given_basetemp is None and shutil.which("rm"):
        garbage = root.rename(root.with_name(f"garbage-{root.name}"))
        root.mkdir()
        subprocess.Popen(["rm", "-rf", str(garbage)], start_new_session=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where the real data are promised (continuous integration), a skipped test is a failed one.

    But for those that need a GPU, a Slurm, or another user's rights.
    """
    outcome = yield
    report = outcome.get_result()
    needs_more = any(item.get_closest_marker(name) for name in ("gpu", "other_user", "slurm"))
    if report.skipped and not needs_more and os.environ.get("PIPELINE_REQUIRE_DATA"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although PIPELINE_REQUIRE_DATA is set"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many commands of the documentation no test runs, where their test was among the tests."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    if any("test_documented_commands" in getattr(report, "nodeid", "") for report in reports):
        from .documented_commands import summarize_marks  # a copy of this file is tested alone

        terminalreporter.write_line(summarize_marks())


# builders


def save_nifti(
    path: Path, array: np.ndarray, spacing_mm: Sequence[float] = SPACING_MM, affine: np.ndarray | None = None
) -> Path:
    """Write a NIfTI file, on an axis-aligned grid unless `affine` says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.diag([*spacing_mm, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(array, grid), path)
    return path


def save_picture(path: Path, rows: np.ndarray) -> Path:
    """Write a PNG from an array of shape (height, width) or (height, width, colours)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(rows).save(path)
    return path


def draw_volume(seed: int = 0, shape: Sequence[int] = VOLUME_SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Image (int16) and label map (uint8) of a ball, value 1, with a core, value 2; 100 grey levels per label value."""
    centre = [(size - 1) / 2 for size in shape]
    grid = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    radius = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(grid, centre, strict=True)))
    label = ((radius < 4.5).astype(np.uint8) + (radius < 2.5)).astype(np.uint8)
    noise = np.random.default_rng(seed).integers(0, 20, size=tuple(shape))
    return (label * 100 + noise).astype(np.int16), label


def draw_picture(seed: int = 0, size: Sequence[int] = PICTURE_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Image and label of shape (height, width), both uint8: a disc, 255 in the label, off the centre."""
    width, height = size
    row, column = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    disc = (row - height * 0.4) ** 2 + (column - width * 0.6) ** 2 < (height * 0.25) ** 2
    noise = np.random.default_rng(seed).integers(0, 30, size=disc.shape)
    return (disc * 120 + noise).astype(np.uint8), (disc * 255).astype(np.uint8)


def build_nifti_folders(root: Path) -> Path:
    """Plain folders with four 3D cases; nothing in them names the labels 0, 1 and 2."""
    for seed, name in enumerate(CASE_NAMES):
        image, label = draw_volume(seed)
        save_nifti(root / "images" / f"{name}.nii.gz", image)
        save_nifti(root / "labels" / f"{name}.nii.gz", label)
    return root


def build_decathlon(root: Path) -> Path:
    """The same four cases in the layout of the Medical Segmentation Decathlon."""
    for seed, name in enumerate(CASE_NAMES):
        image, label = draw_volume(seed)
        save_nifti(root / "imagesTr" / f"{name}.nii.gz", image)
        save_nifti(root / "labelsTr" / f"{name}.nii.gz", label)
    write_json(
        root / "dataset.json",
        {
            "name": "Phantoms",
            "licence": "CC0",
            "reference": " nobody ",
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "shell", "2": "core"},
            "training": [
                {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in CASE_NAMES
            ],
            "test": [],
        },
    )
    return root


def build_png_folders(root: Path) -> Path:
    """Plain folders with four grey pictures, wider than high; labels are 0 and 255."""
    for seed, name in enumerate(CASE_NAMES):
        image, label = draw_picture(seed)
        save_picture(root / "images" / f"{name}.png", image)
        save_picture(root / "labels" / f"{name}.png", label)
    return root


def build_fingerprint(
    shapes: Sequence[Sequence[int]] = ((40, 56, 40),) * 4,
    spacings_mm: Sequence[Sequence[float]] | None = None,
    channels: Sequence[str] = ("MRI",),
    labels: Mapping[str, int] | None = None,
    suffix: str = ".nii.gz",
) -> Fingerprint:
    """Fingerprint of a dataset that does not exist; intensities 100 +- 20 from 10 to 240."""
    dims = len(shapes[0])
    spacings = spacings_mm or [(1.0,) * dims] * len(shapes)
    table = dict(labels or {"background": 0, "organ": 1})
    return Fingerprint(
        dataset_name="phantom",
        layout="plain folders",
        suffix=suffix,
        spatial_dims=dims,
        channels=tuple(channels),
        labels=table,
        intensities=(IntensityStatistics(mean=100, std=20, percentile_00_5=10, percentile_99_5=240),) * len(channels),
        cases=tuple(
            CaseFingerprint(
                case=f"case_{index:02d}",
                shape=tuple(shape),
                spacing_mm=tuple(spacing),
                num_voxels=dict.fromkeys(table, 1),
            )
            for index, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True))
        ),
    )


# builders as fixtures; for the whole session, because property tests may not take shorter ones


@pytest.fixture(scope="session")
def write_nifti() -> Callable[..., Path]:
    return save_nifti


@pytest.fixture(scope="session")
def write_picture() -> Callable[..., Path]:
    return save_picture


@pytest.fixture(scope="session")
def volume_phantom() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return draw_volume


@pytest.fixture(scope="session")
def picture_phantom() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return draw_picture


@pytest.fixture(scope="session")
def make_fingerprint() -> Callable[..., Fingerprint]:
    return build_fingerprint


@pytest.fixture
def nifti_folders(tmp_path: Path) -> Path:
    return build_nifti_folders(tmp_path / "phantoms_nifti")


@pytest.fixture
def decathlon_folder(tmp_path: Path) -> Path:
    return build_decathlon(tmp_path / "phantoms_decathlon")


@pytest.fixture
def png_folders(tmp_path: Path) -> Path:
    return build_png_folders(tmp_path / "phantoms_png")


# the command line


@pytest.fixture
def full_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that this test starts are as users start them, with all that MONAI can find."""
    monkeypatch.setenv("PYTHONPATH", USERS_PATH)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place != QUICK_START])


@pytest.fixture
def call_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Calls the command line in a temporary folder; gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    # the command's process ends after it; this one goes on to tests that need all of MONAI
    monkeypatch.setattr(lean_imports, "arrange_lean_import", lambda **_: False)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["unet-pipeline", *map(str, arguments)])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


# processes that begin with PyTorch and MONAI loaded


@pytest.fixture(scope="session")
def warm_python() -> Iterator[Path]:
    """A program that takes the words of `python`; see warm_python.py for what it is not for."""
    from .warm_python import OF_TRAINING, warming_python  # a copy of this file is tested alone

    places = [str(Path(__file__).parents[1] / "pipeline"), os.environ.get("PYTHONPATH", "")]
    with warming_python(OF_TRAINING, environment={**os.environ, "PYTHONPATH": os.pathsep.join(places)}) as program:
        yield program


@pytest.fixture
def warm_processes(warm_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes that this test starts with `sys.executable`, and the workers of a pool, are forks of a warm one."""
    monkeypatch.setattr(sys, "executable", str(warm_python))


# real data


@pytest.fixture(scope="session")
def pipeline_data() -> Path:
    """The folder with the development datasets. Nothing else reads the variable, so that a test without them is skipped."""
    if not os.environ.get("PIPELINE_DATA"):
        pytest.skip("PIPELINE_DATA is not set")
    return Path(os.environ["PIPELINE_DATA"])


@pytest.fixture(scope="session")
def hippocampus_report(pipeline_data: Path) -> CheckReport:
    return check_dataset(read_dataset(pipeline_data / "Task04_Hippocampus"))


@pytest.fixture(scope="session")
def em_membrane_report(pipeline_data: Path) -> CheckReport:
    return check_dataset(read_dataset(pipeline_data / "em_membrane"))
