"""Inputs and outputs of a verb that lie in an object store: local folders stand for them while the verb runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from unet_pipeline.errors import PredictionError
from unet_pipeline.remote.outputs import OutputFolder, RemoteOutputFolder
from unet_pipeline.remote.urls import RemoteUrl, StoreError, is_url, parse_place

if TYPE_CHECKING:
    from unet_pipeline.prediction.inputs import PredictionInput
    from unet_pipeline.prediction.reuse import Ledger
    from unet_pipeline.prediction.run import Predictions
    from unet_pipeline.remote.cache import Cache
    from unet_pipeline.remote.mirror import Mirror

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")
Announce = Callable[[str], None]
Predict = Callable[[Sequence["PredictionInput"]], "Predictions"]


@dataclass
class Places:
    """Where a prediction reads and writes: local folders, some of which stand for what lies in a store.

    Attributes:
        bundle: to predict with, local.
        source: of the images, local; its files may be empty until they are fetched.
        out: of the label maps, local.
        mirror: behind `source`, where that is an URL.
        output: behind `out`.
    """

    bundle: Path
    source: Path
    out: Path
    mirror: Mirror | None = None
    output: OutputFolder = field(default_factory=OutputFolder)

    @property
    def is_remote(self) -> bool:
        """Whether images or label maps lie in a store."""
        return self.mirror is not None or isinstance(self.output, RemoteOutputFolder)

    def predict(
        self, inputs: Sequence[PredictionInput], ledger: Ledger, with_probabilities: bool, predict: Predict
    ) -> Predictions:
        """Predict images, those of a store in portions that fit into the cache, the next one fetched beside the present one.

        Args:
            inputs: of `source`.
            ledger: of `out`.
            with_probabilities: are wanted.
            predict: called with images whose files are there.

        Raises:
            PredictionError: images failed, or could not be fetched; the others are done.
        """
        ledger.folder = self.output
        if self.mirror is None:
            return self._name(predict(inputs))
        for source in inputs:
            if tags := self.mirror.list_tags(source.list_files()):
                ledger.tags[source.name] = tags
        unread = [source for source in inputs if ledger.is_kept_unread(source, with_probabilities)]
        rest = [source for source in inputs if source not in set(unread)]
        return self._name(_join(inputs, self._predict_portions(unread, rest, predict)))

    def _predict_portions(
        self, unread: Sequence[PredictionInput], rest: Sequence[PredictionInput], predict: Predict
    ) -> Iterator[Predictions | list[str]]:
        """The results of all portions, or the messages about images that failed."""
        from unet_pipeline.prediction.run import FailedImagesError
        from unet_pipeline.remote.mirror import iterate_portions

        if unread or not rest:
            yield predict(unread)
        if self.mirror is None or not rest:
            return
        with closing(iterate_portions(self.mirror, rest, lambda source: source.files)) as portions:
            for portion in portions:
                yield [str(error) for error in portion.failures.values()]
                try:
                    if portion.items:
                        yield predict(portion.items)
                except FailedImagesError as error:
                    yield list(error.messages)

    def refuse_own_folder(self, inputs: Sequence[PredictionInput]) -> None:
        """Whether results may be written to `out`.

        Raises:
            PredictionError: an image lies there, and its result would take its name.
        """
        from unet_pipeline.prediction.run import refuse_own_folder

        refuse_own_folder(inputs, self.out)
        if self.mirror is None or not isinstance(self.output, RemoteOutputFolder):
            return
        own = [item for path, item in self.mirror.objects.items() if item.url.parent == self.output.url]
        if own and any(self.mirror.objects.get(file) in own for source in inputs for file in source.list_files()):
            raise PredictionError(
                f"The output {self.output.url} holds the image {own[0].name}, whose name its label map would take. Choose another prefix."
            )

    def _name(self, predictions: Predictions) -> Predictions:
        """The predictions with the places that the user knows."""
        images = {} if self.mirror is not None else predictions.images
        if not isinstance(self.output, RemoteOutputFolder):
            return replace(predictions, images=images)
        from upath import UPath

        url: Any = UPath(str(self.output.url))
        written, kept = (tuple(url / path.name for path in paths) for paths in (predictions.written, predictions.kept))
        return replace(predictions, out=url, written=written, kept=kept, images={})


def _join(inputs: Sequence[PredictionInput], parts: Iterator[Predictions | list[str]]) -> Predictions:
    """The predictions of several portions as those of one, in the order of the names.

    Raises:
        FailedImagesError: some failed.
    """
    from unet_pipeline.prediction.run import FailedImagesError

    done, failures = list[Any](), list[str]()
    for part in parts:
        if isinstance(part, list):
            failures += part
        else:
            done.append(part)
    if failures:
        raise FailedImagesError(failures, len(inputs))
    names = ("written", "kept", "notes")
    joined = {name: tuple(value for part in done for value in getattr(part, name)) for name in names}
    last = next((part for part in reversed(done) if part.written), done[-1])
    again = {name: reason for part in done for name, reason in part.again.items()}
    return replace(last, **{**joined, "kept": tuple(sorted(joined["kept"]))}, again=again)


@contextmanager
def open_places(
    bundle: Path | str, source: Path | str, out: Path | str, announce: Announce, reads_only: bool = False
) -> Iterator[Places]:
    """The local folders of a prediction; nothing of a store is imported where no argument is an URL.

    Args:
        bundle, source, out: as for `predict`, any of them an URL.
        announce: called with what lies in a store, and where it is read to.
        reads_only: nothing is predicted: the images are fetched, `out` is not locked.

    Raises:
        StoreError: an URL that is none, or a store that cannot be read or written.
        InUseError: another process writes there.
    """
    given = [parse_place(place) for place in (bundle, source, out)]
    with ExitStack() as stack:
        at_bundle, at_source, at_out = given
        cache = _open_cache(stack, at_bundle, at_source)
        local_bundle = _fetch_all(stack, at_bundle, cache, announce)
        output: OutputFolder = OutputFolder()
        mirrored = None
        if isinstance(at_source, RemoteUrl):
            from unet_pipeline.remote.mirror import mirror

            mirrored = stack.enter_context(mirror(at_source, cache))
            announce(mirrored.describe())
            if reads_only:
                mirrored.fetch(mirrored.objects)
        if isinstance(at_out, RemoteUrl):
            from unet_pipeline.remote.outputs import open_output

            output = stack.enter_context(open_output(at_out, _RECORD, locks=not reads_only))
        local_source = mirrored.source if mirrored is not None else at_source
        local_out = output.local if isinstance(output, RemoteOutputFolder) else at_out
        yield Places(local_bundle, local_source, local_out, mirrored, output)  # type: ignore[arg-type]


_RECORD = "predictions_run.json"


def fetches(*names: str, stays: bool = False) -> Callable[[Callable[Parameters, Answer]], Callable[Parameters, Answer]]:
    """A verb whose arguments of these names may be URLs: it gets local folders, with everything in them.

    The verb's `announce` is called with size and place. It raises StoreError where one cannot be fetched, does not fit into the cache, or
    is to stay where the cache goes.

    Args:
        names: of the arguments.
        stays: they are used after the verb too, as the dataset of a bundle is.
    """

    def decorate(verb: Callable[Parameters, Answer]) -> Callable[Parameters, Answer]:
        @wraps(verb)
        def call(*args: Parameters.args, **keywords: Parameters.kwargs) -> Answer:
            bound = signature(verb).bind(*args, **keywords)
            places = {name: bound.arguments[name] for name in names if is_url(bound.arguments.get(name))}
            if not places:
                return verb(*args, **keywords)
            with ExitStack() as stack:
                parsed = {name: parse_place(place) for name, place in places.items()}
                cache = _open_cache(stack, *parsed.values())
                for name, place in parsed.items():
                    if stays:
                        _require_staying(place, cache)
                    announce = bound.arguments.get("announce", lambda line: None)
                    bound.arguments[name] = _fetch_all(stack, place, cache, announce, stays)
                return verb(*bound.args, **bound.kwargs)

        return call

    return decorate


def _require_staying(place: Path | RemoteUrl, cache: Cache | None) -> None:
    if cache is not None and not cache.stays:
        from unet_pipeline.remote.cache import FOLDER_VARIABLE

        raise StoreError(
            f"{place} is to be the dataset of a bundle, whose training reads it again, and the cache is removed at the end. Set "
            f"{FOLDER_VARIABLE} to a folder that stays."
        )


def _open_cache(stack: ExitStack, *places: Path | RemoteUrl) -> Any:
    """The cache of the run, where a place needs one; otherwise None."""
    if not any(isinstance(place, RemoteUrl) for place in places):
        return None
    from unet_pipeline.remote.cache import open_cache

    return stack.enter_context(open_cache())


def _fetch_all(
    stack: ExitStack, place: Path | RemoteUrl, cache: Cache | None, announce: Announce, stays: bool = False
) -> Path:
    """A local folder or file with everything that a place names."""
    if not isinstance(place, RemoteUrl) or cache is None:
        return Path(str(place))
    from unet_pipeline.remote.mirror import mirror

    mirrored = stack.enter_context(mirror(place, cache, stays))
    announce(mirrored.describe())
    mirrored.fetch(mirrored.objects)
    return mirrored.source
