"""`validate`: an external validation as a protocol that is sealed before any data are opened, and decided once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_pipeline.audit.trust import open_trusted
from unet_pipeline.bundle.folder import BundleFolder, open_any_bundle
from unet_pipeline.dataset.image_files import hash_image_files
from unet_pipeline.dataset.missing_channels import ANY
from unet_pipeline.errors import EvaluationError
from unet_pipeline.files import compute_sha256, find_relative, write_json
from unet_pipeline.locks import hold_lock
from unet_pipeline.planning.plan import read_plan
from unet_pipeline.verbs.evaluate import evaluate
from unet_pipeline.verbs.references import read_references
from unet_pipeline.verbs.stores import fetches

if TYPE_CHECKING:
    from unet_pipeline.dataset.dataset import Dataset
    from unet_pipeline.studies.aim import ValidationAim
    from unet_pipeline.studies.external_validation import ValidationResult
    from unet_pipeline.studies.protocol import NamedBundle, ValidationProtocol
    from unet_pipeline.studies.sample_size import SampleSize
    from unet_pipeline.verbs.evaluate import Evaluation

RESULT_FILE = "validation.json"


def size_validation(bundle: Path | str | None, aim: ValidationAim) -> SampleSize:
    """How many patients an external validation needs; nothing is written.

    Args:
        bundle: with an evaluation of its validation cases; None where `aim` has spread, expected and against.

    Raises:
        EvaluationError: values that make no sense, no spread, or nothing can be shown.
        BundleError: no bundle.
    """
    from unet_pipeline.studies.aim import plan_sample

    return plan_sample(None if bundle is None else open_any_bundle(bundle), aim).size


def plan_validation(
    bundle: Path | str,
    protocol: Path | str,
    aim: ValidationAim,
    exclusions: Sequence[str] = (),
    data_sha256: str | None = None,
) -> ValidationProtocol:
    """Write the protocol of an external validation, sealed by its hash, and begin its log.

    Args:
        bundle: trained; its files are hashed.
        protocol: file to write; it does not exist yet.
        exclusions: rules for who is no patient of the study, in words.
        data_sha256: of the data, where their keeper has told it.

    Raises:
        EvaluationError: as `size_validation`; or the file exists already.
        BundleError: no bundle, or no weights.
    """
    from unet_pipeline.studies.aim import plan_sample
    from unet_pipeline.studies.look_log import PLANNED, LookLog, name_log
    from unet_pipeline.studies.protocol import PlannedSample, write_protocol
    from unet_pipeline.studies.protocol import ValidationProtocol as Sealed

    path, folder = Path(protocol), open_any_bundle(bundle)
    for taken in (path, name_log(path)):
        if taken.exists():
            raise EvaluationError(
                f"{taken.name} exists already; a protocol is never written over. Choose another name, or keep the protocol that there is."
            )
    planned = plan_sample(folder, aim)
    size, against = planned.size, planned.against
    sealed = Sealed(
        bundle=_name_bundle(folder, path),
        metric=aim.metric,
        label=planned.label,
        hypothesis=aim.hypothesis,  # type: ignore[arg-type]
        against=_name_bundle(against, path) if isinstance(against, BundleFolder) else round(against, 6),
        margin=aim.margin,
        alpha=aim.alpha,
        analysis=size.analysis,  # type: ignore[arg-type]
        sample=PlannedSample(
            num_patients=size.num_patients,
            power=size.power,
            expected=round(planned.expected, 6),
            spread=round(size.spread, 6),
            num_known=size.num_known,
            source=planned.source,
        ),
        exclusions=tuple(exclusions),
        registered_data_sha256=data_sha256,
        created=datetime.now(UTC).date().isoformat(),
    ).seal()
    write_protocol(path, sealed)
    LookLog(name_log(path), ()).add(PLANNED, sealed.sha256)
    return sealed


@fetches("dataset")
def validate(
    protocol: Path | str,
    dataset: Path | str,
    out: Path | str,
    bundle: Path | str | None = None,
    against: Path | str | None = None,
    registered: str | None = None,
    device: str | None = None,
    trust: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    follow_links: bool = False,
    data_root: Path | str | None = None,
    jobs: int = 1,
) -> ValidationResult:
    """Open the data of an external validation, predict, measure and decide, once; a broken protocol stands in the result.

    Args:
        protocol: from `plan_validation`, with its log beside it.
        dataset: a labelled folder, read as in `evaluate`.
        out: gets validation.json and, in folders, what `evaluate` writes.
        bundle, against: where the protocol's bundles are now, if they were moved.
        registered: hash of the protocol that was deposited elsewhere.
        device, trust, announce, follow_links, data_root, jobs: as in `evaluate`.

    Raises:
        EvaluationError: no protocol, or nothing can be measured. That the protocol was broken is no error.
        BundleError: a bundle is not where the protocol says, or needs trust.
        DatasetError: the data cannot be read.
        InUseError: another process runs the same protocol.
    """
    from unet_pipeline.studies.external_validation import find_breaches
    from unet_pipeline.studies.look_log import OPENED, RESULT, name_log, read_log
    from unet_pipeline.studies.protocol import hash_bundle, read_protocol

    path = Path(protocol)
    plan = read_protocol(path)
    folders = [(plan.bundle, _find_bundle(plan.bundle, path, bundle, "--bundle", trust))]
    if not isinstance(plan.against, float):
        folders.append((plan.against, _find_bundle(plan.against, path, against, "--against", trust)))
    with hold_lock(path.with_name(f"{path.stem}.lock"), f"ValidationProtocol {path.name}"):
        log = read_log(name_log(path))
        changed = [named.name for named, folder in folders if hash_bundle(folder) != named.sha256]
        lacking = any(folder.is_planned and read_plan(folder.plan).missing_channels for _, folder in folders)
        data = read_references(dataset, follow_links, data_root, (ANY,) if lacking else ())
        data_sha256 = hash_data(data)
        breaches, notes = find_breaches(plan, log, data_sha256, registered, changed)
        for line in breaches:
            announce(f"warning: {line}")
        log = log.add(OPENED, plan.compute_sha256(), data_sha256=data_sha256)
        reading = partial(evaluate, follow_links=follow_links, data_root=data_root, jobs=jobs)
        evaluations = [
            reading(folder.root, dataset, Path(out) / name, device=device, trust=trust, announce=announce)
            for (_, folder), name in zip(folders, ("evaluation", "evaluation_against"), strict=False)
        ]
        result = _decide(plan, evaluations, breaches, notes, (data, data_sha256, _count_looks(log.looks)))
        write_json(Path(out) / RESULT_FILE, validation_as_data(result))
        facts = {"data_sha256": data_sha256, "result_sha256": compute_sha256(Path(out) / RESULT_FILE)}
        log.add(RESULT, plan.compute_sha256(), verdict=result.verdict, **facts)
    return result


def hash_data(dataset: Dataset) -> str:
    """SHA-256 of the files of all cases, by their names; the place of the folder does not matter."""
    from unet_pipeline.studies.look_log import hash_content

    return hash_content(
        {
            case.name: hash_image_files([dataset.root / file for file in case.files])
            for case in sorted(dataset.cases, key=lambda case: case.name)
        }
    )


def validation_as_data(result: ValidationResult) -> dict[str, object]:
    """What validation.json holds; NaN is null."""
    content = result.model_dump(mode="json")
    return {key: None if value != value else value for key, value in content.items()}


def _name_bundle(folder: BundleFolder, protocol: Path) -> NamedBundle:
    from unet_pipeline.studies.protocol import NamedBundle, hash_bundle

    if not folder.list_model_files():
        raise EvaluationError(f"{folder.name} has no weights; expected a trained bundle. Train it first.")
    place = find_relative(folder.root, protocol.absolute().parent)
    return NamedBundle(name=folder.name, place=place or folder.name, sha256=hash_bundle(folder))


# the look


def _find_bundle(
    named: NamedBundle, protocol: Path, moved: Path | str | None, option: str, trust: bool
) -> BundleFolder:
    place = Path(moved) if moved is not None else protocol.absolute().parent / named.place
    if not place.is_dir():
        raise EvaluationError(
            f"Bundle {named.name} is not at {named.place} from {protocol.name}. Give its folder with {option}; its files are compared with "
            "the protocol."
        )
    return open_trusted(place, "validate", trust, opener=open_any_bundle)


def _count_looks(looks: Sequence[Any]) -> int:
    """Which look this is: those that had a result, and this one."""
    return 1 + sum(look.event == "result" for look in looks)


def _decide(
    plan: ValidationProtocol,
    evaluations: Sequence[Evaluation],
    breaches: list[str],
    notes: list[str],
    facts: tuple[Dataset, str, int],
) -> ValidationResult:
    """The result; `facts` are the dataset, its hash and the number of the look."""
    from unet_pipeline.studies.external_validation import (
        NOT_POWERED,
        ValidationResult,
        decide,
        describe_verdict,
        gather_patients,
    )

    data, data_sha256, look = facts
    own, *others = evaluations
    patients = gather_patients(
        own.rows, own.record.scored_labels, plan.metric, plan.label, *(one.rows for one in others)
    )
    verdict, numbers = decide(plan, patients, breaches)
    if numbers["num_patients"] < numbers["num_planned"] and verdict != NOT_POWERED:
        notes.append(f"Fewer patients than planned: {numbers['num_patients']} of {numbers['num_planned']}.")
    if numbers["num_patients"] > numbers["num_planned"]:
        notes.append(f"More patients than planned: {numbers['num_patients']} instead of {numbers['num_planned']}.")
    notes += [f"Evaluation: {note}" for one in evaluations for note in one.record.notes]
    named: dict[str, Any] = {
        "verdict": verdict,
        "breaches": breaches,
        "notes": notes,
        "sentence": describe_verdict(plan, verdict, numbers),
        "excluded": sorted({case for one in evaluations for case in one.excluded}),
        "look": look,
        "protocol": plan,
        "data_sha256": data_sha256,
        "dataset": data.name,
    }
    return ValidationResult.model_construct(None, **named, **numbers)
