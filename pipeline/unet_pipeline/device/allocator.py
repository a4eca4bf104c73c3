"""Memory of the process, set once before the first tensor."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_pages() -> bool:
    """Let glibc keep freed memory instead of handing it back after every large tensor.

    The page faults of fresh memory cost a fifth to a third of a training step on a CPU (docs/experiments.md). Results are the
    same; memory grows by less than 1 GB. Elsewhere than with glibc nothing happens.

    Returns:
        Whether the settings were taken.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has no mallopt
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 256 << 20))
    return all(mallopt(option, value) == 1 for option, value in settings)


def release_freed_pages() -> bool:
    """Hand the memory that was freed so far back to the system, the holes between what is still used too.

    `keep_freed_pages` leaves it with the process, where the tensors of a large volume find no hole of their size. Worth its page faults
    only between two steps of a large volume. Elsewhere than with glibc nothing happens.

    Returns:
        Whether there was any.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:  # musl
        return False
    return trim(0) == 1
