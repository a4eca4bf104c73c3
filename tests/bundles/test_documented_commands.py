"""Every command of README and documentation is run as it stands, among folders that have the names it uses, or is marked with a reason.

Of commands that differ in the name of a folder only, where both names are of copies of one folder, the first is run.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dicom_phantoms
import nnunet_results
import numpy as np
import phantom_bundles as phantoms
import pytest
import store_server
import tifffile
from documented_commands import MARKS, PAGES, ROOT, find_commands, list_commands
from PIL import Image as PillowImage

import unet_pipeline
from unet_pipeline.cohort.items import Item
from unet_pipeline.cohort.record import open_record
from unet_pipeline.files import write_json, write_text

from ..dicom_label_phantoms import write_image_series, write_seg
from .conftest import share_folder

MARKED = [command for command in list_commands() if command.mark]
SHORT = {"num_epochs": 2, "iterations_per_epoch": 2, "val_interval": 1}
# one folder under several names
BUNDLES = (
    "BUNDLE",
    *("OTHER", "head_bundle", "cell_bundle", "fresh_bundle"),
    *("bundles/NAME", "bundles/hippocampus_mri", "bundles/nuclei_fluorescence"),
)
IMAGES = ("IMAGES", "new_images")
OUTPUTS = ("OUT", "predictions")
# a placeholder whose own name the command reads; and fewer processes, each of which imports PyTorch
NAMES = {"RESULTS": "nnUNetTrainer__nnUNetPlans__3d_fullres", "--jobs 4": "--jobs 2", "--processes 4": "--processes 2"}
# what a command must have written when it is done, where it names it
WRITTEN = re.compile(r"OUT|NUMBERS|check|predictions|\w+\.svg|\w+\.zip|model\.(?:ts|onnx)")


PROGRAMS = Path(sys.executable).parent
SERVING = re.compile(r"unet-pipeline node |tensorboard ")


def find_form(command: str) -> str:
    """The command with one name for all copies of a folder: commands of one form do the same."""
    for names in (BUNDLES, IMAGES, OUTPUTS):
        command = re.sub(rf"(?<![\w/.])(?:{'|'.join(names)})(?![\w/.])", names[0], command)
    return re.sub(r"\w+\.zip", "ARCHIVE.zip", command)


COMMANDS = sorted(
    {find_form(text): text for text in sorted({one.text for one in list_commands() if not one.mark})[::-1]}.values()
)

# the folders that the commands name


def build_world(root: Path) -> None:
    """Data sets and trained bundles under the names that the pages give them."""
    write_table(root / "DATASET")
    for name in ("cells", "heads"):
        phantoms.write_pictures(root / name)
    for name in IMAGES:
        shutil.copytree(root / "DATASET" / "images", root / name)
    phantoms.write_volumes(root / "Task04_Hippocampus")
    write_list(root)
    write_dicom(root)
    write_dicom_labels(root / "FOLDER")
    for number, organ in enumerate(("spleen", "liver", "kidney")):
        write_organ(root / f"{organ}s", organ, 10 * number)
    write_overlaps(root / "CASES")
    for number in range(40, 44):  # the pool of `train --unlabelled`
        (root / "DIR").mkdir(exist_ok=True)
        PillowImage.fromarray(phantoms.draw_cell(number)[0]).save(root / "DIR" / f"new_{number}.png")
    nnunet_results.write_results(root)
    train(root / "DATASET", root / "BUNDLE", {**phantoms.SMALL_2D, **SHORT}, fold="all")
    train(root / "ct", root / "liver_bundle", {**phantoms.SMALL_3D, **SHORT, "patch_size": [16, 16, 8]})
    for name in BUNDLES[1:]:
        shutil.copytree(root / "BUNDLE", root / name)
    shutil.copytree(root / "DATASET", root / "bundles" / "DATASET")


def write_table(root: Path) -> None:
    """A list of cases with columns to evaluate by."""
    phantoms.write_pictures(root)
    lines = ["case,image,label,scanner,age"]
    for number, path in enumerate(sorted((root / "images").iterdir())):
        lines.append(f"{path.stem},images/{path.name},labels/{path.name},{'AB'[number % 2]},{35 + 5 * number}")
    write_text(root / "cases.csv", "\n".join(lines) + "\n")
    write_json(root / "dataset_facts.json", {"labels": {"background": 0, "cell": 255}})


def write_list(root: Path) -> None:
    """One of MONAI's data lists, apart from its files."""
    phantoms.write_volumes(root / "TrainingData", num_cases=4)
    names = [f"organ_{number:02d}.nii.gz" for number in range(4)]
    entries = [
        {"image": f"imagesTr/{name}", "label": f"labelsTr/{name}", "fold": number % 2}
        for number, name in enumerate(names)
    ]
    write_json(root / "lists" / "brats_folds.json", {"training": entries})


