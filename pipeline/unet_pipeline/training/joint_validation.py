"""A validation of several processes: cases are dealt out, and the metric is that of all cases, each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from monai.handlers import MeanDice

from unet_pipeline.training.processes import find_share, num_processes, rank

Case = TypeVar("Case")


def deal_cases(cases: Sequence[Case]) -> list[Case]:
    """The cases of this process; all processes get the same number, so some get a case twice or another's, which is left out."""
    share = [cases[number] for number in find_share(len(cases), rank(), num_processes())]
    return [*share, *[cases[0]] * (_count_most(len(cases)) - len(share))]


def _count_most(num_cases: int) -> int:
    return len(find_share(num_cases, 0, num_processes()))


class JointMeanDice(MeanDice):
    """MONAI's, over the cases that `deal_cases` has dealt out, in their order.

    Args:
        num_cases: of all processes together.
    """

    def __init__(self, num_cases: int, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.num_cases = num_cases

    def compute(self) -> Any:
        """The mean Dice of all cases; the same in every process."""
        rows = self.metric_fn.get_buffer()  # of all processes, one behind another
        most = _count_most(self.num_cases)
        kept = [
            process * most + place
            for process in range(num_processes())
            for place in range(len(find_share(self.num_cases, process, num_processes())))
        ]
        self.metric_fn._synced_tensors = [rows[kept]]
        return super().compute()
