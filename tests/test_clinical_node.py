"""The node: every series that it took is stored once as a result, whatever happens to the process; anything else has a reason."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pydicom
import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.node import sender as sender_module
from unet_pipeline.clinical.node.receiver import read_allowed, receiving
from unet_pipeline.clinical.node.sender import Destination, Sender, read_destination
from unet_pipeline.clinical.node.spool import Spool
from unet_pipeline.clinical.source import format_numbers
from unet_pipeline.clinical.uids import hash_uid
from unet_pipeline.cohort.items import Attempt, Item, State
from unet_pipeline.cohort.record import PREDICTED, WAITING, open_record
from unet_pipeline.cohort.status import read_jobs
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.verbs.node import Predictor
from unet_pipeline.verbs.node_loop import Loop

pytest.importorskip("pynetdicom")

from . import node_network as network
from .cohort_phantoms import build_bundle
from .dicom_phantoms import SECRETS

NUM_SERIES, NUM_KILLS = 8, 2


@pytest.fixture(autouse=True, scope="module")
def warm_nodes(warm_python: Path) -> Iterator[None]:
    """Each node is a fork of a warm process, also that of a fixture for the whole module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network.sys, "executable", str(warm_python))
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_bundle(tmp_path_factory.mktemp("bundle"))


def require_no_secrets(folder: Path, lines: list[str]) -> None:
    told = "\n".join([*lines, *map(str, folder.rglob("*")), *(path.read_text() for path in folder.rglob("*.txt"))])
    told += (folder / "jobs.sqlite").read_bytes().decode("latin-1")
    for secret in (*SECRETS, network.FIRST):
        assert secret not in told


def require_private(folder: Path) -> None:
    """Nobody but the node's user may read what a node has on its disk, although its umask lets others."""
    paths = [path for path in folder.rglob("*") if path.exists()]
    assert {stat.filemode(path.stat().st_mode) for path in paths} <= {"drwx------", "-rw-------"}


def test_every_series_is_stored_once_although_the_node_is_killed(tmp_path: Path, bundle: Path) -> None:
    archive, node = network.run_through_kills(tmp_path, bundle, NUM_SERIES, NUM_KILLS)
    assert {source: len(uids) for source, uids in archive.results.items()} == {
        network.name_series(number): 1 for number in range(NUM_SERIES)
    }
    jobs = read_jobs(tmp_path / "node")
    assert (jobs.title, jobs.counts, jobs.is_alive) == ("node", {"finished": NUM_SERIES}, False)
    assert node.process.returncode == 0
    assert not list((tmp_path / "node").rglob("*.dcm")), "what was sent is deleted"
    require_no_secrets(tmp_path / "node", node.lines)


# one node that stays, and what it takes and refuses


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, bundle: Path
) -> Iterator[tuple[network.NodeProcess, network.Archive]]:
    """A node for SENDER of 127.0.0.1 and for FAR of 127.0.0.3, whose largest instance has 20 KiB."""
    archive, folder = network.Archive(), tmp_path_factory.mktemp("node")
    with network.serving(archive) as archive_port:
        options = [
            "--allow",
            "SENDER@127.0.0.1",
            "--allow",
            "FAR@127.0.0.3",
            "--wait",
            "1",
            "--max-instance-mib",
            "0.02",
        ]
        options += ["--max-instances", "16"]
        node = network.NodeProcess(bundle, folder, network.find_free_port(), archive_port, options)
        node.start()
        node.wait_for(node.says("listens on port"))
        yield node, archive
        require_no_secrets(folder, node.lines)
        require_private(folder)
        node.process.terminate()
        assert node.process.wait(timeout=30) == 0
        assert not [path for path in (folder / "results").iterdir() if path.is_dir()], "copies of images"


def wait_for_reason(node: network.NodeProcess, series: int, ending: str = "") -> str:
    path = node.folder / "quarantine" / f"{hash_uid(network.name_series(series))}{ending}.txt"
    node.wait_for(lambda: path.is_file() and not (node.folder / "taken" / path.stem).exists())
    return path.read_text()


def test_a_wrong_title_or_a_foreign_address_is_refused(running: tuple[Any, Any], tmp_path: Path) -> None:
    node, _ = running
    echo = network.associate(node.port)
    assert echo.send_c_echo().Status == 0
    echo.release()
    for options in ({"title": "STRANGER"}, {"called": "OTHER"}):
        assert network.associate(node.port, **options).is_rejected
    assert not network.associate(node.port, address="127.0.0.2").is_established
    slices = network.write_numbered(tmp_path, 900)
    assert network.send(node.port, slices[:1], "FAR") == [0x0124], "its title comes from another address"
    assert network.send(node.port, slices[:1], "FAR", address="127.0.0.3") == [0]
    node.wait_for(node.says("a connection from 127.0.0.2, which no --allow has"))
    node.wait_for(node.says("an association: its calling or called"))