def write_dicom(root: Path) -> None:
    """Series with label maps beside them."""
    for number in range(4):
        image, label = phantoms.draw_organ(number)
        volume = np.clip(image, 0, None).astype(np.uint16)
        for folder in ("ct/images", "new_series"):
            dicom_phantoms.write_series(root / folder / f"patient_{number}", volume, uid=f"1.2.3.{number}")
        # DICOM's axes point to the patient's left and back
        affine = np.array([[-0.5, 0, 0, -10], [0, -0.75, 0, 20], [0, 0, 2, 30], [0, 0, 0, 1]])
        phantoms.write_volume(root / "ct" / "labels" / f"patient_{number}.nii.gz", np.minimum(label, 1), affine)
    write_json(root / "ct" / "dataset_facts.json", {"channels": ["CT"], "labels": {"background": 0, "liver": 1}})


def write_dicom_labels(root: Path) -> None:
    """Series with a SEG on each, as archives give them."""
    for number in range(4):
        image, label = phantoms.draw_organ(number)
        folder = root / f"patient_{number}"
        affine = np.diag([0.5, 0.75, 2.0, 1.0])
        headers = write_image_series(folder / "ct", np.clip(image, 0, 1000), affine, patient=f"P{number}")
        write_seg(folder / "seg" / "1.dcm", headers, {"liver": label > 0})


def write_organ(root: Path, organ: str, seed: int) -> None:
    """A dataset that knows one organ only."""
    for number in range(seed, seed + 2):
        image, label = phantoms.draw_organ(number)
        phantoms.write_volume(root / "images" / f"{organ}_{number}.nii.gz", image)
        phantoms.write_volume(root / "labels" / f"{organ}_{number}.nii.gz", np.minimum(label, 1))
    write_json(root / "dataset_facts.json", {"labels": {"background": 0, organ: 1}})


def write_overlaps(root: Path) -> None:
    """Two channels, and a mask per structure, of which one lies in the other."""
    for number in range(30, 36):
        image, label = phantoms.draw_organ(number)
        for channel, contrast in (("t1", 1), ("t2", -1)):
            phantoms.write_volume(root / f"s{number}" / f"{channel}.nii.gz", contrast * image)
        for name, least in (("organ", 1), ("tumour", 2)):
            mask = (label >= least).astype(np.uint8)
            phantoms.write_volume(root / f"s{number}" / "segmentations" / f"{name}.nii.gz", mask)


def train(dataset: Path, bundle: Path, numbers: dict, fold: str | None = None) -> None:
    phantoms.plan_small(dataset, bundle, folds=2, **numbers)
    phantoms.silently(unet_pipeline.train, bundle, fold=fold)
    phantoms.silently(unet_pipeline.evaluate, bundle)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return share_folder(tmp_path_factory, "documented", build_world)


