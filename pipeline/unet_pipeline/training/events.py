"""TensorBoard's event files of a training: what they hold, and what is taken out of those of an interrupted one.

Pictures have a file of their own, so that a sealed bundle can leave out what shows patients.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unet_pipeline.files import write_atomically

TRAIN_LOSS, LEARNING_RATE, VAL_DICE, TIME_SHARE = "train_loss", "learning_rate", "val_dice", "time_share"
VALIDATION_CASES, AUGMENTED_PATCHES = "pictures/validation_cases", "pictures/augmented_patches"
BY_ITERATION = (TRAIN_LOSS, LEARNING_RATE, AUGMENTED_PATCHES)  # the steps of all other tags are epochs
PICTURES_SUFFIX = ".pictures"  # of the file that has them
_LENGTH = struct.Struct("<Q")
_CHECK_BYTES = 4  # CRC32C of the length, and again of the content


def drop_later_events(folder: Path, last_iteration: int, last_epoch: int) -> None:
    """Remove what lies behind a step from every event file of a folder, so that no step is there twice.

    Args:
        last_iteration: last step that stays of the tags `BY_ITERATION`.
        last_epoch: last step that stays of all other tags.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        kept = []
        for record in split_records(content):
            event = _parse(record)
            last = {tag: last_iteration if tag in BY_ITERATION else last_epoch for tag in _list_tags(event)}
            if all(event.step <= step for step in last.values()):
                kept.append(record)
        if sum(map(len, kept)) != len(content):
            with write_atomically(path) as partial:
                partial.write_bytes(b"".join(kept))


def read_pictures(folder: Path) -> dict[tuple[str, int], bytes]:
    """Tag and step -> JPEG of every picture that a training has written into its folder; {} before the first."""
    pictures: dict[tuple[str, int], bytes] = {}
    for path in sorted(folder.glob(f"events.out.tfevents.*{PICTURES_SUFFIX}")):
        for record in split_records(path.read_bytes()):
            event = _parse(record)
            pictures |= {(value.tag, event.step): value.image.encoded_image_string for value in event.summary.value}
    return pictures


def _parse(record: bytes) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event.FromString(record[_LENGTH.size + _CHECK_BYTES : -_CHECK_BYTES])


def _list_tags(event: Any) -> set[str]:
    return {value.tag for value in event.summary.value}


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
