"""What a node answers to C-ECHO and C-STORE, and to whom, through pynetdicom."""

from __future__ import annotations

import errno
import ipaddress
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from unet_pipeline.clinical.node.spool import OutOfResourcesError, Spool
from unet_pipeline.errors import PredictionError

SUCCESS, NOT_AUTHORIZED, OUT_OF_RESOURCES, NOT_UNDERSTOOD, NOT_PROCESSED = 0x0000, 0x0124, 0xA700, 0xC000, 0x0110
_AET_CHARACTERS = 16
_MIB = 2**20
_MOST_PDU_BYTES = _MIB  # pynetdicom asks for 16 KiB; a request with every context has a tenth of this
_LOOPBACK, _ANY = "127.0.0.1", "0.0.0.0"


@dataclass(frozen=True)
class Allowed:
    """Who may send.

    Attributes:
        title: application entity title.
        address: of its machine; the loopback ones, if None.
    """

    title: str
    address: str | None = None

    def has_address(self, address: str) -> bool:
        """Whether a connection may come from there."""
        if self.address is None:
            return ipaddress.ip_address(address).is_loopback
        return ipaddress.ip_address(address) == ipaddress.ip_address(self.address)


def check_title(title: str, option: str) -> str:
    """An application entity title.

    Raises:
        PredictionError: it is none.
    """
    text = title.strip()
    if not 1 <= len(text) <= _AET_CHARACTERS or not text.isascii() or not text.isprintable() or "\\" in text:
        raise PredictionError(
            f"{option} has the application entity title {title!r}; expected 1 to {_AET_CHARACTERS} ASCII characters "
            "without a backslash. Correct it."
        )
    return text


def read_allowed(texts: Sequence[str]) -> tuple[Allowed, ...]:
    """Who may send, of `AET` or `AET@ADDRESS`.

    Raises:
        PredictionError: one is neither.
    """
    allowed = []
    for text in texts:
        title, _, address = text.partition("@")
        try:
            settled = str(ipaddress.IPv4Address(address)) if "@" in text else None  # what the node listens on
        except ValueError as error:
            raise PredictionError(
                f"--allow is {text!r}, whose address is none of IPv4; expected AET or AET@ADDRESS, such as SCANNER@192.0.2.7. Correct it."
            ) from error
        allowed.append(Allowed(check_title(title, "--allow"), settled))
    return tuple(allowed)


@contextmanager
def receiving(
    spool: Spool, title: str, port: int, allowed: Sequence[Allowed], say: Callable[[str], None]
) -> Iterator[int]:
    """Receive in threads of their own while the block runs; yields the port.

    Args:
        spool: where instances go.
        title: of the node; associations to another one are rejected.
        port: to listen on; a free one for 0. Other addresses than the loopback one only where `allowed` has some.
        allowed: who may send; everyone on this machine, if empty.
        say: told what was refused, and why.

    Raises:
        PredictionError: the port cannot be had.
    """
    from pydicom.uid import AllTransferSyntaxes
    from pynetdicom import AE, AllStoragePresentationContexts, evt
    from pynetdicom.presentation import build_context
    from pynetdicom.sop_class import Verification
    from pynetdicom.transport import ThreadedAssociationServer

    entity = AE(ae_title=title)
    entity.require_called_aet = True
    entity.require_calling_aet = sorted({one.title for one in allowed})
    entity.supported_contexts = [
        *(build_context(one.abstract_syntax, AllTransferSyntaxes) for one in AllStoragePresentationContexts),
        build_context(Verification),
    ]
    desk = _Desk(spool, tuple(allowed), say)
    handlers = [(evt.EVT_C_STORE, desk.store), (evt.EVT_C_ECHO, desk.echo), (evt.EVT_PDU_RECV, desk.count)]
    handlers += [(evt.EVT_CONN_OPEN, desk.bound)]
    handlers += [(evt.EVT_CONN_CLOSE, desk.forget), (evt.EVT_REJECTED, desk.tell_rejected)]
    is_open = any(one.address and not ipaddress.ip_address(one.address).is_loopback for one in allowed)
    try:
        server = entity.start_server((_ANY if is_open else _LOOPBACK, port), block=False, evt_handlers=handlers)
    except OSError as error:
        raise PredictionError(f"The port {port} cannot be had: {error.strerror}. Choose another --port.") from error
    if not isinstance(server, ThreadedAssociationServer):
        raise TypeError("pynetdicom has started no server")
    server.verify_request = desk.is_known_address  # asked before any byte is read
    try:
        yield int(server.server_address[1])
    finally:
        entity.shutdown()


