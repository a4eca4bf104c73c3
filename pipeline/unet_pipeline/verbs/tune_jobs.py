"""`tune --jobs`: every validation case is an item; a worker predicts it, tries the candidates on it and draws its voxels.

The record and the voxels lie in evidence/tuning_cases until the choice is made, so that one that was cut off goes on.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from unet_pipeline.bundle.folder import BundleFolder
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
from unet_pipeline.cohort.record import Row, open_record
from unet_pipeline.cohort.run import run_items
from unet_pipeline.device.cores import count_cores
from unet_pipeline.evaluation.groups import Group, ReferencedImage
from unet_pipeline.files import compute_sha256, write_atomically
from unet_pipeline.prediction.inputs import PredictionInput

if TYPE_CHECKING:
    from unet_pipeline.evidence.records.prediction_record import TunedCase
    from unet_pipeline.tuning.choose import CaseSample, SampleAll


class TuningWork(BaseModel):
    """What `open_tuning` needs: bundle and output folder, weights of each group, sizes of parts to try, and options of `tune`."""

    bundle: Path
    weights: tuple[tuple[Path, ...], ...]
    out: Path
    device: str | None
    mirror: bool
    sizes: tuple[float, ...] = ()


class TuningItem(BaseModel):
    """A case for a worker: number of its group, see `ReferencedImage` for its files and facts; `key` is its item's."""

    source: PredictionInput
    group: int
    label: Path
    pixel_spacing_mm: tuple[float, ...] | None
    missing_values: tuple[int, ...]
    key: str


class TriedCase(BaseModel):
    """What a worker tells of a case: see `CaseSample`, whose voxels are in the file of the outputs."""

    rows: list[tuple[str, str, str, float]]
    outputs: dict[str, str]


OPENER = "unet_pipeline.verbs.tune_jobs:open_tuning"
CASES = "tuning_cases"


@contextmanager
def sampling_by_jobs(
    folder: BundleFolder,
    groups: Sequence[Group],
    hashes: Mapping[str, TunedCase],
    device: str | None,
    mirror: bool,
    workers: JobOptions | None,
    announce: Callable[[str], None],
) -> Iterator[SampleAll | None]:
    """How cases are sampled: by workers, None for this process. What workers left goes when the block ends without an error.

    Args:
        hashes: of the files of each case, by name.
        announce: called with who works.
    """
    out = folder.evidence / CASES
    if workers is None:
        yield None
        shutil.rmtree(out, ignore_errors=True)
        return
    out.mkdir(parents=True, exist_ok=True)

    def sample_all(sizes: Sequence[float]) -> Iterator[CaseSample]:
        work = TuningWork(
            bundle=folder.root.absolute(),
            weights=tuple(tuple(path.absolute() for path in group.weights) for group in groups),
            out=out.absolute(),
            device=device,
            mirror=mirror,
            sizes=tuple(sizes),
        )
        return _sample_by_jobs(groups, hashes, work, workers, announce)

    yield sample_all
    shutil.rmtree(out)


def _sample_by_jobs(
    groups: Sequence[Group],
    hashes: Mapping[str, TunedCase],
    work: TuningWork,
    workers: JobOptions,
    announce: Callable[[str], None],
) -> Iterator[CaseSample]:
    """The samples in the order of the cases.

    Raises:
        CohortError: workers cannot be had, or cases failed (the message lists them; the others are kept).
    """
    out, share = work.out, workers.share(count_cores(), work.device)
    items = _build_items(groups, hashes, work)

    def is_there(item: Item, row: Row) -> bool:
        return all((out / name).is_file() and compute_sha256(out / name) == row.outputs[name] for name in row.outputs)

    with open_record(out) as record:
        engine = workers.build(share, len(items), out)
        announce(f"workers  {engine.num_workers} ({workers.engine}) with {share.num_threads} thread(s) each")
        run = run_items(items, Work(OPENER, write_values(work)), engine, record, "tune", is_there=is_there)
        run.require_all("cases")
        for settled in run.iterate():
            yield _read_sample(out, settled.row)


def _build_items(groups: Sequence[Group], hashes: Mapping[str, TunedCase], work: TuningWork) -> list[Item]:
    root = BundleFolder(work.bundle)
    of_all: list[object] = [list(work.sizes), work.mirror, work.device]
    of_all += [compute_sha256(path) for path in (root.plan, root.config("inference"))]
    of_weights = [[compute_sha256(path) for path in group.weights] for group in groups]
    cases = [(number, case) for number, group in enumerate(groups) for case in group.cases]
    names = tell_apart([case.source.name for _, case in cases], [f"fold {groups[number].fold}" for number, _ in cases])
    items = []
    for name, (number, case) in zip(names, cases, strict=True):
        inputs = {**hashes[case.source.name].files_sha256, "label": hashes[case.source.name].label_sha256}
        key = hash_parts([case.source.name, *of_all, of_weights[number], list(inputs.items()), *case.missing_values])
        item = TuningItem(
            source=case.source.absolute(),
            group=number,
            label=case.label.absolute(),
            pixel_spacing_mm=case.pixel_spacing_mm,
            missing_values=case.missing_values,
            key=key,
        )
        items.append(Item(name, key, write_values(item), float(case.label.stat().st_size), inputs))
    return items


def _read_sample(out: Path, row: Row) -> CaseSample:
    import numpy as np

    from unet_pipeline.tuning.choose import CaseSample

    tried = row.read(TriedCase)
    with np.load(out / next(iter(tried.outputs))) as arrays:
        return CaseSample(tried.rows, arrays["probabilities"], arrays["classes"])


# in a worker


def open_tuning(arguments: Arguments, share: Share) -> Function:
    """Make the process ready; the network of a fold is loaded with its first case. See `Work`.

    Args:
        arguments: of `TuningWork`.
        share: of this worker.
    """
    from unet_pipeline.planning.plan import read_plan
    from unet_pipeline.prediction.transforms import TransformsEngine
    from unet_pipeline.verbs.predict import arrange_process

    work = read_values(arguments, TuningWork, "What a worker of `tune` was given")
    folder, device = BundleFolder(work.bundle), share.device or work.device
    arrange_process(folder, True, device)
    plan, engines = read_plan(folder.plan), dict[int, TransformsEngine]()
    staging = Path(tempfile.mkdtemp(dir=work.out))

    def sample_item(item: Arguments, smaller: bool) -> Arguments:
        import numpy as np
        import torch

        from unet_pipeline.prediction.out_of_memory import release_cached_memory
        from unet_pipeline.tuning.choose import build_engine, sample_case

        asked = read_values(item, TuningItem, "What a worker of `tune` was given of a case")
        weights, engine = work.weights[asked.group], engines.get(asked.group)
        if smaller:  # for this case alone: the others keep the bits that they would have had
            engine = None
            engines.clear()
            release_cached_memory(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
        if engine is None:
            engine = build_engine(folder, weights, staging, device, work.mirror, smaller)
        if not smaller:
            engines[asked.group] = engine
        facts = (asked.pixel_spacing_mm or None, None, asked.missing_values)
        case = ReferencedImage(asked.source, asked.label, *facts)
        sample = sample_case(engine, case, plan, work.sizes, staging)
        path = work.out / f"{asked.key}.npz"
        with write_atomically(path) as partial:
            np.savez(partial, probabilities=sample.probabilities, classes=sample.classes)
        return write_values(TriedCase(rows=sample.rows, outputs={path.name: compute_sha256(path)}))

    return sample_item
