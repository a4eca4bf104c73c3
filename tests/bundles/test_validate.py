"""An external validation from plan to verdict with a trained bundle: one look, a second look, edited plans, other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import phantom_bundles as phantoms
import pytest

import unet_pipeline
from unet_pipeline.errors import EvaluationError
from unet_pipeline.studies.aim import ValidationAim
from unet_pipeline.studies.external_validation import NOT_POWERED, SHOWN, VOID
from unet_pipeline.text_files import read_json
from unet_pipeline.verbs.validate import RESULT_FILE

from ..scripts import require_schema
from .conftest import TrainedBundle

AIM = ValidationAim(against=0.5, expected=0.9, spread=0.05, margin=0.1, analysis="t")


@pytest.fixture(scope="module")
def new_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of another place."""
    root = tmp_path_factory.mktemp("site") / "new_site"
    for seed in range(100, 112):
        picture, mask = phantoms.draw_cell(seed)
        for folder, rows in (("images", picture), ("labels", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            phantoms.PillowImage.fromarray(rows).save(root / folder / f"new_{seed}.png")
    return root


def run(protocol: Path, dataset: Path, out: Path, **options: Any) -> unet_pipeline.ValidationResult:
    return phantoms.silently(unet_pipeline.validate, protocol, dataset, out, device="cpu", **options)


def test_first_look_decides_and_further_looks_and_edits_are_void(
    bundle_2d: TrainedBundle, new_site: Path, tmp_path: Path
) -> None:
    path, bundle = tmp_path / "study.yaml", bundle_2d.root
    plan = unet_pipeline.plan_validation(bundle, path, AIM, exclusions=("under 18",))
    assert plan.sample.num_patients == 10
    first = run(path, new_site, tmp_path / "out", registered=plan.sha256)
    assert (first.verdict, first.breaches, first.look, first.num_patients) == (SHOWN, [], 1, 12)
    assert first.low > first.boundary == -0.1
    assert first.gain == pytest.approx(first.mean - 0.5)
    written = read_json(tmp_path / "out" / RESULT_FILE)
    require_schema(written, "validation")
    require_schema(plan.model_dump(mode="json"), "protocol")
    for line in (tmp_path / "study.log.jsonl").read_text().splitlines():
        require_schema(json.loads(line), "look")
    assert written["verdict"] == SHOWN
    assert (tmp_path / "out" / "evaluation" / "metrics.csv").is_file()
    second = run(path, new_site, tmp_path / "again")
    assert (second.verdict, second.look, len(second.breaches)) == (VOID, 2, 1)
    assert "second look" in second.breaches[0]
    assert "nothing is decided" in second.sentence


def test_what_is_changed_after_the_plan_stands_in_the_result(
    bundle_2d: TrainedBundle, new_site: Path, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    unet_pipeline.plan_validation(bundle_2d.root, path, AIM, data_sha256="0" * 64)
    path.write_text(path.read_text(encoding="utf-8").replace("margin: 0.1", "margin: 0.3"), encoding="utf-8")
    result = run(path, new_site, tmp_path / "out", registered="1" * 64)
    assert result.verdict == VOID
    expected = ("edited after it was sealed", "another one than was planned", "than was registered", "data are others")
    assert all(any(words in breach for breach in result.breaches) for words in expected)


def test_fewer_patients_are_not_powered_and_other_weights_are_noticed(
    copy_of_2d: TrainedBundle, new_site: Path, tmp_path: Path
) -> None:
    path = tmp_path / "study.yaml"
    plan = unet_pipeline.plan_validation(copy_of_2d.root, path, ValidationAim(expected=0.9, spread=0.05, margin=0.05))
    assert plan.sample.num_patients > 12
    moved = copy_of_2d.root.rename(tmp_path / "moved")
    with pytest.raises(EvaluationError, match="Give its folder with --bundle"):
        run(path, new_site, tmp_path / "out")
    result = run(path, new_site, tmp_path / "out", bundle=str(moved))
    assert (result.verdict, result.breaches) == (NOT_POWERED, [])
    (moved / "configs" / "logging.conf").write_text("[loggers]\n", encoding="utf-8")
    again = run(path, new_site, tmp_path / "b", bundle=str(moved), trust=True)
    assert any("predicts with other files" in line for line in again.breaches)


def test_against_another_bundle_the_cases_are_paired(bundle_2d: TrainedBundle, new_site: Path, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    aim = ValidationAim(against=bundle_2d.root, expected=0.0, spread=0.01, margin=0.05, analysis="t")
    unet_pipeline.plan_validation(bundle_2d.root, path, aim)
    result = run(path, new_site, tmp_path / "out")
    assert (result.verdict, result.gain, result.low, result.mean) == (SHOWN, 0.0, 0.0, result.against)
    assert json.loads((tmp_path / "study.log.jsonl").read_text().splitlines()[-1])["verdict"] == SHOWN


def test_a_protocol_is_never_written_over(bundle_2d: TrainedBundle, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    unet_pipeline.plan_validation(bundle_2d.root, path, AIM)
    with pytest.raises(EvaluationError, match="exists already"):
        unet_pipeline.plan_validation(bundle_2d.root, path, AIM)
