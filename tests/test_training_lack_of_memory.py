"""Memory that runs out in a validation: fewer windows at once with the same result, then a message."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer

from unet_pipeline.errors import TrainingError
from unet_pipeline.training.lack_of_memory import FewerWindows, explain_elsewhere, explain_step

OF_CPU = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"


class Tight(torch.nn.Module):
    """Doubles what it gets, as long as it is no more than so many windows."""

    def __init__(self, most: int, error: BaseException) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.batch_sizes: list[int] = []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.batch_sizes.append(len(windows))
        if len(windows) > self.most:
            raise self.error
        return 2 * windows


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(OF_CPU), MemoryError()])
def test_fewer_windows_out_of_memory_takes_half_as_many_from_then_on(error: BaseException) -> None:
    inferer = FewerWindows(SlidingWindowInferer((8, 8), sw_batch_size=8, overlap=0))
    images, network = torch.rand(1, 1, 32, 32), Tight(2, error)
    for _ in range(2):
        assert torch.allclose(inferer(images, network), 2 * images)
    assert network.batch_sizes == [8, 4, *[2] * 8, *[2] * 8]
    assert inferer.notes == [f"validation: memory ran out, so {count} window(s) at once" for count in (4, 2)]


@pytest.mark.parametrize("inferer", [SlidingWindowInferer((8, 8), sw_batch_size=2), SimpleInferer()])
def test_fewer_windows_one_that_does_not_fit_is_a_message(inferer: object) -> None:
    wanted = "image of 24x16 pixels cannot be validated.*memory of this machine is too small.*smaller window_size"
    with pytest.raises(TrainingError, match=wanted):
        FewerWindows(inferer)(torch.rand(1, 1, 24, 16), Tight(0, RuntimeError(OF_CPU)))


def test_fewer_windows_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        FewerWindows(SlidingWindowInferer((8, 8)))(torch.rand(1, 1, 8, 8), Tight(0, RuntimeError("shape")))


@pytest.mark.parametrize(
    ("device", "present", "absent"),
    [("cpu", "than the memory of this machine", "device_cache_gib"), ("cuda:1", "device_cache_gib=0", "this machine")],
)
def test_explain_step_names_what_helps_on_the_device(device: str, present: str, absent: str) -> None:
    told = str(explain_step(torch.device(device), MemoryError()))
    assert present in told
    assert absent not in told
    assert all(words in told for words in ("(MemoryError)", "--memory GIB", "batch_size"))


def test_explain_elsewhere_keeps_the_cause_on_one_line() -> None:
    told = str(explain_elsewhere(RuntimeError("CUDA out of memory.\n Tried to allocate 2 GiB")))
    assert "(CUDA out of memory. Tried to allocate 2 GiB)" in told
    assert "cache_rate" in told
