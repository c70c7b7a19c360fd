"""Bootstrap intervals: multinomial weights over units, seeds resampled too, bias-corrected and accelerated (BCa)."""

from __future__ import annotations

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
        return self.third / (6 * self.variance**1.5) if self.variance > 0 else 0.0


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
    return 1 / seeds + np.sqrt(seeds / (seeds - 1)) * (shares - 1 / seeds)


def spread(influence_G: Floats, *seed_means: Floats) -> Spread:
    """How an estimate varies with its units and with its seeds.

    Args:
        influence_G: What each unit adds to the estimate's deviation, times the number of units; its mean is 0.
        seed_means: For each setting in the estimate the estimate of each of its seeds, [S]. One seed says nothing of
            others.
    """
    size = len(influence_G)
    parts = [(float(influence_G @ influence_G) / (size * (size - 1)), size - 1)]
    parts += [(float(means.var(ddof=1)) / len(means), len(means) - 1) for means in seed_means if len(means) > 1]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts)
    third = float((influence_G**3).sum()) / size**3
    return Spread(variance, variance**2 / below if below > 0 else float(size - 1), third)


def bca(estimate: float, replicates_B: Floats, spread: Spread) -> Interval:
    """The BCa interval, as wide as t with the spread's degrees of freedom makes it.

    Args:
        estimate: The value itself.
        replicates_B: The same of resampled units and seeds, float64 [B].
        spread: Of the estimate.
    """
    count = len(replicates_B)
    below = (np.count_nonzero(replicates_B < estimate) + np.count_nonzero(replicates_B <= estimate)) / (2 * count)
    bias = ndtri(np.clip(below, 1 / (2 * count), 1 - 1 / (2 * count)))
    normal_2 = ndtri(np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    shifted_2 = bias + (bias + normal_2) / (1 - spread.acceleration * (bias + normal_2))
    quantiles_2 = np.quantile(replicates_B, ndtr(shifted_2))
    stretch: Any = stdtrit(spread.freedom, (1 + LEVEL) / 2) / normal_2[1]
    low, high = estimate + stretch * (quantiles_2 - estimate)
    return Interval(float(low), float(high))
