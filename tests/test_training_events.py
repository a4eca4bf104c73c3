"""Event files of an interrupted training: no step twice, and nothing lost before the checkpoint."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from torch.utils.tensorboard import SummaryWriter

from unet_pipeline.training.events import drop_later_events, split_records


def list_steps(folder: Path) -> list[tuple[str, int]]:
    return [
        (value.tag, event.step)
        for path in sorted(folder.glob("events.*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]


def write_events(folder: Path) -> Path:
    with SummaryWriter(str(folder)) as writer:
        for step in (1, 2, 3):
            writer.add_scalar("train_loss", 1 / step, step)
        writer.add_scalar("val_mean_dice", 0.5, 1)
        writer.add_scalar("val_mean_dice", 0.6, 2)
    (path,) = folder.glob("events.*")
    return path


def test_drop_later_events_each_tag_has_its_own_count(tmp_path: Path) -> None:
    write_events(tmp_path)
    drop_later_events(tmp_path, 2, 1)
    assert list_steps(tmp_path) == [("train_loss", 1), ("train_loss", 2), ("val_mean_dice", 1)]


def test_drop_later_events_nothing_later_leaves_the_bytes(tmp_path: Path) -> None:
    path = write_events(tmp_path)
    before = path.read_bytes()
    drop_later_events(tmp_path, 3, 2)
    assert path.read_bytes() == before


def test_split_records_cut_off_anywhere_gives_the_complete_ones(tmp_path: Path) -> None:
    content = write_events(tmp_path).read_bytes()
    records = list(split_records(content))
    assert b"".join(records) == content
    assert len(records) >= 6
    for length in range(len(content)):
        kept = list(split_records(content[:length]))
        assert kept == records[: len(kept)]
        assert sum(map(len, kept)) <= length
        assert len(kept) == len(records) or sum(map(len, kept)) + len(records[len(kept)]) > length
