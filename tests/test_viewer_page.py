"""The page: complete in one file, small enough, and nothing of a user's can break it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import EvaluationError
from unet_pipeline.viewer import page
from unet_pipeline.viewer.page import Looks, build_file, build_page, describe
from unet_pipeline.viewer.results import open_result

from .viewer.evaluations import LABELS, draw_oblique, write_evaluation

ASSETS = Path(page.__file__).parent / "assets"


def look(volumes: tuple[Path, Path]) -> Looks:
    data, out = volumes
    return Looks((open_result(out, data),), ("case_0", "case_1", "case_2"))


@pytest.fixture(scope="module")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    root = tmp_path_factory.mktemp("page") / "data"
    for seed in range(3):
        draw_oblique(root, f"case_{seed}", seed)
    dataset = read_dataset(root)
    return look((root, write_evaluation(root.parent / "out", dataset, dataset.cases, LABELS)))


def test_niivue_is_the_published_file_with_its_licence() -> None:
    packed = (ASSETS / "niivue.umd.js.gz").read_bytes()
    assert len(packed) < 1_000_000
    assert hashlib.sha256(gzip.decompress(packed)).hexdigest() == page.NIIVUE_SHA256
    assert "BSD 2-Clause License" in (ASSETS / "NIIVUE_LICENSE.txt").read_text()


def test_build_file_holds_everything(looks: Looks) -> None:
    html, exact = build_file(looks)
    assert exact
    assert len(re.findall(r'id="case-\d"', html)) == 3
    own = html.replace(re.search(r'id="niivue-code">(.*?)</script>', html, re.S)[1], "")  # type: ignore[index]
    assert not re.search(r"""(src|href)=["'](?!data:)""", own)
    assert "http://" not in own
    assert "https://" not in own
    assert "<!--" not in own


def test_build_file_too_large_rounds_then_refuses_with_a_number_that_fits(looks: Looks) -> None:
    exact_bytes = sum(len(page.encode_case(looks, case, True, True)) for case in looks.cases)
    rounded_bytes = sum(len(page.encode_case(looks, case, True, False)) for case in looks.cases)
    assert rounded_bytes < exact_bytes
    html, exact = build_file(looks, limit_bytes=(exact_bytes + rounded_bytes) // 2)
    assert not exact
    assert '"exact": false' in html
    with pytest.raises(EvaluationError, match=r"--cases worst:1, or look at all of them with --serve"):
        build_file(looks, limit_bytes=rounded_bytes // 2)


def test_build_page_a_name_cannot_end_the_data(looks: Looks) -> None:
    first = looks.results[0]
    name = "</script><script>alert(1)</script>"
    first.failures["case_0"] = (name,)
    html = build_page(looks)
    first.failures.clear()
    assert name not in html


def test_describe_numbers_flags_and_groups(looks: Looks) -> None:
    content = describe(looks)
    assert content["kind"] == "volume"
    assert [label["name"] for label in content["labels"]] == ["core", "rim"]
    first = content["cases"][0]
    rows = looks.results[0].rows
    assert rows is not None
    expected = rows[(rows["case"] == "case_0") & (rows["label"] == "core")]["dice"].item()
    assert first["numbers"][0]["core"]["dice"] == expected
    assert first["groups"] == ["fold 0"]
    assert "background" not in first["numbers"][0]
    json.dumps(content, allow_nan=False)


def test_encode_case_unreadable_file_is_told_in_its_place(looks: Looks) -> None:
    path = looks.results[0].predictions["case_1"]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    error = json.loads(page.encode_case(looks, "case_1", True, True))["error"]
    path.write_bytes(content)
    assert "case_1.nii.gz" in error
    assert str(path.parent) not in error
