"""A label map is kept only where the record binds it to the same image, weights, configs and options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unet_pipeline.bundle.run_record import LabelMapEntry
from unet_pipeline.errors import PredictionError
from unet_pipeline.files import compute_sha256
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.outputs import probabilities_path
from unet_pipeline.prediction.reuse import (
    EDITED,
    NO_PROBABILITIES,
    OTHER_IMAGE,
    OTHER_WEIGHTS,
    UNRECORDED,
    Ledger,
    Origin,
    settle_options,
    without_record,
)

SUFFIX = ".nii.gz"
ORIGIN = Origin(("w",), {"configs/plan.yaml": "p"}, {"mirror": False, "device": "cpu"})


def find_entry(ledger: Ledger, name: str) -> LabelMapEntry:
    entry = ledger.entries[name]
    assert isinstance(entry, LabelMapEntry)
    return entry


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def image(tmp_path: Path) -> PredictionInput:
    return PredictionInput("T1", (write(tmp_path / "p1" / "T1.nii.gz", "the first patient"),))


def predict(ledger: Ledger, source: PredictionInput, probabilities: bool = False) -> Path:
    """What a case of `predict` does: note, make room, write, finish."""
    final = ledger.out / f"{source.name}{SUFFIX}"
    beside = probabilities_path(final, SUFFIX)
    ledger.note_image(source)
    ledger.make_room(source, final, beside)
    write(final, f"label map of {source.files[0].read_text()}")
    if probabilities:
        write(beside, "probabilities")
    ledger.finish(source, final, beside if probabilities else None)
    return final


def judge(ledger: Ledger, source: PredictionInput, origin: Origin = ORIGIN, probabilities: bool = False) -> str:
    """The reason why a later call predicts again; empty when it keeps the label map."""
    later = Ledger(ledger.out, origin, ledger.entries)
    todo, kept = later.sort({source: ledger.out / f"{source.name}{SUFFIX}"}, SUFFIX if probabilities else None)
    assert [bool(todo), bool(kept)] in ([True, False], [False, True])
    assert (source.name in later.again) == bool(todo)
    return later.again.get(source.name, "")


@pytest.fixture
def ledger(tmp_path: Path, image: PredictionInput) -> Ledger:
    made = Ledger(tmp_path / "out", ORIGIN)
    predict(made, image)
    return made


def test_ledger_same_image_and_way_is_kept(ledger: Ledger, image: PredictionInput) -> None:
    assert judge(ledger, image) == ""


def test_ledger_image_of_the_same_name_elsewhere_is_predicted(ledger: Ledger, tmp_path: Path) -> None:
    other = PredictionInput("T1", (write(tmp_path / "p2" / "T1.nii.gz", "the second patient"),))
    assert judge(ledger, other) == OTHER_IMAGE


def test_ledger_image_that_was_moved_is_kept(ledger: Ledger, image: PredictionInput, tmp_path: Path) -> None:
    moved = PredictionInput("T1", (write(tmp_path / "elsewhere" / "T1.nii.gz", image.files[0].read_text()),))
    assert judge(ledger, moved) == ""


def test_ledger_image_corrected_in_its_place_is_predicted(ledger: Ledger, image: PredictionInput) -> None:
    write(image.files[0], "the first patient, resampled")
    assert judge(ledger, image) == OTHER_IMAGE


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        (replace(ORIGIN, weights_sha256=("v",)), OTHER_WEIGHTS),
        (replace(ORIGIN, weights_sha256=("w", "v")), OTHER_WEIGHTS),
        (replace(ORIGIN, configs_sha256={"configs/plan.yaml": "q"}), "configs/plan.yaml changed since"),
        (replace(ORIGIN, configs_sha256={**ORIGIN.configs_sha256, "net.py": "n"}), "net.py changed since"),
        (replace(ORIGIN, options={"mirror": True, "device": "cpu"}), "mirror was False, is now True"),
        (
            Origin(("v",), ORIGIN.configs_sha256, {"mirror": False, "device": "cuda"}),
            f"{OTHER_WEIGHTS}; device was cpu, is now cuda",
        ),
    ],
)
def test_ledger_other_way_is_predicted_with_the_reason(
    ledger: Ledger, image: PredictionInput, origin: Origin, reason: str
) -> None:
    assert judge(ledger, image, origin) == reason


def test_ledger_every_file_of_a_case_counts_and_their_order(tmp_path: Path) -> None:
    files = [write(tmp_path / folder / "001.nii.gz", folder) for folder in ("t1", "t2")]
    source = PredictionInput("001", tuple(files))
    ledger = Ledger(tmp_path / "out", ORIGIN)
    predict(ledger, source)
    assert list(find_entry(ledger, "001").files_sha256) == ["t1/001.nii.gz", "t2/001.nii.gz"]
    assert judge(ledger, source) == ""
    assert judge(ledger, PredictionInput("001", tuple(reversed(files)))) == OTHER_IMAGE
    write(files[1], "t2, registered again")
    assert judge(ledger, source) == OTHER_IMAGE


def test_ledger_slice_of_a_series_counts(tmp_path: Path) -> None:
    series = tmp_path / "patient"
    for number in range(3):
        write(series / f"{number}.dcm", str(number))
    source = PredictionInput("patient", (series,))
    ledger = Ledger(tmp_path / "out", ORIGIN)
    ledger.note_image(source)
    final = write(tmp_path / "out" / "patient.nii.gz", "label map")
    ledger.finish(source, final)
    assert judge(ledger, source) == ""
    write(series / "3.dcm", "a slice that came later")
    assert judge(ledger, source) == OTHER_IMAGE


def test_ledger_voxels_beside_their_header_count(tmp_path: Path) -> None:
    header = "NDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = ct.raw\n"
    source = PredictionInput("ct", (write(tmp_path / "ct.mhd", header),))
    write(tmp_path / "ct.raw", "abcd")
    ledger = Ledger(tmp_path / "out", ORIGIN)
    predict(ledger, source)
    assert judge(ledger, source) == ""
    write(tmp_path / "ct.raw", "abce")
    assert judge(ledger, source) == OTHER_IMAGE


def test_ledger_label_map_that_was_edited_goes_aside(ledger: Ledger, image: PredictionInput) -> None:
    final = write(ledger.out / "T1.nii.gz", "corrected by hand")
    assert judge(ledger, image) == EDITED
    predict(ledger, image)
    assert final.read_text() == "label map of the first patient"
    assert (ledger.out / "replaced" / "T1.nii.gz").read_text() == "corrected by hand"
    write(final, "corrected again")
    predict(ledger, image)
    assert (ledger.out / "replaced" / "2_T1.nii.gz").read_text() == "corrected again"


def test_ledger_file_of_somebody_else_goes_aside(tmp_path: Path, image: PredictionInput) -> None:
    write(tmp_path / "out" / "T1.nii.gz", "an expert's reference")
    ledger = Ledger(tmp_path / "out", ORIGIN)
    assert judge(ledger, image) == UNRECORDED
    predict(ledger, image)
    assert (tmp_path / "out" / "replaced" / "T1.nii.gz").read_text() == "an expert's reference"


def test_ledger_own_label_map_of_another_image_is_gone(ledger: Ledger, image: PredictionInput) -> None:
    """Also where the new image cannot be predicted: nothing stands under its name then."""
    final = ledger.out / "T1.nii.gz"
    write(image.files[0], "another patient")
    ledger.make_room(image, final)
    assert not final.exists()
    assert not (ledger.out / "replaced").exists()
    assert ledger.entries == {}


def test_ledger_probabilities_must_be_there_and_as_recorded(ledger: Ledger, image: PredictionInput) -> None:
    assert judge(ledger, image, probabilities=True) == NO_PROBABILITIES
    predict(ledger, image, probabilities=True)
    assert judge(ledger, image, probabilities=True) == ""
    assert judge(ledger, image) == ""
    beside = write(ledger.out / "T1_probabilities.nii.gz", "edited")
    assert judge(ledger, image, probabilities=True) == NO_PROBABILITIES
    predict(ledger, image)
    assert not beside.exists(), "they would belong to the label map before"
    assert find_entry(ledger, "T1").probabilities is None


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "text",
        {},
        {"files_sha256": {}, "label_map": "T1.nii.gz", "label_map_sha256": "0", "weights_sha256": ["w"]},  # version 0.1
        {"files_sha256": [], "label_map": 1, "label_map_sha256": None, "weights_sha256": 3, "configs_sha256": 0},
    ],
)
def test_ledger_entry_that_says_too_little_keeps_nothing(ledger: Ledger, image: PredictionInput, entry: object) -> None:
    ledger.entries["T1"] = entry
    assert judge(ledger, image) == UNRECORDED


def test_ledger_label_map_in_another_format_is_not_this_one(ledger: Ledger, image: PredictionInput) -> None:
    final = write(ledger.out / "T1.png", "label map")
    later = Ledger(ledger.out, ORIGIN, ledger.entries)
    assert later.sort({image: final}) == ([image], ())
    assert later.again == {"T1": UNRECORDED}


def test_ledger_reasons_are_told_together(tmp_path: Path) -> None:
    sources = [PredictionInput(f"c{n}", (write(tmp_path / f"c{n}.nii.gz", str(n)),)) for n in range(5)]
    ledger = Ledger(tmp_path / "out", ORIGIN)
    finals = {source: predict(ledger, source) for source in sources}
    write(sources[4].files[0], "changed")
    lines: list[str] = []
    later = Ledger(ledger.out, replace(ORIGIN, weights_sha256=("v",)), ledger.entries, announce=lines.append)
    assert later.sort(finals) == (sources, ())
    assert lines == [
        f"again    c0, c1, c2 and 1 more: {OTHER_WEIGHTS}",
        f"again    c4: {OTHER_IMAGE}; {OTHER_WEIGHTS}",
    ]


def test_ledger_image_that_changes_while_it_is_predicted_is_not_kept(tmp_path: Path, image: PredictionInput) -> None:
    ledger = Ledger(tmp_path / "out", ORIGIN)
    ledger.note_image(image)
    write(image.files[0], "overwritten while it was read")
    ledger.finish(image, write(tmp_path / "out" / "T1.nii.gz", "label map"))
    assert judge(ledger, image) == OTHER_IMAGE


def test_ledger_is_saved_as_cases_finish(tmp_path: Path) -> None:
    """A call that is cut off leaves what it has finished."""
    saved: list[list[str]] = []
    ledger = Ledger(tmp_path / "out", ORIGIN)
    ledger.save = lambda: saved.append(list(ledger.entries))
    for name in ("a", "b", "c"):
        predict(ledger, PredictionInput(name, (write(tmp_path / f"{name}.nii.gz", name),)))
        ledger._next_save_s = 0
    assert saved == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert find_entry(ledger, "b").label_map_sha256 == compute_sha256(tmp_path / "out" / "b.nii.gz")


def test_without_record_keeps_nothing(ledger: Ledger, image: PredictionInput) -> None:
    assert without_record(ledger.out).sort({image: ledger.out / "T1.nii.gz"}) == ([image], ())


def test_settle_options_names_what_they_come_to() -> None:
    assert settle_options(PredictOptions("cpu", mirror=True)) == {
        "mirror": True,
        "runtime": "torch",
        "precision": "float32",
        "device": "cpu",
    }
    assert settle_options(PredictOptions("cpu", precision="auto"))["precision"] in ("float32", "bfloat16")
    with pytest.raises(PredictionError, match="Device 'cuda:99' cannot be used here"):
        settle_options(PredictOptions("cuda:99"))
