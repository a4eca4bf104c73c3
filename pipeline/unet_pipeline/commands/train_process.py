"""One of the processes that `train --processes` starts: `python -m unet_pipeline.commands.train_process FOLDER`."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from unet_pipeline.boundary import guarded
from unet_pipeline.commands.stopping import preemptible
from unet_pipeline.errors import PipelineError, PreemptedError
from unet_pipeline.files import write_atomically, write_text
from unet_pipeline.library_warnings import silence_libraries
from unet_pipeline.progress import show_progress
from unet_pipeline.verbs.train_processes import ANNOUNCED, ASKED, DEFECT, ERROR, RUNS, SIGNAL


def main(folder: Path) -> None:
    """Do what is asked for, and leave what came out."""
    threading.Thread(target=_follow_launcher, args=(os.getppid(),), daemon=True).start()
    silence_libraries()
    outcome, status = _train(folder)
    with write_atomically(folder / f"{os.environ['RANK']}.pickle") as partial:
        partial.write_bytes(pickle.dumps(outcome))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a group of processes of which one has died may not let the others go


def _train(folder: Path) -> tuple[tuple[str, Any], int]:
    """What came out, and the exit status."""
    from unet_pipeline.verbs.train import train

    asked, is_shown = pickle.loads((folder / ASKED).read_bytes())
    numbers = itertools.count()
    show_progress(is_shown and os.environ["RANK"] == "0")
    try:
        with guarded(), preemptible():
            runs = train(
                **asked, announce=lambda line: write_text(folder / f"{next(numbers):06d}{ANNOUNCED}", str(line))
            )
            return (RUNS, runs), 0
    except PreemptedError as stop:
        return (SIGNAL, (stop.signal_name, stop.is_recorded)), 0
    except KeyboardInterrupt:
        return (SIGNAL, ("SIGINT", True)), 0
    except PipelineError as error:
        return (ERROR, (type(error).__module__, type(error).__name__, str(error))), 1
    except Exception as error:
        if os.environ.get("UNET_PIPELINE_DEBUG"):
            traceback.print_exc()
        described = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return (DEFECT, ("builtins", type(error).__name__, described)), 1


def _follow_launcher(launcher: int) -> None:
    """Stop, as after a signal of a batch system, when the process that started this one is gone."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
