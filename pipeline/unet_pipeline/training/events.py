"""TensorBoard's event files of an interrupted training: what came after the checkpoint is taken out before it is done again."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from unet_pipeline.files import write_atomically

_LENGTH = struct.Struct("<Q")
_CHECK_BYTES = 4  # CRC32C of the length, and again of the content


def drop_later_events(folder: Path, last_steps: dict[str, int], last_epoch: int) -> None:
    """Remove the scalars behind a step from every event file of a folder, so that no step is there twice.

    Args:
        last_steps: last step that stays, for tags that count iterations.
        last_epoch: last step that stays, for all other tags.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        kept = []
        for record in split_records(content):
            event = Event.FromString(record[_LENGTH.size + _CHECK_BYTES : -_CHECK_BYTES])
            tags = {value.tag for value in event.summary.value}
            if all(event.step <= last_steps.get(tag, last_epoch) for tag in tags):
                kept.append(record)
        if sum(map(len, kept)) != len(content):
            with write_atomically(path) as partial:
                partial.write_bytes(b"".join(kept))


def split_records(content: bytes) -> Iterator[bytes]:
    """The complete records of an event file with their frame; a last one that a kill cut off is left out.

    A record is its length (8 bytes), a checksum (4), its content, and a checksum (4): TensorFlow's TFRecord format.
    """
    place = 0
    while place + _LENGTH.size <= len(content):
        (length,) = _LENGTH.unpack_from(content, place)
        end = place + _LENGTH.size + length + 2 * _CHECK_BYTES
        if end > len(content):
            return
        yield content[place:end]
        place = end