def test_an_instance_over_the_limit_is_refused_while_it_comes(running: tuple[Any, Any], tmp_path: Path) -> None:
    node, _ = running
    large = network.write_numbered(tmp_path, 901)[0]
    large.Rows = large.Columns = 1024
    large.PixelData = bytes(2 * 1024 * 1024)
    assert network.send(node.port, [large]) in ([None], [0xA700])
    reason = node.folder / "quarantine" / f"{hash_uid(large.SOPInstanceUID)}.txt"
    node.wait_for(reason.is_file)
    assert reason.read_text() == "The instance is larger than 0.02 MiB (--max-instance-mib).\n"
    assert network.send(node.port, network.write_numbered(tmp_path, 902)[:1]) == [0], "the next association is served"


def test_more_instances_than_the_limit_are_refused(running: tuple[Any, Any], tmp_path: Path) -> None:
    node, _ = running
    instances = network.write_numbered(tmp_path, 903)
    extra = network.write_numbered(tmp_path / "more", 903)[0]
    assert network.send(node.port, [*instances, extra]) == [0] * 16 + [0xA700]


def test_what_cannot_be_used_is_in_quarantine_with_a_reason(running: tuple[Any, Any], tmp_path: Path) -> None:
    node, archive = running
    sets = {number: network.write_numbered(tmp_path, number) for number in range(910, 914)}
    truncated, captures, other, gap = sets.values()
    truncated[5].PixelData = truncated[5].PixelData[:100]
    for one in captures:
        one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    for one in other:
        one.Modality = "SEG"
    for instances in (truncated, captures, other, [*gap[:7], *gap[8:]]):
        assert set(network.send(node.port, instances)) == {0}
    expected = ["is truncated", "secondary capture", "SEG object", "gap of 4.00 mm"]
    for number, words in zip(sets, expected, strict=True):
        assert words in wait_for_reason(node, number)
        assert network.name_series(number) not in archive.results
    kept = [path for path in (node.folder / "quarantine").rglob("*") if path.is_file()]
    assert any(path.parent.parent.name == "quarantine" for path in kept), "the objects themselves"
    assert {stat.filemode(path.stat().st_mode) for path in kept} == {"-rw-------"}
    assert network.send(node.port, [gap[7]]) == [0], "the missing slice joins the others"
    node.wait_for(lambda: network.name_series(913) in archive.results)
    assert not (node.folder / "quarantine" / f"{hash_uid(network.name_series(913))}.txt").exists()


def test_a_series_that_comes_again_is_not_predicted_again_and_a_late_slice_is_told(
    running: tuple[Any, Any], tmp_path: Path
) -> None:
    node, archive = running
    instances = network.write_numbered(tmp_path, 920)
    network.send(node.port, instances[:15])
    name = hash_uid(network.name_series(920))
    node.wait_for(node.says(f"sent     {name}"))
    assert not list((node.folder / "results").rglob(f"{name}*")), "nor is a copy of the image left"
    network.send(node.port, instances[:15])
    node.wait_for(lambda: not any((node.folder / part / name).exists() for part in ("received", "taken")))
    network.send(node.port, instances[15:])
    assert "came after the result of its series was sent" in wait_for_reason(node, 920, "-late")
    assert (
        len(archive.results[network.name_series(920)])
        == sum(archive.arrivals[uid] for uid in archive.results[network.name_series(920)])
        == 1
    )
    network.send(node.port, instances)
    node.wait_for(lambda: len(archive.results[network.name_series(920)]) == 2, 60)


class LockInDemand:
    """A lock that another thread had just before each block but the first: an instance has come meanwhile."""

    def __init__(self, spool: Spool, series: str) -> None:
        self.spool, self.series, self.num_blocks = spool, series, 0

    def __enter__(self) -> None:
        self.num_blocks += 1
        if self.num_blocks > 1:
            self.spool._arrived_s[self.series] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        pass


