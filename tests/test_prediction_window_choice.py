"""How many windows at once: as many as the memory is enough for, and where they are blended."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from types import SimpleNamespace

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet

from unet_pipeline.prediction.engines import Engines
from unet_pipeline.prediction.memory import CaseSize, estimate_blending
from unet_pipeline.prediction.mirroring import Mirrored
from unet_pipeline.prediction.parts import Expected, Parts, Windowing
from unet_pipeline.prediction.window_choice import (
    GPU_BATCH_VOXELS,
    MOST_WINDOWS_ON_GPU,
    SizedCase,
    bound_window,
    choose_num_images,
    choose_windowing,
    describe_windowing,
    measure_window,
)
from unet_pipeline.prediction.windows import place_windows

GIB = 2**30
SHAPE, WINDOW = (512, 512, 300), (128, 128, 128)
CASE = SizedCase("ct", CaseSize(1, 60, 60, SHAPE, 2, SHAPE, False), place_windows(SHAPE, WINDOW, (0.5, 0.5, 0.5)))
WINDOW_BYTES = 2 * GIB


def build(
    device: str,
    batch_size: int = 1,
    window: tuple[int, ...] | int = WINDOW,
    num_classes: int = 3,
    num_channels: int = 1,
    first: int = 16,
    network: torch.nn.Module | None = None,
) -> Engines:
    inferer = SlidingWindowInferer(window, batch_size, 0.5, mode="gaussian")
    networks = network or torch.nn.Identity()
    expected, plan = (
        Expected(("any",) * num_channels, 3),
        SimpleNamespace(filters=[first], shape=SimpleNamespace(num_classes=num_classes)),
    )
    parts = Parts(expected, None, (networks,), inferer, torch.device(device), tuple(range(num_classes)), plan=plan)
    engine = SimpleNamespace(deferred_heads=())
    return Engines(parts, engine, engine)


def choose(device: str, free_gib: float, batch_size: int = 1) -> tuple[int, str]:
    found = choose_windowing(build(device, batch_size), [CASE], WINDOW_BYTES, int(free_gib * GIB))
    return found.batch_size, found.blended_on.type


@pytest.mark.parametrize(
    ("free_gib", "expected"),
    [
        (140, (4, "cuda")),
        (40, (4, "cuda")),
        (24, (4, "cuda")),
        (12, (2, "cuda")),
        (10, (1, "cuda")),
        (8, (2, "cpu")),  # 60 classes of a row of windows take 4.5 GiB
        (3, (1, "cpu")),
        (1, (1, "cpu")),
    ],
)
def test_choose_windowing_gpu_takes_what_fits(free_gib: float, expected: tuple[int, str]) -> None:
    assert choose("cuda", free_gib) == expected
    batch_size, place = expected
    if place == "cuda":
        assert estimate_blending(CASE.size, CASE.windows, WINDOW_BYTES, batch_size) < free_gib * GIB


def test_choose_windowing_gpu_has_a_limit() -> None:
    assert choose("cuda", 10000) == (GPU_BATCH_VOXELS // prod(WINDOW), "cuda")
    assert choose("cuda", 10000, batch_size=32) == (32, "cuda"), "the config asks for more"
    small = build("cuda", 1, (16, 16, 16))
    many = replace(CASE, windows=place_windows((256, 256, 256), (16, 16, 16), (0.5,) * 3))
    assert choose_windowing(small, [many], 2**20, 1000 * GIB).batch_size == MOST_WINDOWS_ON_GPU
    few = replace(CASE, windows=place_windows((32, 24, 16), (16, 16, 16), (0.5,) * 3))
    assert few.windows is not None
    assert choose_windowing(small, [few], 2**20, 1000 * GIB).batch_size == few.windows.num_windows == 6


def test_choose_windowing_cpu_takes_the_config_s_number_or_fewer() -> None:
    assert choose("cpu", 1000) == (1, "cpu")
    assert choose("cpu", 1000, batch_size=4) == (4, "cpu")
    assert choose("cpu", 14, batch_size=4) == (2, "cpu")
    assert choose("cpu", 1, batch_size=4) == (1, "cpu")


@pytest.mark.parametrize(
    ("window", "batch_size", "expected"),
    [
        ((32, 48, 32), 1, 4),
        ((32, 48, 32), 8, 8),  # the config asks for more
        ((64, 64, 64), 1, 2),
        ((96, 96, 96), 1, 1),
        (32, 1, 1),  # of unknown dimensions
    ],
)
def test_choose_windowing_cpu_takes_small_windows_side_by_side(
    window: tuple[int, ...] | int, batch_size: int, expected: int
) -> None:
    assert choose_windowing(build("cpu", batch_size, window), [CASE], 2**20, 1000 * GIB) == Windowing(
        expected, torch.device("cpu")
    )


@pytest.mark.parametrize("mirrored_axes", [(), (0, 1, 2)])
@pytest.mark.parametrize(("first", "num_classes", "num_channels"), [(32, 3, 1), (4, 60, 1), (4, 2, 40)])
def test_bound_window_is_above_what_a_wide_network_takes(
    first: int, num_classes: int, num_channels: int, mirrored_axes: tuple[int, ...]
) -> None:
    filters = [first, 2 * first, 4 * first]
    network = DynUNet(
        3, num_channels, num_classes, [3] * 3, [1, 2, 2], [2, 2], filters, deep_supervision=True, deep_supr_num=1
    ).eval()
    mirrored = Mirrored(network, mirrored_axes)
    engines = build("cpu", 1, (32, 32, 32), num_classes, num_channels, first, mirrored)
    assert bound_window(engines) > measure_window(engines) > 0


def test_choose_windowing_largest_case_decides() -> None:
    small = SizedCase("a", CaseSize(1, 60, 60, WINDOW, 2, WINDOW, False), place_windows(WINDOW, WINDOW, (0.5,) * 3))
    for cases in ([small, CASE], [CASE, small]):
        assert choose_windowing(build("cuda"), cases, WINDOW_BYTES, 24 * GIB).batch_size == 4


SMALL = SizedCase(
    "mri",
    CaseSize(1, 3, 3, (36, 50, 36), 4, (36, 50, 36), False),
    place_windows((36, 50, 36), (32, 48, 32), (0.5,) * 3),
)


@pytest.mark.parametrize(
    ("device", "window", "free_gib", "num_threads", "count", "expected"),
    [
        ("cpu", (32, 48, 32), 16, 2, 20, 2),
        ("cpu", (32, 48, 32), 16, 64, 20, 8),
        ("cpu", (32, 48, 32), 16, 1, 20, 1),
        ("cpu", (32, 48, 32), 16, 4, 1, 1),
        ("cpu", (32, 48, 32), 16, 4, 0, 1),
        ("cpu", (32, 48, 32), 4, 64, 20, 2),
        ("cpu", (32, 48, 32), 0.5, 64, 20, 1),
        ("cpu", (96, 96, 96), 1000, 4, 20, 1),
        ("cuda", (32, 48, 32), 16, 4, 20, 1),
    ],
)
def test_choose_num_images_small_windows_and_plenty_of_memory(
    device: str, window: tuple[int, ...], free_gib: float, num_threads: int, count: int, expected: int
) -> None:
    windowing = Windowing(4, torch.device(device))
    found = choose_num_images(build(device, 1, window), [SMALL] * count, windowing, int(free_gib * GIB), num_threads)
    assert found == expected


def test_choose_num_images_counts_the_probabilities_that_are_written() -> None:
    engines = build("cpu", 1, (32, 48, 32), num_classes=60)
    shape, windowing = (256, 256, 128), Windowing(4, torch.device("cpu"))
    windows = place_windows(shape, (32, 48, 32), (0.5,) * 3)
    found = [
        choose_num_images(
            engines,
            [SizedCase("ct", CaseSize(1, 60, 60, shape, 2, shape, False, writes), windows)] * 4,
            windowing,
            64 * GIB,
            4,
        )
        for writes in (False, True)
    ]
    assert found[0] > found[1] >= 1


def test_choose_num_images_what_monai_predicts_goes_one_after_the_other() -> None:
    engines = replace(build("cpu", 1, (32, 48, 32)), volumes=None, reason="pictures are small")
    assert choose_num_images(engines, [SMALL] * 9, Windowing(4, torch.device("cpu")), 64 * GIB, 4) == 1


def test_describe_windowing_one_line() -> None:
    cpu = torch.device("cpu")
    assert describe_windowing(Windowing(4, cpu, 2), True).endswith("on cpu in rows, 2 images side by side")
    assert describe_windowing(Windowing(1, cpu), True) == "windows  one at a time, blended on cpu in rows"
    assert describe_windowing(Windowing(4, cpu), False) == "windows  up to 4 at once, blended on cpu as a whole"
