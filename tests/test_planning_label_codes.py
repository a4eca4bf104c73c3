"""Codes of labels: each is a concept of SNOMED CT as pydicom knows it, and is proposed only for names that say it."""

from __future__ import annotations

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes

from unet_pipeline.errors import PlanError
from unet_pipeline.planning import label_code_table as table
from unet_pipeline.planning.label_codes import (
    _ABNORMAL_STRUCTURE,
    _ANATOMICAL_STRUCTURE,
    _TISSUE,
    LabelCode,
    choose_label_codes,
    propose_code,
    split_code,
)
from unet_pipeline.planning.plan import build_plan_from
from unet_pipeline.planning.planner import plan_from_fingerprint

from .conftest import build_fingerprint

LISTED = {**table.STRUCTURES, **table.FINDINGS, **table.MODIFIERS}


def test_every_code_is_a_concept_of_pydicom_with_its_meaning() -> None:
    known = {(value, meaning) for concept in concepts["SCT"].values() for value, (meaning, _) in concept.items()}
    for text in (*LISTED, _ABNORMAL_STRUCTURE, _ANATOMICAL_STRUCTURE, _TISSUE):
        scheme, value, meaning = split_code(text)
        assert scheme == "SCT"
        assert (value, meaning) in known, text


def test_types_are_of_cid_7151_but_for_a_few_that_it_lacks() -> None:
    types = {code.value for code in codes.cid7151.concepts.values()}
    others = [text for text in (*table.STRUCTURES, *table.FINDINGS) if split_code(text)[1] not in types]
    assert {split_code(text)[2] for text in others} == {
        *("optic nerve", "Optic nerve head", "Retina", "Radius", "Ulna", "Tibia", "Femoral head", "Bone", "Placenta"),
        *("Peripheral zone of the prostate", "Transition zone of the prostate", "Left Ventricle Myocardium"),
        *("Cell", "Nucleus", "aneurysm", "Hematoma"),
    }


def test_no_name_stands_for_two_codes() -> None:
    names = [name for listed in LISTED.values() for name in listed]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("label", "dataset", "expected"),
    [
        ("liver", "", ("Liver", None, None)),
        ("Left_Kidney", "", ("Kidney", "Left", None)),
        ("kidney-right", "", ("Kidney", "Right", None)),
        ("lungs", "", ("Lung", None, None)),
        ("nuclei", "", ("Nucleus", None, None)),
        ("left ventricle", "", ("Left ventricle", None, None)),
        ("grey_matter", "", ("Gray Matter", None, None)),
        ("Anterior", "Task04_Hippocampus", ("Hippocampus", "Anterior", None)),
        ("liver tumours", "", ("Neoplasm", None, "Liver")),
        ("tumour of the left kidney", "", ("Neoplasm", "Left", "Kidney")),
        ("cancer", "Task06_Lung", ("Neoplasm", None, "Lung")),
        ("edema", "", ("Edema", None, None)),
    ],
)
def test_propose_code_names_that_say_it(label: str, dataset: str, expected: tuple[str, str | None, str | None]) -> None:
    code = propose_code(label, dataset)
    assert code is not None
    meanings = (text and split_code(text)[2] for text in (code.type, code.modifier, code.region))
    assert tuple(meanings) == expected
    is_finding = code.type in table.FINDINGS
    assert code.category == (_ABNORMAL_STRUCTURE if is_finding else _ANATOMICAL_STRUCTURE)


@pytest.mark.parametrize(
    ("label", "dataset"),
    [
        ("ventricle", ""),  # of heart or brain
        ("class 1", "Task03_Liver"),
        ("label_3", "Liver"),
        ("mask", "Lung"),
        ("Anterior", ""),
        ("Anterior", "liver and spleen"),
        ("left right kidney", ""),
        ("kidney stone", ""),
        ("not liver", ""),
        ("", "Liver"),
        ("\u809d", ""),
    ],
)
def test_propose_code_names_that_do_not_say_it(label: str, dataset: str) -> None:
    assert propose_code(label, dataset) is None


def test_choose_label_codes_asks_for_the_rest() -> None:
    fingerprint = build_fingerprint(labels={"background": 0, "liver": 1, "thing": 2})
    codes_of = choose_label_codes(fingerprint)
    assert codes_of.value == {"liver": propose_code("liver"), "thing": None}
    assert 'not known: thing; write "SCT VALUE MEANING" for null' in codes_of.reason


def edit_plan(**label_codes: object) -> dict[str, LabelCode | None]:
    plan = plan_from_fingerprint(build_fingerprint(), "data").plan
    content = plan.model_dump(mode="json") | {"label_codes": label_codes}
    return build_plan_from(content, "configs/plan.yaml").label_codes


def test_plan_takes_a_text_for_the_type_alone() -> None:
    expected = LabelCode(category=_ANATOMICAL_STRUCTURE, type="SCT 71854001 Colon")
    assert edit_plan(organ="SCT 71854001 Colon") == {"organ": expected}
    assert edit_plan(organ=expected.model_dump()) == {"organ": expected}


@pytest.mark.parametrize(
    ("label", "code", "message"),
    [
        ("organ", "71854001", "expected a code as SCHEME VALUE MEANING, such as SCT 10200004 Liver"),
        ("organ", "SCT 71854001 a\\\\b", "expected a code"),
        ("organ", {"type": "SCT 1 a"}, "lacks the field 'label_codes.organ.category'"),
        ("orgam", None, "label_codes has 'orgam'; did you mean 'organ'"),
    ],
)
def test_plan_refuses_what_is_no_code(label: str, code: object, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        edit_plan(**{label: code})


def test_plans_of_earlier_versions_have_the_codes_of_their_names() -> None:
    fingerprint = build_fingerprint(labels={"background": 0, "liver": 1, "thing": 2})
    plan = plan_from_fingerprint(fingerprint, "data").plan.model_copy(update={"label_codes": {}})
    assert (plan.code_of("liver"), plan.code_of("thing")) == (propose_code("liver"), None)
