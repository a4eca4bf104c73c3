"""One training step on nnU-Net's plan for the hippocampus: the bare network, our whole loop, nnU-Net's loop.

    .venv/bin/python benchmarks/train_step.py DATASET [--turns 7] [--device cuda]

DATASET is Task04_Hippocampus. All three train a network of 32-64-128-256 channels on 9 patches of 40x56x40. The bare loop has
preloaded tensors, bfloat16 where the processor has it, kept pages and the faster kernel of the norms: the floor. Ours is
`train.json` as `train` runs it, with loading, augmentation, engine and handlers. A turn is one step, on a GPU 50 between two
synchronisations. Writes results/train_step.md, on a GPU results/train_step_cuda.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import alternating
import peer_environment as peer

from unet_pipeline.bundle.folder import BundleFolder, open_bundle
from unet_pipeline.files import write_text

RESULTS = Path(__file__).parent / "results"
NUM_WARM, NUM_STEPS = {"cpu": 1, "cuda": 50}, {"cpu": 1, "cuda": 50}  # before the first turn, and of a turn
NNUNET_PLAN = {
    "patch_size": "[40, 56, 40]",
    "window_size": "[40, 56, 40]",
    "batch_size": "9",
    "filters": "[32, 64, 128, 256]",
}
BARE, OURS, PEER = "bare network", "our training loop", "nnU-Net's training loop"


def plan_like_nnunet(dataset: Path, bundle: Path, numbers: Mapping[str, str] = NNUNET_PLAN) -> None:
    """A bundle whose plan has nnU-Net's patch, batch and channels for this data set, or other numbers."""
    run = [sys.executable, "-m", "unet_pipeline", "plan"]
    subprocess.run([*run, str(dataset), str(bundle), "--preset", "quick"], check=True, stdout=subprocess.DEVNULL)
    path = bundle / "configs" / "plan.yaml"
    text = path.read_text(encoding="utf-8")
    for name, value in numbers.items():
        text = re.sub(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
    text = re.sub(r"^iterations_per_epoch: .*$", "iterations_per_epoch: 1000", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    subprocess.run([*run, "--refresh", str(bundle)], check=True, stdout=subprocess.DEVNULL)


def build_workflow(folder: BundleFolder, worker: str, device: str = "cpu", num_epochs: int = 1) -> Any:
    """The training of the bundle, as `train` builds it, with outputs of its own.

    Args:
        folder: the bundle.
        worker: names the outputs.
        device: cpu or cuda.
        num_epochs: what the training does about its device may depend on its length.
    """
    from monai.bundle import ConfigWorkflow

    from unet_pipeline.training.run import build_settings, next_run_dir

    folder.make_modules_importable()
    outputs = {"weights_path": str(folder.models / f"{worker}.pt"), "num_epochs": num_epochs}
    outputs["device"] = f"$torch.device('{device}')"
    settings = build_settings(folder, 0, next_run_dir(folder, worker), False, outputs)
    workflow = ConfigWorkflow(
        config_file=str(folder.config("train")),
        meta_file=str(folder.metadata),
        logging_file=False,
        workflow_type="train",
        **settings,
    )
    workflow.initialize()
    return workflow


def work_bare(folder: BundleFolder, device_type: str) -> None:
    """Forward, loss, backward and step on one batch that is there already."""
    import torch
    from bare_forms import CHANNELS_LAST, time_blocks

    from unet_pipeline.device.instance_norm import speed_up_instance_norm
    from unet_pipeline.device.precision import supports_fast_bfloat16

    workflow = build_workflow(folder, "bare", device_type)
    parser = workflow.parser
    network, optimizer, loss = (
        parser.get_parsed_content(name) for name in ("network", "train#optimizer", "train#loss")
    )
    device = torch.device(device_type)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(9, 1, 40, 56, 40, generator=generator).to(device)
    labels = torch.randint(0, 3, (9, 1, 40, 56, 40), generator=generator).float().to(device)
    fast = supports_fast_bfloat16(device)
    network.train()
    if device_type == "cuda":
        network.to(memory_format=CHANNELS_LAST[3])
        images = images.contiguous(memory_format=CHANNELS_LAST[3])
    else:
        speed_up_instance_norm(network)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device_type, torch.bfloat16, enabled=fast):
            output = network(images)
        loss(output, labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()

    time_blocks(step, 1, NUM_WARM[device_type], device)
    alternating.answer(lambda: time_blocks(step, 1, NUM_STEPS[device_type], device)[0])


def work_ours(folder: BundleFolder, device_type: str) -> None:
    """The trainer runs by itself and waits before each turn."""
    import torch
    from bare_forms import synchronize
    from ignite.engine import Events

    # as long as a training of preset standard where that decides what is done about the device
    workflow = build_workflow(folder, "ours", device_type, num_epochs=1 if device_type == "cpu" else 48)
    trainer, device = workflow.trainer, torch.device(device_type)
    started_s = [0.0]

    def find_turn() -> int | None:
        """How many turns are over; None within one, and in the warm-up."""
        done = trainer.state.iteration - NUM_WARM[device_type]
        return None if done < 0 or done % NUM_STEPS[device_type] else done // NUM_STEPS[device_type]

    def wait(_: Any) -> None:
        turn = find_turn()
        if turn is None:
            return
        if turn == 0:
            print(alternating.READY, flush=True)
        input()
        synchronize(device)
        started_s[0] = time.monotonic()

    def tell(_: Any) -> None:
        if find_turn():
            synchronize(device)
            print((time.monotonic() - started_s[0]) / NUM_STEPS[device_type], flush=True)

    trainer.add_event_handler(Events.GET_BATCH_STARTED, wait)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, tell)
    workflow.run()


def main() -> None:
    """Measure in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--work", type=Path, default=peer.WORK)
    parser.add_argument("--worker", choices=("bare", "ours"), help="for the script itself: one of its processes")
    arguments = parser.parse_args()
    bundle = arguments.work / "nnunet_like"
    if arguments.worker:
        (work_bare if arguments.worker == "bare" else work_ours)(open_bundle(bundle), arguments.device)
        return
    if not bundle.is_dir():
        plan_like_nnunet(arguments.dataset, bundle)
    python = peer.find_python(arguments.work)
    peer.write_dataset(arguments.dataset, BundleFolder(bundle).read_split(0).model_dump(), arguments.work)
    num_threads = len(os.sched_getaffinity(0))
    peer.prepare(python, arguments.work, num_threads)
    me = [sys.executable, str(Path(__file__)), str(arguments.dataset), "--work", str(arguments.work)]
    me += ["--device", arguments.device, "--worker"]
    theirs = [str(python), str(Path(__file__).with_name("peer_step.py")), "--device", arguments.device]
    theirs += ["--warm-up", str(NUM_WARM[arguments.device]), "--steps", str(NUM_STEPS[arguments.device])]
    # nnU-Net's loaders decide about its speed on a GPU, so there it has as many as it takes by default
    peer_threads = num_threads if arguments.device == "cpu" else None
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    rows: dict[str, list[float]] = {BARE: [], OURS: [], PEER: []}
    with (
        alternating.Worker([*me, "bare"], environment, arguments.work / "bare.log") as bare,
        alternating.Worker([*me, "ours"], environment, arguments.work / "ours.log") as ours,
        alternating.Worker(
            theirs, peer.build_environment(arguments.work, peer_threads), arguments.work / "peer.log"
        ) as other,
    ):
        described = alternating.describe_run(
            f"benchmarks/train_step.py {arguments.dataset.name} --turns {arguments.turns} --device {arguments.device}",
            f"nnunetv2 {peer.VERSION}",
        )
        for _ in range(arguments.turns):
            for name, worker in ((BARE, bare), (OURS, ours), (PEER, other)):
                rows[name].append(worker.take_turn())
    text = (
        f"# One training step\n\n{described} 9 patches of 40x56x40, 32-64-128-256 channels, {num_threads} threads. nnU-Net loads in "
        f"workers of its own, while the others have their turn.\n\n{alternating.build_table(rows, BARE)}\n"
    )
    write_text(RESULTS / ("train_step.md" if arguments.device == "cpu" else "train_step_cuda.md"), text)
    print(text)


if __name__ == "__main__":
    main()
