"""Which trials of a search are stopped early: the options of the group `pruner`.

A pruner turns what earlier trials had at their evaluations into bounds for the next one, before that begins. So a
decision depends on nothing but these bounds and the trial's own values: it is the same after a kill, and in any worker.
Evaluations count through the stages, each stage with those that it may have at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from recrun.errors import ConfigError
from recrun.types import Count, Index

GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, are spread evenly however many there are


@dataclass(frozen=True)
class Trajectory:
    """What a trial had at its evaluations.

    Attributes:
        number: The trial's.
        planned: Evaluations of a whole training.
        losses: By evaluation, from 1, the lower the better: what the stage would keep if it ended then.
        finished: Whether it was trained to its end, which may have come early.
    """

    number: int
    planned: int
    losses: Mapping[int, float]
    finished: bool

    def at(self, evaluation: int) -> float | None:
        """The value at an evaluation, or at the last one before it; None if the trial was stopped before."""
        done = [own for own in self.losses if own <= evaluation]
        if not done or (not self.finished and evaluation > max(self.losses)):
            return None
        return self.losses[max(done)]


Bounds = dict[int, float]  # by evaluation: a trial whose loss is above it at this evaluation is stopped


class Pruner(Protocol):
    """Option of the group `pruner`."""

    def bounds(self, number: int, earlier: Sequence[Trajectory]) -> Bounds:
        """Bounds for a trial, given the trials before it that have ended; none for an evaluation that stops no one."""


@dataclass(frozen=True)
class Median:
    """Stops what is worse than the median of finished trials at the same evaluation (Golovin et al. 2017).

    Attributes:
        startup_trials: Finished trials before any is stopped.
        warmup: Evaluations of a trial before it may be stopped.
    """

    startup_trials: Count = 5
    warmup: Index = 0

    def bounds(self, number: int, earlier: Sequence[Trajectory]) -> Bounds:
        """See Pruner."""
        finished = [trial for trial in earlier if trial.finished]
        if len(finished) < self.startup_trials:
            return {}
        found: Bounds = {}
        for evaluation in range(self.warmup + 1, max(trial.planned for trial in finished)):
            losses = [loss for trial in finished if (loss := trial.at(evaluation)) is not None]
            if losses:
                found[evaluation] = median(losses)
        return found


@dataclass(frozen=True)
class Halving:
    """Asynchronous successive halving: of those that come to a rung, the best share goes on (Li et al. 2020).

    Rungs are at `min_evaluations` times 1, `reduction_factor`, its square, ….

    Attributes:
        min_evaluations: The first rung.
        reduction_factor: One of so many goes on.
    """

    min_evaluations: Count = 1
    reduction_factor: Count = 3

    def __post_init__(self) -> None:
        refuse_no_reduction(self.reduction_factor)

    def bounds(self, number: int, earlier: Sequence[Trajectory]) -> Bounds:
        """See Pruner."""
        found: Bounds = {}
        rung = self.min_evaluations
        while earlier and rung < max(trial.planned for trial in earlier):
            losses = sorted(loss for trial in earlier if (loss := trial.at(rung)) is not None)
            going_on = max(1, (len(losses) + 1) // self.reduction_factor)
            if len(losses) >= going_on:
                found[rung] = losses[going_on - 1]
            rung *= self.reduction_factor
        return found


@dataclass(frozen=True)
class Hyperband:
    """Successive halving in brackets, which differ in their first rung (Li et al. 2018).

    A bracket that stops trials earlier gets more of them. At a rung a trial competes with all that came there, whatever
    their bracket: with those of its own alone, as in the paper, some tens of trials are too few to tell good from bad.

    Attributes:
        min_evaluations: The first rung of the bracket that stops earliest.
        reduction_factor: One of so many goes on.
    """

    min_evaluations: Count = 1
    reduction_factor: Count = 3

    def __post_init__(self) -> None:
        refuse_no_reduction(self.reduction_factor)

    def bounds(self, number: int, earlier: Sequence[Trajectory]) -> Bounds:
        """See Pruner."""
        if not earlier:
            return {}
        first = self.min_evaluations * self.reduction_factor ** self.bracket(number, earlier[0].planned)
        return Halving(first, self.reduction_factor).bounds(number, earlier)

    def bracket(self, number: int, planned: int) -> int:
        """The bracket of a trial, by its number alone: shares are as the paper has them, and spread evenly."""
        shares = self.shares(planned)
        left = (number * GOLDEN) % 1 * sum(shares)
        for bracket, share in enumerate(shares):
            left -= share
            if left < 0:
                return bracket
        return len(shares) - 1

    def shares(self, planned: int) -> list[int]:
        """Trials of each bracket, of those that all of them have; the last bracket stops no one."""
        last, rung = 0, self.min_evaluations * self.reduction_factor
        while rung <= planned:
            last, rung = last + 1, rung * self.reduction_factor
        return [math.ceil((last + 1) * self.reduction_factor**rungs / (rungs + 1)) for rungs in range(last, -1, -1)]


def refuse_no_reduction(factor: int) -> None:
    """Raises ConfigError for a reduction factor of 1."""
    if factor < 2:
        raise ConfigError(f"search.pruner.reduction_factor={factor}: expected a whole number >= 2")
