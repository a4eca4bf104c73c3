"""A DICOMweb server as `predict` needs it, through dicomweb-client: ask, fetch, store.

Every answer is bounded in size and time, what may pass is tried again, and no message shows what a server said: it may name a patient.
"""

from __future__ import annotations

import http
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unet_pipeline.clinical.dicomweb_address import PASSWORD, TOKEN, USERNAME, StudyAddress, open_session
from unet_pipeline.clinical.source import keep_quiet
from unet_pipeline.errors import PredictionError

if TYPE_CHECKING:
    from dicomweb_client.api import DICOMwebClient
    from pydicom.dataset import Dataset as Header
    from requests import HTTPError, Response, Session

Answer = TypeVar("Answer")
ATTEMPTS = 3
WAIT_S = 1.0  # after the first of them; twice as long after the next
_TIMEOUT_S = (15.0, 60.0)  # to connect, and without a byte
_MOST_SECONDS = 3600.0  # of one answer
_MOST_QUERY_BYTES, _MOST_IMAGE_BYTES = 1 << 26, 1 << 33
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_ANY_SYNTAX = (("application/dicom", "*"),)  # as it is stored, without a conversion by the server
_PAGE = 100  # entries of a list, the fewest after which a server is known to end it
_MOST_ENTRIES = 50_000
_WHOLE = 1 << 40  # bytes: what is sent has its length in front, and can be sent again


@dataclass(frozen=True)
class Limits:
    """What one answer may take.

    Attributes:
        num_bytes: after decompression.
        seconds: from its first byte.
    """

    num_bytes: int
    seconds: float = _MOST_SECONDS


class LimitError(Exception):
    """An answer that is larger or slower than its limits; the text continues a sentence that begins with the server."""


