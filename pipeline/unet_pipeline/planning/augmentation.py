"""The plan's numbers of the augmentation, each with its reason."""

from __future__ import annotations

from unet_pipeline.dataset.fingerprint import Fingerprint
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.planning import rules
from unet_pipeline.planning.draft import Draft
from unet_pipeline.planning.other_sites import choose_other_sites

NNUNET_DA = "nnU-Net's data augmentation (Isensee et al. 2021, note 4)"


def add_augmentation(draft: Draft, fingerprint: Fingerprint, share: float, for_other_sites: bool = False) -> None:
    """Numbers of the random transforms; `share` of their full probabilities, but for what images of other hospitals need."""
    dims, spacing_mm, patch_size = fingerprint.spatial_dims, draft.values["spacing_mm"], draft.values["patch_size"]
    draft.add(
        "of most samples: on hippocampus 0.8 measured 0.003 Dice above 0.3 (docs/experiments.md)",
        affine_probability=round(0.8 * share, 6),
    )
    rotation = rules.choose_rotation(fingerprint, spacing_mm)
    draft.add(rotation.reason, rotation_range_rad=rotation.value)
    draft.add("objects a fifth smaller to a quarter larger", scale_range=(0.8, 1.25))
    draft.add("and each axis by up to 7 % on its own", stretch_range=0.07)
    _add_elastic(draft, dims, share, patch_size)
    draft.add(
        NNUNET_DA,
        noise_probability=round(0.1 * share, 6),
        noise_std=0.1,
        blur_probability=round(0.1 * share, 6),
        blur_sigma_voxel=(0.5, 1.0),
    )
    draft.add(
        NNUNET_DA,
        brightness_probability=round(0.15 * share, 6),
        brightness_range=0.25,
        contrast_probability=round(0.15 * share, 6),
        contrast_range=0.25,
    )
    draft.add(NNUNET_DA, low_resolution_probability=round(0.12 * share, 6), low_resolution_zoom=(0.5, 1.0))
    draft.add(NNUNET_DA, gamma_probability=round(0.3 * share, 6), gamma_range=(0.7, 1.5))
    mirroring = rules.choose_mirroring(fingerprint)
    draft.add(mirroring.reason, mirror_probability=mirroring.value)
    _add_channel_dropout(draft, fingerprint)
    _add_other_sites(draft, fingerprint, for_other_sites)


def _add_channel_dropout(draft: Draft, fingerprint: Fingerprint) -> None:
    is_wanted = bool(fingerprint.missing_channels)
    draft.add(
        "half of the samples lose a random set of the channels that may be missing, and keep one at least (Neverova et al. 2016)"
        if is_wanted
        else "no channel may be missing",
        channel_dropout=0.5 if is_wanted else 0.0,
    )


def _add_other_sites(draft: Draft, fingerprint: Fingerprint, wanted: bool) -> None:
    if not wanted:
        draft.add("images like these; `plan --for-other-sites` for those of other hospitals too", other_sites=None)
        return
    ranges = choose_other_sites(fingerprint)
    draft.add(ranges.reason, other_sites=ranges.value.sites, **ranges.value.wider)


def _add_elastic(draft: Draft, dims: int, share: float, patch_size: tuple[int, ...]) -> None:
    row = NETWORKS[draft.values["network_name"]]
    if row.elastic is not None:
        num_points, sigma_voxel = row.elastic
        draft.add(
            f"random displacements of {sigma_voxel:g} voxels on a grid of {num_points} per axis, bicubic between them ({row.reference})",
            elastic_probability=1.0,
            elastic_control_points=(num_points,) * dims,
            elastic_sigma_voxel=sigma_voxel,
        )
        return
    draft.add(
        "elastic deformation as in Ronneberger et al. 2015, on a coarse grid of random displacements",
        elastic_probability=round(0.1 * share, 6),
    )
    points = tuple(max(3, min(6, round(size / 16))) for size in patch_size)
    draft.add("control points about 16 voxels apart, 3 to 6 per axis", elastic_control_points=points)
    draft.add("standard deviation: 2 % of the patch", elastic_sigma_voxel=round(0.02 * max(patch_size), 3))
