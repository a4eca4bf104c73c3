"""The embedded cohort of simulated heads; one head, and phantoms where the template is not needed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unet_pipeline.dataset import demo
from unet_pipeline.dataset.check import check_dataset
from unet_pipeline.dataset.demo import DemoCohort, simulate_head, write_demo_cohort
from unet_pipeline.dataset.layouts import read_dataset
from unet_pipeline.errors import DatasetError


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> DemoCohort:
    """One simulated head and the template, made from the real template."""
    pytest.importorskip("nilearn")
    return write_demo_cohort(tmp_path_factory.mktemp("cohort"), num_cases=1)


@pytest.fixture
def template() -> demo._Head:
    """A ball of white matter in a shell of grey matter; no file is read."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in (24, 28, 22)], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    white = (radius < 0.5).astype(np.float32)
    grey = ((radius >= 0.5) & (radius < 0.8)).astype(np.float32)
    tissues = np.stack([1 - white - grey, grey, white])
    return demo._Head((0.9 * white + 0.6 * grey).astype(np.float32), tissues, np.diag([2.0, 2.0, 2.0, 1.0]))


def test_write_demo_cohort_both_datasets_pass_the_check(cohort: DemoCohort) -> None:
    for root, names in ((cohort.training, ["head_01"]), (cohort.test, ["mni152"])):
        report = check_dataset(read_dataset(root))
        # each has one case here; a test set is not trained on, which a folder cannot say
        assert {problem.code for problem in report.problems} == {"nothing-to-validate"}
        fingerprint = report.require_no_errors()
        assert [case.case for case in fingerprint.cases] == names
        assert fingerprint.labels == demo.LABELS
        assert fingerprint.channels == ("T1 MRI",)
        assert fingerprint.cases[0].spacing_mm == pytest.approx((demo.RESOLUTION_MM,) * 3)


def test_write_demo_cohort_template_has_a_heads_tissue_volumes(cohort: DemoCohort) -> None:
    label = np.asarray(nib.load(cohort.test / "labelsTr" / "mni152.nii.gz").dataobj)
    grey_ml, white_ml = ((label == value).sum() * demo.RESOLUTION_MM**3 / 1000 for value in (1, 2))
    assert 500 < grey_ml < 1500
    assert 350 < white_ml < 900
    image = np.asarray(nib.load(cohort.test / "imagesTr" / "mni152.nii.gz").dataobj)
    assert image[label == 2].mean() > image[label == 1].mean() > image[label == 0].mean()  # T1 weighting


def test_write_demo_cohort_simulated_head_is_near_the_template_and_not_it(cohort: DemoCohort) -> None:
    simulated = np.asarray(nib.load(cohort.training / "labelsTr" / "head_01.nii.gz").dataobj) > 0
    template = np.asarray(nib.load(cohort.test / "labelsTr" / "mni152.nii.gz").dataobj) > 0
    dice = 2 * (simulated & template).sum() / (simulated.sum() + template.sum())
    assert 0.6 < dice < 0.99


def test_write_demo_cohort_complete_one_is_kept(cohort: DemoCohort, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("the template is loaded again")

    monkeypatch.setattr(demo, "_load_template", refuse)
    assert write_demo_cohort(cohort.training.parent, num_cases=1) == cohort


def test_write_demo_cohort_interrupted_one_is_made_anew(
    tmp_path: Path, template: demo._Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_load_template", lambda: template)
    left_over = tmp_path / "demo_heads" / "imagesTr" / "head_99.nii.gz"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"half")
    cohort = write_demo_cohort(tmp_path, num_cases=2)
    assert not left_over.exists()
    assert [case.name for case in read_dataset(cohort.training).cases] == ["head_01", "head_02"]


def test_write_demo_cohort_more_cases_leave_the_first_unchanged(
    tmp_path: Path, template: demo._Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_load_template", lambda: template)
    few, many = (write_demo_cohort(tmp_path / str(count), num_cases=count) for count in (1, 2))
    for name in ("imagesTr/head_01.nii.gz", "labelsTr/head_01.nii.gz"):
        first, second = (np.asarray(nib.load(cohort.training / name).dataobj) for cohort in (few, many))
        np.testing.assert_array_equal(first, second)


def test_write_demo_cohort_other_seed_gives_other_heads(
    tmp_path: Path, template: demo._Head, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_load_template", lambda: template)
    cohorts = [write_demo_cohort(tmp_path / str(seed), num_cases=1, seed=seed) for seed in (0, 1)]
    images = [np.asarray(nib.load(cohort.training / "imagesTr/head_01.nii.gz").dataobj) for cohort in cohorts]
    assert not np.array_equal(*images)


def test_write_demo_cohort_one_simulated_head_is_described_as_simulated(cohort: DemoCohort) -> None:
    training, test = (json.loads((root / "dataset.json").read_text()) for root in (cohort.training, cohort.test))
    assert "imulated" in training["description"]
    assert "imulated" not in test["description"]


def test_write_demo_cohort_without_nilearn_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(DatasetError, match=r"unet-pipeline\[demo\]"):
        write_demo_cohort(tmp_path)


def test_simulate_head_same_generator_gives_the_same_head(template: demo._Head) -> None:
    first, second = (simulate_head(template, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.tissues, second.tissues)


def test_simulate_head_tissue_shares_stay_shares(template: demo._Head) -> None:
    head = simulate_head(template, np.random.default_rng(0))
    assert head.image.shape == template.image.shape
    assert head.image.dtype == np.float32
    assert head.image.min() >= 0
    assert np.isfinite(head.image).all()
    np.testing.assert_allclose(head.tissues.sum(0), 1, atol=1e-5)
    assert head.tissues.min() >= -1e-6
    np.testing.assert_array_equal(head.affine, template.affine)


def test_simulate_head_volume_stays_within_the_drawn_scaling(template: demo._Head) -> None:
    for seed in range(5):
        head = simulate_head(template, np.random.default_rng(seed))
        ratio = head.tissues[1:].sum() / template.tissues[1:].sum()
        assert 0.6 < ratio < 1.6  # 8 % per axis, and displacements of a few mm on a ball of 2 cm
