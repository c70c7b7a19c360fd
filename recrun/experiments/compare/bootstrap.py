"""Bootstrap intervals: multinomial weights over units, seeds resampled too, bias-corrected and accelerated (BCa)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtrit

Floats: TypeAlias = npt.NDArray[np.float64]

REPLICATES = 2000
LEVEL = 0.95
CHUNK_BYTES = 1 << 25  # of weights at a time


@dataclass(frozen=True)
class Interval:
    """A confidence interval at LEVEL."""

    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """How far an estimate is from what other units, and other seeds, would give.

    Attributes:
        variance: Of the estimate.
        freedom: Its degrees of freedom (Satterthwaite 1946).
        third: The estimate's third central moment, of the units alone: what makes its distribution lean.
    """

    variance: float
    freedom: float
    third: float

    @property
    def acceleration(self) -> float:
        """The a of BCa (Efron 1987): a sixth of the skewness."""
        return self.third / (6 * math.pow(self.variance, 1.5)) if self.variance > 0 else 0.0


def resampled_means(values_CG: Floats, weights_G: Floats, rng: np.random.Generator, count: int = REPLICATES) -> Floats:
    """Weighted means of units drawn with replacement; the same draw serves all rows.

    Args:
        values_CG: A value per row and unit, float64.
        weights_G: What a unit counts in the mean, float64, positive.
        rng: Its state decides the draws.
        count: Replicates.

    Returns:
        float64 [count, C].
    """
    size = len(weights_G)
    terms_GC = np.column_stack([(values_CG * weights_G).T, weights_G])
    sums = np.empty((count, terms_GC.shape[1]))
    step = max(1, CHUNK_BYTES // (8 * size))
    drawn = np.empty((step, size))
    for at in range(0, count, step):
        rows = min(step, count - at)
        for row in range(rows):
            drawn[row] = np.bincount(rng.integers(0, size, size), minlength=size)
        np.matmul(drawn[:rows], terms_GC, out=sums[at : at + rows])
    return sums[:, :-1] / sums[:, -1:]


def seed_weights(seeds: int, rng: np.random.Generator, count: int = REPLICATES) -> Floats:
    """Weights of seeds drawn with replacement, float64 [count, seeds]; each row sums to 1.

    A mean of n values drawn from n varies by (n - 1) / n too little, a third for three seeds: the weights are spread
    out to make up for that.
    """
    if seeds == 1:
        return np.ones((count, 1))
    shares = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
    weights: Floats = 1 / seeds + np.sqrt(seeds / (seeds - 1)) * (shares - 1 / seeds)
    return weights


def spread(differences_U: Floats, weights_U: Floats, *sides_SU: Floats) -> Spread:
    """How a weighted mean varies with its units and with its seeds.

    Units and seeds are crossed, so that what a seed does to single units shows in the variance over units, which is the
    jackknife's, and in that over seeds: it is taken out of the latter (two-way random effects), which is at least 0.

    Args:
        differences_U: Of each unit the value whose mean is estimated, averaged over seeds.
        weights_U: What a unit counts, of mean 1.
        sides_SU: For each setting in it the values of each seed and unit. One seed says nothing of others.
    """
    size = len(differences_U)
    mean = (differences_U * weights_U).mean()
    influence_U = (differences_U - mean) * weights_U / (1 - weights_U / size)
    units = float(influence_U @ influence_U) * (size - 1) / size**3
    several = [values_SU for values_SU in sides_SU if len(values_SU) > 1]
    parts = [(units, max(1.0, _effective(weights_U) - 1)), _beyond_units(several, weights_U)]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts)
    third = float((influence_U**3).sum()) / size**3
    return Spread(variance, variance**2 / below if below > 0 else parts[0][1], third)


def _effective(weights_U: Floats) -> float:
    """How many units of equal weight hold as much information on a variance: U where all weigh the same."""
    squares_U = weights_U**2
    return float(squares_U.sum() ** 2 / (squares_U**2).sum())


def _beyond_units(sides_SU: Sequence[Floats], weights_U: Floats) -> tuple[float, float]:
    """The variance over seeds beyond what they do to single units, and its degrees of freedom.

    What is taken out leaves a variance less certain than its size says: it keeps degrees of freedom in proportion.
    """
    means = [values_SU @ weights_U / len(weights_U) for values_SU in sides_SU]
    over_seeds = [float(means_S.var(ddof=1)) / len(means_S) for means_S in means]
    beyond = sum(over_seeds) - sum(_of_single_units(values_SU, weights_U) for values_SU in sides_SU)
    if beyond <= 0:
        return 0.0, 1.0
    below = sum(part**2 / (len(means_S) - 1) for part, means_S in zip(over_seeds, means, strict=True))
    return beyond, beyond * sum(over_seeds) / below


def _of_single_units(values_SU: Floats, weights_U: Floats) -> float:
    """The variance of the mean over seeds and units that comes of what seeds do to single units."""
    seeds, size = values_SU.shape
    means_S1 = (values_SU @ weights_U / size)[:, None]
    left_SU: Floats = values_SU - values_SU.mean(0) - means_S1 + means_S1.mean()
    squares: float = ((left_SU * weights_U) ** 2).sum() / (size**2 * seeds * (seeds - 1))
    return float(squares)


def bca(estimate: float, replicates_B: Floats, spread: Spread) -> Interval:
    """The BCa interval: its shape is the replicates', its width that of t with the spread's degrees of freedom.

    Replicates alone are too narrow for few seeds, and too wide where seeds move single units (Owen 2007).

    Args:
        estimate: The value itself.
        replicates_B: The same of resampled units and seeds, float64 [B].
        spread: Of the estimate.
    """
    count, deviation = len(replicates_B), float(replicates_B.std())
    if deviation == 0 or spread.variance == 0:
        return Interval(estimate, estimate)
    below = (np.count_nonzero(replicates_B < estimate) + np.count_nonzero(replicates_B <= estimate)) / (2 * count)
    bias = ndtri(np.clip(below, 1 / (2 * count), 1 - 1 / (2 * count)))
    normal_2 = ndtri(np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    shifted_2 = bias + (bias + normal_2) / (1 - spread.acceleration * (bias + normal_2))
    quantiles_2 = np.quantile(replicates_B, ndtr(shifted_2))
    wider: Any = stdtrit(spread.freedom, (1 + LEVEL) / 2) / normal_2[1]
    low, high = estimate + wider * spread.variance**0.5 / deviation * (quantiles_2 - estimate)
    return Interval(float(low), float(high))
