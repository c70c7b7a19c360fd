"""Similarities of sets: of items by who took them, of users by what they took.

With c = sum of w_f over the features f that two sets a and b share:

    cosine   c / (sqrt(|a| |b|) + shrink)             w = 1
    jaccard  c / (|a| + |b| - c + shrink)             w = 1
    tfidf    c / (sqrt(sum_a w  sum_b w) + shrink)    w = (log((1 + n) / (1 + n_f)) + 1)^2
    bm25     c / (t_a t_b + shrink)                   w = log(1 + (n - n_f + .5) / (n_f + .5))^2
             t_a = (k1 (1 - b + b |a| / mean) + 1) / (k1 + 1)

n sets, n_f of which have the feature. Shrinkage as in Dacrema, Cremonesi, Jannach: Are We Really Making Much Progress?,
RecSys 2019; BM25 of sets as documents (Robertson, Zaragoza 2009).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Weights: TypeAlias = NDArray[np.float32]
Similarity: TypeAlias = Literal["cosine", "jaccard", "tfidf", "bm25"]

K1, B = 1.2, 0.75  # of BM25: how soon long sets are discounted


def feature_weights(name: Similarity, counts_F: np.ndarray, n_sets: int) -> Weights:
    """w of each feature, float32 [F], given how many sets have it."""
    idf_F: np.ndarray = np.ones(len(counts_F))
    if name == "tfidf":
        idf_F = np.log((1 + n_sets) / (1 + counts_F)) + 1
    elif name == "bm25":
        idf_F = np.log1p((n_sets - counts_F + 0.5) / (counts_F + 0.5))
    weights: Weights = np.square(idf_F).astype(np.float32)
    return weights


def extent(name: Similarity, sizes: Any, weights: Any, mean_size: Any) -> Any:
    """What the denominator knows of a set.

    Args:
        name: Of the similarity.
        sizes: |a| of some sets; an array or tensor.
        weights: The sum of w over their features.
        mean_size: The mean |a| of all sets, a number.
    """
    if name == "jaccard":
        return sizes
    if name == "bm25":
        return (K1 * (1 - B + B * sizes / mean_size) + 1) / (K1 + 1)
    return weights**0.5


def similarity(name: Similarity, overlap: Any, extent_a: Any, extent_b: Any, shrink: float) -> Any:
    """Of pairs of sets, given c and `extent` of both; arrays or tensors."""
    if name == "jaccard":
        return overlap / (extent_a + extent_b - overlap + shrink)
    return overlap / (extent_a * extent_b + shrink)
