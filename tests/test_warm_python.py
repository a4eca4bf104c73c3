"""The program of warm_python.py does what `python` does with the same words: output, folder, environment, status, signals, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .warm_python import find_fork, warming_python

if not hasattr(os, "pidfd_open"):
    pytest.skip("needs descriptors of processes, as Linux has them", allow_module_level=True)

WAITING = "import sys, time; print('ready', flush=True); time.sleep(60)"


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """Has one module of the standard library imported, whose import is easily seen."""
    with warming_python(["colorsys"]) as program:
        yield program


@pytest.fixture(params=["python", "warm"])
def either(request: pytest.FixtureRequest) -> str:
    """Python itself, for what is expected, and the program."""
    return sys.executable if request.param == "python" else str(request.getfixturevalue("program"))


def run(python: str | Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(python), *words], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def start(python: str | Path, code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([str(python), "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def exists(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_modules_are_loaded_beforehand(program: Path) -> None:
    loaded = "import sys; print('colorsys' in sys.modules)"
    assert run(program, "-c", loaded).stdout == "True\n"
    assert run(sys.executable, "-c", loaded).stdout == "False\n"


def test_code_sees_its_words_folder_environment_and_input(either: str, tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv, os.getcwd(), os.environ['OF_THE_TEST'], sys.stdin.read()); print('e', file=sys.stderr)"
    environment = {**os.environ, "OF_THE_TEST": "a b"}
    done = run(either, "-c", code, "x y", "", cwd=tmp_path, env=environment, input="typed")
    assert (done.returncode, done.stderr) == (0, "e\n")
    assert done.stdout == f"['-c', 'x y', ''] {tmp_path} a b typed\n"


def test_module_and_script_are_main(either: str, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 5\n")
    (tmp_path / "one.py").write_text("import sys, beside\nprint(__name__, beside.VALUE, sys.argv[1:])\n")
    assert run(either, "-m", "one", "w", cwd=tmp_path).stdout == "__main__ 5 ['w']\n"
    assert run(either, str(tmp_path / "one.py"), "w").stdout == "__main__ 5 ['w']\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("", 0, ""),
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('no such file')", 1, "no such file\n"),
        ("raise SystemExit(None)", 0, ""),
        ("import atexit, sys; atexit.register(print, 'end', file=sys.stderr)", 0, "end\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, ""),
    ],
)
def test_status_is_that_of_python(either: str, code: str, status: int | None, said: str) -> None:
    done = run(either, "-c", code)
    assert done.stderr == said
    # a fork that was killed cannot be told from Python's own end by its status: the program itself was not
    assert done.returncode == status if status is not None else done.returncode != 0


def test_error_has_its_traceback(either: str) -> None:
    done = run(either, "-c", "def f():\n    raise ValueError('so it is')\nf()")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ValueError: so it is\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_code(either: str, number: signal.Signals) -> None:
    code = f"import signal; signal.signal({int(number)}, lambda n, f: exit(40 + n)); {WAITING}"
    with start(either, code) as process:
        process.send_signal(number)
        assert process.wait(30) == 40 + number


def test_fork_ends_when_the_program_is_killed(program: Path) -> None:
    with start(program, WAITING) as process:
        fork = find_fork(program, process.pid)
        assert fork != process.pid
        assert exists(fork)
        process.kill()
    end_s = time.monotonic() + 30
    while exists(fork):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_pipe_ends_with_the_fork(program: Path) -> None:
    with start(program, WAITING) as process:
        os.kill(find_fork(program, process.pid), signal.SIGKILL)
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(30) != 0


def test_python_itself_is_its_own_fork() -> None:
    assert find_fork(sys.executable, 1234) == 1234


def test_forks_know_nothing_of_each_other(program: Path) -> None:
    assert run(program, "-c", "import colorsys, random; colorsys.MARK = 1; print(random.random())").returncode == 0
    seen = [
        run(program, "-c", "import colorsys, random; print(hasattr(colorsys, 'MARK'), random.random())").stdout.split()
        for _ in range(2)
    ]
    assert [mark for mark, _ in seen] == ["False", "False"]
    assert seen[0][1] != seen[1][1], "each is seeded anew"
