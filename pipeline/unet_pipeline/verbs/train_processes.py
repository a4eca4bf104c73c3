"""The verb `train` in several processes of this machine, which PyTorch's launcher starts and watches.

`commands/train_process.py` is one of them; a temporary folder has what is asked for, and gets what came out.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.cohort.engines import LOCAL
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.device.cores import count_cores
from unet_pipeline.errors import PreemptedError, TrainingError
from unet_pipeline.progress import is_progress_shown

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing import PContext

    from unet_pipeline.training.run import TrainingRun

ASKED, ANNOUNCED = "asked.pickle", ".announced"
RUNS, ERROR, SIGNAL, DEFECT = "runs", "error", "signal", "defect"
_PROGRAM = "unet_pipeline.commands.train_process"
_FORWARDED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
_LOOK_EVERY_S = 0.25


def train_in_processes(
    num_processes: int, asked: Mapping[str, object], announce: Callable[[str], object]
) -> tuple[TrainingRun, ...]:
    """Start processes that train together, and wait for them.

    Args:
        num_processes: of this machine, 2 or more.
        asked: arguments of `train`.
        announce: is called with the lines of the first process.

    Raises:
        TrainingError: a process died, and names its number; there are more of them than GPUs; or as `train` in one process does.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

    from unet_pipeline.training.processes import is_launched, require_gpus

    if is_launched():
        raise TrainingError(
            f"--processes {num_processes} was given to a process that a launcher such as torchrun has started already. Leave it out; the "
            "launcher says how many there are."
        )
    require_gpus(num_processes)
    # it tells about every process that ended; the error here does so once
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="unet-pipeline-") as name, _hosting_store(num_processes) as port:
        folder = Path(name)
        (folder / ASKED).write_bytes(pickle.dumps((dict(asked), is_progress_shown())))
        with _signals_put_back():
            context = start_processes(
                "train",
                sys.executable,
                dict.fromkeys(range(num_processes), ("-m", _PROGRAM, name)),
                {rank: _describe_process(rank, num_processes, port) for rank in range(num_processes)},
                DefaultLogsSpecs(log_dir=name),
            )
            _wait(context, lambda: _relay(folder, announce))
        return _conclude(folder, context)


