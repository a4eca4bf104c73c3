"""DICOMweb: one series is chosen and fetched as it is stored, results are stored once; whatever a server answers, nothing of it is shown."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical import dicomweb_client
from unet_pipeline.clinical.dicomweb import STORED, STORED_BEFORE, fetch_series, store_results
from unet_pipeline.clinical.dicomweb_address import read_address
from unet_pipeline.clinical.dicomweb_client import Limits, Server
from unet_pipeline.clinical.dicomweb_series import read_rule
from unet_pipeline.errors import PredictionError, PreemptedError
from unet_pipeline.verbs import predict_remote

from . import dicom_phantoms as phantoms
from .dicomweb_server import Answer, Archive, refuse, serve

HERE = "localhost"
VOLUME = np.arange(4 * 3 * 5, dtype=np.int16).reshape(4, 3, 5)
VARIABLES = (
    "DICOMWEB_USERNAME", "DICOMWEB_PASSWORD", "DICOMWEB_TOKEN", "DICOMWEB_ALLOW_HTTP", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No wait between attempts, and nothing in the environment."""
    monkeypatch.setattr(dicomweb_client, "WAIT_S", 0.0)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MR of number 3 and one of number 4, a localizer, a segmentation, a CT; a folder for each, named by its UID."""
    root = tmp_path_factory.mktemp("study")
    for number, uid, changes in (
        (3, "1.2.3", {"SeriesDescription": "t1 knee"}),
        (4, "1.2.4", {"SeriesDescription": "T2 knee"}),
        (1, "1.2.5", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        (5, "1.2.6", {"Modality": "SEG"}),
        (6, "1.2.7", {"Modality": "CT"}),
    ):
        folder = phantoms.write_series(root / uid, VOLUME, uid=uid)
        for path in folder.iterdir():
            phantoms.edit(path, SeriesNumber=number, **changes)
    return root


@pytest.fixture
def archive(study: Path) -> Iterator[Archive]:
    archive = Archive()
    for folder in study.iterdir():
        archive.add(folder)
    with serve(archive) as served:
        yield served


def fetch(address: str, *rules: str, modalities: tuple[str, ...] = ("MR",)) -> dict[str, bytes]:
    """The files that are fetched by their names; the folder is gone afterwards."""
    said: list[str] = []
    with fetch_series(address, [read_rule(rule) for rule in rules], modalities, said.append) as (folder, _):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert not folder.parent.exists()
    assert len(said) == 1
    assert not any(secret in said[0] for secret in (*phantoms.SECRETS, "knee"))
    return files


def refusal(address: str, *rules: str, **options: object) -> str:
    """The message with which fetching ends; nothing stays, and nothing of the server is shown."""
    with pytest.raises(PredictionError) as refused:
        fetch(address, *rules, **options)
    assert not list(Path(tempfile.gettempdir()).iterdir())
    assert not any(secret in str(refused.value) for secret in (*phantoms.SECRETS, "hunter2"))
    return str(refused.value)


# which series


@pytest.mark.parametrize(
    ("rule", "uid"),
    [
        ("SeriesNumber=3", "1.2.3"),
        ("SeriesDescription~^T1", "1.2.3"),
        ("SeriesDescription!~t1", "1.2.4"),
        ("SeriesNumber != 3", "1.2.4"),
        ("SeriesDescription=t2 KNEE", "1.2.4"),
    ],
)
def test_fetch_takes_the_series_of_the_rule_as_it_is_stored(archive: Archive, study: Path, rule: str, uid: str) -> None:
    files = fetch(f"{archive.address}/studies/1.2", rule)
    assert sorted(files.values()) == sorted(path.read_bytes() for path in (study / uid).iterdir())
    assert fetch(f"{archive.address}/studies/1.2/series/{uid}") == files


def test_fetch_takes_the_only_one_of_the_modality(archive: Archive) -> None:
    assert len(fetch(f"{archive.address}/studies/1.2", modalities=("CT",))) == 5


def test_fetch_of_a_named_series_of_another_modality_is_left_to_the_user(archive: Archive) -> None:
    by_name = fetch(f"{archive.address}/studies/1.2/series/1.2.7", modalities=("MR",))
    assert by_name == fetch(f"{archive.address}/studies/1.2", modalities=("CT",))
    assert "No series fits" in refusal(f"{archive.address}/studies/1.2/series/1.2.6")


def test_fetch_by_an_attribute_that_only_instances_have(archive: Archive) -> None:
    for header in archive.instances.values():
        header.EchoTime = {3: 11.5, 4: 90}.get(int(header.SeriesNumber), 0)
    by_echo = fetch(f"{archive.address}/studies/1.2", "EchoTime=90.0")
    assert by_echo == fetch(f"{archive.address}/studies/1.2", "SeriesNumber=4")


def test_fetch_of_several_lists_them_without_a_word_about_the_patient(archive: Archive) -> None:
    said = refusal(f"{archive.address}/studies/1.2")
    assert "2 series of the study fit: series 3, MR, 5 instance(s); series 4, MR, 5 instance(s)." in said
    assert "--series SeriesNumber=3" in said


@pytest.mark.parametrize(
    ("rules", "options", "message"),
    [
        (["SeriesNumber=9"], {}, "the bundle takes MR with SeriesNumber=9; there are series"),
        (["SeriesDescription~t1", "SeriesNumber=4"], {}, "SeriesDescription~t1 and SeriesNumber=4"),
        ([], {"modalities": ("US",)}, "the bundle takes US; there are"),
        (["SeriesNumber"], {}, "is no rule"),
        (["SeriesColour=red"], {}, "SeriesColour, which is no keyword of DICOM"),
        (["SeriesDescription~(t1"], {}, "a regular expression that is none"),
        (["PatientName~Doe"], {}, "PatientName, which describes the patient"),
    ],
)
def test_fetch_of_none_says_what_there_is(
    archive: Archive, rules: list[str], options: dict[str, object], message: str
) -> None:
    assert message in refusal(f"{archive.address}/studies/1.2", *rules, **options)


def test_fetch_of_an_unknown_study_says_so(archive: Archive) -> None:
    assert "The server has no series there" in refusal(f"{archive.address}/studies/1.9")


# addresses and credentials


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("dicomweb://pacs.example.org/dicom-web/studies/1.2.3", "https://pacs.example.org/dicom-web"),
        ("dicomweb://pacs.example.org:8443/a/b/studies/1.2.3/", "https://pacs.example.org:8443/a/b"),
        ("https://pacs.example.org/studies/1.2.3/series/1.2.4", "https://pacs.example.org"),
        ("DICOMweb://127.0.0.1:8042/dicom-web/studies/1.2.3", "http://127.0.0.1:8042/dicom-web"),
        ("dicomweb://[::1]:8042/dicom-web/studies/1.2.3", "http://[::1]:8042/dicom-web"),
        (f"dicomweb+https://{HERE}/studies/1.2.3", f"https://{HERE}"),
        (f"dicomweb+http://{HERE}:80/studies/1.2.3", f"http://{HERE}:80"),
    ],
)
def test_read_address_uses_tls_but_on_this_machine(text: str, service: str) -> None:
    assert read_address(text).service == service
    assert read_address(Path(text)) == read_address(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dicomweb://jane:hunter2@pacs/studies/1.2.3", "DICOMWEB_USERNAME and DICOMWEB_PASSWORD"),
        ("dicomweb://pacs/studies/1.2.3?token=hunter2", "has a user, a query"),
        ("dicomweb://pacs/dicom-web", "names no study"),
        ("dicomweb://pacs/studies/1.2.3/instances", "names no study"),
        ("dicomweb:///studies/1.2.3", "names no study"),
        ("dicomweb://pa cs/studies/1.2.3", "names no study"),
        ("dicomweb://pacs:99999/studies/1.2.3", "cannot be read"),
        ("dicomweb://pacs/studies/1.2.x", "a UID of 5 characters that is none"),
        (f"dicomweb://pacs/studies/1.{'2' * 70}", "a UID of 72 characters"),
        ("dicomweb+http://pacs.example.org/studies/1.2.3", "would be asked over http"),
        (f"http://{HERE}.example.org/studies/1.2.3", "would be asked over http"),
    ],
)
def test_read_address_refuses_without_a_secret(text: str, message: str) -> None:
    with pytest.raises(PredictionError) as refused:
        read_address(text)
    assert message in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_read_address_takes_http_where_the_environment_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMWEB_ALLOW_HTTP", "1")
    assert read_address("dicomweb+http://pacs.example.org/studies/1.2.3").service == "http://pacs.example.org"
    assert read_address("dicomweb://pacs.example.org/studies/1.2.3").service == "https://pacs.example.org"


def test_credentials_come_from_the_environment_or_the_netrc_file(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive.credentials = "jane:hunter2"
    address = f"{archive.address}/studies/1.2/series/1.2.3"
    assert "answers 401 Unauthorized: credentials are missing or wrong" in refusal(address)
    monkeypatch.setenv("DICOMWEB_USERNAME", "jane")
    assert "only one is set" in refusal(address)
    monkeypatch.setenv("DICOMWEB_PASSWORD", "hunter2")
    assert len(fetch(address)) == 5
    monkeypatch.setenv("DICOMWEB_TOKEN", "hunter2")
    assert "both set" in refusal(address)
    for name in ("DICOMWEB_USERNAME", "DICOMWEB_PASSWORD"):
        monkeypatch.delenv(name)
    assert "answers 401" in refusal(address)
    monkeypatch.delenv("DICOMWEB_TOKEN")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login jane password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert len(fetch(address)) == 5


def test_certificates_are_verified(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    address = archive.address.replace("dicomweb://", "dicomweb+https://")
    assert "has a certificate that cannot be verified, or speaks no TLS" in refusal(f"{address}/studies/1.2")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/certificates.pem")
    assert refusal(f"{address}/studies/1.2").startswith("REQUESTS_CA_BUNDLE names no file or folder")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert Server(read_address("dicomweb://pacs.example.org/studies/1.2.3"))._session.verify is True


# answers


def spoil(part: str, **changes: object) -> Callable[[str, str, Answer], Answer]:
    """Answers to paths that end so are changed."""
    return lambda method, path, answer: replace(answer, **changes) if path.endswith(part) else answer


SERIES = "/series/1.2.3"


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("/series", {"status": 403, "body": b"Doe^Jane"}, "answers 403 Forbidden"),
        ("/series", {"status": 404}, "answers 404 Not Found: there is no such study"),
        ("/series", {"status": 302, "headers": {"Location": "/other"}}, "redirects to another address"),
        ("/series", {"status": 503}, "answers 503 Service Unavailable in 3 attempts"),
        ("/series", {"body": b"<html>Doe^Jane</html>"}, "an answer that is damaged, or none of DICOMweb"),
        ("/series", {"body": b'{"a": "Doe^Jane"}'}, "an answer that is damaged, or none of DICOMweb"),
        ("/series", {"body": b'["Doe^Jane"]'}, "an answer that is damaged, or none of DICOMweb"),
        ("/series", {"body": b"[" * 100_000}, "an answer that is damaged, or none of DICOMweb"),
        ("/series", {"body": b"", "status": 204}, "The server has no series there"),
        ("/series", {"cut": True}, "cut the connection off in 3 attempts"),
        ("/instances", {"body": b"[]"}, "lists 0 instances of the series"),
        ("/instances", {"status": 404}, "lists 0 instances of the series"),
        (SERIES, {"status": 404}, "answers 404"),
        (SERIES, {"cut": True}, "cut the connection off in 3 attempts"),
        (SERIES, {"body": b"Doe^Jane", "content_type": "text/html"}, "an answer that is damaged"),
        (
            SERIES,
            {"body": b"--a\r\n\r\nDoe^Jane\r\n--a--", "content_type": "multipart/related; boundary=a"},
            "is damaged",
        ),
        (SERIES, {"body": b"", "content_type": "multipart/related; boundary=a"}, "sent 0 of the 5 instances"),
    ],
)
def test_fetch_of_a_wrong_answer_says_which_without_its_text(
    archive: Archive, part: str, changes: dict[str, object], message: str
) -> None:
    archive.spoil = spoil(part, **changes)
    assert message in refusal(f"{archive.address}/studies/1.2", "SeriesNumber=3")


@pytest.mark.parametrize(
    ("part", "changes"),
    [("/series", {"status": 503}), ("/instances", {"cut": True}), (SERIES, {"status": 429}), (SERIES, {"cut": True})],
)
def test_fetch_goes_on_after_what_passes(archive: Archive, part: str, changes: dict[str, object]) -> None:
    left = [1, 1]

    def spoil_twice(method: str, path: str, answer: Answer) -> Answer:
        return replace(answer, **changes) if path.endswith(part) and left and left.pop() else answer

    expected = fetch(f"{archive.address}/studies/1.2", "SeriesNumber=3")
    archive.spoil = spoil_twice
    assert fetch(f"{archive.address}/studies/1.2", "SeriesNumber=3") == expected
    assert not left


def test_fetch_refuses_what_is_missing_foreign_or_without_end(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{archive.address}/studies/1.2{SERIES}"
    whole = archive.get("/dicom-web/studies/1.2/series/1.2.3", {})
    lost = whole.body.split(b"\r\n--a1b2c3\r\n")
    archive.spoil = spoil(SERIES, body=b"\r\n--a1b2c3\r\n".join([*lost[:2], *lost[3:]]))
    assert "sent 4 of the 5 instances" in refusal(address)
    foreign = archive.get("/dicom-web/studies/1.2/series/1.2.4", {})
    archive.spoil = spoil(SERIES, body=foreign.body)
    assert "an instance that is none of the series" in refusal(address)
    archive.spoil = spoil("")
    monkeypatch.setattr(dicomweb_client, "_MOST_IMAGE_BYTES", 1000)
    assert "sends more than 0 MiB, where predict stops" in refusal(address)


def test_answers_that_never_end_are_left(archive: Archive) -> None:
    server = Server(read_address(f"{archive.address}/studies/1.2"))
    with (
        server._connect(Limits(1 << 20, seconds=-1)) as client,
        pytest.raises(PredictionError, match="for more than -1 s"),
    ):
        server._ask(lambda: client.search_for_series("1.2"))


def test_server_that_is_not_there_cannot_be_reached(archive: Archive) -> None:
    with serve(Archive()) as gone:
        pass
    assert "cannot be reached, or cut the connection off in 3 attempts" in refusal(f"{gone.address}/studies/1.2")


def give_in_parts(archive: Archive, size: int, status_behind: int = 200) -> None:
    """Let lists have so many entries from the offset on that is asked for, as servers with a limit of their own do.

    Args:
        status_behind: of the answer behind the last entry.
    """
    whole = archive.get

    def get(path: str, query: dict[str, list[str]]) -> Answer:
        answer, start = whole(path, query), int(query.get("offset", ["0"])[0])
        if not path.endswith(("/series", "/instances")):
            return answer
        part = json.loads(answer.body)[start : start + size]
        return replace(answer, body=json.dumps(part).encode(), status=status_behind if start and not part else 200)

    archive.get = get  # type: ignore[method-assign]


@pytest.mark.parametrize(("size", "status_behind"), [(1, 200), (2, 200), (5, 200), (5, 404)])
def test_lists_that_come_in_parts_are_read_to_their_end(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, size: int, status_behind: int
) -> None:
    expected = fetch(f"{archive.address}/studies/1.2", "SeriesNumber=3")
    monkeypatch.setattr(dicomweb_client, "_PAGE", size)
    assert fetch(f"{archive.address}/studies/1.2", "SeriesNumber=3") == expected, "a server that knows no offset"
    give_in_parts(archive, size, status_behind)
    assert fetch(f"{archive.address}/studies/1.2", "SeriesNumber=3") == expected
    assert "2 series of the study fit: series 3, MR, 5 instance(s); series 4" in refusal(
        f"{archive.address}/studies/1.2"
    )


def test_lists_without_end_are_left(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb_client, "_PAGE", 1)
    monkeypatch.setattr(dicomweb_client, "_MOST_ENTRIES", 3)
    give_in_parts(archive, 1)
    assert "lists more than 3 entries, where predict stops" in refusal(
        f"{archive.address}/studies/1.2", "SeriesNumber=3"
    )


def test_signal_while_images_come_leaves_none(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_remote, "_read_expected", lambda folder: (1, ("MR",)))
    folders: list[Path] = []

    def end_process(method: str, path: str, answer: Answer) -> Answer:
        if path.endswith(SERIES):
            folders.extend(Path(tempfile.gettempdir()).iterdir())
            os.kill(os.getpid(), signal.SIGTERM)
        return answer

    archive.spoil = end_process
    source = f"{archive.address}/studies/1.2"
    remote = predict_remote.read_remote_options(source, None, ["SeriesNumber=3"], store=False)
    arguments = BundleFolder(Path("bundle")), source, remote, lambda line: None
    with pytest.raises(PreemptedError) as stopped, predict_remote.open_source(*arguments):
        time.sleep(60)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert len(folders) == 1
    assert not list(Path(tempfile.gettempdir()).iterdir())


# store


@pytest.fixture
def result(tmp_path: Path) -> Path:
    header = phantoms.build_header(VOLUME[:, :, 0].T, (0, 0, 0), uid="1.2.99")
    return phantoms.save(header, tmp_path / "result.dcm")


def test_store_sends_what_the_server_does_not_have(archive: Archive, result: Path) -> None:
    server = Server(read_address(f"{archive.address}/studies/1.2"))
    assert store_results(server, [result]) == {result: STORED}
    assert store_results(server, [result]) == {result: STORED_BEFORE}
    assert [method for method, _ in archive.seen].count("POST") == 1
    uid = pydicom.dcmread(result).SOPInstanceUID
    assert archive.instances[uid].PixelData == pydicom.dcmread(result).PixelData


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize(
    ("reason", "words"), [(0xA700, "it has no space, code A700"), (0x0122, "objects of this kind"), (7, "of its own")]
)
def test_store_that_is_refused_says_why(archive: Archive, result: Path, status: int, reason: int, words: str) -> None:
    body = refuse(pydicom.dcmread(result).SOPInstanceUID, reason)
    archive.spoil = lambda method, path, answer: (
        replace(answer, status=status, body=body) if method == "POST" else answer
    )
    archive.post = lambda body, content_type: Answer()  # type: ignore[method-assign]
    with pytest.raises(PredictionError, match="1 of 1 result") as refused:
        store_results(Server(read_address(f"{archive.address}/studies/1.2")), [result])
    assert f"result.dcm: {archive.address.split('/')[2]} refused it" in str(refused.value)
    assert words in str(refused.value)


def test_store_that_fails_half_way_sends_the_rest_the_next_time(archive: Archive, result: Path, tmp_path: Path) -> None:
    report = phantoms.save(phantoms.build_header(VOLUME[:, :, 0].T, (0, 0, 0), uid="1.2.98"), tmp_path / "report.dcm")
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (result, report)]
    takes, server = archive.post, Server(read_address(f"{archive.address}/studies/1.2"))
    archive.post = lambda body, content_type: (  # type: ignore[method-assign]
        Answer(refuse(uids[0], 0xA700), status=409) if uids[0].encode() in body else takes(body, content_type)
    )
    with pytest.raises(PredictionError, match=r"1 of 2 result\(s\) could not be stored") as refused:
        store_results(server, [result, report])
    assert "result.dcm" in str(refused.value)
    assert "report.dcm" not in str(refused.value)
    assert [uid in archive.instances for uid in uids] == [False, True]
    archive.post = takes  # type: ignore[method-assign]
    assert store_results(server, [result, report]) == {result: STORED, report: STORED_BEFORE}


def test_store_that_is_lost_or_of_another_study_says_so(archive: Archive, result: Path) -> None:
    archive.post = lambda body, content_type: Answer(b"{}")  # type: ignore[method-assign]
    server = Server(read_address(f"{archive.address}/studies/1.2"))
    with pytest.raises(PredictionError, match="took it and does not have it"):
        store_results(server, [result])
    archive.spoil = lambda method, path, answer: replace(answer, status=413) if method == "POST" else answer
    with pytest.raises(PredictionError, match=r"413 .*: the object is larger than the server takes"):
        store_results(server, [result])
    phantoms.edit(result, StudyInstanceUID="1.9")
    with pytest.raises(PredictionError, match="it belongs to another study"):
        store_results(server, [result])


def test_store_goes_on_after_a_cut_connection(archive: Archive, result: Path) -> None:
    left = [1, 1]

    def spoil_twice(method: str, path: str, answer: Answer) -> Answer:
        return replace(answer, status=503) if method == "POST" and left and left.pop() else answer

    archive.spoil = spoil_twice
    assert store_results(Server(read_address(f"{archive.address}/studies/1.2")), [result]) == {result: STORED}