class _Desk:
    """What answers; called from the threads of the associations."""

    def __init__(self, spool: Spool, allowed: tuple[Allowed, ...], say: Callable[[str], None]) -> None:
        self.spool, self.allowed, self.say = spool, allowed, say
        self._num_bytes: dict[Any, int] = {}

    def is_known_address(self, request: Any, client_address: Any) -> bool:
        """Whether anyone may send from there."""
        address = str(client_address[0])
        is_known = any(one.has_address(address) for one in self.allowed or (Allowed(""),))
        if not is_known:
            self.say(f"refused  a connection from {address}, which no --allow has")
        return is_known

    def bound(self, event: Any) -> None:
        """Let no unit of the protocol be longer than any that is right: pynetdicom holds it in memory before it is counted."""
        connection = event.assoc.dul.socket
        receive = connection.recv

        def receive_bounded(num_bytes: int) -> Any:
            if num_bytes > _MOST_PDU_BYTES:
                self.say(
                    f"refused  a connection: it announces a unit of {num_bytes / _MIB:.0f} MiB, and 16 KiB were asked for"
                )
                raise OSError(errno.EMSGSIZE, "too long")  # upon which pynetdicom closes the connection
            return receive(num_bytes)

        connection.recv = receive_bounded

    def tell_rejected(self, event: Any) -> None:
        """Say that an association was rejected."""
        self.say(
            "refused  an association: its calling or called application entity title is not one of --allow and --aet"
        )

    def echo(self, event: Any) -> int:
        """Answer C-ECHO."""
        self.forget(event)
        return SUCCESS if self._is_allowed(event) else NOT_AUTHORIZED

    def _is_allowed(self, event: Any) -> bool:
        sender = event.assoc.requestor
        title, address = str(sender.ae_title).strip(), str(sender.address)
        return not self.allowed or any(one.title == title and one.has_address(address) for one in self.allowed)

    def count(self, event: Any) -> None:
        """End an association whose instance is larger than the limit, while it comes."""
        from pynetdicom.pdu import P_DATA_TF

        if not isinstance(event.pdu, P_DATA_TF):
            return
        association = event.assoc
        before = self._num_bytes.get(association, 0)
        self._num_bytes[association] = before + len(event.pdu)
        limit = self.spool.limits.instance_bytes
        if before <= limit < self._num_bytes[association]:
            self.say(
                f"refused  an instance of more than {self.spool.limits.instance_mib:g} MiB; raise --max-instance-mib to take it"
            )
            message = association.dimse.message
            uid = str(getattr(getattr(message, "command_set", None), "AffectedSOPInstanceUID", "unknown"))
            self.spool.refuse(
                uid, f"The instance is larger than {self.spool.limits.instance_mib:g} MiB (--max-instance-mib)."
            )
            threading.Thread(target=association.abort, daemon=True).start()  # it waits for the thread that this is

    def forget(self, event: Any) -> None:
        """Count no more for an association that is over."""
        self._num_bytes.pop(event.assoc, None)

    def store(self, event: Any) -> int:
        """Answer C-STORE when the instance is on the disk."""
        num_bytes = self._num_bytes.pop(event.assoc, 0)
        if not self._is_allowed(event):
            self.say("refused  an instance: its sender is allowed from another address only")
            return NOT_AUTHORIZED
        if num_bytes > self.spool.limits.instance_bytes:
            return OUT_OF_RESOURCES
        try:
            self.spool.receive(event.encoded_dataset(), str(event.request.AffectedSOPInstanceUID))
        except OutOfResourcesError as error:
            self.say(f"refused  {error}")
            return OUT_OF_RESOURCES
        except PredictionError as error:
            self.say(f"refused  {error}")
            return NOT_UNDERSTOOD
        except OSError as error:
            self.say(f"refused  an instance that cannot be written: {error.strerror}")
            return OUT_OF_RESOURCES if error.errno in (errno.ENOSPC, errno.EDQUOT) else NOT_PROCESSED
        except Exception as error:  # pynetdicom would answer with a failure, and tell nobody here
            self.say(f"refused  an instance: {type(error).__name__}, an error of the program: please report it")
            return NOT_PROCESSED
        return SUCCESS
