"""The boundary between the operating system and the user: what goes wrong with a file becomes one sentence with file, cause and remedy.

The command line and every function of `import unet_pipeline` run inside `guarded`. Nothing in between needs to know what a full disk is.
"""

from __future__ import annotations

import ast
import errno
import functools
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from unet_pipeline.errors import FileContentError, FileError, PipelineError
from unet_pipeline.files import PARTIAL_PREFIX

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Sentence(NamedTuple):
    cause: str
    remedy: str


_AGAIN = "then run the same command again"
_FULL = _Sentence("cannot be written: the disk is full", f"Free some space or choose another folder, {_AGAIN}.")
_DENIED = _Sentence(
    "may not be read or written by this user", f"Change its permissions or choose another place, {_AGAIN}."
)
_LOCKED = _Sentence(
    "is a folder in which this user may not make or open files",
    f"Change its permissions or choose another place, {_AGAIN}.",
)
_NETWORK = _Sentence("cannot be reached: {system}", f"Look at the disk or the network drive, {_AGAIN}.")
_SENTENCES = {
    "ENOSPC": _FULL,
    "EDQUOT": _Sentence(
        "cannot be written: the quota of this user is used up", f"Free some space or choose another folder, {_AGAIN}."
    ),
    "EFBIG": _Sentence(
        "cannot be written: it is larger than the file system or a limit (ulimit -f) allows",
        f"Raise the limit or choose another folder, {_AGAIN}.",
    ),
    "EACCES": _DENIED,
    "EPERM": _DENIED,
    "EROFS": _Sentence("cannot be written: the file system is read-only", f"Choose another folder, {_AGAIN}."),
    "ENOENT": _Sentence("does not exist", f"Check the path, or restore it, {_AGAIN}."),
    "EEXIST": _Sentence("exists already and is no folder", "Choose another name, or remove it."),
    "ENOTDIR": _Sentence("lies below something that is no folder", "Check the path, or choose another one."),
    "EISDIR": _Sentence("is a folder; expected a file", "Give the name of a file."),
    "ENOTEMPTY": _Sentence("is not empty", "Choose another folder, or empty it."),
    "ELOOP": _Sentence("is a symbolic link that leads to itself", "Correct the link, or give the path of the file."),
    "ENAMETOOLONG": _Sentence("has a name that is too long for the file system", "Choose a shorter name."),
    "EILSEQ": _Sentence("has a name that the file system cannot hold", "Choose a name of plain letters and digits."),
    "EINVAL": _Sentence("cannot be used: {system}", "Choose another name or place."),
    "EIO": _Sentence("cannot be read or written: the disk reports an error", "Look at the disk or the network drive."),
    "ESTALE": _NETWORK,
    "ETIMEDOUT": _NETWORK,
    "EHOSTDOWN": _NETWORK,
    "ENOTCONN": _NETWORK,
    "ENODEV": _NETWORK,
    "ENXIO": _Sentence(
        "is a pipe or a socket that no program reads", "Start that program first, or give the name of a file."
    ),
    "EMFILE": _Sentence("cannot be opened: too many files are open", f"Raise the limit (ulimit -n), {_AGAIN}."),
    "ENFILE": _Sentence("cannot be opened: too many files are open", f"Close other programs, {_AGAIN}."),
    "ENOMEM": _Sentence("cannot be used: there is no memory left", f"Close other programs, {_AGAIN}."),
    "EBUSY": _Sentence("is in use by another program", f"Close that program, {_AGAIN}."),
    "ETXTBSY": _Sentence("is in use by another program", f"Close that program, {_AGAIN}."),
}
_BY_NUMBER = {number: sentence for name, sentence in _SENTENCES.items() if (number := getattr(errno, name, None))}
_OTHER = _Sentence("cannot be read or written: {system}", "Look at the file and its folder.")
# what libraries say instead of raising an error of the system
_FULL_IN_WORDS = ("No space left on device", os.strerror(errno.ENOSPC))
_NUMBER_IN_WORDS = re.compile(r"\[Errno (\d+)\]")
_LOOP_IN_WORDS = re.compile(r"Symlink loop(?: from (?P<path>'.*'|\".*\"))?", re.DOTALL)  # pathlib
_NO_TEMPORARY_FOLDER = "No usable temporary directory"  # tempfile
_TEMPORARY_NAME = re.compile(r"tmp[a-z0-9_]{8}|(unet-pipeline|reproduce)-.*")
_ROOT_CAUSES = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG, errno.EROFS)
_MAX_PARTS = 3  # of a path that lies elsewhere: no message has a whole one
_LINKS = (OSError, UnicodeError, RecursionError, RuntimeError, MemoryError, json.JSONDecodeError)
# of RuntimeErrors: PyTorch's allocators and those of the libraries under it have no class of their own for all of them
_NO_MEMORY_IN_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@contextmanager
def guarded() -> Iterator[None]:
    """Let what the system says about files in the block, and what damaged text does, be a `PipelineError`.

    Errors of this package stay what they are, also where a library raised another one from them.
    """
    name_unknown_user()
    try:
        yield
    except _LINKS as error:
        explained = explain(error)
        if explained is None or explained is error:
            raise
        raise explained from error