def test_a_series_that_grows_while_it_is_looked_at_is_waited_for(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.open()
    (tmp_path / "received" / "series").mkdir()
    spool._arrived_s["series"] = time.monotonic() - 100
    lock, spool._lock = spool._lock, LockInDemand(spool, "series")  # type: ignore[assignment]
    assert spool.take_complete(wait_s=50, num_instances=None) == []
    spool._lock, spool._arrived_s["series"] = lock, time.monotonic() - 100
    assert spool.take_complete(wait_s=50, num_instances=None) == ["series"]


def test_bytes_that_are_no_dataset_are_in_quarantine(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.open()
    with pytest.raises(PredictionError, match="cannot be read as DICOM"):
        spool.receive(b"Doe^Jane" * 40, "1.2.3")
    assert "Doe" not in (tmp_path / "quarantine" / f"{hash_uid('1.2.3')}.txt").read_text()


@pytest.mark.parametrize("unit", ["of a request", "of an instance"])
def test_a_unit_of_two_gibibytes_is_refused_before_it_comes(tmp_path: Path, unit: str) -> None:
    spool, said = Spool(tmp_path / "node"), []
    spool.open()
    with receiving(spool, network.NODE, 0, (), said.append) as port:
        if unit == "of a request":
            connection, kind = socket.create_connection(("127.0.0.1", port), timeout=30), 1
        else:
            connection, kind = network.associate(port).dul.socket.socket, 4
        connection.sendall(struct.pack(">BxL", kind, 2**31))
        for _ in range(600):
            if said:
                break
            time.sleep(0.1)
        assert said == ["refused  a connection: it announces a unit of 2048 MiB, and 16 KiB were asked for"]
        if unit == "of a request":
            assert connection.recv(1) == b"", "the connection is closed"
            connection.close()
        assert network.send(port, network.write_numbered(tmp_path, 0)[:1]) == [0], "the next association is served"


def test_a_full_disk_is_answered_with_out_of_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices, spool = network.write_numbered(tmp_path / "sent", 0), Spool(tmp_path / "node")
    spool.open()

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with receiving(spool, network.NODE, 0, (), lambda line: None) as port:
        assert network.send(port, slices[:1]) == [0xA700]
        monkeypatch.undo()
        assert network.send(port, slices[:1]) == [0]


def test_a_segmentation_and_its_report_are_both_sent_once(tmp_path: Path, bundle: Path) -> None:
    stored: list[str] = []

    class Both(network.Archive):
        def store(self, event: Any) -> int:
            stored.append(event.dataset.Modality)
            return 0

    with network.serving(Both()) as archive_port:
        options = ["--format", "dicomseg-sr", "--instances", str(network.SIDE)]
        node = network.NodeProcess(bundle, tmp_path / "node", network.find_free_port(), archive_port, options)
        node.start()
        network.send_until_stored(node.port, network.write_numbered(tmp_path, 0), "SENDER")
        node.wait_for(node.says("sent     "))
        node.process.terminate()
        assert node.process.wait(timeout=30) == 0
    assert sorted(stored) == ["SEG", "SR"]
    assert not list((tmp_path / "node").rglob("*.dcm"))


def test_a_destination_that_is_down_gets_its_results_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "FIRST_WAIT_S", 0.1)
    archive, said, port = network.Archive(), [], network.find_free_port()
    result = network.write_numbered(tmp_path, 0)[0]
    result.ReferencedSeriesSequence = [pydicom.Dataset()]
    result.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    result.save_as(tmp_path / "result.dcm")
    with Sender(Destination(network.ARCHIVE, "127.0.0.1", port), network.NODE, said.append) as sender:
        sender.submit("name", [tmp_path / "result.dcm"])
        time.sleep(0.5)
        assert said == ["kept     results for ARCHIVE: it cannot be reached; tried again until it takes them"]
        with network.serving(archive, port):
            assert sender.sent.get(timeout=20) == "name"
    assert archive.results == {"1.2.3": {result.SOPInstanceUID}}


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_destination, "ARCHIVE"),
        (read_destination, "ARCHIVE@host:0"),
        (read_destination, "@host:104"),
        (lambda text: read_allowed([text]), "SCANNER@somewhere"),
        (lambda text: read_allowed([text]), "SCANNER@2001:db8::7"),  # nobody could come from there
        (lambda text: read_allowed([text]), "A" * 17),
    ],
)
def test_wrong_options_are_named(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(PredictionError, match=r"expected .*Correct it\."):
        read(text)


# the places where a process can be killed, one by one


class _Stub:
    """A predictor and a sender that count."""

    def __init__(self, spool: Spool) -> None:
        self.spool, self.num_predicted, self.sent = spool, 0, SimpleQueue()
        self.submitted: list[str] = []

    def describe_origin(self) -> dict[str, Any]:
        return {"weights_sha256": ["0"]}

    def predict(self, item: Any, smaller: bool) -> dict[str, Any]:
        self.num_predicted += 1
        result = self.spool.results / f"{item['name']}.dcm"
        result.write_bytes(b"result")
        return {"outputs": {result.name: "0"}}

    def submit(self, name: str, paths: list[Path]) -> None:
        self.submitted.append(name)


@pytest.mark.parametrize(
    "killed_after", ["rename", "record", "result", "predicted", "sent", "finished", "half removed"]
)
def test_a_series_goes_on_wherever_the_process_was_killed(tmp_path: Path, killed_after: str) -> None:
    spool = Spool(tmp_path)
    spool.open()
    name, folder = "series", spool.taken / "series"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(bytes([number]))
    stub, steps = _Stub(spool), ["rename", "record", "result", "predicted", "sent", "finished", "half removed"]
    reached = steps.index(killed_after)
    with open_record(tmp_path) as record:
        loop = Loop(spool, record, stub, stub, False, lambda line: None)
        record.start_run("node", {}, "node", 1, 0)
        if reached >= 1:
            loop._enter(name)
        if reached == 2:
            record.begin(Attempt(Item(name, "", {})))
            stub.predict({"name": name}, False)
        if reached >= 3:
            loop._predict(record.list_in(WAITING)[0])
        if reached >= 5:
            loop._settle(record.list_in(PREDICTED)[0], State.FINISHED)
        if reached == 6:
            (folder / "0.dcm").unlink()
    stub.num_predicted = 0
    with open_record(tmp_path) as record:
        loop = Loop(spool, record, stub, stub, False, lambda line: None)
        with loop.recorded():
            for row in record.list_in(WAITING):
                loop._predict(row)
            for row in record.list_in(PREDICTED):
                assert stub.submitted[-1] == row.name
                stub.sent.put(row.name)
            loop._settle_sent()
        assert [row.name for row in record.list_in(State.FINISHED)] == [name]
    assert stub.num_predicted == (reached < 3), "what is predicted is not predicted again"
    assert not list(tmp_path.rglob("*.dcm"))


def test_an_error_of_the_program_is_told_without_a_field_and_tried_at_the_next_start(tmp_path: Path) -> None:
    spool, said = Spool(tmp_path), []
    spool.open()
    (spool.taken / "series").mkdir()
    (spool.taken / "series" / "0.dcm").write_bytes(b"0")

    class Defective(_Stub):
        def predict(self, item: Any, smaller: bool) -> dict[str, Any]:
            return {"outputs": format_numbers(SECRETS)}  # raises with the value in its text

    stub = Defective(spool)
    with open_record(tmp_path) as record:
        loop = Loop(spool, record, stub, stub, False, said.append)
        with loop.recorded():
            loop._predict(record.list_in(WAITING)[0])
    (told,) = [line for line in said if line.startswith("kept")]
    assert told.startswith("kept     series (error): ProgramError: ")
    assert "ValueError in clinical/source.py, line " in told
    assert told.endswith("the next start of the node tries it again.")
    jobs = read_jobs(tmp_path)
    assert jobs.counts == {"error": 1}
    assert jobs.failed[0].message in told
    require_no_secrets(tmp_path, said)
    with open_record(tmp_path) as record, Loop(spool, record, _Stub(spool), stub, False, said.append).recorded():
        assert [row.name for row in record.list_in(WAITING)] == ["series"]


def test_an_error_of_the_program_while_receiving_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError(SECRETS[0])

    spool, said = Spool(tmp_path / "node"), []
    spool.open()
    monkeypatch.setattr(spool, "receive", fail)
    with receiving(spool, network.NODE, 0, (), said.append) as port:
        assert network.send(port, network.write_numbered(tmp_path, 0)[:1]) == [0x0110]
    assert said == ["refused  an instance: ValueError, an error of the program: please report it"]


def test_another_modality_than_the_training_is_refused(tmp_path: Path, bundle: Path) -> None:
    spool = Spool(tmp_path / "node")
    spool.open()
    predictor = Predictor(BundleFolder(bundle), spool, PredictOptions("cpu", format="dicomseg"))
    predictor.modalities = ("CT",)
    network.write_numbered(spool.taken, 0)
    with pytest.raises(PredictionError, match="MR"):
        predictor.predict({"name": "series_0"}, False)
