"""Summaries of what is handed over: report, package, audit, reproduction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_pipeline.boundary import show_place
from unet_pipeline.views.summary import Summary, Table, count, list_problems

if TYPE_CHECKING:
    from unet_pipeline.audit.audit import Audit
    from unet_pipeline.evidence.report.report import Report
    from unet_pipeline.evidence.reproduce.reproduction import Reproduction
    from unet_pipeline.handover.package import Package


def _summarize_report(report: Report) -> Summary:
    return Summary(
        f"{show_place(report.path)}, {report.num_bytes / 1000:,.0f} kB",
        {"page": show_place(report.path), "documents": ", ".join(path.name for path in report.documents) or "none"},
        notes=(*report.missing, "open_in_browser() shows the report."),
    )


def _summarize_package(package: Package) -> Summary:
    checks = [(one.check, one.detail) for one in package.verifications]
    return Summary(
        f"{package.zip_file.name}, version {package.version}: {count(len(checks), 'check')} passed",
        {
            "archive": show_place(package.zip_file),
            "SHA-256": package.sha256,
            "exports": ", ".join(one.file for one in package.exports) or "none",
        },
        (Table("checks", ("check", "what it saw"), checks, 2),),
    )


def _summarize_audit(audit: Audit) -> Summary:
    verdict = "passed" if audit.passed else f"needs trust, {count(len(audit.dangers), 'danger')}"
    return Summary(
        f"{audit.name}: {verdict}; {count(audit.num_files, 'file')} looked at",
        tables=list_problems("findings, worst first", audit.findings),
        notes=("Nothing of it was run. An audit reads what a bundle says; it is no proof.",),
    )


def _summarize_reproduction(reproduction: Reproduction) -> Summary:
    rows = [(one.what, f"{one.num_compared:,}", f"{one.num_different:,}") for one in reproduction.comparisons]
    tables = (Table("compared", ("what", "compared", "different"), rows),) if rows else ()
    return Summary(
        f"{reproduction.verdict}; folds {', '.join(map(str, reproduction.folds)) or 'none'}",
        {"trained again": "yes" if reproduction.trained else "no"},
        (*tables, *list_problems("changed since the record", reproduction.findings)),
        notes=[note for note in (*reproduction.outside, reproduction.cause) if note],
    )


SUMMARIES = {
    "Report": _summarize_report,
    "Package": _summarize_package,
    "Audit": _summarize_audit,
    "Reproduction": _summarize_reproduction,
}