class Server:
    """The service that an address names."""

    def __init__(self, address: StudyAddress) -> None:
        """Nothing is asked yet.

        Raises:
            PredictionError: dicomweb-client is missing, or the credentials are incomplete.
        """
        self.address, self._session = address, open_session(address)

    def list_series(self, keywords: Sequence[str]) -> list[Header]:
        """The series of the study, or the one of the address, with these attributes where the server has them."""
        study, series = self.address.study_uid, self.address.series_uid
        chosen = {"SeriesInstanceUID": series} if series else None
        with self._connect(Limits(_MOST_QUERY_BYTES)) as client:
            search = partial(client.search_for_series, study, search_filters=chosen, fields=list(keywords))
            found = self._ask(lambda: _list_all(search, "SeriesInstanceUID"))
        return [header for header in found if series in (None, str(header.get("SeriesInstanceUID", "")))]

    def list_instances(self, series_uid: str) -> list[str]:
        """UIDs of the instances of a series; none if there is no such series."""
        with self._connect(Limits(_MOST_QUERY_BYTES)) as client:
            search = partial(client.search_for_instances, self.address.study_uid, series_uid)
            found = self._ask(lambda: _list_all(search, "SOPInstanceUID", may_be_absent=True))
        return [str(header.get("SOPInstanceUID", "")) for header in found]

    def read_instance(self, series_uid: str, instance_uid: str) -> Header:
        """The header of an instance, without its pixels."""
        place = self.address.study_uid, series_uid, instance_uid
        with self._connect(Limits(_MOST_QUERY_BYTES)) as client:
            (header,) = self._ask(lambda: _require_one(_decode([client.retrieve_instance_metadata(*place)])))
        return header

    def fetch_series(self, series_uid: str, write: Callable[[Iterator[Header]], Answer]) -> Answer:
        """What `write` makes of the instances of a series; it is called again when the connection was cut."""
        with self._connect(Limits(_MOST_IMAGE_BYTES)) as client:
            return self._ask(
                lambda: write(iter(client.iter_series(self.address.study_uid, series_uid, media_types=_ANY_SYNTAX)))
            )

    def store(self, path: Path) -> Header:
        """Send an instance; the server's answer, which says what it took.

        Raises:
            PredictionError: it cannot be reached, or took nothing.
        """
        with self._connect(Limits(_MOST_QUERY_BYTES), chunk_bytes=_WHOLE) as client:
            return self._ask(lambda: _store(client, path, self.address.study_uid))

    def _connect(self, limits: Limits, chunk_bytes: int = 1 << 20) -> _Connection:
        return _Connection(self._session, self.address, limits, chunk_bytes)

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        """The answer; what may pass is tried again.

        Raises:
            PredictionError: there is none, or it is damaged.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with keep_quiet():
                    return ask()
            except (PredictionError, MemoryError):
                raise
            except (
                Exception
            ) as error:  # requests', dicomweb-client's and pydicom's, whose texts have addresses and values
                if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
                    raise  # of a file of ours
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise PredictionError(explain_answer(error, self.address.host, attempt)) from None
            time.sleep(WAIT_S * 2 ** (attempt - 1))
        raise AssertionError("unreachable")


class _Connection:
    """A client whose answers are bounded."""

    def __init__(self, session: Session, address: StudyAddress, limits: Limits, chunk_bytes: int) -> None:
        self._session, self._address, self._limits, self._chunk_bytes = session, address, limits, chunk_bytes

    def __enter__(self) -> DICOMwebClient:
        try:
            from dicomweb_client.api import DICOMwebClient
        except ImportError as error:
            raise PredictionError(
                "dicomweb-client, which asks DICOMweb servers, is not installed. Install it with `pip install 'unet-pipeline[dicom]'`."
            ) from error
        adapter = _build_adapter(self._limits)
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, adapter)
        self._session.headers["Accept"] = "application/dicom+json"
        client = DICOMwebClient(
            self._address.service, self._session, chunk_size=self._chunk_bytes, permissive_uid=True, timeout=_TIMEOUT_S
        )
        client.host = self._address.host  # it leaves out the port, and cuts addresses of IPv6
        client.set_http_retry_params(retry=False)
        return client

    def __exit__(self, *_: object) -> None:
        self._session.close()


def _build_adapter(limits: Limits) -> Any:
    from requests.adapters import HTTPAdapter

    class Bounded(HTTPAdapter):
        """Every answer ends at its limits."""

        def send(self, *arguments: Any, **options: Any) -> Any:
            response = super().send(*arguments, **options)
            response.raw.stream = _bound(response.raw.stream, limits)
            return response

    return Bounded()


def _bound(stream: Callable[..., Iterator[bytes]], limits: Limits) -> Callable[..., Iterator[bytes]]:
    def bounded(*arguments: Any, **options: Any) -> Iterator[bytes]:
        num_bytes, start = 0, time.monotonic()
        for chunk in stream(*arguments, **options):
            num_bytes += len(chunk)
            if num_bytes > limits.num_bytes:
                raise LimitError(f"sends more than {limits.num_bytes >> 20} MiB")
            if time.monotonic() - start > limits.seconds:
                raise LimitError(f"sends for more than {limits.seconds:.0f} s")
            yield chunk

    return bounded


def _list_all(search: Callable[..., Sequence[Any]], keyword: str, may_be_absent: bool = False) -> list[Header]:
    """Every entry of a list that a server may give in parts, as some do without a word about it.

    Args:
        search: gives the entries from `offset` on.
        keyword: of the entries' UIDs. A server that knows no offset gives those again that are known, which ends the list.
        may_be_absent: there may be no entry.

    Raises:
        LimitError: there are more than any study has.
    """
    found = part = _decode(_search_from(search, None, may_be_absent))
    while len(part) >= _PAGE:
        if len(found) > _MOST_ENTRIES:
            raise LimitError(f"lists more than {_MOST_ENTRIES} entries")
        known = {str(header.get(keyword, "")) for header in found}
        further = _decode(_search_from(search, len(found), may_be_absent=True))
        part = [header for header in further if str(header.get(keyword, "")) not in known]
        found = [*found, *part]
    return found


def _search_from(search: Callable[..., Sequence[Any]], offset: int | None, may_be_absent: bool) -> Sequence[Any]:
    """Entries from a place on; none where the answer is 404, as some servers say of a series or a place that they do not have."""
    import requests

    try:
        return search(offset=offset)
    except requests.HTTPError as error:
        if may_be_absent and _read_status(error) == 404:
            return []
        raise


def _decode(items: Sequence[Any]) -> list[Header]:
    """Data sets of DICOM JSON; ValueError if it is none."""
    from pydicom.dataset import Dataset

    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("no list of objects")
    return [Dataset.from_json(item) for item in items]


def _require_one(headers: list[Header]) -> list[Header]:
    if len(headers) != 1 or not headers[0]:
        raise ValueError("no header")
    return headers


def _store(client: DICOMwebClient, path: Path, study_uid: str) -> Header:
    """The server's answer, also that with which it refuses the instance."""
    import pydicom
    import requests

    try:
        return client.store_instances([pydicom.dcmread(path)], study_uid)
    except requests.HTTPError as error:
        refused = _read_refusal(error.response)
        if not refused:
            raise
        return refused


