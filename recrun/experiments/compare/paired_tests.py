"""Paired tests of no difference, and corrections for many of them."""

from __future__ import annotations

import math
import warnings
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import stdtr

Floats: TypeAlias = npt.NDArray[np.float64]

FLIPS = 9_999
CLOSE = 1e-12  # sums that are equal but for rounding count as equal
BYTES_AT_ONCE = 64  # of each pattern
BYTE_SIGNS = 1 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # [256, 8]


def t_test(differences_U: Floats) -> float:
    """The two-sided p-value of Student's paired t test.

    Args:
        differences_U: One paired difference per unit, at least 2.
    """
    size, mean = len(differences_U), float(differences_U.mean())
    error = float(differences_U.std(ddof=1)) / math.sqrt(size)
    return p_of_t(mean, error, size - 1)


def p_of_t(estimate: float, error: float, freedom: float) -> float:
    """The two-sided p-value of an estimate with its standard error; without any error 1 for 0, else 0."""
    if error == 0:
        return float(estimate == 0)
    return float(2 * stdtr(freedom, -abs(estimate) / error))


def wilcoxon(differences_U: Floats) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test; differences of 0 are left out, as in the original."""
    if not differences_U.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few units: the p-value is what it is
        return float(stats.wilcoxon(differences_U).pvalue)


def sign_flip(differences_U: Floats, rng: np.random.Generator, flips: int = FLIPS) -> float:
    """The two-sided p-value of the sign-flip permutation test of the mean.

    All sign patterns where there are at most `flips`, else that many random ones, with the observed one among them.

    Args:
        differences_U: One paired difference per unit.
        rng: Its state decides the random patterns.
        flips: How many of these.
    """
    nonzero = differences_U[differences_U != 0]  # their sign changes nothing
    observed = abs(float(nonzero.sum()))
    enough = observed - CLOSE * float(np.abs(nonzero).sum())
    if len(nonzero) <= math.log2(flips):
        return float(np.mean(np.abs(_all_sums(nonzero)) >= enough))
    return (1 + int(np.count_nonzero(np.abs(_random_sums(nonzero, rng, flips)) >= enough))) / (flips + 1)


def _all_sums(values_U: Floats) -> Floats:
    """The sum under each of the 2^U sign patterns."""
    sums = np.zeros(1)
    for value in values_U:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def _random_sums(values_U: Floats, rng: np.random.Generator, flips: int) -> Floats:
    """The sum under random sign patterns: a random byte looks up the signed sum of eight values at once."""
    padded = np.zeros((-(-len(values_U) // 8), 8))
    padded.reshape(-1)[: len(values_U)] = values_U
    sums, looked_up = np.zeros(flips), np.empty(flips)
    for at in range(0, len(padded), BYTES_AT_ONCE):
        tables = padded[at : at + BYTES_AT_ONCE] @ BYTE_SIGNS.T
        patterns = np.frombuffer(rng.bytes(len(tables) * flips), np.uint8).reshape(len(tables), flips)
        for table, pattern in zip(tables, patterns, strict=True):
            sums += table.take(pattern, out=looked_up, mode="clip")
    return sums


def holm(p_N: Floats) -> Floats:
    """Holm's step-down correction (1979): the chance of any false claim stays below the level."""
    order = np.argsort(p_N, kind="stable")
    stepped = np.maximum.accumulate(p_N[order] * np.arange(len(p_N), 0, -1))
    corrected = np.empty_like(p_N)
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def benjamini_hochberg(p_N: Floats) -> Floats:
    """The step-up correction of Benjamini and Hochberg (1995): the share of false claims stays below the level."""
    order = np.argsort(p_N, kind="stable")[::-1]
    stepped = np.minimum.accumulate(p_N[order] * len(p_N) / np.arange(len(p_N), 0, -1))
    corrected = np.empty_like(p_N)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
