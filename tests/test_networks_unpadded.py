"""Sizes without padding: known answers of the papers, and the least input for any output."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import PlanError
from unet_pipeline.networks.unpadded import compute_input_size, compute_output_size

from .test_networks_counting import published


@given(size=st.integers(100, 700))
def test_compute_output_size_odd_levels_are_refused_with_a_size_that_fits(size: int) -> None:
    shape = published("unet2015", 1, 2, (1, 1, 1, 1), 2)
    if (size - 92) % 8 == 0:
        assert compute_output_size((size, size), shape) == (size - 88, size - 88)
    else:
        with pytest.raises(PlanError, match="expected a size such as"):
            compute_output_size((size, size), shape)


def test_compute_output_size_too_small_an_input_is_refused() -> None:
    shape = published("unet2015", 1, 2, (1, 1, 1, 1), 2)
    with pytest.raises(
        PlanError, match="An input of 44x44 is too small for 4 levels without padding; expected at least 92x92"
    ):
        compute_output_size((44, 44), shape)
    with pytest.raises(PlanError, match="leaves no output"):
        compute_output_size((76, 76), shape)


@given(wanted=st.integers(1, 500), levels=st.integers(2, 5))
def test_compute_input_size_is_the_least_that_gives_the_output(wanted: int, levels: int) -> None:
    shape = published("unet2015", 1, 2, (1,) * levels, 2)
    size = compute_input_size((wanted, wanted), shape)
    factor = shape.total_stride[0]
    assert compute_output_size(size, shape)[0] >= wanted
    smaller = size[0] - factor
    if smaller > compute_input_size((1, 1), shape)[0]:
        assert compute_output_size((smaller, smaller), shape)[0] < wanted
