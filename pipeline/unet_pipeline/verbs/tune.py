"""`tune`: post-processing and temperature, chosen on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_trusted
from unet_pipeline.bundle.data_state import require_unchanged_data
from unet_pipeline.bundle.folder import require_weights
from unet_pipeline.bundle.seal import break_seal
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.groups import group_by_fold
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.verbs.tune_jobs import sampling_by_jobs

if TYPE_CHECKING:
    from unet_pipeline.tuning.choose import Tuning


def tune(
    bundle: Path | str,
    device: str | None = None,
    mirror: bool = False,
    trust: bool = False,
    jobs: int = 1,
    engine: str = "local",
    threads: int | None = None,
    address: str | None = None,
    sbatch: Mapping[str, str] | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Tuning:
    """Choose post-processing and temperature on predictions of validation cases, each by the fold that has not seen it.

    What is chosen goes into plan.yaml with its reason, the configs are written again, and evidence/tuning.json keeps all that was
    tried; evidence/tuning_run.json is the record of the run.

    Args:
        bundle: trained.
        device, mirror, trust: as in `predict`.
        jobs, engine, threads, address, sbatch: who predicts and tries, as in `predict`; what was cut off goes on.
        announce: called with who works.

    Raises:
        CohortError: workers cannot be had, or cases failed (the message lists them; the others are kept).
        BundleError: no weights, or configs that were edited by hand.
        DatasetError: images or label maps that the bundle was planned from have changed since.
        EvaluationError: no case to choose on; or the bundle gives instances.
    """
    from unet_pipeline.evidence.records.prediction_record import record_tuning
    from unet_pipeline.tuning.apply import require_generated_configs, tune_bundle

    workers = JobOptions(jobs, engine, threads, address, sbatch or {}).workers()
    folder = open_trusted(bundle, "tune", trust, sealed=False)
    require_weights(folder)
    folder.require_data()
    require_generated_configs(folder)
    require_unchanged_data(folder)
    if read_plan(folder.plan).instance_targets is not None:
        raise EvaluationError(
            f"{folder.name} gives instances, and `tune` chooses what is done to label maps. Change instance_seed_threshold and "
            "instance_smallest in its configs/plan.yaml instead."
        )
    groups, _, title = group_by_fold(folder, read_plan(folder.plan))
    break_seal(folder)  # from here on the bundle has another record than it was sealed with
    with (
        record_tuning(folder, groups, {"device": device, "mirror": mirror}) as record,
        sampling_by_jobs(folder, groups, record.cases, device, mirror, workers, announce) as sample_all,
    ):
        return tune_bundle(folder, groups, title, device, mirror, sample_all)
