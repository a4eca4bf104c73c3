"""A GPU starts in a thread of its own; nothing happens without one, and a failure is left to whoever uses the device."""

from __future__ import annotations

import pytest
import torch

from unet_pipeline.device.gpu_start import start_device


@pytest.mark.parametrize("device", ["cpu", None, "cuda:0"])
def test_start_device_without_a_gpu_starts_nothing(monkeypatch: pytest.MonkeyPatch, device: str | None) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert start_device(device) is None


def test_start_device_failure_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    tried = []

    def fail(*shape: int, device: str) -> torch.Tensor:
        tried.append(device)
        raise RuntimeError("invalid device ordinal")

    monkeypatch.setattr(torch, "zeros", fail)
    thread = start_device("cuda:7")
    assert thread is not None
    thread.join()
    assert tried == ["cuda:7"]
