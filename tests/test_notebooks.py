"""The committed notebooks are their scripts, executed without an error; and the scripts still run."""

from __future__ import annotations

import ast
import base64
import json
import re
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[1] / "notebooks"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
ABSOLUTE_PATH = re.compile(
    r"(?<![\w.])(?:/(?:home|work|tmp|root|usr|opt|var|mnt|private|Users|content)\b|[A-Z]:\\)|site-packages"
)
MAX_PICTURE_BYTES = 150_000
TIMEOUT_S = 600  # of one cell
# the others train several networks; their committed form shows that they ran, and here only that all they import is there
EXECUTED = ("01_look_at_the_data", "02_from_fingerprint_to_plan", "03_train_predict_and_measure")

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


@pytest.mark.slow
def test_script_executed_runs_every_cell_and_leaves_nothing_behind(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script.stem not in EXECUTED:
        imports = [node for node in ast.parse(script.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), script.name, "exec"), {})
        return
    working, temporary = tmp_path / "working", tmp_path / "temporary"
    working.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))  # the kernel's, so that a forgotten folder is seen
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torchinductor")
    )  # PyTorch makes it at its first optimizer
    notebook = read_script(script)
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", timeout=TIMEOUT_S, resources={"metadata": {"path": str(working)}}
    )
    client.execute()  # raises at a cell that fails
    assert [cell.execution_count for cell in list_code(notebook)] == list(range(1, len(list_code(notebook)) + 1))
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
