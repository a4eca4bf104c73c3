"""The node: every series that it took is stored once as a result, whatever happens to the process; anything else has a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.cohort.status import read_jobs

pytest.importorskip("pynetdicom")

from . import node_network as network
from .cohort_phantoms import build_bundle
from .dicom_phantoms import SECRETS

NUM_SERIES, NUM_KILLS = 12, 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("bundle"))


def require_no_secrets(folder: Path, lines: list[str]) -> None:
    told = "\n".join([*lines, *map(str, folder.rglob("*")), *(path.read_text() for path in folder.rglob("*.txt"))])
    told += (folder / "jobs.sqlite").read_bytes().decode("latin-1")
    for secret in (*SECRETS, network.FIRST):
        assert secret not in told


def test_every_series_is_stored_once_although_the_node_is_killed(tmp_path: Path, bundle: Path) -> None:
    archive, node = network.run_through_kills(tmp_path, bundle, NUM_SERIES, NUM_KILLS)
    assert {source: len(uids) for source, uids in archive.results.items()} == {
        network.name_series(number): 1 for number in range(NUM_SERIES)
    }
    jobs = read_jobs(tmp_path / "node")
    assert (jobs.title, jobs.counts, jobs.is_alive) == ("node", {"finished": NUM_SERIES}, False)
    assert node.process.returncode == 0
    assert not [path for path in (tmp_path / "node").rglob("*.dcm")], "what was sent is deleted"
    require_no_secrets(tmp_path / "node", node.lines)
