"""One store behind an URL: list, fetch, upload, remove; retries and credentials are the library's, messages are ours."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_pipeline.files import compute_sha256
from unet_pipeline.remote.urls import LIBRARIES, RemoteUrl, StoreError

_SHA256 = "sha256"  # our key of an object's metadata
_OF_THIS_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENAMETOOLONG)
_NO_CREDENTIALS = re.compile(r"credential|token ?retriev|sso|unauthorized|DefaultCredentialsError", re.IGNORECASE)
_DENIED = ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AllAccessDisabled")


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing has it.

    Attributes:
        name: below the listed prefix, with "/".
        url: of the object.
        num_bytes: of its content.
        tag: that changes with the content (ETag); empty where the store has none.
        stamp: the tag, or else when it was written; empty where the store says neither.
    """

    name: str
    url: RemoteUrl
    num_bytes: int
    tag: str
    stamp: str


class Store:
    """The filesystem of an URL's scheme. Threads may share it.

    Attributes:
        scheme: of its URLs.
        files: fsspec's filesystem.
    """

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        library = LIBRARIES[scheme]
        try:
            import fsspec

            self.files: Any = fsspec.filesystem(scheme, use_listings_cache=False)
        except ImportError as error:
            extra = "'unet-pipeline[remote]'" if library in ("s3fs", "fsspec") else library
            raise StoreError(
                f"{scheme}:// needs the package {library}, which is missing. Install it: pip install {extra}"
            ) from error
        except Exception as error:  # such as a library that looks for credentials when it is opened
            raise _explain(error, f"{scheme}://", "opened") from error

    def list_below(self, url: RemoteUrl, deep: bool = True) -> list[StoredObject]:
        """Objects below a prefix, sorted; the object itself, under its own name, where the URL is that of one.

        Args:
            deep: at any depth, or only directly below.

        Raises:
            StoreError: it cannot be listed.
        """
        with explaining(url, "listed"):
            self.files.invalidate_cache()
            try:
                found = self.files.find(url.path, detail=True, maxdepth=None if deep else 1)
            except FileNotFoundError:
                found = {}
        objects = [self._describe(url, key, info) for key, info in found.items() if info.get("type") == "file"]
        return sorted((item for item in objects if _is_plain(item.name)), key=lambda item: item.name)

    def _describe(self, url: RemoteUrl, key: str, info: dict[str, Any]) -> StoredObject:
        path = key.strip("/")
        name = url.name if path == url.path else path.removeprefix(f"{url.path}/")
        tag = str(info.get("ETag") or info.get("etag") or "").strip('"')
        written = next(
            (info[word] for word in ("LastModified", "mtime", "updated", "last_modified", "created") if info.get(word)),
            "",
        )
        return StoredObject(name, RemoteUrl(url.scheme, path), int(info.get("size") or 0), tag, tag or str(written))

    def fetch(self, url: RemoteUrl, target: Path) -> None:
        """Write an object's content into a local file, which must not be one that anybody reads already.

        Raises:
            StoreError: it cannot be read.
            OSError: the local file cannot be written.
        """
        with explaining(url, "read"):
            self.files.get_file(url.path, str(target))

    def read_head(self, url: RemoteUrl, num_bytes: int) -> bytes:
        """The first bytes of an object.

        Raises:
            StoreError: it cannot be read.
        """
        with explaining(url, "read"):
            return bytes(self.files.cat_file(url.path, start=0, end=num_bytes))

    def upload(self, path: Path, url: RemoteUrl, sha256: str = "") -> None:
        """Put a local file under its final name: the earlier object is there until the new one is whole.

        Args:
            sha256: of the file, kept as metadata where the store has some.

        Raises:
            StoreError: it cannot be written, or what is there afterwards is something else.
        """
        keywords = {"Metadata": {_SHA256: sha256}} if sha256 and self.scheme == "s3" else {}
        num_bytes = path.stat().st_size
        with explaining(url, "written"):
            if self.scheme == "memory":  # which would show a file that is not whole
                self.files.pipe_file(url.path, path.read_bytes())
            else:
                self.files.put_file(str(path), url.path, **keywords)
            self.files.invalidate_cache()
            stored_bytes = int(self.files.info(url.path)["size"])
        if stored_bytes != num_bytes or (keywords and self.read_sha256(url) not in (sha256, None)):
            raise StoreError(
                f"{url} has {stored_bytes} bytes after its upload and is not the file of {num_bytes} bytes that was sent. Another process "
                "may write there too; stop it, then run the same command again."
            )

    def create(self, url: RemoteUrl, content: bytes) -> bool:
        """Write a small object if there is none; whether there was none. Atomic where the store has conditional writes.

        Raises:
            StoreError: it cannot be written.
        """
        with explaining(url, "written"):
            self.files.invalidate_cache()
            if self.files.exists(url.path):
                return False
            try:
                self.files.pipe_file(url.path, content, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                if "PreconditionFailed" in str(error) or "ConditionalRequestConflict" in str(error):
                    return False
                if "NotImplemented" not in str(error):
                    raise
                self.files.pipe_file(url.path, content)
        return True

    def write(self, url: RemoteUrl, content: bytes) -> None:
        """Write a small object, or replace it.

        Raises:
            StoreError: it cannot be written.
        """
        with explaining(url, "written"):
            self.files.pipe_file(url.path, content)

    def remove(self, url: RemoteUrl) -> None:
        """Remove an object; nothing where there is none.

        Raises:
            StoreError: it cannot be removed.
        """
        with explaining(url, "removed"), suppress(FileNotFoundError):
            self.files.rm_file(url.path)

    def read_sha256(self, url: RemoteUrl) -> str | None:
        """SHA-256 of an object as its metadata has it; None where they do not say.

        Raises:
            StoreError: it cannot be asked for.
        """
        if self.scheme != "s3":
            return None
        with explaining(url, "read"):
            value = self.files.metadata(url.path, refresh=True).get(_SHA256)
        return str(value) if value else None

    def compute_sha256(self, url: RemoteUrl, target: Path) -> str:
        """SHA-256 of an object, which is fetched into a local file for it."""
        self.fetch(url, target)
        return compute_sha256(target)


@contextmanager
def explaining(url: RemoteUrl, doing: str) -> Iterator[None]:
    """Errors of the libraries within the block in words that name the object; those of the local disk as they are."""
    try:
        yield
    except (StoreError, KeyboardInterrupt):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THIS_MACHINE:
            raise
        raise _explain(error, str(url), doing) from error


def _explain(error: Exception, shown: str, doing: str) -> StoreError:
    """What a library's error means; its own text may hold a signed address and is not shown."""
    code = _find_code(error)
    if _NO_CREDENTIALS.search(type(error).__name__):
        return StoreError(
            f"{shown} cannot be {doing}: there are no credentials for it ({code}). Give them as the store's library takes them, such as "
            "AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS or AZURE_STORAGE_CONNECTION_STRING."
        )
    if isinstance(error, PermissionError) or code in _DENIED:
        return StoreError(
            f"{shown} cannot be {doing}: the store refuses it ({code}). See that the credentials are those of an account that may, and "
            "that they have not expired."
        )
    if isinstance(error, FileNotFoundError) or code in ("NoSuchBucket", "NoSuchKey", "404"):
        return StoreError(f"{shown} cannot be {doing}: there is no such bucket or object. Check the URL.")
    return StoreError(
        f"{shown} cannot be {doing}: the store failed, or the connection was cut, in every one of several tries ({code}). Run the same "
        "command again; what is finished is kept."
    )


def _find_code(error: BaseException) -> str:
    """The store's own word for an error, or else the kind of the exception."""
    cause: BaseException | None = error
    while cause is not None:
        response = getattr(cause, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if code and re.fullmatch(r"[\w.-]{1,40}", str(code)):
            return str(code)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _is_plain(name: str) -> bool:
    """Whether a name is one of a file; a store may have keys that end with "/" or lead upwards."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))
