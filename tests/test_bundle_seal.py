"""Whether a bundle is still what was sealed."""

from __future__ import annotations

from pathlib import Path

import pytest

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.seal import break_seal, build_manifest, holds_seal


@pytest.fixture
def sealed(tmp_path: Path) -> BundleFolder:
    folder = BundleFolder(tmp_path / "bundle")
    for path in (folder.weights, folder.plan):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a file")
    folder.seal.parent.mkdir()
    folder.seal.write_text(build_manifest(folder), encoding="utf-8")
    return folder


def test_build_manifest_is_in_the_format_of_sha256sum(sealed: BundleFolder) -> None:
    digest = "7365d029861e32c521f8089b00a6fb32daf0615025b69b599d1ce53501b845c2"
    lines = sealed.seal.read_text(encoding="utf-8").splitlines()
    assert lines == [f"{digest}  configs/plan.yaml", f"{digest}  models/model.pt"]


def test_holds_seal_of_the_files_that_were_sealed(sealed: BundleFolder) -> None:
    assert holds_seal(sealed)
    (sealed.root / "models" / "model_fold_0.pt").write_bytes(b"a work file, which is not handed over")
    assert holds_seal(sealed)


def test_holds_seal_apart_from_a_file_looks_at_all_others(sealed: BundleFolder) -> None:
    sealed.plan.write_bytes(b"another")
    assert holds_seal(sealed, apart_from="configs/plan.yaml")
    assert not holds_seal(sealed, apart_from="plan.yaml")
    sealed.weights.write_bytes(b"another")
    assert not holds_seal(sealed, apart_from="configs/plan.yaml")


@pytest.mark.parametrize("what", ["changed", "added", "gone", "a link", "no seal"])
def test_holds_seal_of_other_files_is_false(sealed: BundleFolder, what: str) -> None:
    match what:
        case "changed":
            sealed.plan.write_bytes(b"another")
        case "added":
            (sealed.evidence / "report.html").write_bytes(b"a report")
        case "gone":
            sealed.plan.unlink()
        case "a link":
            (sealed.evidence / "report.html").symlink_to(sealed.plan)
        case "no seal":
            break_seal(sealed)
    assert not holds_seal(sealed)
