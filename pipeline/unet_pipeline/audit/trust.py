"""May this bundle be run here? The gate in front of every verb that builds from a bundle's configs."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_pipeline.audit.archive import audit_entries
from unet_pipeline.audit.audit import Audit, audit_source, find_files
from unet_pipeline.audit.source import FolderSource, open_source, read_entry
from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.errors import BundleError

_SHOWN_FINDINGS = 12
_LEFT_OUT = ("evidence", "output", "input")


def require_trusted(folder: BundleFolder, trust: bool = False, sealed: bool = True) -> None:
    """Refuse a bundle that fails its audit.

    Args:
        folder: the bundle.
        trust: the user has decided; nothing is looked at.
        sealed: files that take part in a prediction must be those that were sealed, if the bundle is. A verb that goes on
            working on the bundle leaves this out.

    Raises:
        BundleError: lists the first findings.
        PlanError: its plan is not valid.
    """
    if trust:
        return
    try:
        left_out = ("output", "input") if sealed and folder.seal.is_file() else _LEFT_OUT
        found = audit_source(FolderSource(folder.root, left_out), quick=True, sealed=sealed and folder.seal.is_file())
    except OSError as error:
        raise BundleError(f"{folder.name} cannot be read: {error.strerror}. Check its permissions.") from error
    if not found.passed:
        raise BundleError(describe_refusal(found))


def require_place_of_results(folder: BundleFolder, out: Path) -> None:
    """Refuse to write results among what the audit takes for configs of the bundle, which would need --trust from then on.

    Raises:
        BundleError: `out` is the bundle or lies in it, and not below its folder for results or evidence.
    """
    root, place = folder.root.resolve(), out.resolve()
    if not place.is_relative_to(root) or place.relative_to(root).parts[:1] in (("evidence",), ("output",)):
        return
    raise BundleError(
        f"The folder of the results is {place.relative_to(root.parent)}, inside the bundle, where every JSON file counts as a config: the "
        f"bundle would need --trust afterwards. Choose a folder outside of {folder.name}, or one below {folder.name}/output or "
        f"{folder.name}/evidence/evaluations."
    )


def describe_refusal(found: Audit) -> str:
    """The first dangers of an audit, and what to do."""
    dangers = found.dangers
    lines = [
        f"  {finding.where} {finding.cause}. {finding.why} {finding.remedy}" for finding in dangers[:_SHOWN_FINDINGS]
    ]
    more = len(dangers) - _SHOWN_FINDINGS
    lines += [f"  and {more} more"] if more > 0 else []
    listed = "\n".join(lines)
    return (
        f"{found.name} needs trust; nothing of it was run. Its audit found {len(dangers)} danger(s):\n{listed}\n"
        f"`unet-pipeline audit {shlex.quote(found.name)}` shows where each part stands. Give --trust to use it all the same, if you know "
        "who made it."
    )


@contextmanager
def open_for_reading(
    bundle: Path | str, trust: bool = False, opener: Callable[[Path | str], BundleFolder] = open_bundle
) -> Iterator[BundleFolder]:
    """A bundle to predict with: a folder, or an archive that is unpacked into a folder that goes away.

    Args:
        bundle: folder or archive.
        trust: see `require_trusted`.
        opener: `open_any_bundle` for bundles of others too.

    Raises:
        BundleError: no bundle; or it fails its audit, and then nothing was unpacked.
    """
    path = Path(bundle)
    if not path.is_file():
        folder = opener(bundle)
        require_trusted(folder, trust)
        yield folder
        return
    temporary = Path(tempfile.mkdtemp(prefix="unet-pipeline-"))
    try:
        root = temporary / path.name.partition(".")[0]
        unpack(path, root, trust)
        yield opener(root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack(archive: Path, root: Path, trust: bool = False) -> None:
    """Unpack a bundle's archive into a new folder, once its audit is passed.

    Entries that lie outside, links and bombs are refused even with `trust`; nothing is written then.

    Raises:
        BundleError: it fails.
    """
    source = open_source(archive)
    found = Audit(source.name, 0, (), tuple(audit_entries(source.entries, source.name, archived=True)))
    if not found.passed:
        first = found.dangers[0]
        raise BundleError(f"{source.name} is not unpacked: {first.where} {first.cause}. {first.why} {first.remedy}")
    if not trust and not (found := audit_source(source, quick=True)).passed:
        raise BundleError(describe_refusal(found))
    for name, entry in find_files(source.entries).items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_entry(source, entry))


def open_trusted(
    bundle: Path | str,
    verb: str,
    trust: bool = False,
    sealed: bool = True,
    opener: Callable[[Path | str], BundleFolder] = open_bundle,
) -> BundleFolder:
    """The folder of a bundle that a verb runs and writes into, once it has passed its audit.

    Args:
        bundle: a folder.
        verb: for the message.
        trust: see `require_trusted`.
        sealed: see `require_trusted`.
        opener: see `open_for_reading`.

    Raises:
        BundleError: no bundle, an archive, or a bundle that fails its audit.
    """
    if Path(bundle).is_file():
        raise BundleError(
            f"{Path(bundle).name} is an archive, and `{verb}` writes into the bundle. Look at it with `unet-pipeline audit`, then "
            "unpack it and give the folder."
        )
    folder = opener(bundle)
    require_trusted(folder, trust, sealed)
    return folder
