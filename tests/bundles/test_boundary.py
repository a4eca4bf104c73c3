"""Every verb under a full disk, a read-only output, an unknown user and an old terminal: one sentence, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from unet_pipeline.files import PARTIAL_PREFIX

from .conftest import TrainedBundle
from .system_causes import full_disk, old_terminal, read_only, unknown_user

CallMain = Callable[..., tuple[int, str, str]]
DATA, BUNDLE, OUT = "cells", "cell_bundle", "out"
SHORT = ("num_epochs=1", "iterations_per_epoch=2", "val_interval=1")
LABELS = ("--label", "background=0", "--label", "cell=255")
# the arguments of each verb, and what it leaves when it has worked
VERBS = {
    "check": (
        ("check", DATA, *LABELS, "--out", f"{OUT}/found", "--json", f"{OUT}/check.json"),
        f"{OUT}/found/problems.json",
    ),
    "plan": (("plan", DATA, f"{OUT}/planned", "--preset", "quick", *LABELS), f"{OUT}/planned/configs/plan.yaml"),
    "train": (("train", BUNDLE, *SHORT), f"{BUNDLE}/evidence/runs/fold_0-002/run.json"),
    "predict": (("predict", BUNDLE, f"{DATA}/images/cell_00.png", f"{OUT}/maps"), f"{OUT}/maps/cell_00.png"),
    "evaluate": (("evaluate", BUNDLE, "--out", f"{OUT}/values"), f"{OUT}/values/summary.json"),
    "tune": (("tune", BUNDLE), f"{BUNDLE}/evidence/tuning.json"),
    "report": (("report", BUNDLE), f"{BUNDLE}/evidence/report.html"),
    "package": (("package", BUNDLE, "--export", "none", "--zip", f"{OUT}/cell.zip"), f"{OUT}/cell.zip"),
}
# whole files that a verb may leave although it could not write all: the record of a failed run, label maps that are finished
MADE = {
    "train": ("run.json", "config.json"),
    "predict": (".png", "predictions_run.json", "predictions.csv"),
    "evaluate": (".png", "predictions_run.json"),
    "tune": ("tuning_run.json",),
}
CHANGED = {"package": ("metadata.json", "README.md"), "report": (".md",)}
CAUSES: dict[str, tuple[Callable[[Path], AbstractContextManager[None]], str]] = {
    "full": (lambda _: full_disk(0), "larger than the file system or a limit"),
    "full later": (lambda _: full_disk(2500), "larger than the file system or a limit"),
    "read-only": (lambda folder: read_only(folder / OUT, folder / BUNDLE), "may not"),
}


@pytest.fixture
def place(bundle_2d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, trained bundle and a folder for the output, which is the current one."""
    bundle_2d.copy_to(tmp_path)
    (tmp_path / OUT).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def hash_files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its path; folders too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def require_whole(folder: Path) -> None:
    """No temporary file, and every JSON file complete."""
    for path in folder.rglob("*"):
        assert PARTIAL_PREFIX not in path.name
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def require_one_sentence(status: int, err: str, cause: str) -> None:
    assert status == 1
    told = [line for line in err.splitlines() if "Error: " in line]
    assert len(told) == 1, err
    assert err.rstrip().endswith(told[0])
    assert cause in told[0]
    assert told[0].endswith(".")
    assert "Traceback" not in err


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("verb", VERBS)
def test_verb_that_cannot_write_says_so_and_works_afterwards(
    verb: str, cause: str, place: Path, call_main: CallMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, result = VERBS[verb]
    prevent, words = CAUSES[cause]
    before = hash_files(place)
    with prevent(place):
        status, _, err = call_main(*arguments)
    require_one_sentence(status, err, words)
    assert str(place) not in err
    require_whole(place)
    after = hash_files(place)
    changed = {name for name in before if after.get(name) != before[name]}
    assert {
        name for name in changed if not name.endswith((".lock", ".seen_files.json", *CHANGED.get(verb, ())))
    } == set()
    assert all(after.get(name) for name in changed)  # nothing is lost
    made = {name for name in after.keys() - before.keys() if after[name] != "folder"}
    assert {name for name in made if not name.endswith((".lock", ".seen_files.json", *MADE.get(verb, ())))} == set()
    status, _, err = call_main(*arguments)
    assert (status, err.count("Error")) == (0, 0), err
    assert (place / result).is_file()
    require_whole(place)


# where another process has no entry for its user, its verbs work as for anybody
@pytest.mark.parametrize("verb", VERBS)
def test_verb_of_an_unknown_user_works(
    verb: str, place: Path, call_main: CallMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, result = VERBS[verb]
    with unknown_user(monkeypatch):
        status, _, err = call_main(*arguments)
    assert (status, err.count("Error")) == (0, 0), err
    assert (place / result).is_file()


def test_unknown_user_in_a_new_process_can_import_everything_and_train(place: Path) -> None:
    code = (
        "import os, pwd, sys\n"
        "def find_none(number): raise KeyError(f'getpwuid(): uid not found: {number}')\n"
        "pwd.getpwuid = find_none\n"
        "from unet_pipeline.cli import main\n"
        f"sys.argv = ['unet-pipeline', *{VERBS['train'][0]!r}]\n"
        "main()\n"
    )
    names = ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
    assert (place / VERBS["train"][1]).is_file()


@pytest.mark.parametrize("verb", VERBS)
def test_verb_on_an_old_terminal_prints_names_that_it_lacks(
    verb: str, place: Path, call_main: CallMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / BUNDLE).rename(place / "Ωmega_bundle")
    if verb in ("check", "plan", "predict"):  # the others have the old name in their splits
        for side in ("images", "labels"):
            (place / DATA / side / "cell_00.png").rename(place / DATA / side / "Ωλφ.png")
    arguments, result = (
        [
            text.replace(BUNDLE, "Ωmega_bundle").replace("cell_00", "Ωλφ").replace(f"{OUT}/", f"{OUT}/ω_")
            for text in part
        ]
        for part in (VERBS[verb][0], [VERBS[verb][1]])
    )
    with old_terminal(monkeypatch) as terminal:
        status, _, _ = call_main(*arguments)
    printed = terminal.getvalue().decode("cp1252")
    assert "UnicodeEncodeError" not in printed
    assert "Traceback" not in printed
    assert status == 0, printed
    assert (place / result[0]).is_file()
    if verb in ("plan", "train", "predict", "report"):
        assert "\\u03" in printed


def test_disk_that_is_full_for_what_is_printed_is_named(place: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "unet_pipeline", "check", DATA, *LABELS]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "Error" in line]
    assert told == [
        "Error: What is printed cannot be written: the disk is full. Free some space or choose another folder, then run the same "
        "command again."
    ]
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
