"""Files of a bundle that were damaged: every verb reads them all the same, or names the file and says what to do."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import TrainedBundle

CallMain = Callable[..., tuple[int, str, str]]
DATA, BUNDLE = "cells", "cell_bundle"
SHORT = ("num_epochs=1", "iterations_per_epoch=1")
VERBS = {
    "train": ("train", BUNDLE, *SHORT),
    "predict": ("predict", BUNDLE, f"{DATA}/images/cell_00.png", "maps"),
    "evaluate": ("evaluate", BUNDLE),
    "tune": ("tune", BUNDLE),
    "report": ("report", BUNDLE),
    "package": ("package", BUNDLE, "--export", "none"),
    "refresh": ("plan", "--refresh", BUNDLE),
    "describe": ("describe", BUNDLE),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "deep": lambda data: b"[" * 100_000,
    "list": lambda data: b"[1, 2]",
    "null": lambda data: b"null",
    "latin-1": lambda data: data.replace(b'"', b'"\xfc', 1) if b'"' in data else b"\xfc" + data,
}
# which verbs must refuse each damaged file; the others may pass it by
NEEDED_BY = {
    "configs/plan.yaml": ("train", "predict", "describe", "refresh"),
    "configs/metadata.json": ("train",),
    "configs/train.json": ("train", "refresh"),
    "configs/inference.json": ("evaluate", "refresh"),
    "configs/logging.conf": ("train",),
    "evidence/splits/fold_0.json": ("train", "evaluate"),
    "evidence/generated_configs.json": ("refresh",),
    "evidence/runs/fold_0-001/run.json": ("evaluate", "package"),
}
FILES = (*NEEDED_BY, "evidence/splits/split.json", "evidence/fingerprint.json", "evidence/dataset_manifest.json")
READ_BY_MONAI = ("configs/train.json", "configs/metadata.json", "evidence/splits/fold_0.json")


@pytest.fixture
def place(bundle_2d: TrainedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bundle_2d.copy_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _damage(place: Path, file: str, damage: Callable[[bytes], bytes]) -> None:
    path = place / BUNDLE / file
    path.write_bytes(damage(path.read_bytes()))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", NEEDED_BY)
def test_damaged_file_is_named_by_the_verbs_that_need_it(
    file: str, damage: str, place: Path, call_main: CallMain
) -> None:
    _damage(place, file, DAMAGES[damage])
    for verb in NEEDED_BY[file]:
        status, _, err = call_main(*VERBS[verb])
        assert status == 1
        told = err[err.index("Error: ") :]
        assert file.rpartition("/")[2] in told or file.rpartition("/")[2].partition(".")[0] in told
        assert "Traceback" not in err
        assert str(place) not in err
        assert told.rstrip().endswith((".", "made it."))


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith((".json", ".yaml"))])
def test_file_with_a_byte_order_mark_is_read_or_named(file: str, place: Path, call_main: CallMain) -> None:
    _damage(place, file, lambda data: b"\xef\xbb\xbf" + data)
    for verb in ("predict", "report", "describe"):
        assert call_main(*VERBS[verb])[0] == 0
    status, _, err = call_main(*VERBS["train"])
    assert status == int(file in READ_BY_MONAI)
    if status:
        assert (
            f"{file} of {BUNDLE} begins with a byte order mark, with which MONAI cannot read it. Save it as UTF-8"
            in err
        )


@pytest.mark.parametrize("file", ["evidence/splits/fold_0.json", "evidence/fingerprint.json", "evidence/weights.json"])
def test_evidence_in_utf16_is_read_by_all_but_monai(file: str, place: Path, call_main: CallMain) -> None:
    _damage(place, file, lambda data: data.decode("utf-8").encode("utf-16"))
    for verb in ("predict", "evaluate", "report"):
        assert call_main(*VERBS[verb])[0] == 0


@pytest.mark.parametrize(
    "entry",
    ['{"training": {}, "validation": []}', '{"training": [], "validation": [{"case": "a"}]}', '{"training": []}'],
)
def test_split_that_lists_no_cases_is_named(entry: str, place: Path, call_main: CallMain) -> None:
    _damage(place, "evidence/splits/fold_0.json", lambda _: entry.encode())
    status, _, err = call_main(*VERBS["train"])
    assert status == 1
    assert "Error: evidence/splits/fold_0.json of cell_bundle" in err
    assert "Restore the file from a copy, or plan again." in err


def test_damaged_logging_conf_is_written_again_by_refresh(place: Path, call_main: CallMain) -> None:
    _damage(place, "configs/logging.conf", lambda data: data[: len(data) // 2])
    status, _, err = call_main(*VERBS["train"])
    assert status == 1
    assert "configs/logging.conf cannot be read as a logging config" in err
    assert "plan --refresh" in err
    status, _, err = call_main(*VERBS["train"], "--trust")
    assert status == 1
    assert "configs/logging.conf of cell_bundle is no configuration of Python's logging" in err
    assert call_main(*VERBS["refresh"])[0] == 0
    assert call_main(*VERBS["train"])[0] == 0


@pytest.mark.parametrize("compose", ["unet_pipeline.training.loading.CaseCompose", "monai.transforms.Compose"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_image_damaged_after_plan_ends_the_training_at_once_and_is_named(
    num_workers: int, compose: str, place: Path, call_main: CallMain
) -> None:
    config = place / BUNDLE / "configs" / "train.json"  # the latter is in bundles of before
    config.write_text(config.read_text(encoding="utf-8").replace("unet_pipeline.training.loading.CaseCompose", compose))
    manifest = (
        place / BUNDLE / "evidence" / "dataset_manifest.json"
    )  # as if they were damaged between its comparison and the reading
    content = json.loads(manifest.read_text(encoding="utf-8"))
    for path in (place / DATA / "images").iterdir():
        path.write_bytes(path.read_bytes()[:500])
        (entry,) = (entry for entry in content["files"] if entry["path"] == f"images/{path.name}")
        entry |= {"num_bytes": 500, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    manifest.write_text(json.dumps(content), encoding="utf-8")
    started_s = time.monotonic()
    status, _, err = call_main(*VERBS["train"], f"num_workers={num_workers}", "cache_rate=0.0", "--trust")
    assert time.monotonic() - started_s < 30
    assert status == 1
    told = [line for line in err.splitlines() if "Error" in line]
    assert len(told) == 1
    assert re.match(r"Error: Case cell_0\d: images/cell_0\d\.png is truncated or damaged", told[0])
    assert "Traceback" not in err
    assert not multiprocessing.active_children()
