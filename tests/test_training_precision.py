import pytest
import torch

from pipeline.training.precision import supports_fast_bfloat16


def test_supports_fast_bfloat16_unknown_device_is_false() -> None:
    assert supports_fast_bfloat16(torch.device("meta")) is False


@pytest.mark.parametrize(
    ("probes", "expected"), [((True, False), True), ((False, True), True), ((False, False), False)]
)
def test_supports_fast_bfloat16_cpu_follows_its_instructions(
    monkeypatch: pytest.MonkeyPatch, probes: tuple[bool, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: probes[0], raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: probes[1], raising=False)
    assert supports_fast_bfloat16(torch.device("cpu")) is expected
