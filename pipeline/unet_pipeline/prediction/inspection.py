"""What the case loop asks of whoever compares images with those of the training, before the network and behind it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from unet_pipeline.prediction.engine import Case
from unet_pipeline.prediction.engines import Engines


class Inspector(Protocol):
    """Compares the images of one call; threads may share it."""

    def attach(self, engines: Engines) -> None:
        """Listen to the networks that will compute."""
        ...

    def look(self, case: Case) -> None:
        """Compare an image that was read; sets `case.judgement`.

        Raises:
            PredictionError: it is refused.
        """
        ...

    def listen(self, case: Case) -> AbstractContextManager[None]:
        """Around the network: compare what its encoder makes of the image; sets `case.judgement`, and adds to `case.notes`.

        Raises:
            PredictionError: at the end of the block; it is refused.
        """
        ...