@functools.cache
def guard(function: _Function) -> _Function:
    """The function, run inside `guarded`; for the same function the same one every time."""

    @functools.wraps(function)
    def run(*arguments: Any, **keywords: Any) -> Any:
        with guarded():
            return function(*arguments, **keywords)

    return run  # type: ignore[return-value]


def explain(error: BaseException) -> PipelineError | None:
    """The error in the user's words; None where neither it nor what it was raised from is about a file, which is a defect."""
    causes = list_causes(error)
    for cause in causes:
        if isinstance(cause, PipelineError):
            return cause
    causes.sort(key=_rank)
    for cause in causes:
        if (explained := _explain_one(cause)) is not None:
            return explained
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the CPU or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY_IN_WORDS)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk has no room left, or this user no quota."""
    if isinstance(error, OSError):
        return error.errno is not None and error.errno in _ROOT_CAUSES[:2]
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL_IN_WORDS)


def describe_failure(error: BaseException, max_chars: int = 200) -> str:
    """What a library says that raises errors of many kinds, on one line.

    Raises:
        FileError: the system refused a file, which is the cause then.
    """
    for cause in list_causes(error):
        is_refused = isinstance(cause, OSError) and cause.errno is not None
        if (is_refused or _NUMBER_IN_WORDS.search(str(cause))) and isinstance(explained := explain(error), FileError):
            raise explained from error
    return " ".join(str(error).split())[:max_chars] or type(error).__name__


def describe_cause(error: OSError) -> str:
    """What is wrong with a file that is only read, continuing a sentence that begins with it."""
    return _explain_system(error).cause.replace("read or written", "read")


def list_sentences() -> list[tuple[str, str, str]]:
    """Name of the system's error, cause and remedy of every message about a file."""
    return [(name, *sentence) for name, sentence in _SENTENCES.items()]


def show_place(path: str | os.PathLike[str]) -> str:
    """A path for a message: below the current folder as the user would type it, elsewhere its last parts; a device whole.

    Of a file that is not finished yet it is the place where it was to lie.
    """
    place = Path(os.fsdecode(path))
    parts = list(place.parts)
    for index, part in enumerate(parts):
        if part.startswith(PARTIAL_PREFIX):
            final = part.removeprefix(PARTIAL_PREFIX).partition("-")[2]
            parts = [*parts[:index], *([final] if final else [])]
            break
    place = Path(*parts) if parts else Path()
    with suppress(OSError):  # the current folder may be gone
        if place.is_absolute() and place.is_relative_to(here := Path.cwd()):
            return _printable(str(place.relative_to(here)))
    if not place.is_absolute() or place.parts[1:2] in (("dev",), ("proc",)):
        return _printable(str(place))
    return _printable("/".join(place.parts[1:][-_MAX_PARTS:]) or str(place))


def name_unknown_user() -> None:
    """Give a user whom the system does not know, as in a container, a name; libraries ask for one while they are imported."""
    if os.name == "nt" or any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        return
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ["USER"] = f"user-{os.getuid()}"
        if "HOME" not in os.environ:  # as pathlib and others would ask the system for it
            os.environ["HOME"] = tempfile.gettempdir()