def _read_status(error: HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _read_refusal(response: Response | None) -> Header | None:
    """What the server says about an instance that it refused; None where it says nothing of it."""
    try:
        (answer,) = _decode([response.json() if response is not None else None])
    except Exception:  # whatever an answer of another form raises
        return None
    return answer if answer.get("FailedSOPSequence") else None


def _may_pass(error: Exception) -> bool:
    import requests

    if isinstance(error, requests.HTTPError):
        return _read_status(error) in _TRANSIENT
    if isinstance(error, requests.exceptions.SSLError):
        return False
    passing = requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError
    return isinstance(error, passing)


def explain_answer(error: Exception, host: str, attempts: int) -> str:
    """A message about an answer, without any of its text.

    Args:
        error: what requests, dicomweb-client or pydicom raised.
        host: of the server.
        attempts: that were made.
    """
    import requests

    tried = f" in {attempts} attempts" if attempts > 1 else ""
    chain_of_errors = chain([error], error.args)
    if isinstance(error, requests.HTTPError):
        return _explain_status(_read_status(error), host, tried)
    if isinstance(error, requests.TooManyRedirects):
        return f"{host} redirects to another address, which is not followed. Give the address of the service itself."
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"{host} has a certificate that cannot be verified, or speaks no TLS. Set REQUESTS_CA_BUNDLE to the certificates (PEM) of "
            "who signed it; a server of this machine without TLS is dicomweb+http://."
        )
    if limit := next((item for item in chain_of_errors if isinstance(item, LimitError)), None):
        return f"{host} {limit}, where predict stops. Name a smaller series: /series/UID behind the study."
    if isinstance(error, requests.Timeout):
        return f"{host} did not answer within {_TIMEOUT_S[1]:.0f} s{tried}. See whether it is busy, and run the same command again."
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"{host} cut the connection off{tried}. Run the same command again."
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return f"{host} sent an answer that is damaged (its compression). Ask who runs the server."
    if isinstance(error, requests.ConnectionError):
        return f"{host} cannot be reached, or cut the connection off{tried}. See whether it runs, and whether host and port are right."
    return (
        f"{host} sent an answer that is damaged, or none of DICOMweb ({type(error).__name__}). See whether the address is that of the "
        "DICOMweb service, such as /dicom-web."
    )


def _explain_status(status: int, host: str, tried: str) -> str:
    names = {item.value: item.phrase for item in http.HTTPStatus}
    begin = f"{host} answers {status} {names.get(status, '')}".rstrip()
    if status == 401:
        return f"{begin}: credentials are missing or wrong. Set {USERNAME} and {PASSWORD}, or {TOKEN}, or write them into the netrc file."
    if status == 403:
        return f"{begin}: this user may not do that. Ask who runs the server."
    if status == 404:
        return f"{begin}: there is no such study or series, or no DICOMweb service. See that the address is right."
    if status == 413:
        return f"{begin}: the object is larger than the server takes. Ask who runs it."
    if status in _TRANSIENT:
        return f"{begin}{tried}. See whether it is busy, and run the same command again."
    return f"{begin}. See that the address is that of the DICOMweb service, such as /dicom-web, or ask who runs it."
