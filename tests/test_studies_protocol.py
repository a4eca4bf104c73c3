"""Protocol files: what is written is read again, edits are seen, and metrics become gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unet_pipeline.errors import EvaluationError
from unet_pipeline.studies.protocol import (
    NamedBundle,
    PlannedSample,
    Scale,
    ValidationProtocol,
    compute_boundary,
    read_protocol,
    require_label,
    require_metric,
    write_protocol,
)


def build_protocol(**changes: Any) -> ValidationProtocol:
    """A sealed protocol: Dice of the mean against 0.9."""
    values: dict[str, Any] = {
        "bundle": NamedBundle(name="first", place="../first", sha256="a" * 64),
        "metric": "dice",
        "label": "mean of labels",
        "hypothesis": "noninferiority",
        "against": 0.9,
        "margin": 0.02,
        "alpha": 0.05,
        "analysis": "t",
        "sample": PlannedSample(num_patients=20, power=0.8, expected=0.9, spread=0.03, num_known=0, source="given"),
        "created": "2026-01-01",
    }
    return ValidationProtocol(**values | changes).seal()


def test_what_is_written_is_read_again_with_its_hash(tmp_path: Path) -> None:
    for protocol in (build_protocol(), build_protocol(against=NamedBundle(name="b", place="b", sha256="c" * 64))):
        write_protocol(tmp_path / "p.yaml", protocol)
        again = read_protocol(tmp_path / "p.yaml")
        assert again == protocol
        assert again.sha256 == again.compute_sha256()


def test_an_edit_shows_in_the_hash_and_a_comment_does_not(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    write_protocol(path, build_protocol(exclusions=("under 18",)))
    text = path.read_text(encoding="utf-8")
    path.write_text(f"# mine\n{text}", encoding="utf-8")
    assert read_protocol(path).sha256 == read_protocol(path).compute_sha256()
    for old, new in (("0.02", "0.03"), ("under 18", "under 16"), ("num_patients: 20", "num_patients: 10")):
        path.write_text(text.replace(old, new), encoding="utf-8")
        assert read_protocol(path).sha256 != read_protocol(path).compute_sha256()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "holds no protocol"),
        ("a: [", "is no YAML"),
        ("a: 1", "is no protocol: bundle: field required"),
    ],
)
def test_what_is_no_protocol_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(EvaluationError, match=words):
        read_protocol(tmp_path / "p.yaml")
    with pytest.raises(EvaluationError, match="does not exist"):
        read_protocol(tmp_path / "q.yaml")


def test_gains_are_larger_for_the_better_value() -> None:
    dice, distance = Scale("dice", False, 0.9), Scale("hd95", False, 3.0)
    assert (dice.gain(0.95), distance.gain(2.0)) == (pytest.approx(0.05), 1.0)
    assert (dice.least, dice.most) == (pytest.approx(-0.9), pytest.approx(0.1))
    assert (distance.most, dice.analysis, distance.analysis) == (3.0, "bounded", "t")
    paired = Scale("dice", True, 0.9)
    assert (paired.gain(0.01), paired.least, paired.most) == (0.01, -1.0, 1.0)
    assert (compute_boundary("noninferiority", 0.02), compute_boundary("superiority", 0.01)) == (-0.02, 0.01)


def test_metrics_without_direction_and_unknown_labels_are_refused() -> None:
    with pytest.raises(EvaluationError, match="has no better direction"):
        require_metric("volume_error")
    with pytest.raises(EvaluationError, match="did you mean 'dice'"):
        require_metric("dise")
    assert require_label("", ["x"]) == require_label("mean", ["x"]) == "mean of labels"
    with pytest.raises(EvaluationError, match="--label is 'y'"):
        require_label("y", ["x"])
