"""A public set from a server on the loopback address to a folder that `check` reads."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import unet_pipeline
from unet_pipeline.cli import app
from unet_pipeline.errors import DatasetError
from unet_pipeline.locks import InUseError, hold_lock
from unet_pipeline.public_data import card as card_module
from unet_pipeline.public_data import download as download_module
from unet_pipeline.public_data.card import PublicSet, find_set
from unet_pipeline.public_data.download import DownloadError
from unet_pipeline.public_data.fetch import fetch

from .data_server import FileServer, serve_files
from .test_public_data_convert import DARK, STAINED, write_decathlon, write_em, write_heads, write_lungs, write_nuclei


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(download_module, "WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve_files() as state:
        yield state


def pack_zip(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())
    return stream.getvalue()


def pack_tar(folder: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)
    return stream.getvalue()


@pytest.fixture
def em(server: FileServer, tmp_path: Path) -> PublicSet:
    """The sections' card, with an archive of three on the server."""
    source = tmp_path / "source"
    source.mkdir()
    write_em(source)
    files = (server.offer("em.zip", pack_zip(source)),)
    return replace(find_set("em_membrane"), files=files, num_cases=3)


def list_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


SETS: dict[str, tuple[Callable[[Path], object], int, int]] = {
    "Task04_Hippocampus": (write_decathlon, 2, 2),
    "em_membrane": (write_em, 3, 3),
    "fetal_head_ultrasound": (write_heads, 2, 2),
    "Dataset101_LungXray": (write_lungs, 1, 1),
    "nuclei_fluorescence": (lambda folder: write_nuclei(folder, {"a0": DARK, "a1": STAINED, "a2": DARK}), 3, 2),
    "nuclei_histology": (lambda folder: write_nuclei(folder, {"a0": DARK, "a1": STAINED}), 2, 1),
}


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_read_by_check_without_errors(server: FileServer, tmp_path: Path, name: str) -> None:
    write, num_images, num_cases = SETS[name]
    source = tmp_path / "source"
    source.mkdir()
    write(source)
    pack = pack_tar if name.startswith("Task") else pack_zip
    files = [server.offer("all.tar" if name.startswith("Task") else "all.zip", pack(source), has_checksum=True)]
    if name == "fetal_head_ultrasound":
        table = (source / "training_set_pixel_size_and_HC.csv").read_bytes()
        (source / "training_set_pixel_size_and_HC.csv").unlink()
        files = [server.offer("all.zip", pack_zip(source)), server.offer("training_set_HC.csv", table)]
    data = fetch(replace(find_set(name), files=tuple(files), num_cases=num_images), tmp_path / "out")
    assert data.num_cases == num_cases
    report = unet_pipeline.check(data.root)
    assert not report.errors
    assert len(report.dataset.cases) == num_cases
    card = find_set(name)
    if not name.startswith("Task"):  # which names them itself
        assert report.dataset.labels == card.labels
        assert report.dataset.licence == card.licence
    if name == "fetal_head_ultrasound":
        assert set(report.patients.values()) == {"000", "010"}


def test_fetch_writes_terms_and_origin_beside_the_data(em: PublicSet, tmp_path: Path) -> None:
    data = fetch(em, tmp_path / "out")
    assert data.is_new
    assert data.root == tmp_path / "out"
    terms = (data.root / "data_license.txt").read_text()
    assert "Licence: not stated" in terms
    assert "Arganda-Carreras" in terms
    assert "Ask the owner before you pass on" in terms
    record = json.loads((data.root / "source.json").read_text())
    assert list_folder(tmp_path) == ["out", "source"]  # the archive is gone, what is known of it stays
    (file,) = record["files"]
    assert file["address"] == em.files[0].address
    assert record["num_cases"] == 3
    assert file["sha256"] in record["verdicts"][0]
    assert "the publisher states no checksum" in data.verdicts[0]
    assert str(tmp_path) not in json.dumps(record)


def test_fetch_again_leaves_the_set_alone(em: PublicSet, tmp_path: Path, server: FileServer) -> None:
    first = fetch(em, tmp_path / "out")
    num_requests = len(server.ranges)
    (tmp_path / "out" / "my notes.txt").touch()
    assert fetch(em, tmp_path / "out") == replace(first, is_new=False)
    assert len(server.ranges) == num_requests


@pytest.mark.parametrize("name", ["images/slice_00.png", "data_license.txt"])
def test_fetch_set_that_lost_a_file_is_an_error(em: PublicSet, tmp_path: Path, name: str) -> None:
    (fetch(em, tmp_path / "out").root / name).unlink()
    with pytest.raises(DatasetError, match=r"out has \d+ files; expected the \d+ that source\.json records"):
        fetch(em, tmp_path / "out")


def put_file(out: Path) -> None:
    out.write_text("mine")


def put_folder(out: Path) -> None:
    out.mkdir()
    (out / "mine.txt").touch()


def put_link(out: Path) -> None:
    out.symlink_to(out.parent / "nowhere")


def put_other_set(out: Path) -> None:
    out.mkdir()
    (out / "source.json").write_text('{"name": "nuclei"}')


