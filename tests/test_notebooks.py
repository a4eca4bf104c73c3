"""The committed notebooks are their scripts, executed without an error; and the scripts still run."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
KernelManager = pytest.importorskip("jupyter_client").KernelManager

FOLDER = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.])(?:/(?:home|work|tmp|root|usr|opt|var|mnt|private|Users|content)\b|[A-Z]:\\)|site-packages"
)
MAX_PICTURE_BYTES = 150_000
TIMEOUT_S = 600  # of one cell
# what the notebook before it left: variables, figures, silenced logs
FORGET = "%reset -f\nimport logging, warnings\nlogging.disable(logging.NOTSET)\nwarnings.resetwarnings()"

pytestmark = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def read_script(script: Path) -> nbformat.NotebookNode:
    return jupytext.read(script, fmt="py:percent")


def read_committed(script: Path) -> nbformat.NotebookNode:
    path = script.with_suffix(".ipynb")
    assert path.is_file(), f"{path.name} is missing; run `make notebooks`"
    return nbformat.read(path, as_version=4)


def list_code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def list_outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in list_code(notebook) for output in cell.outputs]


# the scripts


def test_script_first_cell_asks_a_question_and_last_one_asserts(script: Path) -> None:
    cells = read_script(script).cells
    assert cells[0].cell_type == "markdown"
    assert re.match(r"# .+\?\n", cells[0].source)
    assert re.search(r"^assert ", cells[-1].source, re.MULTILINE)


def test_script_cells_none_is_skipped_and_none_defines_a_function(script: Path) -> None:
    cells = list_code(read_script(script))
    num_skipped = sum(any("skip" in tag for tag in cell.metadata.get("tags", [])) for cell in cells)
    assert num_skipped == 0
    assert not any(re.search(r"^\s*(def|class|%%script)\b|\blambda\b", cell.source, re.MULTILINE) for cell in cells)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path, Path]]:
    """One kernel for all scripts, which loads PyTorch and MONAI once, with its working and its temporary folder."""
    root = tmp_path_factory.mktemp("kernel")
    folders = {name: root / name for name in ("working", "temporary", "compiler")}
    for folder in folders.values():
        folder.mkdir()
    changed = {
        "NOTEBOOK_FAST": "1",
        "TMPDIR": str(folders["temporary"]),  # so that a forgotten folder is seen
        "TORCHINDUCTOR_CACHE_DIR": str(folders["compiler"]),  # PyTorch makes it at its first optimizer
    }
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folders["working"]), env=os.environ | changed)
    yield manager, folders["working"], folders["temporary"]
    manager.shutdown_kernel(now=True)


def execute(notebook: nbformat.NotebookNode, manager: Any) -> None:
    client = nbclient.NotebookClient(notebook, km=manager, timeout=TIMEOUT_S)
    with client.setup_kernel(cleanup_kc=False):
        client.execute(cleanup_kc=False)  # raises at a cell that fails


@pytest.mark.slow
def test_script_executed_with_few_steps_runs_every_cell_and_leaves_nothing_behind(
    script: Path, kernel: tuple[Any, Path, Path]
) -> None:
    manager, working, temporary = kernel
    notebook = read_script(script)
    cells = list_code(notebook)
    assert "NOTEBOOK_FAST" in cells[0].source
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FORGET))
    execute(notebook, manager)
    assert all(cell.execution_count for cell in cells)
    assert [path.name for path in working.iterdir()] == []
    assert [path.name for path in temporary.iterdir()] == []


# the committed notebooks


def test_committed_notebook_has_the_cells_of_its_script(script: Path) -> None:
    expected, found = read_script(script).cells, read_committed(script).cells
    assert len(found) == len(expected), f"{script.stem}: run `make notebooks`"
    for number, (cell, committed) in enumerate(zip(expected, found, strict=True)):
        assert (committed.cell_type, committed.source) == (cell.cell_type, cell.source), f"cell {number} differs"


def test_committed_notebook_every_cell_ran_once_in_order_without_an_error(script: Path) -> None:
    notebook = read_committed(script)
    cells = list_code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output.evalue for output in list_outputs(notebook) if output.output_type == "error"] == []
    assert "assert " in cells[-1].source


def test_committed_notebook_shows_small_pictures(script: Path) -> None:
    pictures = [
        base64.b64decode(content)
        for output in list_outputs(read_committed(script))
        for kind, content in output.get("data", {}).items()
        if kind in ("image/png", "image/jpeg")
    ]
    assert pictures
    assert all(picture.startswith((b"\x89PNG", b"\xff\xd8\xff")) for picture in pictures)
    assert max(map(len, pictures)) < MAX_PICTURE_BYTES


def test_committed_notebook_shows_no_absolute_path(script: Path) -> None:
    for output in list_outputs(read_committed(script)):
        data = {kind: content for kind, content in output.get("data", {}).items() if not kind.startswith("image/")}
        shown = "".join(output.get("text", "")) + json.dumps(data)
        assert not (found := ABSOLUTE_PATH.search(shown)), f"shows {shown[found.start() : found.end() + 60]!r}"
