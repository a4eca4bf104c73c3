"""`predict` of a study on a DICOMweb server: its series as a local folder, and the results back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unet_pipeline.bundle.folder import BundleFolder
from unet_pipeline.clinical.dicomweb_address import is_address
from unet_pipeline.clinical.formats import DICOM_FORMATS
from unet_pipeline.cohort.engines import LOCAL
from unet_pipeline.errors import PredictionError
from unet_pipeline.planning.plan import read_plan

if TYPE_CHECKING:
    from unet_pipeline.clinical.dicomweb import Server
    from unet_pipeline.clinical.dicomweb_series import SeriesRule
    from unet_pipeline.prediction.options import PredictOptions
    from unet_pipeline.prediction.run import Predictions

_STORED_FORMAT = "dicomseg"


@dataclass(frozen=True)
class RemoteOptions:
    """What is asked of a server.

    Attributes:
        rules: by which the series is chosen.
        format: of the results.
        store: send them back.
    """

    rules: tuple[SeriesRule, ...]
    format: str | None
    store: bool


def read_remote_options(
    source: Path | str, format: str | None, series: Sequence[str], store: bool, engine: str = LOCAL
) -> RemoteOptions:
    """The options about servers, before anything is opened.

    Raises:
        PredictionError: a rule is none, the input is on no server or the work is not done here, or the results could not be stored there.
    """
    if not is_address(source):
        if series or store:
            raise PredictionError(
                f"{'--store' if store else '--series'} is for a study on a DICOMweb server, and the input is a path. Give "
                "dicomweb://HOST[:PORT]/PATH/studies/UID, or leave the option out."
            )
        return RemoteOptions((), format, store)
    from unet_pipeline.clinical.dicomweb_address import read_address
    from unet_pipeline.clinical.dicomweb_series import read_rule

    read_address(source)
    if engine != LOCAL:
        raise PredictionError(
            f"A series is fetched for this machine, and --engine is {engine}. Leave --engine out; it is one image."
        )
    format = _STORED_FORMAT if store and format is None else format
    if store and format not in DICOM_FORMATS:
        raise PredictionError(
            f"--store sends DICOM objects, and --format is {format!r}; expected one of {', '.join(DICOM_FORMATS)}. Leave out one of both."
        )
    return RemoteOptions(tuple(read_rule(text) for text in series), format, store)


@contextmanager
def open_source(
    folder: BundleFolder,
    source: Path | str,
    remote: RemoteOptions,
    announce: Callable[[str], None],
) -> Iterator[tuple[Path, Server | None]]:
    """The input as a path, and the server that it came from; what was fetched is removed at the end.

    Raises:
        PredictionError: see `fetch_series`; or the bundle takes several series.
        PreemptedError: SIGTERM; what was fetched is removed.
    """
    if not is_address(source):
        yield Path(source), None
        return
    from unet_pipeline.clinical.dicomweb import fetch_series
    from unet_pipeline.cohort.run import stoppable

    num_channels, modalities = _read_expected(folder)
    if num_channels != 1:
        raise PredictionError(
            f"{folder.name} takes {num_channels} channels, and of a study one series is fetched. Fetch the series, convert them, and give "
            "a folder with a file per channel."
        )
    # SIGTERM would leave images of a patient in the temporary folder
    with stoppable(), fetch_series(source, remote.rules, modalities, announce) as fetched:
        yield fetched


def store_predictions(predictions: Predictions, server: Server, options: PredictOptions) -> Predictions:
    """The same predictions with what became of them on the server.

    Args:
        options: they say whether there are probabilities and reports, which are stored too.

    Raises:
        PredictionError: the server refused a result.
    """
    from unet_pipeline.clinical.dicomweb import store_results
    from unet_pipeline.prediction.outputs import list_beside

    results = [*predictions.written, *predictions.kept]
    results += [
        beside for path in results for beside in list_beside(path, path.suffix, options.probabilities, options.format)
    ]
    return replace(predictions, stored=store_results(server, results))


def _read_expected(folder: BundleFolder) -> tuple[int, tuple[str, ...]]:
    """Number of channels, and the modalities that a bundle was trained on."""
    from unet_pipeline.prediction.modality import read_modalities

    if folder.is_planned:
        names = tuple(read_plan(folder.plan).channel_names)
        return len(names), read_modalities(folder, names)
    from unet_pipeline.prediction.external import read_format

    images = read_format(folder.read_metadata(), folder.name).images
    return len(images.channel_names), images.modalities