@contextmanager
def _hosting_store(num_processes: int) -> Iterator[int]:
    """The port of this machine at which the processes find each other, while the block runs."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, num_processes, is_master=True, wait_for_workers=False)
    yield store.port


def _describe_process(rank: int, num_processes: int, port: int) -> dict[str, str]:
    """What torchrun tells a process by its environment, and its share of the threads."""
    environment = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": num_processes,
        "LOCAL_WORLD_SIZE": num_processes,
        "GROUP_RANK": 0,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": 0,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", max(1, count_cores() // num_processes)),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        # modules are found where this process finds them, and not in the current folder
        "PYTHONPATH": os.pathsep.join(place or str(Path.cwd()) for place in sys.path),
        "PYTHONSAFEPATH": 1,
    }
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return {key: str(value) for key, value in environment.items()}


@contextmanager
def _signals_put_back() -> Iterator[None]:
    """Undo what PyTorch's launcher does to this process's signals."""
    is_main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP", "SIGQUIT")
    before = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None))}
    try:
        yield
    finally:
        for number, handler in before.items() if is_main else ():
            signal.signal(number, handler)


def _wait(context: PContext, look: Callable[[], None]) -> None:
    """Until all have ended; signals that ask to stop go on to them, and one that dies ends the others."""

    def forward(number: int, _: FrameType | None) -> None:
        for process in context.pids().values():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                continue

    if threading.current_thread() is threading.main_thread():
        for number in _FORWARDED:
            signal.signal(number, forward)
    try:
        while context.wait(timeout=0) is None:
            look()
            time.sleep(_LOOK_EVERY_S)
    finally:
        context.close()
        look()


def _relay(folder: Path, announce: Callable[[str], object]) -> None:
    """Announce what the first process has left to be announced since the last time."""
    for path in sorted(folder.glob(f"[0-9]*{ANNOUNCED}")):
        announce(path.read_text(encoding="utf-8"))
        path.unlink()


def _conclude(folder: Path, context: PContext) -> tuple[TrainingRun, ...]:
    """The runs of the first process, or the error of the process that failed first."""
    outcomes = {rank: _read_outcome(folder, rank) for rank in range(context.nprocs)}
    kind, content = outcomes[0]
    if kind == RUNS:
        return tuple(content)
    dead = [rank for rank, (kind, _) in outcomes.items() if kind == ""]
    codes = {rank: handler.proc.returncode for rank, handler in context.subprocess_handlers.items()}  # type: ignore[attr-defined]
    errors = {rank: content for rank, (kind, content) in outcomes.items() if kind in (ERROR, DEFECT)}
    # where one died or failed, the others were asked to stop by this process, and say so
    is_failure = any(codes[rank] != -signal.SIGTERM for rank in dead) or any(
        name != "LostProcessError" for _, name, _ in errors.values()
    )
    if kind == SIGNAL and not is_failure:
        if content[0] == "SIGINT":
            raise KeyboardInterrupt
        stop = PreemptedError(content[0])
        stop.is_recorded = content[1]
        raise stop
    # those that this process had to end were asked to first
    dead.sort(key=lambda rank: (codes[rank] == -signal.SIGTERM, codes[rank] > 0, rank))
    if dead:
        raise TrainingError(_describe_end(dead[0], context.nprocs, codes[dead[0]]))
    rank, (module, name, message) = min(errors.items(), key=lambda item: (item[1][1] == "LostProcessError", item[0]))
    if outcomes[rank][0] == DEFECT:
        raise TrainingError(
            f"Process {rank} of 0 to {context.nprocs - 1} ended with an error of the program ({message}), and the others with it. The "
            "checkpoints are whole: `unet-pipeline train BUNDLE --resume` continues."
        )
    error = getattr(import_module(module), name)
    own = error if error.__init__ is Exception.__init__ else TrainingError  # others are made of parts
    raise own(message if rank == 0 else f"Process {rank} of 0 to {context.nprocs - 1}: {message}")


def _read_outcome(folder: Path, rank: int) -> tuple[str, Any]:
    path = folder / f"{rank}.pickle"
    return pickle.loads(path.read_bytes()) if path.is_file() else ("", None)


def _describe_end(rank: int, num_processes: int, code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        how = f"was ended by the signal {name}" + (
            ", as the system does when memory runs out" if name == "SIGKILL" else ""
        )
    else:
        how = f"ended with status {code} without a word"
    return (
        f"Process {rank} of 0 to {num_processes - 1} {how}; the others were ended. The checkpoints are whole: continue with "
        "`unet-pipeline train BUNDLE --resume`, on any number of processes."
    )


def joins_as_secondary() -> bool:
    """Join the processes that a launcher started, if any; whether another of them leads."""
    from unet_pipeline.training.processes import is_launched, is_secondary, start_process_group

    if is_launched():
        start_process_group()
    return is_secondary()


def train_together(
    processes: int, workers: JobOptions | None, asked: dict[str, object], announce: Any
) -> tuple[TrainingRun, ...]:
    """Train in several processes of this machine.

    Raises:
        TrainingError: fewer than one, or workers for several folds too.
    """
    if processes < 1:
        raise TrainingError(f"The number of processes is {processes}; expected 1 or more.")
    if workers is not None:
        raise TrainingError(
            f"--processes is {processes}, and {_name_option(workers)} is given: the one trains a fold in several processes of this machine, "
            "the other is about several folds at a time. Leave out one of both."
        )
    return train_in_processes(processes, asked, announce)


def _name_option(workers: JobOptions) -> str:
    """The option that asks for workers, as the user gave it."""
    if workers.engine != LOCAL:
        return f"--engine {workers.engine}"
    return f"--threads {workers.num_threads}" if workers.num_workers == 1 else f"--jobs {workers.num_workers}"


def follow_first(bundle: Path | str) -> tuple[TrainingRun, ...]:
    """Train along with the first process, which decides what and keeps the records."""
    from unet_pipeline.training.processes import take_from_first
    from unet_pipeline.training.run import run_training

    folder, runs = open_bundle(bundle), list[Any]()
    while (settings := take_from_first(None)) is not None:
        runs.append(run_training(folder, settings))
    return tuple(runs)
