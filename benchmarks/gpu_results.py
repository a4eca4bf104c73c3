"""What `gpu.py` has measured: rows, the targets that they are held against, the results file and the table beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from unet_pipeline.files import write_json, write_text

RATIO = "ratio"


@dataclass(frozen=True)
class Row:
    """One thing that was measured.

    Attributes:
        part: of the benchmark.
        what: was measured; with the part it is unique.
        unit: of the values.
        values: one per turn or block of steps; empty where it failed.
        details: whatever else belongs to it, as plain values.
        failure: why there are no values, in a line.
    """

    part: str
    what: str
    unit: str = ""
    values: tuple[float, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""

    @property
    def middle(self) -> float:
        return median(self.values)


@dataclass(frozen=True)
class Target:
    """A figure that is wanted: a row, or the ratio of two, at least or at most so much."""

    name: str
    row: tuple[str, str]
    limit: float
    at_least: bool
    divisor: tuple[str, str] | None = None

    def judge(self, rows: Mapping[tuple[str, str], Row]) -> dict[str, Any]:
        """Value and whether it was met; both None where a row is missing."""
        needed = [rows.get(key) for key in (self.row, self.divisor) if key is not None]
        value = None
        if all(row is not None and row.values for row in needed):
            value = needed[0].middle / (needed[1].middle if self.divisor else 1.0)
        met = None if value is None else (value >= self.limit if self.at_least else value <= self.limit)
        return {"name": self.name, "at_least": self.at_least, "limit": self.limit, "value": value, "met": met}


BARE, LOOP, PEER = ("bare", "compiled with CUDA graphs"), ("loop", "our whole loop"), ("nnunet", "nnU-Net's loop")
KERNELS = ("profile", "kernels by wall time of a step")
QUICK, DICE = ("quick", "`train`, quick, to the end"), ("quick", "mean Dice of the validation cases")
PREDICT, EVALUATE = ("predict", "`predict` of 52 cases"), ("evaluate", "`evaluate` of the validation cases")
CT_BARE, CT_LOOP = ("ct", "bare network, compiled"), ("ct", "our whole loop")
CT_MEMORY = ("ct", "memory of a step by its forecast")


def name_volume(num_classes: int, precision: str) -> tuple[str, str]:
    """Key of the row for the whole process."""
    return "volume", f"`predict` of a volume, {num_classes} classes, {precision}"


def name_network(num_classes: int, precision: str) -> tuple[str, str]:
    """Key of the row for the time in the network."""
    return "volume", f"of it in the network, {num_classes} classes, {precision}"


TARGETS = (
    Target("our loop by the bare network, compiled with CUDA graphs (patches a second)", LOOP, 0.9, True, BARE),
    Target("our loop by nnU-Net's (patches a second, each on nnU-Net's plan)", LOOP, 1.5, True, PEER),
    Target("kernels by wall time of our step", KERNELS, 0.9, True),
    Target("`train` of quick to its end (s)", QUICK, 60, False),
    Target("`predict` of 52 cases (s)", PREDICT, 8, False),
    Target("`evaluate` of 42 cases (s)", EVALUATE, 8, False),
    Target("512x512x300, 3 classes (s)", name_volume(3, "float32"), 12, False),
    Target("512x512x300, 60 classes (s)", name_volume(60, "float32"), 14, False),
    Target(
        "3 classes: float32 by bfloat16 in the network (s)",
        name_network(3, "float32"),
        1.5,
        True,
        name_network(3, "bfloat16"),
    ),
    Target(
        "60 classes: float32 by bfloat16 in the network (s)",
        name_network(60, "float32"),
        1.5,
        True,
        name_network(60, "bfloat16"),
    ),
    Target("CT: our loop by the bare compiled network (patches a second)", CT_LOOP, 0.95, True, CT_BARE),
    Target("CT: memory of a step by its forecast, at most", CT_MEMORY, 1.2, False),
    Target("CT: memory of a step by its forecast, at least", CT_MEMORY, 0.8, True),
)


def read_rows(path: Path) -> list[Row]:
    """Rows that a worker has left so far, one JSON object a line; a line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            content = json.loads(line)
        except ValueError:
            continue
        rows.append(Row(**{**content, "values": tuple(content["values"])}))
    return rows


def read_results(path: Path) -> list[Row]:
    """Rows of a results file; none where there is no such file."""
    content = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    names = [one.name for one in fields(Row)]
    return [Row(**{name: row[name] for name in names} | {"values": tuple(row["values"])}) for row in content]


def write_results(out: Path, name: str, run: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write NAME.json and NAME.md below `out`.

    Args:
        out: folder.
        name: of both files.
        run: command, date, commit, machine, versions, and whether it is a short one.
        rows: in the order of the table.
    """
    known = {(row.part, row.what): row for row in rows}
    judged = [] if run["is_short"] or not run["machine"]["gpu"] else [target.judge(known) for target in TARGETS]
    measured = [{**asdict(row), **({"median": row.middle} if row.values else {}), "n": len(row.values)} for row in rows]
    write_json(out / f"{name}.json", {**run, "targets": judged, "rows": measured})
    write_text(out / f"{name}.md", build_text(run, rows, judged))


def build_text(run: Mapping[str, Any], rows: Sequence[Row], judged: Sequence[Mapping[str, Any]]) -> str:
    """The whole page: what ran where, the targets, and every row."""
    machine = run["machine"]
    gpu = f"{machine['gpu']} ({machine['gpu_memory_gib']} GiB, driver {machine['gpu_driver']}, CUDA {machine['cuda']})"
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    lines = [
        "# On a GPU" if machine["gpu"] else "# The GPU benchmark on a processor, to try it out",
        "",
        f"`{run['command']}`, {run['date']}, commit {run['commit']}, {gpu if machine['gpu'] else 'no GPU'}, {machine['num_cores']} cores "
        f"{machine['processor']}, {machine['memory_gib']} GiB, Python {machine['python']}, {versions}; {run['load']}. "
        f"{run['minutes']:.1f} minutes. Medians.",
        "",
    ]
    if run["is_short"]:
        lines += [
            "`--short`: a few steps on a few cases, which shows that every part runs; the numbers mean nothing.",
            "",
        ]
    if judged:
        lines += ["| target | wanted | measured | |", "| --- | --- | --- | --- |"]
        for one in judged:
            value = "not measured" if one["value"] is None else f"{one['value']:.3g}"
            met = {None: "open", True: "met", False: "**missed**"}[one["met"]]
            lines.append(
                f"| {one['name']} | {'at least' if one['at_least'] else 'at most'} {one['limit']:g} | {value} | {met} |"
            )
        lines.append("")
    lines += [
        "| part | what | median | smallest | largest | n | details |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(list_cells(row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def list_cells(row: Row) -> list[str]:
    """Cells of a row's line."""
    details = "; ".join(f"{key} {show(value)}" for key, value in row.details.items() if value not in ("", None))
    if not row.values:
        return [row.part, row.what, "failed", "", "", "0", row.failure.replace("|", "/") or details]
    numbers = [f"{show(row.middle)} {row.unit}".strip(), show(min(row.values)), show(max(row.values))]
    return [row.part, row.what, *numbers, str(len(row.values)), details.replace("|", "/")]


def show(value: Any) -> str:
    """Four digits of a number, a list without brackets, and text as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(show, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {show(one)}" for key, one in value.items())
    return str(value)
