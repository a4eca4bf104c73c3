"""`node`: receives series from a DICOM network, predicts them with a network that is loaded once, and sends the results on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.audit.trust import open_for_reading
from unet_pipeline.bundle.folder import BundleFolder, open_any_bundle, require_weights
from unet_pipeline.clinical.node.spool import Limits, Spool
from unet_pipeline.cohort.items import Arguments, Function, Share, write_values
from unet_pipeline.errors import PredictionError, suggest
from unet_pipeline.prediction.inputs import PredictionInput
from unet_pipeline.prediction.options import PredictOptions
from unet_pipeline.prediction.outputs import WITH_REPORT

if TYPE_CHECKING:
    from unet_pipeline.prediction.reuse import Origin

FORMATS = ("dicomseg", "dicomseg-labelmap", WITH_REPORT)


def node(
    bundle: Path | str,
    port: int,
    to: str,
    aet: str = "UNET_PIPELINE",
    allow: Sequence[str] = (),
    folder: Path | str | None = None,
    wait_s: float = 30.0,
    instances: int | None = None,
    keep: bool = False,
    limits: Limits | None = None,
    device: str | None = None,
    precision: str = "float32",
    trust: bool = False,
    announce: Callable[[str], None] = lambda line: None,
    format: str = FORMATS[0],
) -> None:
    """Receive series, predict them and send DICOM SEG to a destination, until a signal ends it; the same call goes on.

    Args:
        bundle: trained, for images of one channel.
        port: to listen on, of the loopback address unless `allow` names another one; 0 takes a free one.
        to: destination of the results, AET@HOST:PORT.
        aet: application entity title of the node.
        allow: who may send, each AET or AET@ADDRESS; without an address from this machine. Everyone on this machine, if empty.
        folder: for what was received, and the record; BUNDLE_node, if None.
        wait_s: a series without another instance for so long is complete.
        instances: a series with so many is complete at once.
        keep: leave what was received, and the results, in the folder sent/.
        limits: of what is taken.
        device, precision, trust: as for `predict`.
        announce: told what happens; no line has anything of a patient.
        format: of the results, dicomseg, dicomseg-labelmap, or dicomseg-sr with a volume report for each.

    Raises:
        BundleError: no weights; or the bundle needs trust.
        PredictionError: the bundle takes several images, an option is none, pynetdicom is missing, or the port cannot be had.
        InUseError: another node works in the folder.
        PreemptedError: SIGTERM; everything is in order.
    """
    _require_libraries(format)
    from unet_pipeline.clinical.node.receiver import check_title, read_allowed, receiving
    from unet_pipeline.clinical.node.sender import Sender, read_destination
    from unet_pipeline.clinical.source import quiet_process
    from unet_pipeline.cohort.record import open_record
    from unet_pipeline.verbs.node_loop import Loop

    title, destination, allowed = check_title(aet, "--aet"), read_destination(to), read_allowed(allow)
    with open_for_reading(bundle, trust, open_any_bundle) as opened, quiet_process(), _private_files():
        place = Path(folder) if folder is not None else opened.root.with_name(f"{opened.name}_node")
        spool = Spool(place, limits or Limits())
        place.mkdir(parents=True, exist_ok=True)
        predictor = Predictor(opened, spool, PredictOptions(device, precision=precision, format=format))
        with open_record(place) as record:
            spool.open()
            sender = Sender(destination, title, announce)
            loop = Loop(spool, record, sender, predictor, keep, announce)
            with loop.recorded(), sender, receiving(spool, title, port, allowed, announce) as own_port:
                announce(f"node     {title} listens on port {own_port}; results go to {destination.title}")
                loop.run(wait_s, instances)


@contextmanager
def _private_files() -> Iterator[None]:
    """Files and folders that are made meanwhile are for the node's own user: they hold patients' images."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _require_libraries(format: str) -> None:
    if format not in FORMATS:
        raise PredictionError(
            f"--format is {format!r}; {suggest(format, FORMATS)}. A node sends one of {', '.join(FORMATS)}."
        )
    try:
        import highdicom  # noqa: F401
        import pynetdicom  # noqa: F401
    except ImportError as error:
        raise PredictionError(
            f"{error.name}, which a node needs, is not installed. Install it with `pip install 'unet-pipeline[dicom]'`."
        ) from error


