"""The commands that README and the documentation show, where each stands, and which of them no test runs, with the reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "data/*.md", "bundles/*.md", "notebooks/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)

# what a line of an indented block begins with when it is a command; in a block that names a shell every line is one
_PROGRAMS = (
    "(?:unet-pipeline|(?:\\S*/)?python3?|pip|make|git|docker|conda|uv|bash|sh|curl|wget|mkdir|cp|mv|export|ssh-keygen|"
    "torchrun|tensorboard|mlflow|monailabel|trtexec|sphinx-build|jupyter|nnUNetv2_\\w+)(?![\\w-])"
)
_COMMAND = re.compile(rf"(?:\$ )?((?:cd \S+ && |[A-Z_]+=\S+ )*(?:{_PROGRAMS}|monai\.bundle\.\w+\().*|cd \S+)")
_SHELL_BLOCK = re.compile(r"^```(?:bash|sh|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# commands that no test runs as they stand, by a pattern of "PAGE: COMMAND", and why
MARKS = {
    r"docs/cli\.md: ": "a synopsis with brackets, made from the command itself (tests/test_docs.py)",
    r"docs/experiments.*: ": "a dated record of what was run then, on data and a commit of that day",
    r".*: make (test|lint|demo|notebooks|docs|docs-serve|monailabel)\b": "minutes, or a server; `make --dry-run` is run instead",
    r".*: pip install": "asks a package index; that the extra exists is tested instead",
    r".*: MLFLOW_DISABLE_TELEMETRY=true mlflow ": "serves until stopped; tests/test_evidence_records_tracking.py reads its options",
    r"docs/howto/pacs\.md: unet-pipeline ": "needs a DICOMweb server; tests/bundles/test_dicomweb.py starts one",
    r".*: unet-pipeline \w+ .*--engine (ray|slurm)": "needs a cluster; `make test-ray` and `make test-slurm` start one",
    r".*: unet-pipeline (validate|learning-curve) (?!.*--dry-run)": "ten patients, or hours; phantoms in tests/bundles/test_validate.py",
    r".*: unet-pipeline predict .*--strict": "needs a packaged bundle; tests/test_quality_contract.py makes one",
    r".*: torchrun --nnodes": "needs two machines",
    r".*: unet-pipeline train BUNDLE --fold all --jobs 4$": "the same with --jobs 2 is run",
    r".*: cd BUNDLE && torchrun ": "tests/bundles/test_stock_monai.py runs it, with two processes",
    r"docs/deployment\.md: (monailabel|curl) ": "needs MONAI Label's own environment; `make monailabel` runs these",
    r"docs/deployment\.md: (trtexec|python -m monai\.bundle trt_export) ": "needs TensorRT",
}


class Command(NamedTuple):
    """A command line, its continuation lines joined and its comment removed."""

    page: str
    text: str

    @property
    def mark(self) -> str:
        """Why no test runs it; empty where one does."""
        place = f"{self.page}: {self.text}"
        return next((reason for pattern, reason in MARKS.items() if re.match(pattern, place)), "")


def list_commands() -> list[Command]:
    """All of them, page by page in the order of the text, one of each on a page."""
    return list(dict.fromkeys(Command(page, text) for page in PAGES for text in find_commands(_read(page))))


def find_commands(text: str) -> list[str]:
    """Commands in the code blocks of a page."""
    blocks = [*_SHELL_BLOCK.findall(text), *re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)]
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    matches = [_COMMAND.fullmatch(re.sub(r"\s+#\s.*", "", line).strip()) for line in lines]
    return [part for match in matches if match for part in match[1].split("; ")]


def summarize_marks() -> str:
    """How many there are, and how many are marked."""
    commands = list_commands()
    marked = sum(bool(command.mark) for command in commands)
    return f"documentation: {len(commands)} commands, {marked} of them marked as not run, each with its reason"


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")
