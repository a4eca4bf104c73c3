"""DICOM elements, read without believing their lengths: pydicom asks for as many bytes as a damaged element claims, up to 4 GB."""

from __future__ import annotations

from io import SEEK_SET
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset


class BoundedFile:
    """A file whose `read` asks for no more than is left; pydicom opens it by its name again for elements that it reads later.

    Args:
        name: path of the file.
        mode: as `open` has it; only "rb".
    """

    def __init__(self, name: str, mode: str = "rb") -> None:
        self.name = name
        self._stream = open(name, mode)  # noqa: SIM115, PTH123
        self._size = Path(name).stat().st_size

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, all that are left if negative."""
        left = max(0, self._size - self._stream.tell())
        return self._stream.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        """Move to a place of the file."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """The place of the file."""
        return self._stream.tell()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._stream.closed


def read_elements(path: Path, **options: Any) -> FileDataset:
    """What `pydicom.dcmread` gives for a file, with its options.

    Raises:
        InvalidDicomError, EOFError, OSError, ValueError, ...: as `pydicom.dcmread`.
    """
    import pydicom  # takes a tenth of a second, and few images are DICOM

    stream = BoundedFile(str(path))
    try:
        return pydicom.dcmread(stream, **options)
    finally:
        stream.close()
