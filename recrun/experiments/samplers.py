"""How the trials of a search are chosen: the options of the group `search`, all of them samplers of optuna.

Each trial gets a sampler of its own, seeded by the study's seed and the trial's number. So what a trial is depends on
the results of the trials before it, not on how often the study was interrupted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from recrun.errors import ConfigError
from recrun.experiments.pruners import Pruner
from recrun.types import Count, Index, Positive

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


@dataclass(frozen=True)
class Search(ABC):
    """What all searches have.

    Attributes:
        trials: How many.
        seed: Of the choices; `seed` is that of each training.
        refit_seeds: With how many further seeds the best trial is trained afterwards.
        objectives: Metrics that decide, on validation; none for the one that the last stage is monitored by. Several
            give a Pareto front.
        space: A file with a space, or its name in conf/space, besides what is typed.
        pruner: What stops trials that are worse than others; None for nothing.
    """

    package: ClassVar[str | tuple[str, ...]] = "optuna"
    extra: ClassVar[str] = "search"
    keeps_state: ClassVar[bool] = False  # whether choosing a trial changes the study besides
    several: ClassVar[bool] = True  # whether there may be several objectives

    trials: Count = 20
    seed: Index = 0
    refit_seeds: Index = 0
    objectives: Sequence[str] = ()
    space: str | None = None
    pruner: Pruner | None = None

    def __post_init__(self) -> None:
        named = f"search.objectives={[*self.objectives]}"
        if len(set(self.objectives)) < len(self.objectives):
            raise ConfigError(f"{named}: each metric once")
        if self.objectives and self.pruner is not None:
            raise ConfigError(f"{named}: a pruner stops trials by trainer.monitor alone; choose pruner=none")
        if len(self.objectives) > 1 and not self.several:
            raise ConfigError(f"{named}: this search has one objective; search=tpe, gp, random and qmc take several")
        if len(self.objectives) > 1 and self.refit_seeds:
            raise ConfigError(
                f"{named}: there is no one best trial for search.refit_seeds; choose one of those that are written as "
                "experiments, and give it several seeds"
            )

    @abstractmethod
    def sampler(self, number: int) -> BaseSampler:
        """The sampler of one trial."""

    def seed_of(self, number: int) -> int:
        """The seed of one trial's sampler, below 2**32."""
        import numpy as np

        return int(np.random.SeedSequence((self.seed, number)).generate_state(1)[0])


@dataclass(frozen=True)
class Random(Search):
    """Independent draws."""

    def sampler(self, number: int) -> BaseSampler:
        """See Search."""
        from optuna.samplers import RandomSampler

        return RandomSampler(seed=self.seed_of(number))


@dataclass(frozen=True)
class Tpe(Search):
    """Tree-structured Parzen estimators of all keys together.

    Attributes:
        startup_trials: Random draws before the estimators begin.
        candidates: Draws from the estimator of good trials, the best of which is taken.
    """

    startup_trials: Count = 10
    candidates: Count = 24

    def sampler(self, number: int) -> BaseSampler:
        """See Search."""
        from optuna.samplers import TPESampler

        return TPESampler(
            n_startup_trials=self.startup_trials,
            n_ei_candidates=self.candidates,
            multivariate=True,
            constant_liar=True,  # trials that run at the same time differ
            seed=self.seed_of(number),
        )


@dataclass(frozen=True)
class GaussianProcess(Search):
    """A Gaussian process.

    Attributes:
        startup_trials: Random draws before the process begins.
    """

    startup_trials: Count = 10

    def sampler(self, number: int) -> BaseSampler:
        """See Search."""
        from optuna.samplers import GPSampler

        return GPSampler(n_startup_trials=self.startup_trials, seed=self.seed_of(number))


@dataclass(frozen=True)
class CmaEs(Search):
    """CMA-ES.

    Attributes:
        startup_trials: Random draws before it begins.
        sigma: Its first step, as a share of the range of each key; None = a sixth.
        population: Trials of a generation; None = 4 + 3 ln(keys).
    """

    package: ClassVar[str | tuple[str, ...]] = ("optuna", "cmaes")
    keeps_state: ClassVar[bool] = True
    several: ClassVar[bool] = False

    startup_trials: Count = 1
    sigma: Positive | None = None
    population: Count | None = None

    def sampler(self, number: int) -> BaseSampler:
        """See Search."""
        from optuna.samplers import CmaEsSampler

        return CmaEsSampler(
            n_startup_trials=self.startup_trials,
            sigma0=self.sigma,
            popsize=self.population,
            seed=self.seed_of(number),
            warn_independent_sampling=False,
        )


@dataclass(frozen=True)
class QuasiRandom(Search):
    """A scrambled low-discrepancy sequence; the first trial is a random draw.

    Attributes:
        sequence: Which one.
    """

    keeps_state: ClassVar[bool] = True

    sequence: Literal["sobol", "halton"] = "sobol"

    def sampler(self, number: int) -> BaseSampler:
        """See Search. All trials are of one sequence, which has one seed; before it begins, draws are random."""
        from optuna.samplers import QMCSampler, RandomSampler

        return QMCSampler(
            qmc_type=self.sequence,
            scramble=True,
            seed=self.seed_of(0),
            independent_sampler=RandomSampler(seed=self.seed_of(number)),
            warn_independent_sampling=False,
        )
