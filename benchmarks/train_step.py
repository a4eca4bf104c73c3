"""One training step on nnU-Net's plan for the hippocampus: the bare network, our whole loop, nnU-Net's loop.

    .venv/bin/python benchmarks/train_step.py DATASET [--turns 7]

DATASET is Task04_Hippocampus. All three train a network of 32-64-128-256 channels on 9 patches of 40x56x40. The bare loop has
preloaded tensors, bfloat16 where the processor has it, kept pages and the faster kernel of the norms: the floor. Ours is
`train.json` as `train` runs it, with loading, augmentation, engine and handlers. Writes results/train_step.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import alternating
import peer_environment as peer

from pipeline.bundle_folder import BundleFolder, open_bundle
from pipeline.files import write_text

TARGET = Path(__file__).parent / "results" / "train_step.md"
NNUNET_PLAN = {
    "patch_size": "[40, 56, 40]",
    "window_size": "[40, 56, 40]",
    "batch_size": "9",
    "filters": "[32, 64, 128, 256]",
}
BARE, OURS, PEER = "bare network", "our training loop", "nnU-Net's training loop"


def plan_like_nnunet(dataset: Path, bundle: Path) -> None:
    """A bundle whose plan has nnU-Net's patch, batch and channels for this data set."""
    run = [sys.executable, "-m", "pipeline", "plan"]
    subprocess.run([*run, str(dataset), str(bundle), "--preset", "quick"], check=True, stdout=subprocess.DEVNULL)
    path = bundle / "configs" / "plan.yaml"
    text = path.read_text(encoding="utf-8")
    for name, value in NNUNET_PLAN.items():
        text = re.sub(rf"^{name}: .*$", f"{name}: {value}", text, flags=re.MULTILINE)
    text = re.sub(r"^iterations_per_epoch: .*$", "iterations_per_epoch: 1000", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
    subprocess.run([*run, "--refresh", str(bundle)], check=True, stdout=subprocess.DEVNULL)


def build_workflow(folder: BundleFolder, worker: str) -> Any:
    """The training of the bundle, as `train` builds it, with outputs of its own."""
    from monai.bundle import ConfigWorkflow

    from pipeline.training.run import build_settings, next_run_dir

    outputs = {"weights_path": str(folder.models / f"{worker}.pt"), "num_epochs": 1}
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


def work_bare(folder: BundleFolder) -> None:
    """Forward, loss, backward and step on one batch that is there already."""
    import torch

    from pipeline.training.instance_norm import speed_up_instance_norm
    from pipeline.training.precision import supports_fast_bfloat16

    workflow = build_workflow(folder, "bare")
    parser = workflow.parser
    network, optimizer, loss = (
        parser.get_parsed_content(name) for name in ("network", "train#optimizer", "train#loss")
    )
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(9, 1, 40, 56, 40, generator=generator)
    labels = torch.randint(0, 3, (9, 1, 40, 56, 40), generator=generator).float()
    fast = supports_fast_bfloat16(torch.device("cpu"))
    network.train()
    speed_up_instance_norm(network)

    def step() -> float:
        started_s = time.monotonic()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            output = network(images)
        loss(output, labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        return time.monotonic() - started_s

    step()
    alternating.answer(step)


def work_ours(folder: BundleFolder) -> None:
    """The trainer runs by itself and waits before each batch."""
    from ignite.engine import Events

    workflow = build_workflow(folder, "ours")
    trainer = workflow.trainer
    started_s = [0.0]

    def wait(_: Any) -> None:
        if trainer.state.iteration == 1:  # the first step was for warming up
            print(alternating.READY, flush=True)
        if trainer.state.iteration:
            input()
        started_s[0] = time.monotonic()

    def tell(_: Any) -> None:
        if trainer.state.iteration > 1:
            print(time.monotonic() - started_s[0], flush=True)

    trainer.add_event_handler(Events.GET_BATCH_STARTED, wait)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, tell)
    workflow.run()


def main() -> None:
    """Measure in turns and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--work", type=Path, default=peer.WORK)
    parser.add_argument("--worker", choices=("bare", "ours"), help="for the script itself: one of its processes")
    arguments = parser.parse_args()
    bundle = arguments.work / "nnunet_like"
    if arguments.worker:
        (work_bare if arguments.worker == "bare" else work_ours)(open_bundle(bundle))
        return
    if not bundle.is_dir():
        plan_like_nnunet(arguments.dataset, bundle)
    python = peer.find_python(arguments.work)
    peer.write_dataset(arguments.dataset, BundleFolder(bundle).read_split(0), arguments.work)
    num_threads = len(os.sched_getaffinity(0))
    peer.prepare(python, arguments.work, num_threads)
    me = [sys.executable, str(Path(__file__)), str(arguments.dataset), "--work", str(arguments.work), "--worker"]
    theirs = [str(python), str(Path(__file__).with_name("peer_step.py"))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
    rows: dict[str, list[float]] = {BARE: [], OURS: [], PEER: []}
    with (
        alternating.Worker([*me, "bare"], environment, arguments.work / "bare.log") as bare,
        alternating.Worker([*me, "ours"], environment, arguments.work / "ours.log") as ours,
        alternating.Worker(
            theirs, peer.build_environment(arguments.work, num_threads), arguments.work / "peer.log"
        ) as other,
    ):
        described = alternating.describe_run(
            f"benchmarks/train_step.py {arguments.dataset.name} --turns {arguments.turns}", f"nnunetv2 {peer.VERSION}"
        )
        for _ in range(arguments.turns):
            for name, worker in ((BARE, bare), (OURS, ours), (PEER, other)):
                rows[name].append(worker.take_turn())
    text = (
        f"# One training step\n\n{described} 9 patches of 40x56x40, 32-64-128-256 channels, {num_threads} threads. nnU-Net loads in "
        f"workers of its own, while the others have their turn.\n\n{alternating.build_table(rows, BARE)}\n"
    )
    write_text(TARGET, text)
    print(text)


if __name__ == "__main__":
    main()
