"""Every item of a checklist is filled from evidence or marked, and no number in it differs from the evidence."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import open_bundle
from unet_pipeline.evaluation.files import summary_as_data
from unet_pipeline.evidence.report.answers import tell
from unet_pipeline.evidence.report.checklists import (
    CHECKLISTS,
    build_checklist,
    fill_item,
    read_checklist,
    write_checklists,
)
from unet_pipeline.evidence.report.drafts import TO_FILL
from unet_pipeline.evidence.report.history import History, read_history
from unet_pipeline.evidence.report.model_card import build_model_card

from . import phantom_bundles as phantoms
from .evidence_bundles import RUN, list_answers, write_evaluated

TRIPOD_NUMBERS = re.findall(
    r"\S+",
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b 18c 18d 18e 18f 19 "
    "20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c",
)


@pytest.fixture(scope="module", params=[2, 3])
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> History:
    return read_history(open_bundle(write_evaluated(tmp_path_factory.mktemp("checklists"), request.param)))


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Nothing but a plan."""
    folder = tmp_path_factory.mktemp("planned")
    dataset = phantoms.write_pictures(folder / "cells", num_cases=5)
    return read_history(open_bundle(phantoms.plan_small(dataset, folder / "bundle", {"background": 0, "cell": 255})))


def test_read_checklist_has_the_numbers_of_the_publications() -> None:
    assert [item.number for item in read_checklist("CLAIM_2024").items] == [str(number) for number in range(1, 45)]
    assert [item.number for item in read_checklist("TRIPOD_AI").items] == TRIPOD_NUMBERS


@pytest.mark.parametrize("name", CHECKLISTS)
def test_read_checklist_sources_exist(name: str) -> None:
    assert {source for item in read_checklist(name).items for source in item.sources} <= list_answers()


@pytest.mark.parametrize("name", CHECKLISTS)
def test_fill_item_every_item_is_filled_from_the_record_or_marked(history: History, name: str) -> None:
    for item in read_checklist(name).items:
        text = fill_item(item, history)
        answers = [answer for source in item.sources if (answer := tell(source, history))]
        assert all(answer in text for answer in answers)
        assert (TO_FILL in text) == (not answers or item.partly)


def list_numbers(content: object) -> set[str]:
    """Numbers of any nested values, as they are and rounded as the documents print them."""
    if isinstance(content, dict):
        return set().union(*(list_numbers(part) for item in content.items() for part in item), set())
    if isinstance(content, (list, tuple)):
        return set().union(*map(list_numbers, content), {str(len(content))})
    if isinstance(content, float):
        return {f"{content:.{digits}f}" for digits in range(6)} | {f"{content:g}", f"{content / 60:.1f}"}
    return set(re.findall(r"\d+(?:\.\d+)?", str(content)))


@pytest.mark.parametrize("document", [*CHECKLISTS, "model card"])
def test_documents_have_no_number_that_the_evidence_lacks(history: History, document: str) -> None:
    is_card = document == "model card"
    if is_card:
        text = build_model_card(history).partition("## Run it")[0]
    else:
        text = build_checklist(read_checklist(document), history)
        text = re.sub(r"^\| [0-9]+[a-g]? \| [^|]* \|", "", text, flags=re.MULTILINE).partition("\n## ")[2]
    assert history.manifest is not None
    assert history.fingerprint is not None
    assert history.split_record is not None
    known = list_numbers(
        [
            history.plan.model_dump(mode="json"),
            history.manifest.model_dump(mode="json"),
            history.fingerprint.model_dump(mode="json"),
            history.split_record.model_dump(mode="json"),
            [[fold.fold, fold.training, fold.validation] for fold in history.folds],
            RUN,
            [summary_as_data(record.summary) for record in history.evaluations],
            dict(history.hashes),
        ]
    )
    known |= {"0", "2", "3", "2015", "2016", "2018", "2021", "2024", "2.0", "256"}  # 2D, papers, Apache-2.0, SHA-256
    known |= {str(len(history.plan.filters)), str(len(history.plan.label_table)), str(len(history.test_cases))}
    known |= {str(len({*fold.training, *fold.validation})) for fold in history.folds}
    known |= {
        str(sum(case.num_voxels.get(label, 0) > 0 for case in history.fingerprint.cases))
        for label in history.plan.label_table
    }
    shapes = zip(*(case.shape for case in history.fingerprint.cases), strict=True)
    known |= {f"{sorted(sizes)[len(sizes) // 2]:g}" for sizes in shapes}
    found = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])", text.replace("x", " ")))
    assert found, "the document has no number, so that this test shows nothing"
    assert found <= known, sorted(found - known)


def test_build_checklist_without_results_marks_them(planned: History) -> None:
    claim = {item.number: fill_item(item, planned) for item in read_checklist("CLAIM_2024").items}
    for number in ("23", "24", "28", "29", "32", "33", "37", "39"):
        assert claim[number] == TO_FILL
    assert "No run record" in claim["25"]


def test_build_model_card_results_are_those_of_the_summary(history: History) -> None:
    card = build_model_card(history)
    summary = json.loads((history.folder.evaluations / "validation" / "summary.json").read_text())
    dice = [row for row in summary["rows"] if row["metric"] == "dice"]
    shown = [row for row in dice if row["label"] != "mean of labels" or len(history.plan.label_table) > 2]
    for row in shown:
        assert (
            f"| {row['label']} | Dice | {row['n']} | {row['mean']:.4f} | {row['low']:.4f} to {row['high']:.4f} |"
            in card
        )
    assert len(dice) == len(history.plan.label_table) + 1


def test_build_model_card_of_one_label_has_no_mean_of_labels(history: History) -> None:
    card = build_model_card(history)
    assert ("| mean of labels | Dice |" in card) == (len(history.plan.label_table) > 2)


def test_build_model_card_without_results_says_so(planned: History) -> None:
    card = build_model_card(planned)
    assert "Not evaluated." in card
    assert f"Software and versions: {TO_FILL}." in card
    assert card.count(TO_FILL) >= 5


def test_write_checklists_writes_into_docs(planned: History) -> None:
    paths = write_checklists(planned)
    assert [path.relative_to(planned.folder.root).as_posix() for path in paths] == [
        "docs/CLAIM_2024.md",
        "docs/TRIPOD_AI.md",
    ]
    assert all(Path(path).read_text().startswith("# ") for path in paths)
