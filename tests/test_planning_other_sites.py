"""`plan --for-other-sites`: the kind of the images, and what each kind gets."""

from __future__ import annotations

from dataclasses import fields

import pytest
from pydantic import ValidationError

from unet_pipeline.bundle.configs import build_configs
from unet_pipeline.dataset.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from unet_pipeline.errors import PlanError
from unet_pipeline.planning.other_sites import KINDS, OtherSites, choose_other_sites, name_kind
from unet_pipeline.planning.plan import Plan, build_plan_from
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.training.sites import SiteAugmentation, build_sites


def build_fingerprint(
    channels: tuple[str, ...], means: tuple[float, ...] = (100.0,), dims: int = 2, **changes: object
) -> Fingerprint:
    shape = (128,) * dims
    case = CaseFingerprint(case="a", shape=shape, spacing_mm=(1.0,) * dims, num_voxels={"background": 9, "nucleus": 9})
    intensities = tuple(
        IntensityStatistics(mean=mean, std=30, percentile_00_5=0, percentile_99_5=255) for mean in means
    )
    return Fingerprint(
        dataset_name=str(changes.pop("name", "cells")),
        layout="plain folders",
        suffix=".png" if dims == 2 else ".nii.gz",
        spatial_dims=dims,
        channels=channels,
        labels={"background": 0, "nucleus": 1},
        intensities=intensities * (len(channels) // len(means)),
        cases=(case, case.model_copy(update={"case": "b"})),
        **changes,
    )


RGB = ("channel_0", "channel_1", "channel_2")


@pytest.mark.parametrize(
    ("fingerprint", "kind"),
    [
        (build_fingerprint(RGB, (122, 68, 184)), "stained tissue"),  # nuclei of nuclei_histology
        (build_fingerprint(RGB, (181, 60, 160)), "stained tissue"),
        (build_fingerprint(RGB, (170, 110, 80)), "colour picture"),  # skin
        (build_fingerprint(RGB, (90, 90, 90)), "colour picture"),
        (build_fingerprint(("CT",), dims=3), "CT"),
        (build_fingerprint(("T1", "FLAIR"), dims=3), "MR"),
        (build_fingerprint(("channel_0",), dims=3, modalities=("MR",)), "MR"),
        (build_fingerprint(("channel_0",), dims=3), "volume"),
        (build_fingerprint(("xray",)), "X-ray"),
        (build_fingerprint(("channel_0",), name="fetal_head_ultrasound"), "ultrasound"),
        (build_fingerprint(("channel_0",), name="Dataset101_LungXray"), "X-ray"),
        (build_fingerprint(("channel_0",), name="nuclei_fluorescence"), "grey picture"),
        (build_fingerprint(("channel_0",), modalities=("US",)), "ultrasound"),
    ],
)
def test_name_kind(fingerprint: Fingerprint, kind: str) -> None:
    assert name_kind(fingerprint) == kind


def test_other_sites_are_the_numbers_of_the_augmentation() -> None:
    assert set(OtherSites.model_fields) == {field.name for field in fields(SiteAugmentation)}
    assert build_sites(OtherSites().model_dump()) == SiteAugmentation()


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_of_a_kind_are_wider_than_a_plan_without(kind: str) -> None:
    plain = plan_from_fingerprint(build_fingerprint(("channel_0",)), "data", "quick", 2).plan
    for name, value in KINDS[kind].wider.items():
        before = getattr(plain, name)
        if isinstance(value, tuple):
            assert value[0] <= before[0]
            assert value[1] >= before[1]
            assert value != tuple(before)
        else:
            assert value > before


def test_choose_other_sites_volumes_get_no_jpeg() -> None:
    ranges = choose_other_sites(build_fingerprint(("US",), dims=3)).value
    assert ranges.sites.jpeg_probability == 0
    assert ranges.sites.curve_probability > 0


def test_plan_for_other_sites_stands_in_the_plan_and_in_train_json() -> None:
    planned = plan_from_fingerprint(build_fingerprint(RGB, (122, 68, 184)), "data", "quick", 2, for_other_sites=True)
    assert planned.plan.other_sites is not None
    assert planned.plan.other_sites.stain_probability > 0
    assert planned.plan.scale_range == (0.5, 2.0)
    assert "stained tissue" in planned.reasons["other_sites"]
    train = build_configs(planned.plan)["train"]
    assert train["other_sites"]["stain_probability"] == planned.plan.other_sites.stain_probability  # type: ignore[index]
    assert train["augmentation"]["sites"]["settings"] == "@other_sites"  # type: ignore[index]


def test_plan_without_for_other_sites_has_nothing_of_it_in_train_json() -> None:
    planned = plan_from_fingerprint(build_fingerprint(RGB, (122, 68, 184)), "data", "quick", 2)
    assert planned.plan.other_sites is None
    assert "other_sites" not in str(build_configs(planned.plan)["train"])


def change(plan: Plan, **sites: object) -> Plan:
    return build_plan_from(plan.model_dump() | {"other_sites": sites}, "plan.yaml")


@pytest.mark.parametrize(
    ("sites", "part"),
    [
        ({"stain_probability": 0.5}, "expected 3"),
        ({"mix_probability": 0.5}, "expected 2 or more"),
        ({"jpeg_probability": 2}, "jpeg_probability"),
        ({"jpeg_quality": [90, 20]}, "the lower one first"),
        ({"strain_probability": 0.5}, "strain_probability"),
    ],
)
def test_plan_with_numbers_that_cannot_be_is_refused(sites: dict[str, object], part: str) -> None:
    plan = plan_from_fingerprint(build_fingerprint(("channel_0",)), "data", "quick", 2).plan
    with pytest.raises(PlanError, match=part):
        change(plan, **sites)


def test_plan_of_volumes_with_jpeg_is_refused() -> None:
    plan = plan_from_fingerprint(build_fingerprint(("CT",), dims=3), "data", "quick", 2).plan
    with pytest.raises(PlanError, match="expected 2"):
        change(plan, jpeg_probability=0.5)


def test_other_sites_are_frozen() -> None:
    with pytest.raises(ValidationError):
        OtherSites().stain_range = 1.0  # type: ignore[misc]
