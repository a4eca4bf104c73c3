"""Damaged files of every format give an image or an error of this project, in bounded time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .test_benchmarks import load

ROOT = Path(__file__).parents[1]
INPUTS = 2000


@pytest.mark.slow
def test_readers_damaged_files_give_an_image_or_an_error_of_this_project() -> None:
    script = ROOT / "benchmarks" / "fuzz_readers.py"
    done = subprocess.run(
        [sys.executable, str(script), "--inputs", str(INPUTS)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert f"{INPUTS} inputs, seed 0: 0 failures" in done.stdout


def test_damage_changes_most_files_and_follows_from_the_seed() -> None:
    damage = load("fuzz_readers").damage
    content = bytes(range(256)) * 4
    damaged = [damage(content, np.random.default_rng(seed)) for seed in range(200)]
    assert damaged == [damage(content, np.random.default_rng(seed)) for seed in range(200)]
    assert sum(one != content for one in damaged) > 180
    assert {len(one) < len(content) for one in damaged} == {True, False}
    assert any(len(one) > len(content) for one in damaged)


def test_fuzz_readers_finds_what_no_reader_may_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz = load("fuzz_readers")

    def fail(path: Path) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(fuzz, "read_image", fail)
    sample = fuzz.Sample("a.nii", {"a.nii": b"x"}, "a.nii")
    assert "RuntimeError: a defect" in fuzz.open_input(5, 0, [sample], tmp_path)
