"""Writes docs/tutorials/first_walk.md from what a terminal of 80 columns shows: `.venv/bin/python docs/build_walk.py`.

The demo takes some minutes; `docs/build_walk.py own` leaves it as it is. A test runs the steps on the own folder again and compares;
numbers and times may differ, words may not.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.phantom_bundles import write_pictures  # noqa: E402
from tests.screens import run_in_terminal  # noqa: E402

TARGET = ROOT / "docs" / "tutorials" / "first_walk.md"
WIDTH = 80
PROGRAM = ".venv/bin/unet-pipeline"
DEMO = ("demo --out demo", "report demo/brain_tissue_demo")
# what a newcomer types on a folder of own images; `num_epochs` is here so that the page is made in a minute
OWN_FOLDER = (
    "check cells",
    "plan cells cells_bundle --preset quick",
    "train cells_bundle num_epochs=2 iterations_per_epoch=4 val_interval=1",
    "evaluate cells_bundle",
    "view cells_bundle",
    "report cells_bundle",
)
NUM_CASES = 8

_HEAD = """\
# A first walk

<!-- Made by docs/build_walk.py, which ran all of it in a terminal of 80 columns; run it again when the commands print something else. -->

From a clone to a report on your own folder, as the terminal shows it. Each step ends with the command of the next one. Your numbers will
differ.

## 1. Clone

```text
$ git clone ADDRESS unet-pipeline
$ cd unet-pipeline
```

ADDRESS is where you found this page. Python 3.11 or newer, pip and make have to be there. Next: `make demo`.

"""

_DEMO = """\
## 2. See it work

{demo}

The picture `demo/overlay.png` shows the outlines of reference and prediction. The report is one file for any browser:

{report}

## 3. Your own folder

`cells/images` has eight pictures here, `cells/labels` their label maps of the same names. [Other
layouts](../data.md#layouts) are read as well.

```text
{own}
```

The training is cut short here, by the words behind the bundle, so that this page can be made again in a minute; leave them out. What
the lines mean: [my ultrasound folder](ultrasound.md).
"""


def build_walk_text(folder: Path) -> str:
    """Contents of the page, from running every step in `folder`."""
    install(folder)
    demo, report = (show_step(folder, words) for words in DEMO)
    return compose(demo.replace("$ ", "$ make demo\n", 1), report, show_own(folder))  # make prints the command first


def show_own(folder: Path) -> str:
    """The steps on the own folder, which is made here."""
    write_pictures(folder / "cells", NUM_CASES)
    return "\n\n".join(show_step(folder, words) for words in OWN_FOLDER)


def compose(demo: str, report: str, own: str) -> str:
    """The page around its transcripts."""
    demo, report = (f"```text\n{shown}\n```" for shown in (demo, report))
    return _HEAD + _DEMO.format(demo=demo, report=report, own=own)


def install(folder: Path) -> None:
    """The program in `folder`, where the Makefile puts it."""
    program = folder / PROGRAM
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\nfrom unet_pipeline.cli import main\n\nmain()\n", encoding="utf-8")
    program.chmod(0o755)


def show_step(folder: Path, words: str) -> str:
    """A command and the screen after it.

    Raises:
        RuntimeError: it failed.
    """
    status, lines = run_in_terminal([PROGRAM, *words.split()], WIDTH, folder)
    if status:
        raise RuntimeError(f"{words} ended with status {status}:\n" + "\n".join(lines))
    return "\n".join([f"$ {PROGRAM} {words}", *lines])


def list_skeleton(text: str) -> list[str]:
    """Words of a transcript without what differs from run to run: numbers, times, where lines break, and how busy the machine is."""
    joined = " ".join(re.sub(r"[━╸╺─]+", "━", text).split())
    joined = re.sub(
        r"\btime:? (?:[a-z]+ \d+ %|about|less|not known).*?(?= fold \d| weights | Every number)", "", joined
    )
    return re.sub(r"[-+]?[\d.,:]*\d", "#", joined).split()


def main() -> None:
    """Write the page; with the word `own` the demo's part of it stays."""
    os.environ["PATH"] = os.defpath  # as in a terminal in which nothing is activated
    with tempfile.TemporaryDirectory() as place:
        if sys.argv[1:] == ["own"]:
            install(Path(place))
            demo, report = re.findall(r"```text\n(.*?)\n```", TARGET.read_text(encoding="utf-8"), re.DOTALL)[1:3]
            text = compose(demo, report, show_own(Path(place)))
        else:
            text = build_walk_text(Path(place))
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
