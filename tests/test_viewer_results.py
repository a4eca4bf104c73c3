"""Which files belong together, and which cases are chosen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import EvaluationError
from unet_pipeline.evaluation.files import read_rows
from unet_pipeline.evidence.records.evaluation_record import hash_label_map
from unet_pipeline.viewer.page import require_alike
from unet_pipeline.viewer.results import choose_cases, open_result

from .viewer.evaluations import LABELS, draw_oblique, shift_file, write_evaluation


@pytest.fixture
def evaluation(tmp_path: Path) -> tuple[Path, Path]:
    for seed in range(5):
        draw_oblique(tmp_path / "data", f"case_{seed}", seed)
    dataset = read_dataset(tmp_path / "data")
    out = write_evaluation(tmp_path / "out", dataset, dataset.cases, LABELS)
    text = (out / "metrics.csv").read_text()
    for number in range(5):  # the lowest Dice first: case_3, then by name
        text = "\n".join(
            _lower(line) if f",case_{number}," in line and number == 3 else line for line in text.split("\n")
        )
    (out / "metrics.csv").write_text(text)
    return tmp_path / "data", out


def _lower(line: str) -> str:
    cells = line.split(",")
    return ",".join([*cells[:4], "0.1", *cells[5:]])


def test_open_result_finds_images_references_predictions_and_numbers(evaluation: tuple[Path, Path]) -> None:
    data, out = evaluation
    result = open_result(out, data)
    assert list(result.sources) == [f"case_{number}" for number in range(5)]
    assert result.labels.table == LABELS
    assert result.labels.scored == ("core", "rim")
    assert result.predictions["case_2"] == out / "predictions_0" / "case_2.nii.gz"
    assert result.sources["case_2"].reference == data / "labels" / "case_2.nii.gz"
    assert result.rows is not None
    assert len(result.rows) == len(read_rows(out))


def test_open_result_of_several_predictions_takes_the_evaluated_one(evaluation: tuple[Path, Path]) -> None:
    data, out = evaluation
    shift_file(out / "predictions_0" / "case_1.nii.gz", out / "predictions_9" / "case_1.nii.gz")
    later = out / "predictions_9" / "case_1.nii.gz"
    record = json.loads((out / "run.json").read_text())
    for chosen in (later, out / "predictions_0" / "case_1.nii.gz"):
        record["result"] = {"label_maps_sha256": {"case_1": hash_label_map(chosen)}}
        (out / "run.json").write_text(json.dumps(record))
        assert open_result(out, data).predictions["case_1"] == chosen


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("worst:2", ["case_3", "case_0"]),
        ("worst", ["case_3"]),
        ("best:1", ["case_4"]),
        ("median:1", ["case_1"]),
        ("case_4, worst:1", ["case_4", "case_3"]),
        ("worst:99", ["case_3", "case_0", "case_1", "case_2", "case_4"]),
        (None, ["case_3", "case_0", "case_1", "case_2", "case_4"]),
    ],
)
def test_choose_cases(evaluation: tuple[Path, Path], wanted: str | None, expected: list[str]) -> None:
    data, out = evaluation
    assert choose_cases([open_result(out, data)], wanted) == expected


@pytest.mark.parametrize("wanted", ["worst:0", "wurst:3", "worst:x", "case_9", "worst:-1", ""])
def test_choose_cases_unknown_words_are_refused(evaluation: tuple[Path, Path], wanted: str) -> None:
    data, out = evaluation
    with pytest.raises(EvaluationError, match="expected worst:N"):
        choose_cases([open_result(out, data)], wanted)


def test_open_result_without_dataset_asks_for_it(evaluation: tuple[Path, Path]) -> None:
    with pytest.raises(EvaluationError, match="--dataset DIR"):
        open_result(evaluation[1])


def test_open_result_without_label_maps_says_so(evaluation: tuple[Path, Path]) -> None:
    data, out = evaluation
    (out / "predictions_0").rename(out / "elsewhere")
    with pytest.raises(EvaluationError, match="--predictions DIR"):
        open_result(out, data)
    assert len(open_result(out, data, out / "elsewhere").predictions) == 5


def test_open_result_of_other_data_is_refused(evaluation: tuple[Path, Path], tmp_path: Path) -> None:
    draw_oblique(tmp_path / "other", "patient_1")
    with pytest.raises(EvaluationError, match=r"case_0 of out/metrics\.csv is not in the dataset other"):
        open_result(evaluation[1], tmp_path / "other")


def test_open_result_images_without_labels_are_enough_for_predictions(evaluation: tuple[Path, Path]) -> None:
    data, out = evaluation
    for name in ("metrics.csv", "summary.json"):
        (out / name).unlink()
    (out / "run.json").rename(out / "predictions_run.json")  # as `predict` leaves it
    result = open_result(out, data / "images")
    assert result.rows is None
    assert result.sources["case_0"].reference is None


@pytest.mark.parametrize("name", ["nothing", "data/images/case_0.nii.gz"])
def test_open_result_of_no_folder(tmp_path: Path, evaluation: tuple[Path, Path], name: str) -> None:
    with pytest.raises(EvaluationError, match="is no folder"):
        open_result(tmp_path / name)


def test_require_alike_other_labels_are_refused(evaluation: tuple[Path, Path], tmp_path: Path) -> None:
    data, out = evaluation
    dataset = read_dataset(data)
    other = write_evaluation(tmp_path / "second", dataset, dataset.cases, {"background": 0, "core": 1, "edge": 2})
    with pytest.raises(EvaluationError, match="edge=2"):
        require_alike([open_result(out, data), open_result(other, data)])
