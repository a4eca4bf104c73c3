"""What a user may choose about a prediction, in one value."""

from __future__ import annotations

from dataclasses import dataclass

# what stands in every record; an option that came later is told where it is not as by default, so that earlier records still hold
_ALWAYS_RECORDED = ("device", "mirror", "ensemble", "probabilities", "runtime", "precision")
# what the record of a label map has in another place: its format behind the name, the contract that it was compared with
_RECORDED_ELSEWHERE = ("format", "strict")


@dataclass(frozen=True)
class PredictOptions:
    """Options of a prediction.

    Attributes:
        device: such as "cpu" or "cuda:1"; a GPU when there is one, if None, and of an external bundle its own choice.
        mirror: average the logits over each window's mirrored copies, as the training mirrored; twice the cost per axis.
        ensemble: average the probabilities of all trained folds.
        probabilities: write them too, beside each label map.
        runtime: what runs the network: torch, or torchscript or onnx for one that `package` exported.
        precision: of the network: float32, bfloat16, or auto for bfloat16 where the device is fast with it.
        format: of the label maps, a name of `clinical/formats.py`; the bundle's own, if None.
        strict: refuse images that are outside of the bundle's input contract.
    """

    device: str | None = None
    mirror: bool = False
    ensemble: bool = False
    probabilities: bool = False
    runtime: str = "torch"
    precision: str = "float32"
    format: str | None = None
    strict: bool = False

    def list_changed(self) -> list[str]:
        """Names of what an external bundle's config decides, and not the user, that are not as by default."""
        plain = type(self)(self.device, format=self.format)
        return [name for name, value in vars(self).items() if value != getattr(plain, name)]

    def as_settings(self) -> dict[str, object]:
        """For a record: the options as they were given."""
        return {name: getattr(self, name) for name in _ALWAYS_RECORDED} | self._list_later()

    def settle(self, precision: str, device: str) -> dict[str, object]:
        """The options that reach the label values: a label map that was made with others is made again.

        Args:
            precision, device: what these come to on the machine that predicts.
        """
        settled: dict[str, object] = {
            "mirror": self.mirror,
            "runtime": self.runtime,
            "precision": precision,
            "device": device,
        }
        return settled | {name: value for name, value in self._list_later().items() if name not in _RECORDED_ELSEWHERE}

    def _list_later(self) -> dict[str, object]:
        """Options that the first records did not have and that are not as by default."""
        plain = type(self)()
        later = {name: value for name, value in vars(self).items() if name not in _ALWAYS_RECORDED}
        return {name: value for name, value in later.items() if value != getattr(plain, name)}
