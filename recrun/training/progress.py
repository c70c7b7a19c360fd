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
    mark: float | None = None  # what patience measures by
    stale: int = 0  # validations since then
    units: int = 0
    seconds: float = 0.0
    total_units: int = 0
    total_seconds: float = 0.0
    eval_seconds: float = 0.0

    @property
    def in_epoch(self) -> int:
        """The number, from 1, of the epoch that the last step was in."""
        return self.epoch + (self.step > 0)

    def validated(self, value: float, margin: float, lower: bool) -> bool:
        """Takes a monitored value; returns whether it is the best so far. One that is not finite never is.

        Patience begins anew where the value beats by more than `margin` the one with which it last did.
        """
        better = improvement(value, self.best, lower) > 0
        if better:
            self.best, self.best_epoch, self.best_step = value, self.in_epoch, self.steps
        if improvement(value, self.mark, lower) > margin:
            self.mark, self.stale = value, 0
        else:
            self.stale += 1
        return better

    def decide_by(self, monitor: str) -> None:
        """From now on another metric decides."""
        self.monitor, self.best, self.mark, self.stale = monitor, None, None, 0

    def close_row(self, eval_seconds: float) -> None:
        """Starts counting for the next row."""
        self.total_units += self.units
        self.total_seconds += self.seconds
        self.eval_seconds += eval_seconds
        self.units, self.seconds = 0, 0.0


def improvement(value: float, before: float | None, lower: bool) -> float:
    """By how much a value is better than one before: without one, anything finite is; what is not finite never is."""
    if not math.isfinite(value):
        return -math.inf
    if before is None:
        return math.inf
    return before - value if lower else value - before
