"""A Python that starts in a tenth of a second with PyTorch and MONAI loaded: each program is a fork of one process that has imported them.

`warming_python` gives the path of a program that takes the words of `python`: `-m MODULE`, `-c CODE` or a script, with `-B`, `-E`, `-I`,
`-u` and `-W`. It hands them, its environment, its folder and its open files on to the process that waits (`warm_client.py`), passes
signals on, and ends as the fork does; the fork ends when the program is killed. What it starts with `sys.executable` begins as quickly.
It is not for tests of what is imported, nor of what libraries read from the environment while they are imported.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import selectors
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

CLIENT = Path(__file__).with_name("warm_client.py")
# Dynamo is what every first optimizer imports
OF_TRAINING = ("torch._dynamo", "ignite.engine", "monai.bundle.scripts", "unet_pipeline.training.run")
STOCK = ("ignite.engine", "monai.bundle.scripts")
_FIRST_MOVED = 500  # where files lie for a moment, above all numbers that a program has
_HEAD = struct.Struct("!II")  # bytes of the request, number of files


@contextmanager
def warming_python(
    modules: Sequence[str], python: str | Path = sys.executable, environment: dict[str, str] | None = None
) -> Iterator[Path]:
    """The program's path within the block; it is the Python itself where the system has no descriptors of processes (Linux has).

    Args:
        modules: what is imported beforehand.
        python: of what environment; its programs begin in its folder of packages.
        environment: of the process that waits; None takes this one's.
    """
    if not hasattr(os, "pidfd_open"):
        yield Path(python)
        return
    with tempfile.TemporaryDirectory(prefix="warm-") as name:
        address, program = Path(name) / "socket", Path(name) / "python"
        words = [str(python), "-I", "-S", str(CLIENT), str(address)]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        command = [python, __file__, address, program, *modules]
        with subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield program
            process.stdin.close()


def find_fork(program: str | Path, pid: int) -> int:
    """The number of the process that does what the program with a number was started for, to be killed at once; of a Python its own."""
    if not Path(program).with_name("socket").exists():
        return pid
    place = Path(program).with_name(str(pid))
    while not place.is_file():
        time.sleep(0.01)
    return int(place.read_text(encoding="utf-8"))


# in the process that waits


def main(address: str, program: str, modules: Sequence[str]) -> None:
    """Import, then wait for programs until stdin ends; each fork ends with its program."""
    own_path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [place for place in sys.path[1:] if place not in own_path]  # without this file's folder
    packages = list(sys.path)
    sys.path[:0] = filter(None, own_path)
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen(64)
    os.write(1, b"ready\n")
    request = serve(server, address)
    if request is None:
        os._exit(0)
    sys.executable = program
    sys.path[:] = packages
    finish(request)


def serve(server: socket.socket, address: str) -> dict[str, Any] | None:
    """In this process None, once stdin ends; in a fork what it shall run."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ, "end")
    selector.register(server, selectors.EVENT_READ, "client")
    while True:
        for key, _ in selector.select():
            if key.data == "end":
                return None
            if key.data == "client":
                client, _ = server.accept()
                request, files = receive(client)
                pid = os.fork()
                if pid == 0:
                    for other in selector.get_map().values():
                        if isinstance(other.fileobj, socket.socket):
                            other.fileobj.close()  # not later, when its number is the program's
                    selector.close()
                    client.close()
                    take_over(request["numbers"], files)
                    return request
                for file in files:
                    os.close(file)
                note = Path(address).with_name(str(request["pid"]))
                note.with_suffix(".part").write_text(str(pid), encoding="utf-8")
                note.with_suffix(".part").rename(note)
                client.sendall(struct.pack("!i", pid))
                ended = os.pidfd_open(pid)
                for descriptor in (ended, client):
                    selector.register(descriptor, selectors.EVENT_READ, (pid, ended, client))
                continue
            pid, ended, client = key.data
            if selector.get_map().get(ended) is None:
                continue  # both came at once
            if key.fileobj is client:  # the program was killed
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            with suppress(OSError):
                client.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
            selector.unregister(ended)
            selector.unregister(client)
            os.close(ended)
            client.close()


def receive(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What a program was started with, and its open files under numbers of this process."""
    head, files, _, _ = socket.recv_fds(client, _HEAD.size, 250)
    size, _ = _HEAD.unpack(head)
    text = b""
    while len(text) < size:
        text += client.recv(size - len(text))
    return json.loads(text), list(files)


# in a fork


def take_over(numbers: Sequence[int], files: Sequence[int]) -> None:
    """Have the files of the program under its numbers, and no others."""
    import fcntl

    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, _FIRST_MOVED) for file in files]
    os.closerange(0, _FIRST_MOVED)
    for number, file in zip(numbers, moved, strict=True):
        os.dup2(file, number)
        os.close(file)


def finish(request: dict[str, Any]) -> NoReturn:
    """Run it, and end as Python does, but without taking a million objects apart."""
    status = 0
    try:
        run(request)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        status = 120
    os._exit(status & 0xFF)


def run(request: dict[str, Any]) -> None:
    """Be what `python WORDS` is, in the program's folder and environment."""
    words = list(request["words"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    tempfile.tempdir = None
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    is_isolated = open_streams = False
    while words[0] not in ("-c", "-m") and words[0].startswith("-"):
        word = words.pop(0)
        if word == "-W":
            warnings._processoptions([words.pop(0)])  # type: ignore[attr-defined]
        elif word in ("-I", "-E"):
            is_isolated = True
        elif word == "-u":
            open_streams = True
        elif word != "-B":
            raise SystemExit(f"warm_python.py knows no {word}")
    set_streams(open_streams or bool(os.environ.get("PYTHONUNBUFFERED")))
    if not is_isolated:
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].__dict__["__builtins__"] = __builtins__
    start(words)


def set_streams(is_unbuffered: bool) -> None:
    """Python's own streams, made again for the program's files."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = None  # of a closed file, as Python has it
        with suppress(OSError):
            raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
            through = is_unbuffered and number > 0
            stream = io.TextIOWrapper(
                io.BufferedReader(raw) if number == 0 else raw if through else io.BufferedWriter(raw),
                errors="backslashreplace" if number == 2 else None,
                line_buffering=number == 2 or raw.isatty(),
                write_through=through,
            )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def start(words: list[str]) -> None:
    """Run a module, code, or a script as `__main__`."""
    import runpy

    if words[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = ["-m", *words[2:]]
        runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]
    elif words[0] == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        sys.argv = words
        names = sys.modules["__main__"].__dict__
        names["__file__"] = words[0]
        exec(compile(Path(words[0]).read_bytes(), words[0], "exec"), names)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
