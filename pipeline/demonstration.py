"""The verb `demo`: every other verb in turn on the embedded cohort, and a picture of what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.boundary import guard
from pipeline.bundle_folder import BundleFolder, open_bundle
from pipeline.dataset.layouts import read_dataset
from pipeline.errors import PipelineError, TrainingError
from pipeline.planning.plan import read_plan
from pipeline.prediction.inputs import PredictionInput
from pipeline.prediction.outputs import find_output
from pipeline.verbs import Evaluation, evaluate, package, plan, train

if TYPE_CHECKING:
    from pipeline.bundle.package import Package
    from pipeline.training.run import TrainingRun


@dataclass(frozen=True)
class Demo:
    """Result of `demo`."""

    bundle: BundleFolder
    training: TrainingRun
    evaluation: Evaluation
    package: Package
    overlay: Path


@guard
def demo(out: Path | str = "demo", announce: Any = None) -> Demo:
    """The whole way on the embedded cohort: simulated heads to train on, the real template head to test on.

    Args:
        out: folder for the cohort, the bundle and the picture; finished parts in it are used again.
        announce: called with the name of each step before it.

    Raises:
        DatasetError: nilearn is not installed.
        TrainingError: the training was stopped by a signal.
    """
    from pipeline.dataset.demo import write_demo_cohort

    say = announce or (lambda step: None)
    folder = Path(out)
    say("cohort: simulated heads from the MNI152 template")
    cohort = write_demo_cohort(folder)
    bundle = folder / "brain_tissue_demo"
    if not (bundle / "configs").is_dir():
        say("check and plan")
        plan(cohort.training, bundle, preset="demo", folds=8)
    opened = open_bundle(bundle)
    say("train")
    (training,) = train(bundle)
    if training.stopped_by is not None:
        raise TrainingError(
            f"The demo's training was stopped by {training.stopped_by}. Run the demo again; it begins the training anew."
        )
    say("predict the real head and evaluate")
    evaluation = evaluate(bundle, cohort.test)
    say("package")
    sealed = package(bundle)
    overlay = draw(bundle, cohort.test, evaluation, folder / "overlay.png")
    return Demo(opened, training, evaluation, sealed, overlay)


@guard
def draw(bundle: Path | str, dataset: Path | str, evaluation: Evaluation, picture: Path | str) -> Path:
    """Picture of the worst case of an evaluation: outlines of reference and prediction.

    Raises:
        PipelineError: the evaluation has no case of the dataset.
    """
    from pipeline.evidence.overlay import write_overlay

    settled = read_plan(open_bundle(bundle).plan)
    means = evaluation.rows.groupby("case")["dice"].mean().sort_values()
    found = read_dataset(dataset)
    cases = {case.name: case for case in found.cases}
    name = next((str(case) for case in means.index if case in cases), None)
    if name is None:
        raise PipelineError(f"No case of {Path(dataset).name} was evaluated. Evaluate it first.")
    case, root = cases[name], found.root
    source = PredictionInput(case.name, tuple(root / image for image in case.images))
    prediction = find_output(source, evaluation.predictions[0], settled.output_suffix)
    maps = {"reference": root / case.require_label(), "prediction": prediction}
    return write_overlay(Path(picture), root / case.image, maps, settled.label_table)
