"""Our sliding window gives MONAI's result to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers import SimpleInferer, SlidingWindowInferer

from unet_pipeline.prediction.memory import _LiveStorages
from unet_pipeline.prediction.windows import is_plain, iterate_blended, place_windows, read_windows, weigh_window


def convolve(images: torch.Tensor) -> torch.Tensor:
    """A fixed network of three classes that sees neighbours."""
    dims = images.ndim - 2
    weights = torch.rand((3, images.shape[1], *([3] * dims)), generator=torch.Generator().manual_seed(1)) - 0.4
    return getattr(torch.nn.functional, f"conv{dims}d")(images, weights, padding=1)


def blend(image: torch.Tensor, inferer: SlidingWindowInferer, batch_size: int = 1) -> torch.Tensor:
    windows = read_windows(inferer, image.shape[1:])
    weights = weigh_window(inferer, windows.size)
    return torch.cat([rows.clone() for rows in iterate_blended(image, convolve, windows, weights, batch_size)], dim=1)


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(
    ("shape", "size", "overlap"),
    [
        ((20, 17, 13), (8, 8, 6), 0.5),
        ((20, 17, 13), (8, 8, 6), 0.25),
        ((9, 17, 5), (8, 8, 8), 0.5),  # one axis is smaller than a window
        ((5, 5, 5), (8, 7, 6), 0.5),  # all are
        ((8, 8, 8), (8, 8, 8), 0.5),
        ((31, 10, 10), (6, 10, 4), 0.8),
        ((16, 16, 16), (4, 4, 4), 0.0),
        ((23, 30), (8, 12), 0.5),
    ],
)
def test_iterate_blended_is_monai_s_sliding_window(
    mode: str, shape: tuple[int, ...], size: tuple[int, ...], overlap: float
) -> None:
    image = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    inferer = SlidingWindowInferer(size, 1, overlap, mode=mode)
    torch.testing.assert_close(blend(image, inferer), inferer(image[None], convolve)[0], rtol=0, atol=0)


@given(shape=st.tuples(*[st.integers(3, 24)] * 2), size=st.tuples(*[st.integers(3, 9)] * 2), overlap=st.floats(0, 0.85))
def test_iterate_blended_any_shape_is_monai_s(shape: tuple[int, int], size: tuple[int, int], overlap: float) -> None:
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    inferer = SlidingWindowInferer(size, 1, overlap, mode="gaussian")
    torch.testing.assert_close(blend(image, inferer), inferer(image[None], convolve)[0], rtol=0, atol=0)


def test_iterate_blended_holds_one_window_s_depth_wherever_the_last_window_lies() -> None:
    """A last window one row behind the one before it moved all other rows in one copy: twice the memory."""
    num_classes, depth, rest = 20, 16, (24, 24)
    windows = place_windows((2 * depth + 1, *rest), (depth, 8, 8), (0.0, 0.0, 0.0))
    assert windows.starts[0] == (0, 16, 17)
    logits = torch.ones((1, num_classes, depth, 8, 8))
    with torch.no_grad(), _LiveStorages() as storages:
        for rows in iterate_blended(
            torch.zeros((1, 33, *rest)), lambda x: logits, windows, torch.ones((depth, 8, 8)), 1
        ):
            assert rows.shape[0] == num_classes
    sums = 4 * num_classes * depth * rest[0] * rest[1]
    assert sums < storages.peak < 1.5 * sums


def test_iterate_blended_batches_change_nothing_but_rounding() -> None:
    image = torch.rand((1, 20, 17, 13), generator=torch.Generator().manual_seed(0))
    inferer = SlidingWindowInferer((8, 8, 6), 1, 0.5, mode="gaussian")
    torch.testing.assert_close(blend(image, inferer, 5), blend(image, inferer, 1), rtol=1e-5, atol=1e-6)


def test_iterate_blended_holds_one_window_s_depth() -> None:
    image = torch.rand((1, 64, 8, 8))
    inferer = SlidingWindowInferer((8, 8, 8), 1, 0.5, mode="gaussian")
    windows = read_windows(inferer, image.shape[1:])
    sizes = [
        rows.untyped_storage().nbytes()
        for rows in iterate_blended(image, convolve, windows, weigh_window(inferer, windows.size), 1)
    ]
    assert len(sizes) == 15
    assert set(sizes) == {3 * 8 * 8 * 8 * 4}


def test_place_windows_known_case() -> None:
    windows = place_windows((10, 3), (4, 4), (0.5, 0.5))
    assert windows.starts == ((0, 2, 4, 6), (0,))
    assert windows.padding == ((0, 0), (0, 1))
    assert windows.num_windows == 4


@pytest.mark.parametrize(
    ("inferer", "expected"),
    [
        (SlidingWindowInferer((8, 8), 1, 0.5, mode="gaussian"), True),
        (SlidingWindowInferer((8, 8), 4, 0.25), True),
        (SlidingWindowInferer((8, -1), 1), False),
        (SlidingWindowInferer((8, 8), 1, padding_mode="reflect"), False),
        (SlidingWindowInferer((8, 8), 1, cval=-1.0), False),
        (SlidingWindowInferer((8, 8), 1, buffer_steps=2), False),
        (SimpleInferer(), False),
    ],
)
def test_is_plain_options_that_change_the_result_are_not(inferer: object, expected: bool) -> None:
    assert is_plain(inferer) is expected
