"""A series from a DICOMweb server into a folder that goes away, and results back to its study.

DICOMweb address -> (QIDO-RS) one series -> (WADO-RS) files -> `predict` -> SEG -> (STOW-RS) the same study
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.clinical.dicomweb_address import read_address
from unet_pipeline.clinical.dicomweb_client import Server
from unet_pipeline.clinical.dicomweb_series import SERIES_KEYWORDS, SeriesRule, choose_series, describe_series
from unet_pipeline.clinical.source import keep_quiet
from unet_pipeline.clinical.uids import hash_uid
from unet_pipeline.errors import PredictionError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset as Header

STORED, STORED_BEFORE = "stored", "stored before"
_MOST_INSTANCES = 20_000
_NAME_DIGITS = 12  # of a UID's hash, in names of files
# FailureReason of PS3.18, table I.2-2, and the ranges of PS3.4, table B.2-1
_REASONS = {
    0x0110: "processing failure",
    0x0111: "it has it already",
    0x0122: "it does not take objects of this kind",
    0x0124: "this user may not",
    0xA7: "it has no space",
    0xA9: "the object does not fit the study",
    0xC0: "it cannot read the object",
}


@contextmanager
def fetch_series(
    source: Path | str, rules: Sequence[SeriesRule], modalities: Sequence[str], announce: Callable[[str], None]
) -> Iterator[tuple[Path, Server]]:
    """The files of the one series that fits, in a folder that is removed at the end, and the server for what was made of it.

    The folder is named after a hash of the series' UID.

    Args:
        source: see `read_address`.
        rules, modalities: see `choose_series`.
        announce: called with the series that was fetched.

    Raises:
        PredictionError: the server cannot be asked, no series or several fit, or an instance is missing or damaged.
        OSError: there is no space for the files.
    """
    server = Server(read_address(source))
    keywords = dict.fromkeys([*SERIES_KEYWORDS, *(rule.keyword for rule in rules)])
    headers = server.list_series([keyword for keyword in keywords if keyword != "SeriesInstanceUID"])
    kinds = (
        () if server.address.series_uid else modalities
    )  # who names a series gets it, and a warning where it is of another kind
    chosen = choose_series(headers, rules, kinds, lambda uid: _look_into(server, uid))
    uid = str(chosen.SeriesInstanceUID)
    expected = frozenset(server.list_instances(uid))
    if not 0 < len(expected) <= _MOST_INSTANCES:
        raise PredictionError(
            f"{server.address.host} lists {len(expected)} instances of the series; expected 1 to {_MOST_INSTANCES}. Take another series."
        )
    with tempfile.TemporaryDirectory(prefix="unet-pipeline-") as temporary:
        folder = Path(temporary) / f"series_{hash_uid(uid, _NAME_DIGITS)}"
        server.fetch_series(
            uid, lambda instances: _write_instances(instances, folder, uid, expected, server.address.host)
        )
        announce(f"fetched  {describe_series(chosen)} from {server.address.host} as {folder.name}")
        yield folder, server


def store_results(server: Server, paths: Sequence[Path]) -> dict[Path, str]:
    """Send DICOM objects to the study that they were made of; what the server has already is not sent.

    Returns:
        STORED or STORED_BEFORE of each.

    Raises:
        PredictionError: the server cannot be asked, or refused an object; the others are stored.
    """
    outcomes, refused = {}, []
    for path in paths:
        try:
            outcomes[path] = _store(server, path)
        except PredictionError as error:
            refused.append(f"{path.name}: {error}")
    if refused:
        listed = "\n".join(f"  {text}" for text in refused)
        raise PredictionError(
            f"{len(refused)} of {len(paths)} result(s) could not be stored; they lie in the output folder, and the same command tries "
            f"again:\n{listed}"
        )
    return outcomes


def _look_into(server: Server, series_uid: str) -> Header | None:
    instances = server.list_instances(series_uid)
    return server.read_instance(series_uid, min(instances)) if instances else None


def _write_instances(
    instances: Iterator[Header], folder: Path, series_uid: str, expected: frozenset[str], host: str
) -> None:
    """Write each instance of a series; those that an attempt before had written are replaced."""
    folder.mkdir(exist_ok=True)
    seen: set[str] = set()
    for instance in instances:
        uid = str(instance.get("SOPInstanceUID") or "")
        if str(instance.get("SeriesInstanceUID") or "") != series_uid or uid not in expected:
            raise PredictionError(
                f"{host} sent an instance that is none of the series. See whether the study is being changed, and run the same command "
                "again."
            )
        seen.add(uid)
        instance.save_as(folder / f"{hash_uid(uid, _NAME_DIGITS)}.dcm")
    if seen != expected:
        raise PredictionError(
            f"{host} sent {len(seen)} of the {len(expected)} instances that it lists. See whether the study is complete, and run the same "
            "command again."
        )


def _store(server: Server, path: Path) -> str:
    import pydicom

    with keep_quiet():
        header = pydicom.dcmread(path, stop_before_pixels=True)
    series_uid, uid = str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
    if str(header.StudyInstanceUID) != server.address.study_uid:
        raise PredictionError("it belongs to another study than the one of the address. Give the address of its study.")
    if uid in server.list_instances(series_uid):
        return STORED_BEFORE
    answer = server.store(path)
    failures = [
        item for item in answer.get("FailedSOPSequence") or () if item.get("ReferencedSOPInstanceUID") in (uid, None)
    ]
    if failures:
        raise PredictionError(
            f"{server.address.host} refused it ({_describe_reason(failures[0])}). Ask who runs the server."
        )
    taken = {str(item.get("ReferencedSOPInstanceUID") or "") for item in answer.get("ReferencedSOPSequence") or ()}
    if uid not in taken and uid not in server.list_instances(series_uid):
        raise PredictionError(
            f"{server.address.host} took it and does not have it. See whether it still imports what it got, and ask who runs the server."
        )
    return STORED


def _describe_reason(item: Header) -> str:
    number = int(item.get("FailureReason") or 0)
    words = _REASONS.get(number) or _REASONS.get(number >> 8) or "for a reason of its own"
    return f"{words}, code {number:04X}"
