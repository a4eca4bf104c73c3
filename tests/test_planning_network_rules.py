"""The rules of the network: known answers, then properties of any image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.device.memory import Memory
from unet_pipeline.errors import PlanError
from unet_pipeline.networks.shape import Shape
from unet_pipeline.networks.table import NETWORKS
from unet_pipeline.networks.unpadded import compute_output_size
from unet_pipeline.planning import network_rules
from unet_pipeline.planning.planner import plan_from_fingerprint
from unet_pipeline.planning.presets import PRESETS

TOLERATED_EXCESS = 1.5  # sizes are rounded to the nearest multiple, by an eighth at most along each of three axes
MOST_LEVELS = 6


@st.composite
def draw_grid(draw: Callable, smallest: int = 8, largest: int = 600) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing of a 2D or 3D image; the coarsest axis is six times as coarse as the finest at most."""
    dims = draw(st.integers(2, 3))
    shape = draw(st.tuples(*[st.integers(smallest, largest)] * dims))
    spacing_mm = draw(st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 1.5, 3.0])] * dims))
    return shape, spacing_mm


def total_stride(topology: network_rules.Topology) -> tuple[int, ...]:
    return tuple(math.prod(level[axis] for level in topology.strides) for axis in range(len(topology.patch_size)))


# patch and network


def test_choose_topology_small_cube_is_taken_whole() -> None:
    topology = network_rules.choose_topology((40, 56, 40), (1, 1, 1), 128**3).value
    assert topology.patch_size == (40, 56, 40)
    assert topology.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert topology.kernel_size == ((3, 3, 3),) * 4


def test_choose_topology_large_picture_is_halved_five_times() -> None:
    topology = network_rules.choose_topology((512, 512), (1, 1), 512**2).value
    assert topology.patch_size == (512, 512)
    assert topology.strides == ((1, 1), *[(2, 2)] * 5)


def test_choose_topology_thick_slices_are_halved_and_blurred_in_plane_first() -> None:
    topology = network_rules.choose_topology((256, 256, 20), (1, 1, 5), 128**3).value
    assert topology.strides[:3] == ((1, 1, 1), (2, 2, 1), (2, 2, 1))
    assert topology.strides[3] == (2, 2, 2)
    assert topology.kernel_size[:2] == ((3, 3, 1), (3, 3, 1))
    assert topology.kernel_size[3:] == ((3, 3, 3),) * len(topology.kernel_size[3:])


@pytest.mark.parametrize("slices", [1, 2])
def test_choose_topology_one_or_two_slices_give_a_network_in_2d(slices: int) -> None:
    topology = network_rules.choose_topology((256, 256, slices), (1, 1, 1), 128**3).value
    assert {level[2] for level in topology.kernel_size} == {1}
    assert {level[2] for level in topology.strides} == {1}
    assert topology.kernel_size[0][:2] == (3, 3)


def test_choose_topology_tiny_image_has_the_least_depth() -> None:
    topology = network_rules.choose_topology((5, 6), (1, 1), 512**2).value
    assert topology.strides == ((1, 1),) * 3
    assert topology.patch_size == (5, 6)


