"""Fingerprint -> plan with a reason for every number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet

from unet_pipeline.dataset.check import CheckReport
from unet_pipeline.dataset.fingerprint import read_fingerprint
from unet_pipeline.errors import PlanError
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning.plan import Plan, read_plan
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.planning.presets import PRESETS


def build_network(plan: Plan) -> DynUNet:
    """The planned network, without memory for its weights."""
    with torch.device("meta"):
        return DynUNet(
            spatial_dims=plan.spatial_dims,
            in_channels=len(plan.channel_names),
            out_channels=len(plan.label_table),
            kernel_size=plan.kernel_size,
            strides=plan.strides,
            upsample_kernel_size=plan.strides[1:],
            filters=plan.filters,
            deep_supervision=True,
            deep_supr_num=plan.num_supervised_heads,
        )


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("shape", [(35, 50, 36), (512, 400), (512, 512, 30), (9, 9, 9)])
def test_plan_from_fingerprint_every_field_has_a_reason(
    make_fingerprint: Callable, preset: str, shape: tuple[int, ...]
) -> None:
    planned = plan_from_fingerprint(make_fingerprint(shapes=[shape] * 3), "data", preset)
    assert set(planned.reasons) == set(Plan.model_fields)
    assert all(reason.strip() and "\n" not in reason for reason in planned.reasons.values())


def test_plan_from_fingerprint_arguments_are_kept(make_fingerprint: Callable) -> None:
    plan = plan_from_fingerprint(make_fingerprint(), "../data", num_folds=3, fold=2, seed=11).plan
    assert (plan.dataset_name, plan.dataset_dir) == ("phantom", "../data")
    assert (plan.num_folds, plan.fold, plan.seed) == (3, 2, 11)
    assert plan.label_table == {"background": 0, "organ": 1}


def test_plan_from_fingerprint_same_input_gives_the_same_plan(make_fingerprint: Callable) -> None:
    assert plan_from_fingerprint(make_fingerprint(), "data") == plan_from_fingerprint(make_fingerprint(), "data")


def test_plan_from_fingerprint_order_of_the_cases_does_not_matter(make_fingerprint: Callable) -> None:
    shapes, spacings = [(40, 56, 40), (30, 60, 44), (50, 50, 50)], [(1, 1, 1), (1, 1, 2), (2, 1, 1)]
    straight = plan_from_fingerprint(make_fingerprint(shapes=shapes, spacings_mm=spacings), "data")
    turned = plan_from_fingerprint(make_fingerprint(shapes=shapes[::-1], spacings_mm=spacings[::-1]), "data")
    assert straight == turned


def test_plan_from_fingerprint_unknown_preset_names_the_nearest(make_fingerprint: Callable) -> None:
    with pytest.raises(PlanError, match=r"Unknown preset 'quik'; did you mean 'quick'"):
        plan_from_fingerprint(make_fingerprint(), "data", preset="quik")


@pytest.mark.parametrize("options", [{"fold": 5}, {"num_folds": 0}, {"seed": -1}])
def test_plan_from_fingerprint_impossible_option_is_a_plan_error(make_fingerprint: Callable, options: dict) -> None:
    with pytest.raises(PlanError, match=next(iter(options))):
        plan_from_fingerprint(make_fingerprint(), "data", **options)


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".nii", ".nii.gz"), (".nii.gz", ".nii.gz"), (".png", ".png"), (".jpg", ".png")]
)
def test_plan_from_fingerprint_predictions_are_compressed(
    make_fingerprint: Callable, suffix: str, expected: str
) -> None:
    plan = plan_from_fingerprint(make_fingerprint(suffix=suffix), "data").plan
    assert (plan.image_suffix, plan.output_suffix) == (suffix, expected)


def test_plan_from_fingerprint_pictures_may_lie_any_way_round(make_fingerprint: Callable) -> None:
    plan = plan_from_fingerprint(make_fingerprint(shapes=[(256, 200)] * 3, suffix=".png"), "data").plan
    assert plan.rotation_range_rad == pytest.approx((math.pi,), abs=1e-5)
    assert plan.mirror_probability == (0.5, 0.5)
    assert plan.axcodes == "RA"


def test_plan_from_fingerprint_isotropic_volumes_turn_about_every_axis(make_fingerprint: Callable) -> None:
    plan = plan_from_fingerprint(make_fingerprint(), "data").plan
    assert plan.rotation_range_rad == pytest.approx((0.35,) * 3)
    assert plan.mirror_probability == (0, 0, 0)


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_plan_from_fingerprint_thick_slices_turn_about_the_coarse_axis_only(
    make_fingerprint: Callable, coarse: int
) -> None:
    spacing_mm = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    shape = tuple(20 if axis == coarse else 200 for axis in range(3))
    fingerprint = make_fingerprint(shapes=[shape] * 3, spacings_mm=[spacing_mm] * 3)
    ranges = plan_from_fingerprint(fingerprint, "data").plan.rotation_range_rad
    assert [axis for axis in range(3) if ranges[axis] > 0] == [coarse]


def test_plan_from_fingerprint_ct_is_clipped_and_scaled(make_fingerprint: Callable) -> None:
    plan = plan_from_fingerprint(make_fingerprint(channels=("CT",)), "data").plan
    assert plan.clip_intensity
    assert (plan.intensity_lower, plan.intensity_upper) == (10, 240)
    assert (plan.intensity_subtrahend, plan.intensity_divisor) == ((100,), (20,))


def test_plan_from_fingerprint_larger_preset_is_never_shorter(make_fingerprint: Callable) -> None:
    plans = [plan_from_fingerprint(make_fingerprint(), "data", preset).plan for preset in ("demo", "quick", "full")]
    iterations = [plan.num_epochs * plan.iterations_per_epoch for plan in plans]
    assert iterations == sorted(iterations)


@pytest.mark.parametrize("preset", ["quick", "standard"])
@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((35, 50, 36), (1, 1, 1)),
        ((512, 512, 30), (0.7, 0.7, 5)),
        ((9, 9, 9), (1, 1, 1)),
        ((512, 400), (1, 1)),
        ((20, 300), (1, 1)),
    ],
)
def test_plan_from_fingerprint_network_can_be_built_and_takes_its_patch(
    make_fingerprint: Callable, preset: str, shape: tuple, spacing_mm: tuple
) -> None:
    fingerprint = make_fingerprint(shapes=[shape] * 3, spacings_mm=[spacing_mm] * 3)
    plan = plan_from_fingerprint(fingerprint, "data", preset).plan
    network = build_network(plan).eval()
    for size in (plan.patch_size, plan.window_size):
        assert network(torch.zeros(1, 1, *size, device="meta")).shape == (1, 2, *size)


# real data


@pytest.mark.parametrize("shape", [(12, 12), (64, 64), (10, 10, 1), (1, 64, 64), (96, 80, 1), (16, 16, 16)])
@pytest.mark.parametrize(("preset", "ceiling"), [("quick", 6000), ("standard", 60_000), ("demo", 2400)])
def test_plan_from_fingerprint_tiny_images_make_no_endless_training(
    make_fingerprint: Callable, shape: tuple[int, ...], preset: str, ceiling: int
) -> None:
    suffix = ".png" if len(shape) == 2 else ".nii.gz"
    planned = plan_from_fingerprint(make_fingerprint(shapes=[shape] * 4, suffix=suffix), "data", preset)
    plan = planned.plan
    assert plan.num_epochs * plan.iterations_per_epoch <= ceiling
    assert plan.num_epochs % plan.val_interval == 0
    if math.prod(shape) < 200:
        assert plan.num_epochs * plan.iterations_per_epoch == ceiling
        assert f"at most {ceiling}, because a step takes its time" in planned.reasons["num_epochs"]


QUICK_BUNDLES = (
    "hippocampus_mri",
    "membrane_em",
    "nuclei_fluorescence",
    "nuclei_histology",
    "fetal_head_ultrasound",
    "lung_xray",
)


@pytest.mark.parametrize("name", QUICK_BUNDLES)
def test_plan_from_fingerprint_ready_bundles_would_be_planned_the_same(name: str) -> None:
    """The ceiling of steps is above every data set of a usual size."""
    bundle = Path(__file__).parents[1] / "bundles" / name
    before = read_plan(bundle / "configs" / "plan.yaml")
    fingerprint = read_fingerprint(bundle / "evidence" / "fingerprint.json")
    network, padded = before.network_name, not NETWORKS[before.network_name].padded and before.padded
    now = plan_from_fingerprint(fingerprint, before.dataset_dir, "quick", network=network, padded=padded).plan
    schedule = (
        "num_epochs",
        "iterations_per_epoch",
        "val_interval",
        "warmup_iterations",
        "batch_size",
        "patch_size",
        "filters",
    )
    assert [getattr(now, field) for field in schedule] == [getattr(before, field) for field in schedule]


@pytest.mark.real_data
def test_plan_from_fingerprint_hippocampus_is_near_nnunets_plan(hippocampus_report: CheckReport) -> None:
    """nnU-Net's 3d_fullres: patch 40 x 56 x 40, four levels of 32 to 256, kernels of 3."""
    plan = plan_from_fingerprint(hippocampus_report.require_no_errors(), "data", "standard").plan
    assert plan.patch_size == (32, 48, 32)  # the nearest multiple of 8 to 35 x 50 x 36, where nnU-Net rounds up
    assert plan.window_size == plan.patch_size
    assert plan.filters == (32, 64, 128, 256)
    assert plan.strides == ((1, 1, 1), *[(2, 2, 2)] * 3)
    assert plan.kernel_size == ((3, 3, 3),) * 4
    assert plan.spacing_mm == (1.0, 1.0, 1.0)
    assert plan.label_table == {"background": 0, "Anterior": 1, "Posterior": 2}
    assert (plan.clip_intensity, plan.intensity_subtrahend) == (False, None)
    assert plan.cache_rate == 1.0
    num_parameters = sum(weight.numel() for weight in build_network(plan).parameters())
    assert num_parameters == pytest.approx(5_603_177, rel=0.02)


@pytest.mark.real_data
def test_plan_from_fingerprint_em_membrane_is_a_2d_plan(em_membrane_report: CheckReport) -> None:
    fingerprint = em_membrane_report.require_no_errors()
    planned = plan_from_fingerprint(fingerprint, "data", "standard")
    reasons = " ".join(planned.reasons.values())
    assert not re.search(r"voxel|volume|mm\^3", reasons)
    assert "removed, in pixels;" in reasons
    standard = planned.plan
    assert standard.patch_size == standard.window_size == (512, 512)
    assert standard.filters == (32, 64, 128, 256, 320, 320)
    assert (standard.spatial_dims, standard.image_suffix, standard.output_suffix) == (2, ".png", ".png")
    assert standard.label_table == {"background": 0, "label_255": 255}
    quick = plan_from_fingerprint(fingerprint, "data", "quick").plan
    assert quick.patch_size == (256, 256)
    assert quick.window_size == (256, 256)
