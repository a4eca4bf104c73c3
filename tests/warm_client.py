"""The program that `warm_python.py` gives: `python -I -S warm_client.py ADDRESS WORDS` has the process at the address run `python WORDS`."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys

HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


def list_files() -> list[int]:
    """Open files, those that are Python's own left out."""
    numbers = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208, pathlib takes time to import
        try:
            if os.get_inheritable(int(name)):
                numbers.append(int(name))
        except OSError:  # of the folder that was listed
            continue
    return sorted(numbers)


def main(address: str, words: list[str]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDED_ON)
    numbers = list_files()
    asked = {
        "words": words,
        "folder": os.getcwd(),  # noqa: PTH109, as above
        "environment": dict(os.environ),
        "numbers": numbers,
        "pid": os.getpid(),
    }
    text = json.dumps(asked).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [struct.pack("!II", len(text), len(numbers))], numbers)
        server.sendall(text)
        (pid,) = struct.unpack("!i", server.recv(4, socket.MSG_WAITALL))

        ours, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())  # so that none is lost just before the wait
        for number in HANDED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        for file in numbers:
            os.close(file)  # a pipe ends with the fork, not with this process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDED_ON)
        while server not in select.select([server, ours], [], [])[0]:
            for number in ours.recv(64):
                os.kill(pid, number)
        answer = server.recv(4, socket.MSG_WAITALL)
    status = struct.unpack("!i", answer)[0] if len(answer) == 4 else 1
    if status < 0:
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