class Predictor:
    """What a node predicts with; the network is loaded with the first series.

    Args:
        folder: the bundle.
        spool: of the node.
        options: of predictions.

    Raises:
        BundleError: no weights.
        PredictionError: the bundle takes images of several channels.
    """

    def __init__(self, folder: BundleFolder, spool: Spool, options: PredictOptions) -> None:
        from unet_pipeline.clinical.formats import choose_format
        from unet_pipeline.evidence.records.prediction_record import open_ledger
        from unet_pipeline.prediction.modality import read_modalities
        from unet_pipeline.verbs.predict import list_used_files, settle_recorded

        self.folder, self.spool, self.options = folder, spool, options
        channel_names = _list_channels(folder)
        if len(channel_names) != 1:
            raise PredictionError(
                f"{folder.name} takes {len(channel_names)} images at once ({', '.join(channel_names)}), and a node takes series one by one. "
                "Use `predict`."
            )
        self.modalities = read_modalities(folder, channel_names)
        self.weights = (require_weights(folder),) if folder.is_planned else ()
        self.files_used = list_used_files(folder, self.weights, options)
        recorded = settle_recorded(folder, options, choose_format(folder, options.format, ()))
        self.origin: Origin = open_ledger(folder, spool.results, self.files_used, recorded).origin
        self._function: Function | None = None

    def describe_origin(self) -> dict[str, object]:
        """Hashes and options that all results share."""
        return self.origin.as_settings()

    def predict(self, item: Arguments, smaller: bool) -> Arguments:
        """The result of a series, as a function of `Work`.

        Args:
            item: name of the series.
            smaller: with less memory.

        Raises:
            PredictionError: it is of another modality, or cannot be predicted.
        """
        name = str(item["name"])
        series = self.spool.taken / name
        source = PredictionInput(name, (series,))
        self._require_modality(series)
        for path in self.spool.list_results(name):
            path.unlink(missing_ok=True)
        if self._function is None:
            self._function = self._open(source)
        from unet_pipeline.verbs.predict_worker import ImageItem

        now = time.time()
        started = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(now))
        image = ImageItem(source=source.absolute(), entry=None, started=started, begun=now)
        return self._function(write_values(image), smaller)

    def _require_modality(self, series: Path) -> None:
        from unet_pipeline.dataset.dicom import order_series
        from unet_pipeline.prediction.modality import compare_modality

        modality = str(order_series(series, series.name).header.get("Modality", ""))
        for problem in compare_modality(modality, self.modalities, series.name):
            raise PredictionError(f"{problem.file} {problem.cause}. {problem.remedy}")

    def _open(self, source: PredictionInput) -> Function:
        from unet_pipeline.quality.inspector import hash_contract
        from unet_pipeline.verbs.predict_worker import describe_work, open_prediction

        arguments = describe_work(
            folder=self.folder,
            out=self.spool.results,
            staging=self.spool.results,
            weights=self.weights,
            files_used=self.files_used,
            options=self.options,
            origin=self.origin,
            suffix=".dcm",
            contract_sha256=hash_contract(self.folder),
            largest=source,
        )
        return open_prediction(arguments, Share(device=self.options.device))


def _list_channels(folder: BundleFolder) -> tuple[str, ...]:
    if folder.is_planned:
        from unet_pipeline.planning.plan import read_plan

        return tuple(read_plan(folder.plan).channel_names)
    from unet_pipeline.prediction.external import read_format

    return tuple(read_format(folder.read_metadata(), folder.name).images.channel_names)
