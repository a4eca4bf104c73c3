"""Which number format a device is fast with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from unet_pipeline.device import precision
from unet_pipeline.device.precision import supports_fast_bfloat16


def test_supports_fast_bfloat16_unknown_device_is_false() -> None:
    assert supports_fast_bfloat16(torch.device("meta")) is False


@pytest.fixture(autouse=True)
def measured_anew() -> Iterator[None]:
    precision._is_bfloat16_faster_on_cpu.cache_clear()
    yield
    precision._is_bfloat16_faster_on_cpu.cache_clear()


def pretend_instructions(monkeypatch: pytest.MonkeyPatch, avx512_bf16: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)


class PretendedProcessor:
    """A clock, and a convolution that moves it by what it takes in each number format."""

    def __init__(self, seconds: dict[torch.dtype, list[float]]) -> None:
        self.seconds = {dtype: iter(found) for dtype, found in seconds.items()}
        self.now_s, self.num_convolutions = 100.0, 0

    def perf_counter(self) -> float:
        return self.now_s

    def conv3d(self, images: torch.Tensor, kernels: torch.Tensor, padding: int) -> None:
        assert images.dtype == kernels.dtype
        self.now_s += next(self.seconds[images.dtype])
        self.num_convolutions += 1


def pretend_processor(
    monkeypatch: pytest.MonkeyPatch, float32: list[float], bfloat16: list[float]
) -> PretendedProcessor:
    processor = PretendedProcessor({torch.float32: float32, torch.bfloat16: bfloat16})
    monkeypatch.setattr(precision, "time", processor)
    monkeypatch.setattr(precision, "conv3d", processor.conv3d)
    return processor


@pytest.mark.parametrize("instructions", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("bfloat16", "expected"), [(0.5, True), (0.75, True), (0.9, False), (1.0, False), (1.9, False)]
)
def test_supports_fast_bfloat16_cpu_with_instructions_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, instructions: tuple[bool, bool], bfloat16: float, expected: bool
) -> None:
    pretend_instructions(monkeypatch, *instructions)
    processor = pretend_processor(monkeypatch, [1.0] * 20, [bfloat16] * 20)
    assert supports_fast_bfloat16(torch.device("cpu")) is expected
    num_convolutions = processor.num_convolutions
    assert supports_fast_bfloat16(torch.device("cpu")) is expected
    assert processor.num_convolutions == num_convolutions > 2


def test_supports_fast_bfloat16_cpu_without_instructions_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_instructions(monkeypatch, False, False)
    processor = pretend_processor(monkeypatch, [], [])
    assert supports_fast_bfloat16(torch.device("cpu")) is False
    assert processor.num_convolutions == 0


def test_supports_fast_bfloat16_first_turn_and_other_processes_do_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_instructions(monkeypatch, True, False)
    pretend_processor(monkeypatch, [0.1, *[1.0] * 20], [50.0, 9.0, 9.0, 0.5, 9.0, 9.0, *[9.0] * 20])
    assert supports_fast_bfloat16(torch.device("cpu")) is True


def test_supports_fast_bfloat16_of_this_processor_takes_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert isinstance(precision._is_bfloat16_faster_on_cpu(), bool)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