def let_streams_print() -> None:
    """Let stdout and stderr write what the code page of the terminal lacks as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def list_causes(error: BaseException, with_hidden: bool = False) -> list[BaseException]:
    """The error, then what it was raised from or while handling.

    Args:
        with_hidden: also what `raise ... from None` keeps from the reader.
    """
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in causes:
        causes.append(current)
        current = current.__cause__ or (
            None if current.__suppress_context__ and not with_hidden else current.__context__
        )
    return causes


def _rank(cause: BaseException) -> int:
    """Place of a cause among several: cleaning up after a full disk fails too, and a file that is missing is often made then."""
    number = cause.errno if isinstance(cause, OSError) else None
    return 0 if number in _ROOT_CAUSES else 2 if number in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY) else 1


def _explain_one(error: BaseException) -> PipelineError | None:
    if isinstance(error, OSError):
        return _explain_system(error)
    if is_out_of_memory(error):
        cause = " ".join(_printable(str(error)).split())[:120] or "the system gave no more"
        return PipelineError(
            f"There is not enough memory ({cause}). Close other programs, or use a machine with more memory."
        )
    if isinstance(error, UnicodeEncodeError):
        return FileError(
            "A name",
            f"cannot be written as {error.encoding}: {_printable(error.object[error.start : error.end])!r}",
            "Rename the file, or set PYTHONUTF8=1.",
        )
    if isinstance(error, UnicodeError):
        return FileContentError(
            "A text file", f"is damaged or not in UTF-8: {error}", "Restore it, or save it as UTF-8."
        )
    if isinstance(error, json.JSONDecodeError):
        return FileContentError("A JSON file", f"is not valid JSON: {error}", "Restore it, or correct it.")
    if isinstance(error, RecursionError):
        return FileContentError("A file", "is nested too deeply", "Restore the files of the bundle or of the dataset.")
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL_IN_WORDS):
        return FileError("A file", *_FULL)
    if isinstance(error, RuntimeError) and (numbers := _NUMBER_IN_WORDS.findall(str(error))):
        return FileError("A file", *_BY_NUMBER[int(numbers[-1])]) if int(numbers[-1]) in _BY_NUMBER else None
    if isinstance(error, RuntimeError) and (loop := _LOOP_IN_WORDS.match(str(error))):
        return FileError(_name_loop(loop["path"]), *_SENTENCES["ELOOP"])
    return None


def _name_loop(quoted: str | None) -> str:
    """A path as pathlib quotes it, for a message."""
    with suppress(ValueError, SyntaxError):
        return show_place(str(ast.literal_eval(quoted or "")))
    return "A path"


def _explain_system(error: OSError) -> FileError:
    if _NO_TEMPORARY_FOLDER in str(error):
        return FileError(
            "No folder for temporary files",
            "can be written",
            f"Free some space, or set TMPDIR to another folder, {_AGAIN}.",
        )
    sentence = _BY_NUMBER.get(error.errno or 0, _OTHER)
    named = error.filename if error.filename not in (None, "") else error.filename2
    if isinstance(named, int) or named is None:
        shown = "A file"
    else:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            named, sentence = _find_locked(Path(os.fsdecode(named)), sentence)
        shown = show_place(named)
        if (temporary := _find_temporary(named)) is not None:
            shown, sentence = temporary, _Sentence(sentence.cause, f"Set TMPDIR to another folder, {_AGAIN}.")
    system = _printable(" ".join(str(error.strerror or error or type(error).__name__).split()))
    return FileError(shown, sentence.cause.format(system=system.rstrip(".")), sentence.remedy)


def _find_locked(place: Path, sentence: _Sentence) -> tuple[Path, _Sentence]:
    """Of a file that is not there, the folder above it in which it could not be made."""
    above = next((folder for folder in place.parents if os.path.lexists(folder)), place)
    if os.path.lexists(place):
        return place, sentence
    return above, _LOCKED if sentence is _DENIED else sentence


def _find_temporary(path: str | bytes | os.PathLike[str]) -> str | None:
    """In words, a file that Python made for a while; None for any other."""
    place, folder = Path(os.fsdecode(path)), Path(tempfile.gettempdir())
    if not place.is_relative_to(folder):
        return None
    first = next(iter(place.relative_to(folder).parts), "")
    return "A file in the folder for temporary files" if _TEMPORARY_NAME.fullmatch(first) else None


def _printable(text: str) -> str:
    """The text with bytes of file names that are no UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
