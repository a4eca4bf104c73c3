"""Every sentence with a number in card, report and checklists, against the raw records, for phantoms and the ready bundles."""

from __future__ import annotations

import json
import re
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.evaluation.cross_validation import list_fold_notes
from unet_pipeline.evaluation.groups import group_by_fold
from unet_pipeline.evidence.report.answers import tell
from unet_pipeline.evidence.report.checklists import CHECKLISTS, build_checklist, read_checklist
from unet_pipeline.evidence.report.history import format_value, read_history
from unet_pipeline.evidence.report.model_card import build_model_card
from unet_pipeline.evidence.report.report_figures import draw_flow
from unet_pipeline.files import compute_sha256, write_json
from unet_pipeline.planning.plan import read_plan

from .evidence_bundles import list_answers, write_evaluated

READY = Path(__file__).parents[1] / "bundles"
NAMES = sorted(path.name for path in READY.iterdir() if (path / "configs" / "plan.yaml").is_file())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("answers"), 2)


@pytest.fixture
def bundle(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(params=[*NAMES, "phantom", "packaged phantom"])
def any_bundle(request: pytest.FixtureRequest) -> Path:
    if request.param in NAMES:
        return READY / request.param
    root: Path = request.getfixturevalue("bundle")
    if request.param == "packaged phantom":  # as `package` hands it on: without the weights of its folds
        (root / "models" / "model_fold_0.pt").unlink()
    return root


class Records:
    """The files of a bundle as they are, read by nothing of the package."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.plan = yaml.safe_load((root / "configs/plan.yaml").read_text(encoding="utf-8"))
        self.manifest = self.read("dataset_manifest.json")
        self.fingerprint = self.read("fingerprint.json")
        self.split = self.read("splits/split.json")
        self.folds = [self.read(f"splits/fold_{fold}.json") for fold in range(self.plan["num_folds"])]
        self.runs = [self.load(path) for path in sorted((root / "evidence/runs").glob("*/run.json"))]
        folders = sorted(
            (root / "evidence/evaluations").glob("*/summary.json"), key=lambda path: path.parts[-2] != "validation"
        )
        self.summaries = [self.load(path) for path in folders]

    def read(self, name: str) -> Any:
        return self.load(self.root / "evidence" / name)

    @staticmethod
    def load(path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    @property
    def used(self) -> set[str]:
        return {case["case"] for fold in self.folds for side in ("training", "validation") for case in fold[side]}

    @property
    def trained(self) -> set[int]:
        return {int(run.get("fold", run["settings"]["fold"])) for run in self.runs if run["state"] == "finished"}


def expect_technology(records: Records) -> str:
    return f"in {records.plan['spatial_dims']}D images"


def expect_data(records: Records) -> str:
    return f"{records.plan['dataset_name']}: {records.manifest['num_cases']} labelled cases"


def expect_predictors(records: Records) -> str:
    return f"channels {', '.join(records.plan['channel_names'])};"


def expect_preprocessing(records: Records) -> str:
    return f"resampled to {'x'.join(f'{size:g}' for size in records.plan['spacing_mm'])} "


def expect_selection(records: Records) -> str:
    return f"all {records.manifest['num_cases']} cases"


def expect_missing_data(records: Records) -> str:
    value = records.plan["ignore_value"]
    return f"Every {name_voxel(records)} has a label." if value is None else f"with the value {value} "


def expect_split(records: Records) -> str:
    counts = "; ".join(
        f"fold {number}: {len(fold['training'])} training, {len(fold['validation'])} validation"
        for number, fold in enumerate(records.folds)
    )
    return f"{len(records.folds)} folds: {records.split['method']} (seed {records.split['seed']}). {counts}"


def expect_disjoint_level(records: Records) -> str:
    patients = records.split["patients"]
    alone = records.manifest["num_cases"] - len(patients)
    return (
        f"Patients: {len(set(patients.values())) + alone}, each"
        if patients
        else "no two cases are known to be of one patient"
    )


def name_voxel(records: Records) -> str:
    return "pixel" if records.plan["spatial_dims"] == 2 else "voxel"


def expect_model(records: Records) -> str:
    filters, patch, kind = (records.plan[name] for name in ("filters", "patch_size", "normalisation"))
    return (
        f"{len(filters)} levels with {'-'.join(map(str, filters))} channels, {'no' if kind == 'none' else kind} normalisation; "
        f"patches of {'x'.join(map(str, patch))}, {len(records.plan['label_table'])} classes"
    )


def expect_software(records: Records) -> str:
    run = records.runs[-1]
    listed = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if version)
    return f"{listed}; commit {run['code']['commit']}"


def expect_initialization(records: Records) -> str:
    return f"from seed {records.runs[0]['settings'].get('seed', records.plan['seed'])} "


def expect_training(records: Records) -> str:
    run, plan = records.runs[-1], records.plan
    overrides = [
        f"{key}={value}"
        for key, value in run["settings"].items()
        if key not in ("bundle_root", "fold", "output_dir", "weights_path", "resume")
    ]
    told = f" with {', '.join(overrides)}" if overrides else ""
    return (
        f"Planned: {plan['num_epochs']} epochs of {plan['iterations_per_epoch']} iterations with {plan['batch_size']} patches, AdamW at a "
        f"learning rate of {plan['learning_rate']:g} with warm-up and cosine decay, loss {plan['loss']}; augmentation as in "
        f"configs/plan.yaml. Run: {run['id']} {run['state']}, {run['result']['num_epochs']} epochs{told} in "
        f"{run['duration_s'] / 60:.1f} min on {run['machine']['num_cores']} cores of {run['machine']['processor']}."
    )


def expect_model_choice(records: Records) -> str:
    run = records.runs[-1]
    interval = run["settings"].get("val_interval", records.plan["val_interval"])
    return f"{run['id']}: validated every {interval} epochs, epoch {run['result']['best_epoch']} chosen."


def expect_metrics(records: Records) -> str:
    return "per case and label on the image's own grid" if records.summaries else ""


def expect_uncertainty(records: Records) -> str:
    return f"{records.summaries[0]['interval']}."


def expect_results(records: Records) -> str:
    return ".*".join(expect_results_of(summary) for summary in records.summaries)


def expect_results_of(summary: dict[str, Any]) -> str:
    told = []
    for row in summary["rows"]:
        if row["label"] == "mean of labels" and row["mean"] is not None:
            mean = format_value(row["metric"], row["mean"])
            bounds = [format_value(row["metric"], row.get(key)) for key in ("low", "high")]
            told.append((f"{mean} ({bounds[0]} to {bounds[1]}, n = {row['n']})", f"{mean} (n = 1)")[row["n"] == 1])
    return re.escape(summary["title"]) + ".*" + ".*".join(map(re.escape, told))


def expect_internal_results(records: Records) -> str:
    return expect_results_of(records.summaries[0])


def expect_external_results(records: Records) -> str:
    return ".*".join(map(expect_results_of, records.summaries[1:]))


def expect_failures(records: Records) -> str:
    return "; ".join(
        f"{summary['title']}: {len(summary['failures'])} listed"
        for summary in records.summaries
        if "failures" in summary
    )


def expect_counts(records: Records) -> str:
    found, used, test = records.manifest["num_cases"], len(records.used), len(records.split["test"])
    rest = f"; {found - used - test} not in any fold" if found - used - test else "; none left out"
    return f"{found} cases found, {used} in the cross-validation, {test} held out as test{rest}"


def expect_characteristics(records: Records) -> str:
    cases = records.fingerprint["cases"]
    shape = "x".join(f"{statistics.median(sizes):g}" for sizes in zip(*(case["shape"] for case in cases), strict=True))
    present = "; ".join(
        f"{label} in {sum(case['num_voxels'][label] > 0 for case in cases)} of {len(cases)} cases"
        for label in list(records.plan["label_table"])[1:]
    )
    return f"Images: median {shape} {name_voxel(records)}s; {present}."


def expect_limits(records: Records) -> str:
    missing = records.plan["num_folds"] - len(records.trained)
    return f"{len(records.trained)} of {records.plan['num_folds']} folds trained." if missing else "One data set"


def expect_availability(records: Records) -> str:
    return f"Weights: models/model.pt, SHA-256 {compute_sha256(records.root / 'models/model.pt')}."


def expect_code(records: Records) -> str:
    return "Apache-2.0"


def expect_output(records: Records) -> str:
    return "(" + ", ".join(f"{value}={name}" for name, value in records.plan["label_table"].items()) + ")"


def expect_imbalance(records: Records) -> str:
    shares = zip(records.plan["label_table"], records.plan["crop_ratios"], strict=False)
    return f"in the shares {', '.join(f'{label} {share:g}' for label, share in shares)}; the loss is {records.plan['loss']}."


PATTERNS = ("results", "internal_results", "external_results")
EXPECTED: dict[str, Callable[[Records], str]] = {
    name.removeprefix("expect_"): function
    for name, function in list(globals().items())
    if name.startswith("expect_") and name != "expect_results_of"
}


def test_every_answer_with_a_number_is_what_the_records_say(any_bundle: Path) -> None:
    history, records = read_history(open_bundle(any_bundle)), Records(any_bundle)
    told = {name: answer for name in list_answers() if (answer := tell(name, history)) is not None}
    with_numbers = {name for name, answer in told.items() if re.search(r"\d", answer)}
    assert with_numbers <= EXPECTED.keys(), "a sentence with a number that nothing holds against the record"
    assert len(with_numbers) >= 15
    for name in sorted(told.keys() & EXPECTED.keys()):
        expected = EXPECTED[name](records)
        found = re.search(expected, told[name]) if name in PATTERNS else expected in told[name]
        assert found, f"{name}: {told[name]!r} is not {expected!r}"


def test_documents_say_how_many_folds_were_trained(any_bundle: Path) -> None:
    history, records = read_history(open_bundle(any_bundle)), Records(any_bundle)
    assert history.trained_folds == tuple(sorted(records.trained)) == (0,)
    words = f"1 of {records.plan['num_folds']} folds trained"
    texts = [build_model_card(history), *(build_checklist(read_checklist(name), history) for name in CHECKLISTS)]
    assert all(words in text and "0 of" not in text.partition("folds trained")[0][-6:] for text in texts)
    flow = draw_flow(history)
    assert flow is not None
    assert flow.svg.count(" *</text>") == records.plan["num_folds"] - 1


@pytest.mark.parametrize("name", NAMES)
def test_ready_bundle_documents_are_what_the_records_give(name: str) -> None:
    folder = open_bundle(READY / name)
    history = read_history(folder)
    for path, text in (
        (folder.docs / "README.md", build_model_card(history)),
        *((folder.docs / f"{each}.md", build_checklist(read_checklist(each), history)) for each in CHECKLISTS),
    ):
        assert path.read_text(encoding="utf-8").partition("\n<!-- draft")[0].strip() == text.strip(), path.name


def test_trained_folds_are_those_on_record_and_those_with_weights(bundle: Path) -> None:
    record = Records.load(bundle / "evidence/runs/fold_0-001/run.json")
    write_json(bundle / "evidence/runs/fold_2-001/run.json", record | {"id": "fold_2-001", "fold": 2})
    write_json(
        bundle / "evidence/runs/fold_3-001/run.json", record | {"id": "fold_3-001", "fold": 3, "state": "failed"}
    )
    shutil.copyfile(bundle / "models/model.pt", bundle / "models/model_fold_1.pt")
    history = read_history(open_bundle(bundle))
    assert history.trained_folds == (0, 1, 2)
    assert "3 of 4 folds trained." in (tell("limits", history) or "")


def test_trained_folds_without_record_are_those_of_the_weights(bundle: Path) -> None:
    shutil.rmtree(bundle / "evidence/runs")
    (bundle / "models/model_fold_0.pt").unlink()
    write_json(bundle / "evidence/weights.json", {"fold": 3, "sha256": "ab" * 32})
    assert read_history(open_bundle(bundle)).trained_folds == (3,)
    (bundle / "evidence/weights.json").unlink()
    assert read_history(open_bundle(bundle)).trained_folds == (0,), "stock MONAI trains the plan's fold"
    (bundle / "models/model.pt").unlink()
    assert read_history(open_bundle(bundle)).trained_folds == ()


def test_limits_of_weights_of_all_cases_speak_of_no_folds(bundle: Path) -> None:
    shutil.rmtree(bundle / "evidence/runs")
    for name in ("models/model_fold_0.pt", "evidence/weights.json"):
        (bundle / name).unlink()
    write_json(bundle / "evidence/imported.json", {"folds": {"fold_all": {}}})
    limits = tell("limits", read_history(open_bundle(bundle))) or ""
    assert "a training on all cases together" in limits
    assert "folds trained" not in limits
    write_json(bundle / "evidence/imported.json", {"folds": {"fold_0": {}, "fold_1": {}}})
    assert "2 of 4 folds trained" in (tell("limits", read_history(open_bundle(bundle))) or "")


def test_model_choice_is_of_the_run_and_not_of_the_plan(bundle: Path) -> None:
    path = bundle / "evidence/runs/fold_0-001/run.json"
    record = Records.load(path)
    record["settings"]["val_interval"] = "7"
    write_json(path, record)
    assert "fold_0-001: validated every 7 epochs, epoch 2 chosen." in (
        tell("model_choice", read_history(open_bundle(bundle))) or ""
    )


def test_separation_is_not_claimed_for_label_maps_that_were_given(bundle: Path) -> None:
    path = bundle / "evidence/evaluations/validation/run.json"
    assert Records.load(path)["predictions_given"] is True
    assert tell("separation", read_history(open_bundle(bundle))) is None
    write_json(path, Records.load(path) | {"predictions_given": False})
    assert "weights that were not trained on it" in (tell("separation", read_history(open_bundle(bundle))) or "")


def test_counts_cases_that_are_in_no_fold_are_said(bundle: Path) -> None:
    path = bundle / "evidence/dataset_manifest.json"
    write_json(path, Records.load(path) | {"num_cases": 11})
    assert (tell("counts", read_history(open_bundle(bundle))) or "").startswith(
        "11 cases found, 8 in the cross-validation, 0 held out as test; 3 not in any fold"
    )


def test_group_by_fold_packaged_bundle_is_measured_on_the_fold_of_its_weights(bundle: Path, evaluated: Path) -> None:
    (bundle / "models/model_fold_0.pt").unlink()
    write_json(bundle / "evidence/weights.json", {"fold": 2, "sha256": "ab" * 32})
    folder = open_bundle(bundle)
    plan = read_plan(folder.plan).model_copy(update={"dataset_dir": str(evaluated.parent / "cells")})
    (group,), _, title = group_by_fold(folder, plan)
    assert group.fold == 2
    assert "validation of fold 2 of 4" in title
    validation = {case.case for case in folder.read_split(2).validation}
    assert {case.source.name for case in group.cases} == validation


def test_fold_notes_a_trained_fold_is_not_called_untrained(bundle: Path) -> None:
    record = Records.load(bundle / "evidence/runs/fold_0-001/run.json")
    write_json(bundle / "evidence/runs/fold_2-001/run.json", record | {"id": "fold_2-001", "fold": 2})
    notes = list_fold_notes(open_bundle(bundle), [0], 4)
    assert notes == (
        "not trained and not in this result: folds 1, 3 of 4",
        "trained, and not in this result: fold 2 of 4",
    )


# numbers that no bundle above has, or that its expectation leaves out


@pytest.mark.parametrize("reason", [None, "the error did not shrink"])
def test_calibration_is_what_tuning_recorded(bundle: Path, reason: str | None) -> None:
    found = {"error_before": 0.12345, "error_after": 0.02345, "temperature": 1.23456}
    found = found | ({"reason": reason} if reason else {})
    write_json(bundle / "evidence/tuning.json", {"num_cases": 17, "calibration": found})
    told = tell("calibration", read_history(open_bundle(bundle)))
    if reason:
        expected = f"Expected calibration error 0.1235 on 17 out-of-fold predictions; no temperature was taken, because {reason}."
    else:
        expected = "Expected calibration error 0.1235 before and 0.0234 after a temperature of 1.2346, on 17 out-of-fold predictions."
    assert told == expected


def test_preprocessing_names_the_limits_of_the_plan(any_bundle: Path) -> None:
    plan = Records(any_bundle).plan
    told = tell("preprocessing", read_history(open_bundle(any_bundle))) or ""
    limits = f"clipped to {plan['intensity_lower']:g} to {plan['intensity_upper']:g}, z-score"
    assert (limits if plan["clip_intensity"] else "intensities not clipped, z-score") in told
    assert ("per image and channel" in told) == (plan["intensity_subtrahend"] is None)


def test_data_count_the_patients_of_the_split(any_bundle: Path) -> None:
    records = Records(any_bundle)
    patients, total = records.split["patients"], records.manifest["num_cases"]
    known = f"{total} labelled cases of {len(set(patients.values())) + total - len(patients)} patients;"
    told = tell("data", read_history(open_bundle(any_bundle))) or ""
    assert (known if patients else f"{total} labelled cases; no two are known to be of one patient;") in told
    listed = ", ".join(f"{name}={value}" for name, value in records.plan["label_table"].items())
    assert f"labels: {listed}" in told


def test_counts_of_cases_left_out_are_those_of_the_summary(bundle: Path) -> None:
    path = bundle / "evidence/evaluations/validation/summary.json"
    summary = Records.load(path) | {"excluded": ["cell_01", "cell_05", "cell_06"]}
    write_json(path, summary)
    told = tell("counts", read_history(open_bundle(bundle))) or ""
    assert told.endswith(f"; {summary['title']}: 3 left out, because they were trained on.")
    assert "none left out" not in told


def test_ensembles_are_named_by_the_title_of_their_summary(bundle: Path) -> None:
    path = bundle / "evidence/evaluations/validation/summary.json"
    summary = Records.load(path) | {"title": "others, all 4 cases, ensemble of folds 0, 2"}
    write_json(path, summary)
    history = read_history(open_bundle(bundle))
    assert summary["title"] in (tell("ensembling", history) or "")
