"""The newcomer's walk: what its page shows is what the commands print, and each step names the next one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from unet_pipeline import lean_imports
from unet_pipeline.cli import app, main
from unet_pipeline.commands import demo as demo_command
from unet_pipeline.verbs import demo as demo_verb

from .screens import fake_terminal
from .scripts import load_script

WALK: Any = load_script("docs/build_walk.py")
PAGE = WALK.TARGET.read_text(encoding="utf-8")
PROMPT = f"$ {WALK.PROGRAM} "


def list_steps() -> Iterator[tuple[str, list[str]]]:
    """Words of each command of the page and the lines after it."""
    for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL):
        for step in re.split(r"(?m)^\$ ", block)[1:]:
            command, _, output = step.partition("\n")
            yield command.removeprefix(f"{WALK.PROGRAM} "), output.splitlines()


STEPS = dict(list_steps())


def test_walk_has_every_step_in_its_order() -> None:
    assert list(STEPS) == [
        "git clone ADDRESS unet-pipeline",
        "cd unet-pipeline",
        "make demo",
        WALK.DEMO[1],
        *WALK.OWN_FOLDER,
    ]


def test_walk_fits_80_columns() -> None:
    for command, lines in STEPS.items():
        assert all(len(line) <= WALK.WIDTH for line in lines), command


def test_walk_each_step_says_the_next_one() -> None:
    own = WALK.OWN_FOLDER
    said = {command: [line for line in lines if line.startswith("Next: ")] for command, lines in STEPS.items()}
    assert said["make demo"] == [f"Next: {WALK.PROGRAM} check DATASET"]
    for step, following in pairwise(own):
        (line,) = said[step]
        # the training is shorter on the page
        assert following.startswith(line.removeprefix(f"Next: {WALK.PROGRAM} ")), step
    assert said[own[-1]] == [f"Next: {WALK.PROGRAM} package cells_bundle"]


def test_walk_names_no_folder_of_the_machine_that_made_it() -> None:
    assert not re.search(r"(?<![\w.])/(tmp|work|home|usr|root)/", PAGE)


def test_walk_commands_exist() -> None:
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {step.split()[0] for step in (*WALK.DEMO, *WALK.OWN_FOLDER)} <= verbs.keys()


def test_walk_own_folder_prints_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    WALK.install(tmp_path)
    WALK.write_pictures(tmp_path / "cells", WALK.NUM_CASES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    # the processes of the page end after their verb; this one goes on to tests that need all of MONAI
    monkeypatch.setattr(lean_imports, "arrange_lean_import", lambda **_: False)
    for step in WALK.OWN_FOLDER:
        terminal = fake_terminal(monkeypatch, WALK.WIDTH)
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "argv", [WALK.PROGRAM, *step.split()])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code, terminal.lines
        shown = WALK.list_skeleton("\n".join(terminal.lines))
        assert shown == WALK.list_skeleton("\n".join(STEPS[step])), f"{step}: run `.venv/bin/python docs/build_walk.py`"


def test_walk_demo_says_what_the_verb_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the demo are those of its source; its end is printed again with its results left out."""
    terminal = fake_terminal(monkeypatch, WALK.WIDTH, "stdout")
    monkeypatch.setattr(sys, "argv", ["unet-pipeline"])
    bundle = SimpleNamespace(root=Path("demo/brain_tissue_demo"))
    package = SimpleNamespace(zip_file=Path("demo/brain_tissue_demo.zip"))
    pages = {"report": bundle.root / "evidence" / "report.html", "page": Path("demo/brain_tissue_demo_view.html")}
    result = SimpleNamespace(bundle=bundle, package=package, overlay=Path("demo/overlay.png"), evaluation=None, **pages)
    monkeypatch.setattr(demo_verb, "demo", lambda out, announce: result)
    monkeypatch.setattr(demo_command, "print_evaluation", lambda evaluation: None)
    monkeypatch.setattr(demo_command, "evaluation_as_data", lambda evaluation: {})
    demo_command.demo(Path("demo"))
    page = "\n".join(STEPS["make demo"]).replace(WALK.PROGRAM, "unet-pipeline")
    assert "\n".join(terminal.lines).strip() in page
    source = Path(demo_verb.__file__).read_text(encoding="utf-8")
    announced = [line.removeprefix("== ") for line in page.splitlines() if line.startswith("== ")]
    assert len(announced) >= 5
    assert all(re.split(r": (?=about|less)|\d", line)[0] in source for line in announced)
