"""`evaluate --jobs`: every case that is measured is an item, whose numbers stand in `jobs.sqlite` beside metrics.csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, TypeAdapter

import unet_pipeline
from unet_pipeline.cohort.items import (
    Arguments,
    Function,
    Item,
    Share,
    Work,
    hash_parts,
    read_values,
    tell_apart,
    write_values,
)
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.cohort.record import open_record
from unet_pipeline.cohort.run import run_items
from unet_pipeline.dataset.image_files import hash_image_files
from unet_pipeline.dataset.instance_maps import find_instances
from unet_pipeline.device.cores import count_cores
from unet_pipeline.evaluation.pairs import Pair
from unet_pipeline.messages import Problem

if TYPE_CHECKING:
    from unet_pipeline.evaluation.cases import CaseMeasurement, MeasureAll, Measured


class MeasuredCase(BaseModel):
    """What a worker tells of a case: rows of metrics.csv, and what was done to its label maps."""

    rows: list[dict[str, object]]
    notes: list[Problem]


OPENER = "unet_pipeline.verbs.evaluate_jobs:open_measurement"


def choose_measuring(workers: JobOptions | None, target: Path) -> MeasureAll | None:
    """How cases are measured: by workers, with the record in `target`; None for threads of this process."""
    if workers is None:
        return None

    def measure_all(pairs: Sequence[Pair], measurement: CaseMeasurement) -> list[Measured]:
        return _measure_by_jobs(pairs, measurement, workers, target)

    return measure_all


def _measure_by_jobs(
    pairs: Sequence[Pair], measurement: CaseMeasurement, workers: JobOptions, target: Path
) -> list[Measured]:
    """Rows and notes of each pair, in their order; what was measured of the same files before is kept.

    Raises:
        CohortError: workers cannot be had, or cases cannot be measured (the message lists them; the others are kept).
    """
    settings = _dump(measurement)
    names = tell_apart([pair.case for pair in pairs], [f"fold {pair.fold}" for pair in pairs])
    items = [_build_item(name, pair, settings) for name, pair in zip(names, pairs, strict=True)]
    target.mkdir(parents=True, exist_ok=True)
    with open_record(target) as record:
        engine = workers.build(workers.share(count_cores()), len(items), target)
        run = run_items(items, Work(OPENER, {"measurement": settings}), engine, record, "evaluate")
        run.require_all("cases")
        results = [settled.row.read(MeasuredCase) for settled in run.iterate()]
    return [(result.rows, result.notes) for result in results]


def _build_item(name: str, pair: Pair, settings: Arguments) -> Item:
    arguments = _dump(pair)
    files = [pair.reference.absolute(), pair.prediction.absolute()]
    files += [] if (instances := find_instances(pair.reference)) is None else [instances.absolute()]
    files += () if pair.source is None else pair.source.files  # their grid counts where a label map is cropped
    inputs = hash_image_files(files)
    facts = {name: value for name, value in arguments.items() if name not in ("reference", "prediction", "source")}
    key = hash_parts([unet_pipeline.__version__, settings, facts, list(inputs.items())])
    return Item(name, key, arguments, float(pair.reference.stat().st_size), inputs)


def _dump(value: Any) -> Any:
    """A dataclass as JSON's values; paths are absolute, because a worker may stand elsewhere."""
    content = TypeAdapter(type(value)).dump_python(value, mode="json")
    for name in ("reference", "prediction"):
        if name in content:
            content[name] = str(getattr(value, name).absolute())
    if content.get("source"):
        content["source"]["files"] = [str(file.absolute()) for file in value.source.files]
    return content


# in a worker


def open_measurement(arguments: Arguments, share: Share) -> Function:
    """Make the process ready to measure; see `Work`.

    Args:
        arguments: measurement (of `CaseMeasurement`).
        share: of this worker.
    """
    from unet_pipeline.evaluation.cases import CaseMeasurement

    measure = TypeAdapter(CaseMeasurement).validate_python(arguments["measurement"])

    def measure_item(item: Arguments, smaller: bool) -> Arguments:
        rows, notes = measure(read_values(item, Pair, "What a worker of `evaluate` was given of a case"))
        plain = [{name: _as_plain(value) for name, value in row.items()} for row in rows]
        return write_values(MeasuredCase(rows=plain, notes=notes))

    return measure_item


def _as_plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