@pytest.fixture
def world(template: Path, tmp_path: Path, command: str) -> Path:
    """A fresh one for each command, with those copies of the bundle that it names: they are most of the template."""
    absent = {
        template / name for name in BUNDLES[1:] if Path(name).name not in command and "bundles " not in f"{command} "
    }
    shutil.copytree(
        template,
        tmp_path,
        dirs_exist_ok=True,
        ignore=lambda folder, names: [name for name in names if Path(folder) / name in absent],
    )
    return tmp_path


# what must be so before a command makes sense


def prepare(command: str, world: Path) -> None:
    """What the pages take for granted at this place of the text."""
    if target := re.match(r"unet-pipeline (?:plan|import-nnunet) [^-\s]\S* (\S+)", command):
        shutil.rmtree(world / target[1])
        shutil.rmtree(world / f"{target[1]}_data", ignore_errors=True)
    if "--resume" in command:
        phantoms.silently(unet_pipeline.train, world / "BUNDLE", overrides={"num_epochs": 1})
    if "em_membrane" in command:  # its archive is there already, for there is no network
        for folder in ("em_membrane_download", "archives"):
            write_em_archive(world / folder / "ISBI-2012-challenge.zip")
    if command == "unet-pipeline check em_membrane":
        unet_pipeline.get_data("em_membrane", world / "em_membrane")
    if "--format dicomseg" in command:  # a bundle of volumes, and series for it
        shutil.rmtree(world / "BUNDLE")
        shutil.copytree(world / "liver_bundle", world / "BUNDLE")
        shutil.copytree(world / "new_series" / "patient_0", world / "SERIES")
        shutil.copytree(world / "new_series", world / "FOLDER_OF_SERIES")
    if folder := re.fullmatch(r"unet-pipeline jobs (\S+)", command):
        write_jobs(world / folder[1])
    if "cp -r hippocampus_mri" in command:
        shutil.copytree(world / "bundles" / "hippocampus_mri", world / "hippocampus_mri")
    if "--runtime onnx" in command:
        phantoms.silently(unet_pipeline.package, world / "BUNDLE")
    if "--exclude CASE" in command:
        picture, _ = phantoms.draw_cell(0)
        for side, size in (("images", 9), ("labels", 10)):
            phantoms.PillowImage.fromarray(picture[:size]).save(world / "DATASET" / side / "CASE.png")
        with (world / "DATASET" / "cases.csv").open("a") as table:
            table.write("CASE,images/CASE.png,labels/CASE.png,A,50\n")


def write_jobs(folder: Path) -> None:
    """The record of a run that was cut off."""
    records = folder / "evidence" / "runs" if folder.name == "BUNDLE" else folder
    records.mkdir(parents=True, exist_ok=True)
    with open_record(records) as record:
        record.start_run("predict", {}, "LocalEngine", 2, 1)
        record.enter([Item("case", "key", {})])


@contextmanager
def serve(command: str, world: Path) -> Iterator[None]:
    """A store with the images of the command, where it names one."""
    if "s3://" not in command:
        yield
        return
    with store_server.serve_store():
        import s3fs

        s3fs.S3FileSystem().put(f"{world / 'IMAGES'}", "bucket/images", recursive=True)
        yield