def test_choose_topology_reason_names_image_budget_and_patch() -> None:
    reason = network_rules.choose_topology((40, 56, 40), (1, 1, 1), 128**3).reason
    for part in ("40x56x40", str(128**3), "(8, 8, 8)"):
        assert part in reason


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 48**3, 64**3, 512**2, 128**3]))
def test_choose_topology_any_image_gives_a_patch_within_the_budget(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    topology = network_rules.choose_topology(shape, spacing_mm, max_voxels).value
    factors = total_stride(topology)
    assert all(size % factor == 0 for size, factor in zip(topology.patch_size, factors, strict=True))
    assert math.prod(topology.patch_size) <= TOLERATED_EXCESS * max_voxels
    for size, voxels in zip(topology.patch_size, shape, strict=True):
        assert size <= 1.13 * voxels
    if math.prod(shape) <= max_voxels:
        for size, voxels in zip(topology.patch_size, shape, strict=True):
            assert size >= 0.87 * voxels


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 64**3, 128**3]))
def test_choose_topology_any_image_gives_levels_that_a_network_can_have(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    topology = network_rules.choose_topology(shape, spacing_mm, max_voxels).value
    levels = len(topology.strides)
    assert len(topology.kernel_size) == levels
    assert 3 <= levels <= MOST_LEVELS
    assert set(topology.strides[0]) == {1}
    assert {step for level in topology.strides for step in level} <= {1, 2}
    assert {taps for level in topology.kernel_size for taps in level} <= {1, 3}
    for size, factor in zip(topology.patch_size, total_stride(topology), strict=True):
        assert factor == 1 or size // factor >= network_rules.MIN_BOTTLENECK_VOXELS


@given(grid=draw_grid(), preset=st.sampled_from(sorted(PRESETS)))
def test_choose_topology_any_image_gives_a_plan_that_validates(
    make_fingerprint: Callable, grid: tuple, preset: str
) -> None:
    shape, spacing_mm = grid
    plan = plan_from_fingerprint(make_fingerprint(shapes=[shape], spacings_mm=[spacing_mm]), "data", preset).plan
    assert plan.total_stride == total_stride(network_rules.Topology(plan.patch_size, plan.kernel_size, plan.strides))


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 64**3, 128**3]))
def test_choose_topology_scaled_spacing_changes_nothing(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    doubled = [2 * size for size in spacing_mm]
    assert network_rules.choose_topology(shape, doubled, max_voxels) == network_rules.choose_topology(
        shape, spacing_mm, max_voxels
    )


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 64**3, 128**3]))
def test_choose_topology_kernel_is_never_shortened_on_the_way_down(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    kernels = network_rules.choose_topology(shape, spacing_mm, max_voxels).value.kernel_size
    for axis in range(len(shape)):
        taps = [level[axis] for level in kernels]
        assert taps == sorted(taps), (shape, spacing_mm, kernels)


@given(size=st.integers(8, 600), dims=st.integers(2, 3), max_voxels=st.sampled_from([128**2, 256**2, 48**3, 128**3]))
def test_choose_topology_equal_axes_are_treated_alike(size: int, dims: int, max_voxels: int) -> None:
    topology = network_rules.choose_topology((size,) * dims, (1.0,) * dims, max_voxels).value
    assert len(set(topology.patch_size)) == 1
    assert all(len(set(level)) == 1 for level in (*topology.strides, *topology.kernel_size))


@pytest.mark.parametrize(
    ("shape", "spacing_mm"), [((200, 300, 90), (1.0, 1.0, 3.0)), ((640, 400, 30), (0.4, 0.5, 5.0))]
)
def test_choose_topology_permuted_axes_permute_the_result(shape: tuple, spacing_mm: tuple) -> None:
    straight = network_rules.choose_topology(shape, spacing_mm, 64**3).value
    turned = network_rules.choose_topology(shape[::-1], spacing_mm[::-1], 64**3).value
    assert turned.patch_size == straight.patch_size[::-1]
    assert turned.strides == tuple(level[::-1] for level in straight.strides)
    assert turned.kernel_size == tuple(level[::-1] for level in straight.kernel_size)


# window, filters, supervision, crops


def test_choose_window_without_growth_is_the_patch() -> None:
    assert network_rules.choose_window((35, 50, 36), (32, 48, 32), (8, 8, 8), 1.0).value == (32, 48, 32)
    assert network_rules.choose_window((512, 512, 300), (128, 128, 96), (32, 32, 32), 1.0).value == (128, 128, 96)


def test_choose_window_large_image_grows_the_patch_to_the_limit() -> None:
    assert network_rules.choose_window((98, 116, 94), (48, 48, 48), (8, 8, 8), 4 / 3).value == (64, 64, 64)


def test_choose_window_image_little_above_the_patch_is_rounded_up() -> None:
    assert network_rules.choose_window((35, 50, 36), (32, 48, 32), (8, 8, 8), 1.5).value == (40, 56, 40)


def test_choose_window_is_never_smaller_than_the_patch() -> None:
    assert network_rules.choose_window((30, 100), (48, 96), (16, 16), 2.0).value == (48, 112)


def test_choose_filters_levels_double_up_to_the_limit() -> None:
    published = NETWORKS["dynunet"]
    assert network_rules.choose_filters(6, PRESETS["standard"], published).value == (32, 64, 128, 256, 320, 320)
    assert network_rules.choose_filters(4, PRESETS["quick"], published).value == (16, 32, 64, 128)


@pytest.mark.parametrize(
    ("network", "filters"),
    [
        ("unet2015", (64, 128, 256, 512, 1024)),
        ("unet3d2016", (64, 128, 256, 512)),
        ("unetplusplus", (32, 64, 128, 256, 512)),
        ("attention_unet", (64, 128, 256, 512, 1024)),
    ],
)
def test_choose_filters_paper_has_its_own_unless_the_preset_is_small(network: str, filters: tuple) -> None:
    published = NETWORKS[network]
    assert network_rules.choose_filters(len(filters), PRESETS["full"], published).value == filters
    choice = network_rules.choose_filters(3, PRESETS["quick"], published)
    assert choice.value == (16, 32, 64)
    assert f"published with {filters[0]} to {filters[-1]}" in choice.reason


@pytest.mark.parametrize(("levels", "heads"), [(3, 2), (4, 3), (5, 3), (6, 3)])
def test_choose_supervision_weights_are_halved_and_sum_to_one(levels: int, heads: int) -> None:
    weights = network_rules.choose_supervision("dynunet", levels).value
    assert len(weights) == heads
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    for upper, lower in itertools.pairwise(weights):
        assert lower == pytest.approx(upper / 2, rel=1e-4)


def test_choose_supervision_nested_heads_count_the_same() -> None:
    assert network_rules.choose_supervision("unetplusplus", 5).value == (0.25,) * 4


@pytest.mark.parametrize("network", ["unet2015", "unet3d2016"])
def test_choose_supervision_networks_of_one_head_have_one_weight(network: str) -> None:
    assert network_rules.choose_supervision(network, 5).value == (1.0,)


# which network


def test_choose_network_as_published() -> None:
    choice = network_rules.choose_network("unet2015", padded=False, spatial_dims=2).value
    assert (choice.padded, choice.normalisation, choice.dropout, choice.loss) == (
        False,
        "none",
        0.5,
        "border_weighted_ce",
    )
    assert network_rules.choose_network("unet3d2016", False, 3).value.normalisation == "batch"


@pytest.mark.parametrize(
    ("network", "dims"), [("unet2015", 2), ("unet3d2016", 3), ("unetplusplus", 2), ("attention_unet", 3)]
)
def test_choose_network_padded_variant_is_normalised(network: str, dims: int) -> None:
    choice = network_rules.choose_network(network, padded=True, spatial_dims=dims).value
    assert (choice.padded, choice.normalisation, choice.loss) == (True, "instance", "dice_ce")


@pytest.mark.parametrize(("network", "dims"), [("unet2015", 3), ("unet3d2016", 2)])
def test_choose_network_other_dimensions_are_refused(network: str, dims: int) -> None:
    with pytest.raises(PlanError, match=rf"{network} was made for .D images; these have {dims} dimensions"):
        network_rules.choose_network(network, False, dims)


def test_choose_network_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(PlanError, match=r"Unknown network 'unetplus'; did you mean 'unetplusplus'"):
        network_rules.choose_network("unetplus", False, 2)


@pytest.mark.parametrize(("network", "preset", "blocks"), [("resenc", "full", (1, 3, 4, 6)), ("dynunet", "full", None)])
def test_choose_num_blocks_of_the_residual_encoder_only(network: str, preset: str, blocks: tuple | None) -> None:
    assert network_rules.choose_num_blocks(network, 4, PRESETS[preset]).value == blocks


# without padding


def unpadded(topology: network_rules.Topology) -> Shape:
    levels = len(topology.strides)
    return Shape("unet2015", 1, 2, (4,) * levels, topology.kernel_size, topology.strides, padded=False)


def test_choose_unpadded_topology_papers_image_gives_the_papers_tile() -> None:
    """512 pixels and room for them: 572 -> 388 is the paper's tile, and one for the whole image is the next."""
    topology = network_rules.choose_unpadded_topology((388, 388), (1, 1), 512**2, 5, "unet2015").value
    assert topology.patch_size == (572, 572)
    assert compute_output_size(topology.patch_size, unpadded(topology)) == (388, 388)


def test_choose_unpadded_topology_small_budget_has_fewer_levels() -> None:
    rich = network_rules.choose_unpadded_topology((128, 128, 128), (1, 1, 1), 128**3, 4, "unet3d2016").value
    poor = network_rules.choose_unpadded_topology((128, 128, 128), (1, 1, 1), 64**3, 4, "unet3d2016").value
    assert len(rich.strides) == 4
    assert len(poor.strides) == 3


@given(grid=draw_grid(), max_voxels=st.sampled_from([128**2, 256**2, 48**3, 128**3]))
def test_choose_unpadded_topology_any_image_gives_a_valid_tile(grid: tuple, max_voxels: int) -> None:
    shape, spacing_mm = grid
    topology = network_rules.choose_unpadded_topology(shape, spacing_mm, max_voxels, 5, "unet2015").value
    output = compute_output_size(topology.patch_size, unpadded(topology))
    for left, factor, voxels in zip(output, unpadded(topology).total_stride, shape, strict=True):
        assert left >= factor
        assert left < voxels + 2 * factor  # no larger than one tile for the whole image


# memory


def test_choose_memory_given_budget_is_kept() -> None:
    choice = network_rules.choose_memory(PRESETS["quick"], 3.5, Memory(64, "GPU"))
    assert choice.value == 3.5
    assert "as given" in choice.reason


def test_choose_memory_enough_is_the_presets_on_every_machine() -> None:
    budgets = {network_rules.choose_memory(PRESETS["quick"], None, Memory(gib, "GPU")).value for gib in (12, 24, 140)}
    assert budgets == {PRESETS["quick"].memory_gib}


def test_choose_memory_small_machine_limits_it() -> None:
    choice = network_rules.choose_memory(PRESETS["full"], None, Memory(8, "main memory"))
    assert choice.value == 6.0
    assert "75% of the 8 GiB of main memory" in choice.reason


@pytest.mark.parametrize(("free_gib", "expected"), [(20.0, 8.0), (4.0, 3.0)])
def test_choose_memory_gpu_in_use_leaves_what_is_free(free_gib: float, expected: float) -> None:
    choice = network_rules.choose_memory(PRESETS["quick"], None, Memory(80, "GPU", free_gib))
    assert choice.value == expected
    assert ("75% of the 4 GiB of GPU that is free" in choice.reason) == (free_gib == 4)


def test_choose_memory_main_memory_in_use_counts_whole() -> None:
    """The system makes room; a plan must not depend on what else runs."""
    assert network_rules.choose_memory(PRESETS["quick"], None, Memory(64, "main memory", 2)).value == 8


@pytest.mark.parametrize("found", [Memory(80, "GPU", 40), Memory(64, "main memory", 40), Memory(40, "GPU")])
def test_choose_memory_free_takes_most_of_what_is_free_whatever_the_preset(found: Memory) -> None:
    choice = network_rules.choose_memory(PRESETS["quick"], "free", found)
    assert choice.value == 30
    assert f"75% of the 40 GiB of {found.place} free" in choice.reason


@pytest.mark.parametrize(
    ("given", "found", "said"),
    [
        ("free", Memory(80, "GPU", 0.5), "0.5 GiB of GPU are free"),
        ("free", None, "'free'; expected a number"),
        ("much", Memory(80, "GPU", 40), "'much'; expected a number"),
    ],
)
def test_choose_memory_free_that_cannot_be_is_an_error(given: str, found: Memory | None, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        network_rules.choose_memory(PRESETS["quick"], given, found)


def test_estimate_training_gib_grows_with_batch_and_patch() -> None:
    shape = Shape(
        "dynunet", 1, 2, (8, 16, 32), ((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)), num_supervised_heads=1
    )
    small = network_rules.estimate_training_gib(shape, (32, 32, 32), 1)
    assert network_rules.estimate_training_gib(shape, (32, 32, 32), 2) > small
    doubled = network_rules.estimate_training_gib(shape, (64, 32, 32), 1)
    assert doubled == pytest.approx(network_rules.estimate_training_gib(shape, (32, 32, 32), 2), rel=1e-6)


NNUNET_SHAPE = Shape(
    "dynunet", 1, 3, (32, 64, 128, 256), ((3, 3, 3),) * 4, ((1, 1, 1), *((2, 2, 2),) * 3), num_supervised_heads=2
)
CT_SHAPE = Shape(
    "dynunet",
    1,
    3,
    (32, 64, 128, 256, 320, 320),
    ((3, 3, 3),) * 6,
    ((1, 1, 1), *((2, 2, 2),) * 4, (2, 2, 1)),
    num_supervised_heads=2,
)


@pytest.mark.parametrize(
    ("shape", "patch_size", "batch_size", "taken_gib"),
    [(NNUNET_SHAPE, (40, 56, 40), 9, 0.84), (CT_SHAPE, (160, 160, 80), 2, 4.70)],
)
def test_estimate_training_gib_in_bfloat16_is_near_what_a_gpu_took(
    shape: Shape, patch_size: tuple[int, ...], batch_size: int, taken_gib: float
) -> None:
    """Measured on an NVIDIA H100, benchmarks/results/gpu_nvidia_h100_80gb_hbm3.md."""
    needed_gib = network_rules.estimate_training_gib(shape, patch_size, batch_size, in_bfloat16=True)
    assert 0.8 * taken_gib < needed_gib < 1.2 * taken_gib


def test_plan_free_memory_of_a_gpu_counts_in_its_precision(make_fingerprint: Callable) -> None:
    """The same 2 GiB hold a larger patch where a step takes less; the preset's own number gives the same plan on both."""
    fingerprint = make_fingerprint(shapes=[(512, 512)] * 3)

    def plan_patch(memory_gib: str | None, has_bfloat16: bool) -> int:
        machine = Memory(80, "GPU", 2, has_bfloat16)
        planned = plan_from_fingerprint(fingerprint, "data", "full", memory_gib=memory_gib, machine_memory=machine)
        return math.prod(planned.plan.patch_size)

    assert plan_patch("free", True) > plan_patch("free", False)
    assert plan_patch(None, True) == plan_patch(None, False)


@pytest.mark.parametrize("network", ["dynunet", "unet2015", "unetplusplus"])
def test_plan_little_memory_gives_a_smaller_patch_that_fits(make_fingerprint: Callable, network: str) -> None:
    fingerprint = make_fingerprint(shapes=[(512, 512)] * 3)
    plans = [
        plan_from_fingerprint(fingerprint, "data", "full", network=network, memory_gib=gib).plan for gib in (64, 2)
    ]
    assert math.prod(plans[1].patch_size) < math.prod(plans[0].patch_size)
    for plan in plans:
        needed = network_rules.estimate_training_gib(plan.shape, plan.patch_size, plan.batch_size)
        assert needed <= plan.memory_gib


@given(grid=draw_grid(), memory_gib=st.sampled_from([1.0, 1.5, 4.0]))
def test_plan_any_image_and_memory_ends_with_a_plan(make_fingerprint: Callable, grid: tuple, memory_gib: float) -> None:
    shape, spacing_mm = grid
    fingerprint = make_fingerprint(shapes=[shape], spacings_mm=[spacing_mm])
    plan = plan_from_fingerprint(fingerprint, "data", "standard", memory_gib=memory_gib).plan
    assert plan.memory_gib == memory_gib
