"""The area under the ROC curve, exactly: two sorts and a search, ties counted as half."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Bool: TypeAlias = npt.NDArray[np.bool_]


def auc(scores_N: Floats, positive_N: Bool) -> float:
    """The chance that a positive scores above a negative; NaN if there are none of one class.

    Counted in whole numbers, so that 10 million rows lose nothing.

    Args:
        scores_N: Any order-preserving score (a logit as well as a probability), float32 or float64, no NaN.
        positive_N: bool, of the same shape.
    """
    positives, negatives = scores_N[positive_N], scores_N[~positive_N]
    pairs = len(positives) * len(negatives)
    if not pairs:
        return float("nan")
    if len(positives) > len(negatives):
        return 1 - _wins_in_halves(negatives, positives) / (2 * pairs)
    return _wins_in_halves(positives, negatives) / (2 * pairs)


def _wins_in_halves(some: Floats, others: Floats) -> int:
    """Over all pairs of the two: 2 where the one of `some` is greater, 1 where they are equal."""
    some, others = np.sort(some), np.sort(others)  # sorted keys make the search run along the cache
    below = np.searchsorted(others, some)
    tied = others[np.minimum(below, len(others) - 1)] == some
    ends = np.searchsorted(others, some[tied], "right")
    return 2 * int(below.sum()) + int((ends - below[tied]).sum())