def run_until_stopped(command: str, world: Path) -> None:
    """What serves: from its first word about where it listens to SIGTERM."""
    words = shlex.split(command)
    if words[0] == "unet-pipeline":
        words = [sys.executable, "-m", "unet_pipeline", *words[1:]]
    else:
        words[0] = str(PROGRAMS / words[0])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), os.environ["PYTHONPATH"]]),
        "PYTHONUNBUFFERED": "1",
    }
    with subprocess.Popen(
        words, cwd=world, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if re.search(r"listens on port|at http://", line):
                process.terminate()
        assert process.wait(60) in (0, -signal.SIGTERM), "".join(lines)
        assert re.search(r"listens on port|at http://", "".join(lines)), "".join(lines)


def write_em_archive(path: Path) -> None:
    """As many sections as the published archive has, of 12 x 16 pixels."""
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in (("volume", 255), ("labels", 2)):
            stack = np.random.default_rng(0).integers(0, values, (30, 12, 16), np.uint8)
            pages = io.BytesIO()
            tifffile.imwrite(pages, stack * np.uint8(255 if values == 2 else 1), photometric="minisblack")
            archive.writestr(f"train-{name}.tif", pages.getvalue())


def run_in_shell(command: str, world: Path) -> None:
    """Python's, torchrun's and the like, with this environment's programs."""
    if command.startswith("monai.bundle."):
        command = f"python -c {shlex.quote('import monai.bundle; ' + command.replace('FOLDER', '.'))}"
    if command.startswith("cd "):  # placeholders are seen from where the reader is
        command = re.sub(r" (IMAGES|OUT)\b", lambda name: f" {shlex.quote(str(world / name[1]))}", command)
    folder = world / "BUNDLE" if "--meta_file configs/" in command else world
    programs = os.pathsep.join([str(Path(sys.executable).parent), str(PROGRAMS), os.environ["PATH"]])
    environment = {
        **os.environ,
        "PATH": programs,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), os.environ["PYTHONPATH"]]),
    }
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("command", COMMANDS)
def test_command_runs_as_it_stands(
    command: str, world: Path, call_main: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(command, world)
    for name, own in NAMES.items():
        command = command.replace(name, own)
    words = shlex.split(command)
    # a verb is no file, and `jobs` reads
    named = [Path(word) for word in words[2:] if WRITTEN.fullmatch(word) and words[1] != "jobs"]
    assert not [path for path in named if (world / path).exists()]
    while re.match(r"[A-Z_]+=", words[0]):
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    if SERVING.match(command):
        run_until_stopped(command, world)
    elif words[0] == "unet-pipeline":
        with serve(command, world):
            status, _, errors = call_main(*words[1:])
        assert status == 0, errors
        assert "Traceback" not in errors
    else:
        run_in_shell(command, world)
    for path in named:
        assert (world / path).exists() or (world / "BUNDLE" / path).exists(), path


@pytest.mark.parametrize("names", [BUNDLES, IMAGES], ids=lambda names: names[0])
def test_names_of_one_form_are_copies_of_one_folder(template: Path, names: tuple[str, ...]) -> None:
    first, *others = (
        {
            path.relative_to(template / name): path.read_bytes()
            for path in (template / name).rglob("*")
            if path.is_file()
        }
        for name in names
    )
    assert len(first) > 1
    assert all(other == first for other in others)


# the marks


def test_every_mark_has_commands() -> None:
    places = [f"{command.page}: {command.text}" for command in MARKED]
    unused = [pattern for pattern in MARKS if not any(re.match(pattern, place) for place in places)]
    assert not unused, "remove these marks"


def test_most_commands_are_run() -> None:
    shown = [command for command in MARKED if not command.page.startswith(("docs/cli.md", "docs/experiments"))]
    # six of them plan and run a validation, which needs more patients than these folders have; two differ in a number of processes only
    assert len(shown) <= 27, f"{len(shown)} commands are marked as not run; run them, or raise the number with a reason"


@pytest.mark.parametrize("command", sorted({command.text for command in MARKED if command.text.startswith("make ")}))
def test_marked_make_has_its_target(command: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_marked_installs_name_an_extra_that_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"unet-pipeline\[([\w,]+)\]", text))
    assert named
    assert {extra for names in named for extra in names.split(",")} <= extras.keys()


def test_find_commands_takes_blocks_only() -> None:
    page = """Run `unet-pipeline check A`.

    unet-pipeline check A   # all; every one
    cd B && python -m x \\
        --y 1
    folder/file.png         a file

```bash
ls C
unet-pipeline check C; unet-pipeline check D
```
"""
    assert find_commands(page) == [
        "unet-pipeline check C",
        "unet-pipeline check D",
        "unet-pipeline check A",
        "cd B && python -m x --y 1",
    ]
