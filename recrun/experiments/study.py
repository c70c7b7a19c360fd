"""An optuna study in memory, which is asked for trials and told their values; nothing of it is stored."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recrun.config.search_space import Choices, Dimension, Interval, Value
from recrun.errors import RecrunError
from recrun.experiments.pruners import Trajectory
from recrun.experiments.samplers import Search

if TYPE_CHECKING:
    from optuna.trial import Trial


class Study:
    """Trials in order.

    A study goes on from a stored one by being asked again for each of its trials, with the values that it had.

    Args:
        search: What chooses.
        dimensions: The space.
    """

    def __init__(self, search: Search, dimensions: Mapping[str, Dimension]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.search = search
        self.study = optuna.create_study(direction="minimize")
        self.dimensions = dimensions
        self.trials: list[Trial] = []  # by number

    def ask(self, number: int, values: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """The values of a trial.

        Args:
            number: The trial's.
            values: Those that a stored trial had; the sampler then chooses none, but takes note of them.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of features that optuna calls experimental
            self.study.sampler = self.search.sampler(number)
            if values is not None:
                self.study.enqueue_trial(dict(values))
            trial = self.study.ask()
            assert trial.number == number
            self.trials.append(trial)
            if self.search.keeps_state:  # in the study, also of trials whose values are given
                _ = trial.relative_params
            return {key: suggest(trial, dimension) for key, dimension in self.dimensions.items()}

    def tell(self, number: int, loss: float | None, stopped: Trajectory | None = None) -> None:
        """How a trial ended.

        Args:
            number: The trial's.
            loss: Its value, the lower the better; None, or a value that is no number, if it failed.
            stopped: What it had, if it was stopped early.
        """
        from optuna.trial import TrialState

        if stopped is not None:
            for evaluation, value in stopped.losses.items():
                self.trials[number].report(value, evaluation)
            self.study.tell(number, state=TrialState.PRUNED)
        elif loss is None or not math.isfinite(loss):
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, loss)


def suggest(trial: Trial, dimension: Dimension) -> Value:
    """One value of a trial."""
    match dimension:
        case Choices(key, words):
            return trial.suggest_categorical(key, words)
        case Interval(key, low, high, step, log) if dimension.is_whole:
            return trial.suggest_int(key, int(low), int(high), step=int(step or 1), log=log)
        case Interval(key, low, high, step, log):
            return trial.suggest_float(key, low, high, step=step, log=log)
    raise TypeError(f"no dimension of a search: {dimension}")


def loss_of(row: Mapping[str, Any]) -> float | None:
    """What the study is told of a trial: the metric that its last stage was monitored by, on validation; never test.

    Args:
        row: Its line of the sweep's table.

    Raises:
        RecrunError: It finished without such a value.
    """
    if row["status"] != "finished":
        return None
    value = row["valid"].get(row["monitor"])
    if value is None:
        raise RecrunError(
            f"job {row['job']} has no validation {row['monitor']}, and a search never looks at test: choose a split "
            "with validation events, or another trainer.monitor"
        )
    return -float(value) if row["greater_is_better"] else float(value)
