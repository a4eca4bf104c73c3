"""A network in the form of a GPU, run on the CPU: filled batches, fewer windows where memory runs out, recordings that fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import DynUNet

from unet_pipeline.prediction.device_network import DeviceForm, DeviceNetwork, fill_up, find_filled_size, make_fast
from unet_pipeline.prediction.mirroring import Joined, Mirrored
from unet_pipeline.prediction.stopwatch import Stopwatch

CPU = torch.device("cpu")
WINDOW = (16, 8, 8)


class Small(torch.nn.Module):
    """Every window for itself; remembers the sizes of its batches, and runs out of memory above `room` windows."""

    def __init__(self, room: int = 1000, error: type[Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv3d(1, 2, 3, padding=1)
        self.room, self.error, self.sizes = room, error, []

    def __deepcopy__(self, memo: dict[int, Any]) -> Small:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.convolution(x)


def draw(count: int) -> torch.Tensor:
    return torch.rand(count, 1, *WINDOW, generator=torch.Generator().manual_seed(0))


def wrap(network: torch.nn.Module, batch_size: int, record: Any = None, **form: Any) -> DeviceNetwork:
    return DeviceNetwork(network, Stopwatch(), CPU, DeviceForm(**form), batch_size, record)


@pytest.mark.parametrize(("count", "most", "expected"), [(1, 8, 1), (3, 8, 4), (4, 8, 4), (5, 6, 6), (6, 6, 6)])
def test_find_filled_size_next_power_of_two(count: int, most: int, expected: int) -> None:
    assert find_filled_size(count, most) == expected


def test_fill_up_puts_empty_windows_behind() -> None:
    windows = draw(3)
    filled = fill_up(windows, 4)
    assert filled.shape == (4, 1, *WINDOW)
    assert torch.equal(filled[:3], windows)
    assert not filled[3].any()
    assert fill_up(windows, 3) is windows


@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 3, 4, 7, 9])
def test_call_last_batch_is_filled_up_and_cut_off(count: int) -> None:
    network, windows = Small(), draw(count)
    found = wrap(network, 4)(windows)
    assert network.sizes == [4] * (count // 4) + [find_filled_size(count % 4, 4)] * (count % 4 > 0)
    torch.testing.assert_close(found, network.convolution(windows))


@torch.inference_mode()
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_call_out_of_memory_halves_the_batch_and_keeps_to_it(error: type[Exception]) -> None:
    network, windows = Small(room=2, error=error), draw(11)
    wrapped = wrap(network, 8)
    torch.testing.assert_close(wrapped(windows), network.convolution(windows))
    assert network.sizes == [8, 4, 2, 2, 2, 2, 2, 1]
    assert wrapped.batch_size == 2
    assert len(wrapped.notes) == 2
    assert "2 window(s) at once" in wrapped.notes[-1]
    network.sizes.clear()
    wrapped(draw(2))
    assert network.sizes == [2]


@torch.inference_mode()
def test_call_out_of_memory_with_one_window_is_raised() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        wrap(Small(room=0), 4)(draw(4))


@torch.inference_mode()
def test_call_other_errors_are_raised_at_once() -> None:
    network = Small(room=0, error=TypeError)
    with pytest.raises(TypeError):
        wrap(network, 4)(draw(4))
    assert network.sizes == [4]


@torch.inference_mode()
def test_call_out_of_memory_mirrored_copies_go_one_after_the_other_at_last() -> None:
    network, windows = Small(room=1), draw(3)
    expected = Mirrored(network, (0, 2))(windows[:1])
    network.sizes.clear()
    wrapped = wrap(Mirrored(network, (0, 2), at_once=True), 2)
    torch.testing.assert_close(wrapped(windows)[:1], expected)
    assert network.sizes == [8, 4] + [1] * 12
    assert "mirrored copies" in wrapped.notes[-1]


class Recording:
    """Stands for a graph: computes what it was made of, for its one shape."""

    pool = "shared"

    def __init__(self, forward: Any, example: torch.Tensor, pool: Any) -> None:
        self.forward, self.shape, self.given_pool, self.count = forward, example.shape, pool, 0

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        self.count += 1
        return self.forward(fill_up(windows, self.shape[0]))[: len(windows)]


@torch.inference_mode()
def test_call_records_each_size_once_it_has_run_often() -> None:
    made: list[Recording] = []

    def record(forward: Any, example: torch.Tensor, pool: Any) -> Recording:
        made.append(Recording(forward, example, pool))
        return made[-1]

    network, windows = Small(), draw(18)
    wrapped = wrap(network, 4, record, batches_before_graph=2)
    torch.testing.assert_close(wrapped(windows), network.convolution(windows))
    assert [recording.shape[0] for recording in made] == [4], "the last two windows came for the first time"
    for _ in range(2):
        wrapped(draw(2))
    assert [(recording.shape[0], recording.count, recording.given_pool) for recording in made] == [
        (4, 2, None),
        (2, 1, "shared"),
    ]


@torch.inference_mode()
def test_call_recording_fails_goes_on_with_one_line_of_reason() -> None:
    def record(forward: Any, example: torch.Tensor, pool: Any) -> Recording:
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    network, windows = Small(), draw(12)
    wrapped = wrap(network, 2, record, batches_before_graph=1)
    torch.testing.assert_close(wrapped(windows), network.convolution(windows))
    assert len(wrapped.notes) == 1
    assert "operation not permitted when stream is capturing" in wrapped.notes[0]


@torch.inference_mode()
def test_call_recording_out_of_memory_halves_the_batch() -> None:
    def record(forward: Any, example: torch.Tensor, pool: Any) -> Recording:
        if len(example) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Recording(forward, example, pool)

    network, windows = Small(), draw(9)
    wrapped = wrap(network, 4, record, batches_before_graph=1)
    torch.testing.assert_close(wrapped(windows), network.convolution(windows))
    assert wrapped.batch_size == 2


def build_network() -> DynUNet:
    torch.manual_seed(0)
    return DynUNet(3, 1, 3, [3] * 3, [1, 2, 2], [2, 2], [4, 8, 16]).eval()


@torch.inference_mode()
@pytest.mark.parametrize("channels_last", [True, False])
def test_call_any_form_gives_the_network_s_logits(channels_last: bool) -> None:
    network, windows = build_network(), draw(3)
    found = wrap(network, 2, channels_last=channels_last)(windows)
    torch.testing.assert_close(found, network(windows), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_call_bfloat16_weights_are_cast_once_and_logits_are_float32() -> None:
    network, windows = build_network(), draw(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wrapped = wrap(network, 2, bfloat16=True)
    found = wrapped(windows)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, network(windows), rtol=0.1, atol=0.1)
    assert not torch.equal(found, network(windows))
    assert wrapped.notes == []
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    fast = make_fast(network, DeviceForm(bfloat16=True), WINDOW)
    kinds = {type(module).__name__: module.weight.dtype for module in fast.modules() if hasattr(module, "weight")}
    assert kinds["Conv3d"] == kinds["ConvTranspose3d"] == torch.bfloat16
    assert kinds["SideBySideNorm3d"] == torch.float32


@torch.inference_mode()
def test_call_bfloat16_a_layer_that_cannot_take_it_falls_back_to_casting() -> None:
    class Stubborn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv3d(1, 2, 1)
            self.factor = torch.nn.Parameter(torch.ones(2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("oc,bcijk->boijk", self.factor, self.convolution(x))

    network, windows = Stubborn().eval(), draw(2)
    wrapped = wrap(network, 2, bfloat16=True)
    torch.testing.assert_close(wrapped(windows), network(windows), rtol=0.1, atol=0.1)
    assert len(wrapped.notes) == 1
    assert "takes no bfloat16" in wrapped.notes[0]
    wrapped(windows)
    assert len(wrapped.notes) == 1


@torch.inference_mode()
def test_joined_members_lie_one_behind_the_other() -> None:
    first, second, windows = Small(), Small(), draw(2)
    found = Joined([first, second])(windows)
    torch.testing.assert_close(found, torch.cat([first(windows), second(windows)], dim=1))


@torch.inference_mode()
@pytest.mark.parametrize("axes", [(0,), (0, 1, 2)])
def test_mirrored_in_one_batch_is_one_after_the_other(axes: tuple[int, ...]) -> None:
    network, windows = Small(), draw(3)
    expected = Mirrored(network, axes)(windows)
    network.sizes.clear()
    torch.testing.assert_close(Mirrored(network, axes, at_once=True)(windows), expected)
    assert network.sizes == [3 * 2 ** len(axes)]
