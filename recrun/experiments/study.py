"""An optuna study in memory, which is asked for trials and told their values; nothing of it is stored."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from recrun.config.search_space import Choices, Dimension, Interval, Value
from recrun.errors import RecrunError
from recrun.experiments.pruners import Trajectory
from recrun.experiments.samplers import Search

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial


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
        self.study = optuna.create_study(directions=["minimize"] * max(1, len(search.objectives)))
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

    def tell(self, number: int, losses: Sequence[float] | None, stopped: Trajectory | None = None) -> None:
        """How a trial ended.

        Args:
            number: The trial's.
            losses: By objective, the lower the better; None if it failed.
            stopped: What it had, if it was stopped early.
        """
        from optuna.trial import TrialState

        if stopped is not None:
            for evaluation, value in stopped.losses.items():
                self.trials[number].report(value, evaluation)
            self.study.tell(number, state=TrialState.PRUNED)
        elif losses is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, list(losses))

    def importance(self, objectives: Sequence[str]) -> dict[str, dict[str, float]]:
        """The share of each key in what makes trials good, by objective (PED-ANOVA, Watanabe et al. 2023).

        Empty where trials are too few or too alike to say.
        """
        import optuna

        found = {}
        for at, objective in enumerate(objectives):
            target = None if len(objectives) == 1 else partial(value_of, at=at)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    shares = optuna.importance.get_param_importances(self.study, target=target)
                except (ValueError, RuntimeError):
                    continue
            found[objective] = {key: float(share) for key, share in shares.items() if math.isfinite(share)}
        return found


def value_of(trial: FrozenTrial, at: int) -> float:
    """One of a trial's values."""
    return float(trial.values[at])


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


def losses_of(row: Mapping[str, Any], objectives: Sequence[str] = ()) -> list[float] | None:
    """What the study is told of a trial: its objectives on validation, the lower the better; never test.

    Args:
        row: Its line of the sweep's table.
        objectives: Metrics; none for the one that its last stage was monitored by.

    Returns:
        None if it did not finish, or a value is no number.

    Raises:
        RecrunError: It finished without such a value.
    """
    if row["status"] != "finished":
        return None
    losses = []
    for name in objectives or [row["monitor"]]:
        value = row["valid"].get(name)
        if value is None:
            raise RecrunError(
                f"job {row['job']} has no validation {name}, and a search never looks at test: choose a split with "
                f"validation events, or another {'objective' if objectives else 'trainer.monitor'}"
            )
        greater = name not in row["lower_is_better"] if objectives else row["greater_is_better"]
        losses.append(-float(value) if greater else float(value))
    return losses if all(map(math.isfinite, losses)) else None
