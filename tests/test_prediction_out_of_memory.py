"""Memory that runs out: recognised in all its forms, and explained with the option that helps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unet_pipeline.boundary import is_out_of_memory
from unet_pipeline.errors import PredictionError
from unet_pipeline.prediction.out_of_memory import explain_out_of_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def allocate_too_much() -> torch.Tensor:
    return torch.empty(1 << 60, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Given groups=1, weight of size [4, 1, 3, 3]"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_is_out_of_memory_every_library_s_words(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_is_out_of_memory_what_pytorch_and_numpy_really_raise() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        allocate_too_much()
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(1 << 60, dtype=np.uint8)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)


@pytest.mark.parametrize(
    ("device", "probabilities", "remedy"),
    [
        (CPU, False, "machine with more memory"),
        (CPU, True, "Leave out `--probabilities`"),
        (GPU, False, "Take `--device cpu`"),
        (GPU, True, "Leave out `--probabilities`"),
    ],
)
def test_explain_out_of_memory_names_image_and_remedy(device: torch.device, probabilities: bool, remedy: str) -> None:
    with pytest.raises(PredictionError, match=r"head\.nii\.gz does not fit") as raised:  # noqa: SIM117
        with explain_out_of_memory("head.nii.gz", device, probabilities):
            allocate_too_much()
    assert remedy in str(raised.value)
    assert "--dry-run" in str(raised.value)
    assert raised.value.__cause__ is None


def test_explain_out_of_memory_leaves_other_errors_alone() -> None:
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory("a.nii.gz", CPU):
        raise RuntimeError("shape")
