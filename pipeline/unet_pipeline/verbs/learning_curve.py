"""`learning_curve`: the same training on nested subsets of a dataset, measured on the same held-out cases.

The trainings are the folds of one bundle: fold k trains on subset k, and all folds validate on the held-out cases. So training,
resuming, workers, prediction and evaluation are those of any cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.write import refresh_bundle
from unet_pipeline.cohort.options import JobOptions
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.dataset.options import ReadOptions
from unet_pipeline.dataset.split import Fold
from unet_pipeline.errors import DatasetError, PlanError
from unet_pipeline.files import write_atomically, write_json
from unet_pipeline.planning.edit import edit_plan
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.planning.splits import Splits, choose_splits
from unet_pipeline.progress import describe_time
from unet_pipeline.text_files import read_json_object
from unet_pipeline.verbs.evaluate import evaluate
from unet_pipeline.verbs.plan import plan_checked
from unet_pipeline.verbs.stores import fetches
from unet_pipeline.verbs.train import forecast_training, train

if TYPE_CHECKING:
    from unet_pipeline.dataset.check import CheckReport
    from unet_pipeline.studies.learning_curve import LearningCurve
    from unet_pipeline.studies.subsets import Subset
    from unet_pipeline.verbs.evaluate import Evaluation

_DESIGN, _RESULT, _BUNDLE = "design.json", "learning_curve.json", "bundle"
_NUM_FOLDS = 5  # one of them is held out
_MORE_SHARE = 4


@dataclass(frozen=True)
class CurveDesign:
    """What is trained and measured.

    Attributes:
        sizes: training cases; an eighth, a quarter, a half and all, if empty.
        repeats: orders of the patients.
        metric: id; the mean of the labels is taken.
        more: further cases that are asked about; a quarter of those there are, if None.
        preset: of the plan.
        steps: of every training; the preset's, if None.
        seed: of orders, held-out cases and trainings.
    """

    sizes: tuple[int, ...] = ()
    repeats: int = 3
    metric: str = "dice"
    more: int | None = None
    preset: str = "quick"
    steps: int | None = None
    seed: int = 0


@fetches("dataset", stays=True)
def learning_curve(
    dataset: Path | str,
    out: Path | str,
    design: CurveDesign | None = None,
    labels: dict[str, int] | None = None,
    options: ReadOptions | None = None,
    data_root: Path | str | None = None,
    is_dry_run: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    device: str | None = None,
    jobs: int = 1,
    engine: str = "local",
    threads: int | None = None,
    address: str | None = None,
    sbatch: Mapping[str, str] | None = None,
) -> LearningCurve | None:
    """Train on nested subsets, measure on held-out cases, fit a power law; the same call again does what is missing.

    Args:
        dataset, labels, options, data_root: as in `plan`.
        out: gets the bundle with the trainings, learning_curve.json, its points as CSV, and the figure.
        design: sizes, repeats and so on.
        is_dry_run: plan, tell the time, and stop.
        announce: called with lines about the design, the time beforehand, and the trainings.
        device: of the measurement, as in `predict`.
        jobs, engine, threads, address, sbatch: who trains and measures, as in `train`.

    Returns:
        None for a dry run, and for trainings that a signal stopped.

    Raises:
        DatasetError: the dataset has an error, or sizes do not fit it.
        PlanError: `out` has another design.
        EvaluationError: the metric cannot be fitted.
        CohortError: trainings failed (the message lists them; the others are done).
    """
    from unet_pipeline.studies.protocol import require_metric

    chosen = design or CurveDesign()
    _require_sensible(chosen)
    require_metric(chosen.metric)
    workers = JobOptions(jobs, engine, threads, address, sbatch or {}).check()
    options = options or ReadOptions()
    read = read_dataset(dataset, options.layout, options.follow_links, data_root, options.missing_channels)
    folder, subsets = _prepare(Path(out), read.root, chosen, lambda: check_dataset(read, labels, options))
    plan = read_plan(folder.plan)
    _tell_design(folder, subsets, plan, jobs, announce)
    if is_dry_run:
        return None
    who = workers.as_arguments()
    runs = train(folder.root, "all", resume=True, announce=announce, **who)
    if any(run.stopped_by is not None for run in runs):
        return None
    measured = evaluate(folder.root, device=device, announce=announce, **who)
    return _write_result(Path(out), measured, subsets, chosen, plan, sum(run.duration_s for run in runs) / 3600)


def _require_sensible(design: CurveDesign) -> None:
    for name, value in (("--repeats", design.repeats), ("--more", design.more), ("--steps", design.steps)):
        if value is not None and value < 1:
            raise PlanError(f"{name} is {value}; expected 1 or more.")


def _prepare(
    out: Path, root: Path, design: CurveDesign, check: Callable[[], CheckReport]
) -> tuple[BundleFolder, tuple[Subset, ...]]:
    """The bundle and its subsets: planned now, or what an earlier call has planned."""
    folder, settings = BundleFolder(out / _BUNDLE), _describe_design(root.resolve().name, design)
    if folder.is_planned:
        _require_same_design(out, settings)
    else:
        report = check()
        splits, subsets = _nest(report, design)
        plan_checked(folder.root, report, splits, design.preset, design.seed)
        described = [{"size": one.size, "repeat": one.repeat} for one in subsets]
        write_json(out / _DESIGN, {**settings, "subsets": described})
    _fix_steps(folder, design)
    return folder, _read_subsets(out, folder)


def _nest(report: CheckReport, design: CurveDesign) -> tuple[Splits, tuple[Subset, ...]]:
    """Splits of the bundle: a fold for each subset, all with the same validation cases."""
    from unet_pipeline.studies.subsets import choose_sizes, nest_subsets

    own = choose_splits(report, _NUM_FOLDS, design.seed)
    held_out = own.folds[0].validation
    pool = tuple(case for case in own.folds[0].training if case not in set(held_out))
    if not pool:
        raise DatasetError(
            f"Dataset {report.dataset.name} has one patient; expected several, because held-out cases are of others. Add cases of other "
            f"patients."
        )
    sizes = choose_sizes(len(pool), design.sizes)
    subsets = nest_subsets(pool, report.patients, sizes, design.repeats, design.seed)
    folds = tuple(Fold(subset.cases, held_out) for subset in subsets)
    return replace(
        own, folds=folds, method="nested subsets, for a learning curve; held out is fold 0 of " + own.method
    ), subsets


def _describe_design(dataset: str, design: CurveDesign) -> dict[str, object]:
    """What must not change between two calls; metric and `more` may."""
    fixed = {name: value for name, value in asdict(design).items() if name not in ("metric", "more")}
    return {"dataset": dataset, **fixed, "sizes": sorted(set(design.sizes))}


def _require_same_design(out: Path, settings: Mapping[str, object]) -> None:
    earlier = read_json_object(out / _DESIGN, ("subsets",), PlanError, f"{_DESIGN} of {out.name}")
    for name, value in settings.items():
        if earlier.get(name) != value:
            raise PlanError(
                f"{out.name} has a learning curve with {name} {earlier.get(name)}, and {value} is asked for now. Choose another folder, "
                f"or ask "
                "for the same."
            )


def _fix_steps(folder: BundleFolder, design: CurveDesign) -> None:
    """The steps that were asked for, and one validation, at the end: the held-out cases choose no weights."""
    plan = read_plan(folder.plan)
    num_epochs = plan.num_epochs
    if design.steps is not None:
        num_epochs = max(1, round(design.steps / plan.iterations_per_epoch))
    iterations = plan.iterations_per_epoch
    if design.steps is not None and design.steps < iterations:
        num_epochs, iterations = 1, design.steps
    if (plan.num_epochs, plan.iterations_per_epoch, plan.val_interval) == (num_epochs, iterations, num_epochs):
        return
    reason = "the same for every subset of the learning curve"
    edit_plan(
        folder.plan,
        {
            "num_epochs": (num_epochs, reason),
            "iterations_per_epoch": (iterations, reason),
            "val_interval": (num_epochs, "once, at the end, so that the held-out cases choose no weights"),
        },
    )
    refresh_bundle(folder.root)


def _read_subsets(out: Path, folder: BundleFolder) -> tuple[Subset, ...]:
    from unet_pipeline.studies.subsets import Subset

    design = read_json_object(out / _DESIGN, ("subsets",), PlanError, f"{_DESIGN} of {out.name}")
    described: Any = design["subsets"]
    return tuple(
        Subset(one["size"], one["repeat"], tuple(case.case for case in folder.read_split(fold).training))
        for fold, one in enumerate(described)
    )


def _tell_design(
    folder: BundleFolder, subsets: Sequence[Subset], plan: Plan, jobs: int, announce: Callable[[str], None]
) -> None:
    """Which trainings there will be, and what they cost."""
    counts: dict[int, int] = {}
    for subset in subsets:
        counts[len(subset.cases)] = counts.get(len(subset.cases), 0) + 1
    shown = ", ".join(f"{num} x {size} cases" for size, num in counts.items())
    num_held_out = len(folder.read_split(0).validation)
    announce(
        f"trainings {len(subsets)} ({shown}), {plan.num_epochs * plan.iterations_per_epoch:,} steps each, measured on the same "
        f"{num_held_out} held-out cases"
    )
    num_left = len(subsets) - len(folder.trained_folds())
    try:
        one_s = forecast_training(folder.root).total_s
    except PlanError as error:
        announce(f"time      not known. {error}")
        return
    hours = num_left * one_s / 3600 / max(1, min(jobs, num_left))
    announce(
        f"time      {describe_time(hours * 3600)} ({hours:.2f} h) for the {num_left} that are left, {describe_time(one_s)} each"
    )


def _write_result(
    out: Path,
    measured: Evaluation,
    subsets: Sequence[Subset],
    design: CurveDesign,
    plan: Plan,
    hours: float,
) -> LearningCurve:
    import pandas as pd

    from unet_pipeline.evaluation.summary import to_records
    from unet_pipeline.studies.curve_figure import write_figures
    from unet_pipeline.studies.learning_curve import CurveFacts, build_curve

    largest = max(len(subset.cases) for subset in subsets)
    more = design.more or max(1, largest // _MORE_SHARE)
    facts = CurveFacts(plan.dataset_name, design.metric, more, plan.num_epochs * plan.iterations_per_epoch, hours)
    curve = build_curve(measured.rows, measured.record.scored_labels, subsets, facts)
    write_json(out / _RESULT, curve_as_data(curve))
    with write_atomically(out / "learning_curve.csv") as partial:
        pd.DataFrame(to_records(curve.points)).to_csv(partial, index=False)
    write_figures(curve, out)
    return curve


def curve_as_data(curve: LearningCurve) -> dict[str, object]:
    """What learning_curve.json holds; NaN is null."""
    from unet_pipeline.evaluation.summary import to_records

    content = {name: getattr(curve, name) for name in type(curve).model_fields}
    plain = {key: None if value != value else value for key, value in content.items()}
    return plain | {"points": to_records(curve.points), "curve": to_records(curve.curve)}
