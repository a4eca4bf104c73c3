"""Script -> notebook: writes each `.ipynb` of this folder from the script of the same name, and executes it.

python notebooks/build.py                      # all
python notebooks/build.py 01_look_at_the_data  # some
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from unet_pipeline.files import write_text

FOLDER = Path(__file__).parent
TIMEOUT_S = 1800  # of one cell; a machine may be busy
WIDGET = "application/vnd.jupyter.widget-view+json"
# without versions and display names, which differ between machines
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
}


def find_scripts(names: list[str]) -> list[Path]:
    """Scripts of the given names, with or without suffix; all when none is given.

    Raises:
        SystemExit: there is no such script.
    """
    scripts = {path.stem: path for path in sorted(FOLDER.glob("[0-9][0-9]_*.py"))}
    wanted = [Path(name).stem for name in names] or list(scripts)
    if unknown := [name for name in wanted if name not in scripts]:
        raise SystemExit(f"There is no notebook {unknown[0]}; expected one of {', '.join(scripts)}.")
    return [scripts[name] for name in wanted]


def build_notebook(script: Path) -> NotebookNode:
    """The executed notebook of a script; equal scripts and equal outputs give equal files.

    Raises:
        CellExecutionError: a cell failed; its traceback is in the message.
    """
    os.environ.pop("NOTEBOOK_FAST", None)  # what is committed is the full run
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = NotebookNode(METADATA)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=TIMEOUT_S,
            record_timing=False,
            coalesce_streams=True,  # how a kernel cuts its output into pieces depends on the moment
            resources={"metadata": {"path": folder}},
        )
        client.execute()
    notebook.metadata = NotebookNode(METADATA)  # the kernel added its versions
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"  # random otherwise
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_of_this_machine(output)]
    return notebook


def _is_of_this_machine(output: NotebookNode) -> bool:
    """Warnings of libraries, with their paths; and a widget, which is dead without its kernel, and whose program a page would fetch."""
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def main(names: list[str]) -> None:
    for script in find_scripts(names):
        print(f"{script.stem} ...", end=" ", flush=True)
        started_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        text = nbformat.writes(build_notebook(script))  # nothing is written when a cell fails
        write_text(script.with_suffix(".ipynb"), text.rstrip("\n") + "\n")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{time.monotonic() - started_s:.0f} s by the clock, {processor_s:.0f} s of processor time")


if __name__ == "__main__":
    main(sys.argv[1:])
