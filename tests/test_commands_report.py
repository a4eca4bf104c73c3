"""What `report` prints at its end: the step that comes next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.bundle.seal import build_manifest

from .evidence_bundles import write_evaluated


def test_report_next_step_is_package_unless_the_seal_still_holds(
    tmp_path: Path, call_main: Callable[..., tuple[int, str, str]]
) -> None:
    bundle = write_evaluated(tmp_path, 2)

    def read_next() -> str:
        status, out, err = call_main("report", bundle)
        assert status == 0, err
        return out.splitlines()[-1]

    package = f"Next: unet-pipeline package {bundle}"
    assert read_next() == package
    folder = BundleFolder(bundle)
    (folder.evidence / "report.html").write_text("as it was before the weights were measured again", encoding="utf-8")
    folder.seal.write_text(build_manifest(folder), encoding="utf-8")
    assert read_next() == f"Next: unet-pipeline predict {bundle} IMAGES OUT"
    (folder.evaluations / "site_b").mkdir()
    (folder.evaluations / "site_b" / "metrics.csv").write_text("case,label,dice\n", encoding="utf-8")
    assert read_next() == package