def put_damaged_record(out: Path) -> None:
    out.mkdir()
    (out / "source.json").write_text("{")


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (put_file, "out exists already and was not made by"),
        (put_folder, "out exists already and was not made by"),
        (put_link, "out exists already and was not made by"),
        (put_other_set, "out exists already and holds 'nuclei', not 'em_membrane'"),
        (put_damaged_record, r"source\.json"),
    ],
)
def test_fetch_touches_nothing_that_is_there(
    em: PublicSet, tmp_path: Path, server: FileServer, put: Callable[[Path], None], words: str
) -> None:
    put(tmp_path / "out")
    before = list_folder(tmp_path)
    with pytest.raises(DatasetError, match=words):
        fetch(em, tmp_path / "out")
    assert list_folder(tmp_path) == before
    assert not server.ranges


def test_fetch_into_an_empty_folder(em: PublicSet, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert fetch(em, tmp_path / "out").num_cases == 3


def test_fetch_that_is_cut_off_goes_on_with_the_same_call(
    em: PublicSet, tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "_CHUNK_BYTES", 100)
    server.cuts = [200] + [0] * download_module.ATTEMPTS
    with pytest.raises(DownloadError, match="200 bytes are kept"):
        fetch(em, tmp_path / "out")
    assert list_folder(tmp_path) == ["out_download", "source"]
    assert fetch(em, tmp_path / "out").num_cases == 3
    assert server.ranges[-1] == "bytes=200-"
    assert list_folder(tmp_path) == ["out", "source"]


def test_fetch_that_receives_nothing_leaves_nothing(em: PublicSet, tmp_path: Path, server: FileServer) -> None:
    server.files.clear()
    with pytest.raises(DownloadError, match="404"):
        fetch(em, tmp_path / "out")
    assert list_folder(tmp_path) == ["source"]


def test_fetch_hostile_archive_leaves_no_folder(em: PublicSet, tmp_path: Path, server: FileServer) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("../../evil.txt", "x")
    server.files["em.zip"] = stream.getvalue()
    with pytest.raises(DownloadError, match=r"em\.zip is refused.*Nothing of it was unpacked"):
        fetch(em, tmp_path / "out")
    assert list_folder(tmp_path) == ["out_download", "source"]


@pytest.mark.parametrize("has_checksum", [True, False])
def test_fetch_other_number_of_images_is_an_error_unless_a_checksum_vouches(
    em: PublicSet, tmp_path: Path, server: FileServer, has_checksum: bool
) -> None:
    files = (server.offer("em.zip", server.files["em.zip"], has_checksum),)
    other = replace(em, files=files, num_cases=30)
    if has_checksum:
        assert fetch(other, tmp_path / "out").notes == ("the archive has 3 labelled images, the card says 30",)
    else:
        with pytest.raises(DatasetError, match="has 3 labelled images; expected 30"):
            fetch(other, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_fetch_from_a_folder_of_archives_needs_no_server(em: PublicSet, tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "em.zip").write_bytes(server.files["em.zip"])
    assert fetch(em, tmp_path / "out", tmp_path / "archives").num_cases == 3
    assert not server.ranges
    assert list_folder(tmp_path / "archives") == ["em.zip"]


def test_fetch_while_another_process_does_is_refused(em: PublicSet, tmp_path: Path, server: FileServer) -> None:
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom unet_pipeline.locks import hold_lock\n"
        "with hold_lock(Path(sys.argv[1]), 'it'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    lock = tmp_path / "out_download" / ".lock"
    lock.parent.mkdir()
    command = [sys.executable, "-c", holder, str(lock)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        with pytest.raises(InUseError, match=r"The download of em_membrane is in use by another process \(process \d+"):
            fetch(em, tmp_path / "out")
        assert not server.ranges
        process.communicate()
    assert fetch(em, tmp_path / "out").num_cases == 3
    with hold_lock(lock, "free again", stays=False):
        pass


# the command line


@pytest.fixture
def offered(em: PublicSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PublicSet:
    monkeypatch.setattr(card_module, "list_sets", lambda: (em,))
    monkeypatch.chdir(tmp_path)
    return em


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["data", *arguments])


def test_data_get_shows_terms_first_and_the_next_command_last(offered: PublicSet) -> None:
    outcome = run("get", "EM_Membrane", "--json", "data.json")
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.stdout.splitlines()
    assert lines[0].startswith("Data set: em_membrane")
    assert lines.index("Licence: not stated") < next(n for n, line in enumerate(lines) if line.startswith("received"))
    assert "written   em_membrane: 3 cases; terms and origin beside them" in lines
    assert lines[-1] == "Next: unet-pipeline check em_membrane"
    assert json.loads(Path("data.json").read_text())["num_cases"] == 3
    assert "there     em_membrane: 3 cases" in run("get", "em_membrane").stdout


def test_data_list_names_every_set_with_its_licence(tmp_path: Path) -> None:
    outcome = run("list", "--json", str(tmp_path / "sets.json"))
    assert outcome.exit_code == 0
    names = [card.name for card in unet_pipeline.list_data()]
    assert all(f"\n{name}\n" in f"\n{outcome.stdout}" for name in names)
    assert [entry["name"] for entry in json.loads((tmp_path / "sets.json").read_text())] == names


@pytest.mark.parametrize("arguments", [("get",), ("list", "em_membrane"), ("fetch", "em_membrane"), ()])
def test_data_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_data_is_offered_in_python(offered: PublicSet, tmp_path: Path) -> None:
    shown: list[str] = []
    data = unet_pipeline.get_data("em_membrane", str(tmp_path / "mine"), announce=shown.append)
    assert data.root == tmp_path / "mine"
    assert shown[0].startswith("Data set: em_membrane")
