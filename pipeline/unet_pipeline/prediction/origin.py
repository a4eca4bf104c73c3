"""What label maps come from, and what came of an image: plain values that travel to workers, without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unet_pipeline.bundle.run_record import Seen


@dataclass(frozen=True)
class Origin:
    """What label maps of one call come from, beside their images.

    Attributes:
        weights_sha256: of the files that predict; several are averaged.
        configs_sha256: of the files that say how, by their path in the bundle.
        options: of the call, as far as they reach the label values.
    """

    weights_sha256: tuple[str, ...]
    configs_sha256: Mapping[str, str]
    options: Mapping[str, object]

    def as_settings(self) -> dict[str, object]:
        """For the record of a run."""
        return {
            "weights_sha256": list(self.weights_sha256),
            "configs_sha256": dict(self.configs_sha256),
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class ImageResult:
    """What came of one image.

    Attributes:
        outputs: SHA-256 of the label map, and of the probabilities, the instance map and its table behind it, by their names.
        files_sha256: of the image's files.
        started: when the call began that made it.
        seen: of the image and its label map.
    """

    outputs: Mapping[str, str]
    files_sha256: Mapping[str, str]
    started: str
    seen: Seen | None = None
