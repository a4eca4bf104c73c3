"""Which inputs and outputs are URLs, and which of those may be named in a record or a message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from unet_pipeline.errors import PipelineError

LIBRARIES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "az": "adlfs",
    "memory": "fsspec",
}  # that know how to reach a store, by scheme
PASSING = "unet-pipeline-cache-"  # beginning of the names of folders that are removed at the end of a run
_LOCAL = "file"
# a Path has one slash where the user typed two; a drive of Windows has one letter
_FORM = re.compile(r"(?P<scheme>[a-z][a-z0-9+.:-]*[a-z0-9]):/+(?P<path>.*)", re.IGNORECASE | re.DOTALL)


class StoreError(PipelineError):
    """An object store cannot be reached, refuses an object, or has another one than expected."""


@dataclass(frozen=True)
class RemoteUrl:
    """Where an object, or all below a prefix, lies.

    Attributes:
        scheme: a key of `LIBRARIES`.
        path: bucket and key, without a slash at either end.
    """

    scheme: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    def __truediv__(self, name: str) -> RemoteUrl:
        return RemoteUrl(self.scheme, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> RemoteUrl:
        """The prefix in which it lies."""
        return RemoteUrl(self.scheme, self.path.rpartition("/")[0])


def is_url(place: Path | str | None) -> bool:
    """Whether a place is written as an URL and is no folder or file of that odd name."""
    return place is not None and _FORM.fullmatch(str(place)) is not None and not Path(place).exists()


def parse_place(place: Path | str) -> Path | RemoteUrl:
    """A local path, also of `file://`, or the URL of a store.

    Args:
        place: as the user gave it; a Path of an URL too, whose double slash is lost.

    Raises:
        StoreError: an unknown scheme, no bucket, or an URL with credentials, which no message and no record may hold.
    """
    form = _FORM.fullmatch(str(place))
    if form is None or not is_url(place):
        return Path(place)
    scheme, path = form["scheme"].lower(), form["path"]
    authority = path.partition("/")[0]
    if "@" in authority and (scheme != "az" or ":" in authority):
        raise StoreError(
            f"The {scheme}:// URL holds a user or a password before its @; expected none, because records name their inputs. Give "
            "credentials as the store's library takes them, such as AWS_PROFILE or a file of credentials."
        )
    if re.search(r"\?[^/]*=", path):
        raise StoreError(
            f"The {scheme}:// URL holds a query such as a signature behind its ?; expected bucket and key alone, because records name "
            "their inputs. Give credentials as the store's library takes them."
        )
    if scheme == _LOCAL:
        return Path("/" + path.removeprefix("localhost/"))
    if scheme not in LIBRARIES:
        raise StoreError(
            f"{scheme}:// is no store that is known; expected {', '.join(f'{name}://' for name in (*LIBRARIES, _LOCAL))}. "
            "Download the files, or mount the store, and give their folder."
        )
    if not path.strip("/"):
        raise StoreError(f"{scheme}:// names no bucket; expected {scheme}://BUCKET/PATH. Complete the URL.")
    return RemoteUrl(scheme, path.strip("/"))


def require_local(place: object, what: str) -> None:
    """Refuse an URL where only a local file or folder will do; otherwise a folder named `s3:` would be made.

    Args:
        place: what is given; anything but a path or a text passes.
        what: it is given for, as the sentence's beginning.

    Raises:
        StoreError: it is the URL of a store.
    """
    if (
        isinstance(place, (str, Path))
        and is_url(place)
        and (scheme := str(place).partition(":")[0].lower()) in LIBRARIES
    ):
        raise StoreError(
            f"{what} is a {scheme}:// URL; expected a local file or folder. `predict` takes URLs for all it reads and writes, check, plan "
            "and evaluate for the data that they read; copy anything else from or to the store."
        )


def is_passing(folder: Path) -> bool:
    """Whether a folder lies in a cache that is removed at the end of the run, so that no record should name it."""
    return any(part.startswith(PASSING) for part in folder.parts)
