"""How far a training has come."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Progress:
    """All that the loop knows besides tensors: plain numbers, saved with every `last` checkpoint.

    `units` and `seconds` count since the last row of metrics.jsonl; the `total_` ones since the stage began.
    """

    monitor: str  # the metric that decides, that of `best`
    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch under way
    steps: int = 0  # steps done in the stage
    rows: int = 0  # lines of metrics.jsonl, those of earlier stages included
    best: float | None = None
    best_epoch: int = 0  # the epoch in which the best was found, finished or not
    best_step: int = 0  # steps done then
    stale: int = 0  # validations since the best
    units: int = 0
    seconds: float = 0.0
    total_units: int = 0
    total_seconds: float = 0.0
    eval_seconds: float = 0.0

    @property
    def in_epoch(self) -> int:
        """The number, from 1, of the epoch that the last step was in."""
        return self.epoch + (self.step > 0)

    def improved(self, value: float, margin: float, lower: bool) -> bool:
        """Whether `value` beats the best so far by more than `margin`."""
        if math.isnan(value):
            return False
        gain = math.inf if self.best is None else (self.best - value if lower else value - self.best)
        return gain > margin

    def close_row(self, eval_seconds: float) -> None:
        """Starts counting for the next row."""
        self.total_units += self.units
        self.total_seconds += self.seconds
        self.eval_seconds += eval_seconds
        self.units, self.seconds = 0, 0.0
