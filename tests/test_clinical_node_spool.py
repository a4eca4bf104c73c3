"""What a node has on its disk: for nobody else to read, and never lost."""

from __future__ import annotations

import stat
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset

from unet_pipeline.clinical.node.spool import Limits, OutOfResourcesError, Spool, measure_folder
from unet_pipeline.clinical.uids import hash_uid
from unet_pipeline.errors import PredictionError

pytest.importorskip("pynetdicom")

from . import node_network as network


def encode(instance: Dataset) -> bytes:
    stream = BytesIO()
    instance.save_as(stream)
    return stream.getvalue()


def test_open_closes_folders_that_others_could_read_and_removes_copies(tmp_path: Path) -> None:
    names = ("incoming", "received", "taken", "results", "quarantine", "sent")
    for name in names:
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "results/tmp_killed/readable").mkdir(parents=True)
    (tmp_path / "results/tmp_killed/readable/name.nii.gz").write_bytes(b"image")
    Spool(tmp_path).open()
    assert not list((tmp_path / "results").iterdir()), "what a killed process had copied"
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o700}


def test_a_full_quarantine_takes_nothing_more_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, Limits(quarantine_gib=1500 / 2**30))
    spool.open()
    for number in range(2):
        with pytest.raises(PredictionError, match="cannot be read as DICOM"):
            spool.receive(bytes(800), f"1.2.{number}")
    for data in (bytes(800), encode(network.write_numbered(tmp_path / "slices", 1)[0])):
        with pytest.raises(OutOfResourcesError, match=r"the limit is .* --max-quarantine-gib"):
            spool.receive(data, "1.2.9")
    assert measure_folder(tmp_path / "quarantine") > 1600
    assert not list((tmp_path / "received").iterdir())
    name = hash_uid("1.2.0")
    spool.join_quarantined(name)  # as `jobs --again` does
    assert [path.name for path in (tmp_path / "taken" / name).iterdir()] == [f"{name}.dcm"]
    with pytest.raises(PredictionError, match="cannot be read as DICOM"):
        spool.receive(bytes(10), "1.2.9")
