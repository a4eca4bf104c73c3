"""`data`: public data sets, their terms, and how to get them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.public_data.card import describe_terms, find_set, list_sets

if TYPE_CHECKING:
    from unet_pipeline.public_data.card import PublicSet
    from unet_pipeline.public_data.fetch import PublicData


def list_data() -> tuple[PublicSet, ...]:
    """The public data sets that `get_data` knows, by name."""
    return list_sets()


def get_data(
    name: str, out: Path | str | None = None, downloads: Path | str | None = None, announce: Any = None
) -> PublicData:
    """Download a public data set and write it in a layout that the other verbs read.

    Args:
        name: of the set, as `list_data` has it, in any case.
        out: its new folder; the set's name in the current one without it.
        downloads: folder whose archives are used and kept; see `fetch`.
        announce: called with the terms of the set before anything is downloaded.

    Raises:
        DatasetError: no such set, a folder that holds something else, an archive that is not what was expected.
        DownloadError: it cannot be downloaded or unpacked.
        InUseError: another process makes it.
    """
    card = find_set(name)
    if announce is not None:
        announce(describe_terms(card))
    from unet_pipeline.public_data.fetch import fetch

    return fetch(card, None if out is None else Path(out), None if downloads is None else Path(downloads))
