"""Which label maps of a folder are kept: those that the folder's record binds to the same image, weights, configs and options.

The record is predictions_run.json (`evidence/records/prediction_record.py`); its entries, one for each label map, are made and judged here. A
name alone says nothing: patients share file names, images are corrected, networks are trained again.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Lock

import torch

from unet_pipeline.bundle.run_record import ContractVerdict, LabelMapEntry, Seen
from unet_pipeline.dataset.dataset import image_suffix
from unet_pipeline.dataset.image_files import hash_image_files
from unet_pipeline.files import compute_sha256
from unet_pipeline.messages import show_first
from unet_pipeline.prediction.device_choice import build_device, choose_precision
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.origin import ImageResult, Origin
from unet_pipeline.prediction.outputs import probabilities_path
from unet_pipeline.prediction.runtime import choose_device
from unet_pipeline.progress import LARGE_BYTES, progress_bar
from unet_pipeline.remote.outputs import OutputFolder

REPLACED = "replaced"  # folder of files that this package did not write, or that were edited since
UNRECORDED = "no record says what it was made of"
EDITED = "it is another file than was recorded"
OTHER_IMAGE = "it was made of another image"
OTHER_WEIGHTS = "it was made with other weights"
NO_PROBABILITIES = "its probabilities are not there, or are another file than was recorded"
NOT_COMPARED = "its image was not compared with the bundle's input contract"
REFUSED = "its image is outside of the input contract"
_MAX_SHOWN = 3
_SAVING_SHARE = 0.1  # of the time at most goes into writing the record, which grows with the number of images


def settle_options(options: PredictOptions) -> dict[str, object]:
    """The options that reach the label values, with what they come to on this machine.

    Raises:
        PredictionError: unknown choice of precision, or no such device.
    """
    runtime = options.runtime
    device = build_device(choose_device(runtime, options.device) or ("cuda" if torch.cuda.is_available() else "cpu"))
    effective_precision = choose_precision(options.precision, device, runtime)
    # cards of one machine count as one
    return options.settle(effective_precision, device.type)


@dataclass
class Ledger:
    """The label maps of a folder with what each was made of, kept up to date while images are predicted. Threads may share it.

    Attributes:
        out: the folder.
        origin: of the label maps that are written now.
        entries: by image name, as in the record; of another format than the bundle's own with that format behind a dot.
        save: writes the record.
        announce: called with a line for each reason why label maps that are there are made again.
        started: when the call began.
        again: images whose label map is there and is not kept, each with the reasons.
        folder: `out` as it is, or as it stands for a prefix of an object store.
        tags: of the objects that an image consists of, by name, where it lies in a store; by image name.
        contract_sha256: of what images are compared with; label maps of images that were compared with another one are made again.
        is_strict: label maps of images that are outside of the contract are not kept.
    """

    out: Path
    origin: Origin
    entries: dict[str, LabelMapEntry | object] = field(default_factory=dict)
    save: Callable[[], None] = lambda: None
    announce: Callable[[str], None] = lambda line: None
    started: str = ""
    again: dict[str, str] = field(default_factory=dict)
    folder: OutputFolder = field(default_factory=OutputFolder)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    contract_sha256: str = ""
    is_strict: bool = False
    _files_sha256: dict[str, dict[str, str]] = field(default_factory=dict)
    _lock: AbstractContextManager[bool] = field(default_factory=Lock)
    _next_save_s: float = 0.0

    def sort(
        self, finals: Mapping[PredictionInput, Path], probabilities_suffix: str | None = None
    ) -> tuple[list[PredictionInput], tuple[Path, ...]]:
        """The images that are left to predict, and the label maps that are kept.

        Args:
            finals: the label map of each image.
            probabilities_suffix: of the label maps, where probabilities are wanted beside them.
        """
        there = [source for source, final in finals.items() if final.is_file()]
        reasons: dict[PredictionInput, str] = {}
        num_bytes = sum(file.stat().st_size for source in there for file in source.list_files() if file.is_file())
        with progress_bar("compare images", len(there), num_bytes > LARGE_BYTES) as bar:
            for source in there:
                reasons[source] = "; ".join(self._list_reasons(source, finals[source], probabilities_suffix))
                bar.advance(note=source.name)
        self.again = {source.name: reason for source, reason in reasons.items() if reason}
        for line in self._describe_again():
            self.announce(line)
        kept = {source for source, reason in reasons.items() if not reason}
        return [source for source in finals if source not in kept], tuple(
            final for source, final in finals.items() if source in kept
        )

    def _list_reasons(self, source: PredictionInput, final: Path, probabilities_suffix: str | None) -> list[str]:
        entry = self.entries.get(self._name_entry(source.name))
        if not isinstance(entry, LabelMapEntry) or entry.label_map != final.name:
            return [UNRECORDED]
        reasons = []
        try:
            self.note_image(source)
        except OSError:  # for its reader to name
            return [OTHER_IMAGE]
        if list(entry.files_sha256.items()) != list(self._files_sha256[source.name].items()):
            reasons.append(OTHER_IMAGE)
        if entry.weights_sha256 != list(self.origin.weights_sha256):
            reasons.append(OTHER_WEIGHTS)
        reasons += _list_changes(entry, self.origin)
        reasons += self._judge_compared(entry)
        if reasons:
            return reasons
        if entry.label_map_sha256 != self.folder.compute_sha256(final):
            return [EDITED]
        for name, sha256 in (entry.companions_sha256 or {}).items():
            if not (self.out / name).is_file() or self.folder.compute_sha256(self.out / name) != sha256:
                return [f"{name} is not there, or is another file than was recorded"]
        if probabilities_suffix is not None:
            beside = probabilities_path(final, probabilities_suffix)
            if not beside.is_file() or entry.probabilities_sha256 != self.folder.compute_sha256(beside):
                return [NO_PROBABILITIES]
        return []

    def _judge_compared(self, entry: LabelMapEntry) -> list[str]:
        compared = entry.contract or ContractVerdict()
        if self.contract_sha256 and compared.contract_sha256 != self.contract_sha256:
            return [NOT_COMPARED]
        return [REFUSED] if self.is_strict and compared.verdict == "outside" else []

    def is_kept_unread(self, source: PredictionInput, with_probabilities: bool) -> bool:
        """Whether the label map of an image is kept, and its objects have the tags that they had: then it need not be fetched."""
        entry, tags = self.find(source.name), self.tags.get(source.name)
        if entry is None or not tags or entry.tags != tags:
            return False
        final = self.out / entry.label_map
        if not final.is_file():
            return False
        self._files_sha256[source.name] = entry.files_sha256
        suffix = image_suffix(final) if with_probabilities else None
        if not self._list_reasons(source, final, suffix):
            return True
        del self._files_sha256[source.name]
        return False

    def note_image(self, source: PredictionInput) -> Mapping[str, str]:
        """Hash the files of an image before they are read: if one changes in between, the label map is not kept later.

        Returns:
            SHA-256 by the name of the file.

        Raises:
            OSError: a file cannot be read.
        """
        if source.name not in self._files_sha256:
            self._files_sha256[source.name] = hash_image_files(source.files)
        return self._files_sha256[source.name]

    def make_room(self, source: PredictionInput, final: Path, *beside: Path | None) -> None:
        """Take away what lies under the name of a label map that is not kept, and under those of its further files.

        What this package wrote is deleted, because it is of another image, or of other weights. Anything else, such as a label map that
        was corrected by hand, goes into the folder `replaced`.
        """
        entry = self.entries.get(self._name_entry(source.name))
        known: set[str | None] = set()
        others = [path for path in beside if path is not None]
        if isinstance(entry, LabelMapEntry):
            companions = entry.companions_sha256 or {}
            known = {entry.label_map_sha256, entry.probabilities_sha256, *companions.values()}
            others += [self.out / name for name in companions]
        for path in dict.fromkeys((final, *others)):
            if not _is_there(path):
                continue
            if self.folder.compute_sha256(path) in known:
                self.folder.remove(path)
            else:
                _set_aside(path, self.folder)
        with self._lock:
            self.entries.pop(self._name_entry(source.name), None)

    def finish(self, source: PredictionInput, final: Path, *beside: Path | None, seen: Seen | None = None) -> None:
        """Bind a label map that was written to its image, weights, configs and options, and write the record, but not too often.

        Raises:
            StoreError: it cannot be uploaded; the record does not have it then.
        """
        outputs = {path.name: compute_sha256(path) for path in (final, *beside) if path is not None}
        self.bind(source.name, ImageResult(outputs, self._files_sha256.get(source.name, {}), self.started, seen))

    def bind(self, name: str, result: ImageResult) -> None:
        """Deliver the files of an image's result, and enter them; errors as of `finish`."""
        for file, sha256 in reversed(list(result.outputs.items())):  # the label map last
            self.folder.deliver(self.out / file, sha256)
        self.enter(name, self.build_entry(name, result))

    def build_entry(self, name: str, result: ImageResult) -> LabelMapEntry:
        """The entry of an image's result, made as this call makes its own."""
        (label_map, sha256), *others = result.outputs.items()
        entry = LabelMapEntry(
            files_sha256=dict(result.files_sha256),
            label_map=label_map,
            label_map_sha256=sha256,
            started=result.started,
            weights_sha256=list(self.origin.weights_sha256),
            configs_sha256=dict(self.origin.configs_sha256),
            options=dict(self.origin.options),
        )
        if name in self.tags:
            entry.tags = self.tags[name]
        seen = result.seen or Seen()  # what is not set is not written
        if seen.contract is not None:
            entry.contract = seen.contract
        if seen.doubt is not None:
            entry.doubt = seen.doubt
        if seen.missing_channels is not None:
            entry.missing_channels = seen.missing_channels
        for file, file_sha256 in others:
            if "_probabilities." in file:
                entry.probabilities, entry.probabilities_sha256 = file, file_sha256
            else:
                entry.companions_sha256 = {**(entry.companions_sha256 or {}), file: file_sha256}
        return entry

    def enter(self, name: str, entry: LabelMapEntry) -> None:
        """Add the entry of a label map, and write the record, but not too often."""
        with self._lock:
            self.entries[self._name_entry(name)] = entry
            begun_s = time.monotonic()
            if begun_s >= self._next_save_s:
                self.save()
                self.folder.publish()
                took_s = time.monotonic() - begun_s
                self._next_save_s = begun_s + took_s / _SAVING_SHARE

    def find(self, name: str) -> LabelMapEntry | None:
        """The entry of an image's label map; None where there is none, or what another version wrote."""
        entry = self.entries.get(self._name_entry(name))
        return entry if isinstance(entry, LabelMapEntry) else None

    def put_last(self, names: Iterable[str]) -> None:
        """Let the entries of these images stand at the end, in their order."""
        for name in map(self._name_entry, names):
            if (entry := self.entries.pop(name, None)) is not None:
                self.entries[name] = entry

    def _name_entry(self, name: str) -> str:
        kind = str(self.origin.options.get("format") or "").partition("-")[0]  # its variants have one file name
        return f"{name}.{kind}" if kind else name

    def _describe_again(self) -> list[str]:
        names_of: dict[str, list[str]] = {}
        for name, reason in self.again.items():
            names_of.setdefault(reason, []).append(name)
        return [f"again    {show_first(names, _MAX_SHOWN)}: {reason}" for reason, names in names_of.items()]


def _list_changes(entry: LabelMapEntry, origin: Origin) -> list[str]:
    before, now = entry.configs_sha256, origin.configs_sha256
    changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    reasons = [f"{', '.join(changed)} changed since"] if changed else []
    for name in sorted(entry.options.keys() | origin.options.keys()):
        recorded, wanted = entry.options.get(name), origin.options.get(name)
        if recorded != wanted:
            reasons.append(f"{name} was {recorded}, is now {wanted}")
    return reasons


def _is_there(path: Path) -> bool:
    """Whether there is such a file; none has a name that is too long, as that of the probabilities may be."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _set_aside(path: Path, output: OutputFolder) -> None:
    """Move a file into the folder `replaced` beside it, under a name that is free there."""
    folder = path.parent / REPLACED
    folder.mkdir(exist_ok=True)
    names = (path.name if number == 1 else f"{number}_{path.name}" for number in count(1))
    output.move(path, folder / next(name for name in names if not (folder / name).exists()))


def without_record(out: Path) -> Ledger:
    """A ledger that keeps no label map, for predictions that nobody records."""
    return Ledger(out, Origin((), {}, {}))
