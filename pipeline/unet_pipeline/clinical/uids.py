"""Names that are made of UIDs, and UIDs below 2.25, the root that nobody has to register: a UUID, made of what the object is (PS3.5, B.2)."""

from __future__ import annotations

import hashlib
import uuid

_NAMESPACE = uuid.UUID("6f0e7b0c-7a0b-5b62-9f0a-6d1f2a8c5e11")

_NAME_CHARACTERS = 24


def hash_uid(uid: str, num_characters: int = _NAME_CHARACTERS) -> str:
    """A name of a file or folder that tells nothing of the patient; the same UID gives the same one."""
    return hashlib.sha256(uid.encode()).hexdigest()[:num_characters]


def derive_uid(*parts: str) -> str:
    """A UID of at most 44 characters; the same parts give the same one, other parts another one.

    So an object that is made again from the same image, weights, configs and options replaces itself in an archive.
    """
    return f"2.25.{uuid.uuid5(_NAMESPACE, chr(0).join(parts)).int}"
