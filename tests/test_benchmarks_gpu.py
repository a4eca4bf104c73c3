"""What `benchmarks/gpu.py` does beside measuring: targets, tables, a clock inside a training, and parts that fail."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from . import phantom_bundles as phantoms
from .test_benchmarks import load

MACHINE = {
    "gpu": "Phantom 1",
    "gpu_memory_gib": 80.0,
    "gpu_driver": "1.2",
    "cuda": "13",
    "num_cores": 16,
    "processor": "Phantom",
    "memory_gib": 128.0,
    "python": "3.12",
}
RUN = {
    "command": "benchmarks/gpu.py",
    "date": "2026-01-02",
    "commit": "0123456789",
    "machine": MACHINE,
    "versions": {"torch": "2.11"},
    "load": "load average 0.1",
    "is_short": False,
    "minutes": 7.5,
}


def build_setting(work: Path) -> SimpleNamespace:
    return load("gpu_parts").Setting(work / "none", work, "cpu", True, work / "rows.jsonl")


def test_target_is_held_against_the_median_or_the_ratio_of_two() -> None:
    results = load("gpu_results")
    fast, slow = results.Row("a", "loop", "", (90.0, 10.0, 95.0)), results.Row("a", "bare", "", (100.0,))
    rows = {("a", "loop"): fast, ("a", "bare"): slow}
    share = results.Target("share", ("a", "loop"), 0.9, True, ("a", "bare"))
    assert share.judge(rows) == {"name": "share", "at_least": True, "limit": 0.9, "value": 0.9, "met": True}
    assert results.Target("fast enough", ("a", "loop"), 89.0, False).judge(rows)["met"] is False
    failed = {**rows, ("a", "bare"): results.Row("a", "bare", failure="out of memory")}
    assert share.judge(failed)["met"] is None
    assert share.judge({})["value"] is None


def test_every_target_of_the_issue_is_a_line_met_missed_or_open(tmp_path: Path) -> None:
    results = load("gpu_results")
    rows = [
        results.Row(*results.BARE, "patches/s", (570.0,)),
        results.Row(*results.LOOP, "patches/s", (540.0, 530.0, 550.0), {"choices": ["a | b"]}),
        results.Row(*results.QUICK, "s", (61.0,)),
        results.Row(*results.PEER, failure="nnunetv2 cannot be imported"),
    ]
    results.write_results(tmp_path, "gpu_phantom", RUN, rows)
    text = (tmp_path / "gpu_phantom.md").read_text()
    assert "(patches a second) | at least 0.9 | 0.947 | met |" in text
    assert "| `train` of quick to its end (s) | at most 60 | 61 | **missed** |" in text
    assert "| 512x512x300, 60 classes (s) | at most 14 | not measured | open |" in text
    assert "| loop | our whole loop | 540 patches/s | 530 | 550 | 3 | choices a / b |" in text
    assert "| nnunet | nnU-Net's loop | failed |  |  | 0 | nnunetv2 cannot be imported |" in text
    written = json.loads((tmp_path / "gpu_phantom.json").read_text())
    assert len(written["targets"]) == len(results.TARGETS)
    assert written["rows"][1]["median"] == 540.0
    assert results.read_results(tmp_path / "gpu_phantom.json") == rows


def test_short_run_is_held_against_nothing(tmp_path: Path) -> None:
    results = load("gpu_results")
    results.write_results(tmp_path, "gpu_phantom", {**RUN, "is_short": True}, [])
    assert json.loads((tmp_path / "gpu_phantom.json").read_text())["targets"] == []
    assert "the numbers mean nothing" in (tmp_path / "gpu_phantom.md").read_text()


def test_rows_of_a_killed_part_are_read_without_the_line_that_was_cut_off(tmp_path: Path) -> None:
    results, setting = load("gpu_results"), build_setting(tmp_path)
    setting.emit(results.Row("bare", "eager", "patches/s", (1.0, 2.0)))
    with setting.rows.open("a") as stream:
        stream.write('{"part": "bare", "wh')
    assert results.read_rows(setting.rows) == [results.Row("bare", "eager", "patches/s", (1.0, 2.0))]
    assert results.read_rows(tmp_path / "never") == []


def test_attempt_keeps_the_reason_of_a_failure(tmp_path: Path) -> None:
    setting = build_setting(tmp_path)

    def fail() -> None:
        raise SystemExit("unet-pipeline predict failed:\nCUDA out of memory")

    row = setting.attempt(("volume", "60 classes"), fail)
    assert row.failure.startswith("SystemExit: unet-pipeline predict failed")
    assert row.failure.endswith("CUDA out of memory")
    assert [vars(kept) for kept in load("gpu_results").read_rows(setting.rows)] == [vars(row)]


def test_run_part_that_fails_is_a_row(tmp_path: Path) -> None:
    found = load("gpu").run_part("loop", build_setting(tmp_path), 600)
    assert [row.what for row in found] == ["rest"]
    assert "nnunet_like" in found[0].failure


def test_run_part_is_ended_at_its_limit_and_not_begun_without_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = load("gpu")
    monkeypatch.setattr(gpu, "_LEAST_S", 0.0)
    (ended,) = gpu.run_part("bare", build_setting(tmp_path), 0.2)
    assert ended.failure.startswith("ended after 0 s, its time limit")
    monkeypatch.setattr(gpu, "_LEAST_S", 15.0)
    (left_out,) = gpu.run_part("bare", build_setting(tmp_path), 14.0)
    assert left_out.failure == "not begun: 14 s were left of --minutes"


def test_parts_run_in_their_own_order_and_unknown_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = load("gpu")
    assert gpu.list_parts("ct,bare") == ["bare", "ct", "ct loop"]
    assert gpu.list_parts(",".join(gpu.NAMES)) == list(load("gpu_parts").PARTS)
    monkeypatch.setattr("sys.argv", ["gpu.py", "DATASET", "--parts", "bare,speed"])
    with pytest.raises(SystemExit):
        gpu.read_arguments()
    assert "--parts has speed; expected some of bare, loop" in capsys.readouterr().err


def test_add_keeps_the_parts_that_are_not_measured_again(tmp_path: Path) -> None:
    gpu, results = load("gpu"), load("gpu_results")
    rows = [results.Row(part, "x", "s", (1.0,)) for part in ("bare", "ct", "ct loop")]
    results.write_results(tmp_path, "gpu_phantom", RUN, rows)
    arguments = SimpleNamespace(add=True, parts="ct", out=tmp_path)
    assert [row.part for row in gpu.recall_rows(arguments, "gpu_phantom")] == ["bare"]
    assert gpu.recall_rows(SimpleNamespace(add=False, parts="ct", out=tmp_path), "gpu_phantom") == []


def test_union_counts_kernels_side_by_side_once() -> None:
    measure_union = load("loop_clock").measure_union
    assert measure_union([]) == 0
    assert measure_union([(0, 10), (20, 25)]) == 15
    assert measure_union([(5, 12), (0, 10), (1, 2), (12, 13)]) == 13


def test_loop_clock_times_the_blocks_behind_the_warm_up_and_ends_once() -> None:
    clock = load("loop_clock").LoopClock(num_warm=2, num_blocks=3, num_steps=2, num_profiled=1, on_gpu=False)
    ended = []
    clock.finish = lambda trainer: ended.append(trainer.state.iteration)
    for iteration in range(1, 12):
        torch.ones(4).sum()
        clock(SimpleNamespace(state=SimpleNamespace(iteration=iteration)))
    assert len(clock.step_s) == 3
    assert min(clock.step_s) > 0
    assert ended == [2 + 3 * 2 + 1]
    assert (clock.kernel_s, clock.num_kernels) == (0.0, 0)  # a processor runs no kernels of a GPU


def test_loop_clock_adds_kernels_up_by_step() -> None:
    clock = load("loop_clock").LoopClock(0, 1, 1, 0, on_gpu=False)
    clock.num_profiled = 2
    clock._add_up([("a", 0, 2_000_000), ("b", 1_000_000, 3_000_000)])
    assert clock.kernel_s == pytest.approx(0.0015)
    assert clock.summed_kernel_s == pytest.approx(0.002)
    assert clock.kernels == pytest.approx({"a": 0.001, "b": 0.001})


def test_list_kernels_takes_kernels_of_a_gpu_and_no_copies() -> None:
    from torch.autograd import DeviceType

    def build(name: str, device: DeviceType) -> SimpleNamespace:
        answers = {"name": name, "device_type": device, "start_ns": 5, "duration_ns": 7}
        return SimpleNamespace(**{key: lambda value=value: value for key, value in answers.items()})

    events = [
        build("sm90_conv", DeviceType.CUDA),
        build("Memcpy HtoD", DeviceType.CUDA),
        build("aten::conv3d", DeviceType.CPU),
    ]
    results = SimpleNamespace(events=lambda: events)
    profiler = SimpleNamespace(profiler=SimpleNamespace(kineto_results=results))
    assert load("loop_clock").list_kernels(profiler) == [("sm90_conv", 5, 12)]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as real:
        torch.ones(4).sum()
    (event, *_) = real.profiler.kineto_results.events()
    assert all(hasattr(event, name) for name in ("name", "device_type", "start_ns", "duration_ns"))


def test_compute_loss_is_monais_of_all_heads() -> None:
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True, batch=True), weights=[0.6, 0.3, 0.1])
    heads = [torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size)) for size in (8, 4, 2)]
    labels = torch.randint(0, 3, (2, 1, 8, 8)).float()
    compute_loss = load("bare_forms").compute_loss
    torch.testing.assert_close(compute_loss(loss, heads, labels), loss(heads, labels))
    torch.testing.assert_close(compute_loss(loss.loss, heads[0], labels), loss.loss(heads[0], labels))


@pytest.mark.parametrize("mode", [None, "traced"])
def test_measure_form_leaves_the_network_and_gives_every_block(mode: str | None) -> None:
    bare = load("bare_forms")
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    before = network.weight.clone()
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    images, labels = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 1, 8, 8)).float()
    timing = bare.measure_form(bare.Problem(network, loss, images, labels, False), bare.Form(mode), 3, 2)
    assert len(timing.step_s) == 3
    assert timing.peak_gib == 0
    assert torch.equal(network.weight, before)


def test_measure_verb_notes_the_seconds_of_a_predictions_stages(tmp_path: Path) -> None:
    root = phantoms.plan_small(phantoms.write_pictures(tmp_path / "cells"), tmp_path / "bundle")
    load("synthetic_ct").write_random_weights(root)
    stages = tmp_path / "stages.json"
    words = ["predict", root, tmp_path / "cells" / "images", tmp_path / "out", "--device", "cpu"]
    load("measured_process").measure_verb(words, stages)
    seconds = json.loads(stages.read_text())
    assert {"read", "network", "write"} <= seconds.keys()
    assert seconds["network"] > 0
