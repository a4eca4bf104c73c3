"""Addresses of studies and series on DICOMweb servers, and with what the server is asked: credentials, certificates.

An address names no user: what it says is shown in messages and kept in the histories of shells.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from unet_pipeline.errors import PredictionError

if TYPE_CHECKING:
    from requests import PreparedRequest, Session

USERNAME, PASSWORD, TOKEN = "DICOMWEB_USERNAME", "DICOMWEB_PASSWORD", "DICOMWEB_TOKEN"
ALLOW_HTTP = "DICOMWEB_ALLOW_HTTP"
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# pathlib makes one slash of two
_SCHEME = re.compile(r"(?P<scheme>dicomweb(?:\+https?)?|https?):/+(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_PATH = re.compile(r"(?P<prefix>(?:/[\w.~%:+-]+)*)/studies/(?P<study>[^/]+)(?:/series/(?P<series>[^/]+))?/?")
_HOST = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d+)?", re.ASCII)
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_MAX_UID_CHARACTERS = 64
_FORM = "dicomweb://HOST[:PORT]/PATH/studies/UID, or the same with /series/UID behind it"


@dataclass(frozen=True)
class StudyAddress:
    """A study on a server, or a series of it.

    Attributes:
        service: URL of the DICOMweb service.
        host: with the port, as messages name the server.
        study_uid: of the study.
        series_uid: of the series; None for the one that fits.
        is_loopback: the server is this machine.
    """

    service: str
    host: str
    study_uid: str
    series_uid: str | None
    is_loopback: bool


def is_address(source: Path | str) -> bool:
    """Whether an input is an address and no path; no file is looked at."""
    return bool(_SCHEME.fullmatch(str(source)))


def read_address(source: Path | str) -> StudyAddress:
    """The parts of an address.

    Args:
        source: dicomweb://, which is https, but http where the server is this machine; or with the scheme said: dicomweb+https://,
            dicomweb+http://, https://, http://.

    Raises:
        PredictionError: it names a user, or no study, or would go over a network without TLS.
    """
    match = _SCHEME.fullmatch(str(source))
    if match is None:
        raise PredictionError(f"The input is no address of a DICOMweb server; expected {_FORM}.")
    scheme = match["scheme"].lower().removeprefix("dicomweb").removeprefix("+")
    parts = _split(f"//{match['rest']}")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise PredictionError(
            "The address of the DICOMweb server has a user, a query or a fragment, which would stay in histories and lists of processes; "
            f"expected {_FORM}. Put credentials into {USERNAME} and {PASSWORD}, or {TOKEN}, or into the netrc file."
        )
    host = parts.hostname or ""
    path = _PATH.fullmatch(parts.path)
    if not host or not _HOST.fullmatch(parts.netloc) or path is None:
        raise PredictionError(f"The address of the DICOMweb server names no study; expected {_FORM}.")
    for uid in (path["study"], path["series"] or path["study"]):
        if not _UID.fullmatch(uid) or len(uid) > _MAX_UID_CHARACTERS:
            raise PredictionError(
                f"The address has a UID of {len(uid)} characters that is none; expected at most {_MAX_UID_CHARACTERS} digits and dots, "
                "such as 1.2.840.99.1. Copy it again."
            )
    is_loopback = _is_loopback(host)
    scheme = scheme or ("http" if is_loopback else "https")
    if scheme == "http" and not is_loopback and os.environ.get(ALLOW_HTTP) != "1":
        raise PredictionError(
            f"{parts.netloc} would be asked over http, where everybody on the way reads images and credentials. Use dicomweb://, which is "
            f"https; where the network itself is protected, set {ALLOW_HTTP}=1."
        )
    return StudyAddress(
        f"{scheme}://{parts.netloc}{path['prefix']}", parts.netloc, path["study"], path["series"], is_loopback
    )


def open_session(address: StudyAddress) -> Session:
    """A session with the credentials and certificates that the environment has for the server; it follows no redirect.

    Raises:
        PredictionError: requests is missing, half of the credentials is, or the file of certificates.
    """
    import requests

    session = requests.Session()
    session.max_redirects = 0  # credentials and images go to no other place
    if address.is_loopback:
        session.trust_env = False  # nor to a proxy
    session.verify = _find_certificates()
    session.auth = _find_credentials(address)
    return session


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise PredictionError(f"The address of the DICOMweb server cannot be read; expected {_FORM}.") from error
    return parts


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _find_certificates() -> str | bool:
    """A file or folder of certificates that are trusted; True for those that come with requests."""
    for name in _CERTIFICATES:
        if path := os.environ.get(name):
            if not Path(path).exists():
                raise PredictionError(f"{name} names no file or folder; expected certificates as PEM. Correct it.")
            return path
    return True


class _Bearer:
    """A token as requests sends it; as a header of the session the netrc file would replace it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _find_credentials(address: StudyAddress) -> _Bearer | tuple[str, str] | None:
    """A token, or user and password, of the environment or of the netrc file; None if there are none."""
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USERNAME, PASSWORD))
    if any(not character.isprintable() for character in token + user + password):
        raise PredictionError(f"{TOKEN}, {USERNAME} or {PASSWORD} has a line break or the like. Set it again.")
    if bool(user) != bool(password):
        raise PredictionError(f"Of {USERNAME} and {PASSWORD} only one is set; expected both, or neither.")
    if token and user:
        raise PredictionError(f"{TOKEN} and {USERNAME} are both set; expected one. Unset the other.")
    if token:
        return _Bearer(token)
    if user:
        return user, password
    from requests.utils import get_netrc_auth

    return get_netrc_auth(address.service) or None
