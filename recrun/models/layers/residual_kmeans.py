"""Semantic ids: vectors of items as sequences of codes, by k-means of what the codes before leave over."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq

ITERATIONS = 30  # of Lloyd's algorithm at each level


def residual_kmeans(vectors_ID: np.ndarray, levels: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Codes of vectors, int64 [I, levels], each below `size`.

    r_0 = x; at level l, c_l is the number of the centroid nearest to r_l among `size` of k-means over all r_l, and
    r_{l+1} = r_l - centroid (Jégou et al. 2011 for products of codes; residual quantisation as in Lee et al. 2022).

    Args:
        vectors_ID: Of the items.
        levels: Codes of each.
        size: Centroids of a level; as many as there are distinct vectors, if these are fewer.
        rng: Chooses the vectors that are centroids at the start, by k-means++ (Arthur and Vassilvitskii 2007).
    """
    left_ID, codes = np.array(vectors_ID, np.float64), []
    for _ in range(levels):
        start = far_apart(left_ID, size, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a cluster without vectors keeps its centroid
            centroids, _ = kmeans2(left_ID, start, ITERATIONS, minit="matrix")
        code, _ = vq(left_ID, centroids)
        left_ID -= centroids[code]
        codes.append(code.astype(np.int64))
    return np.stack(codes, 1)


def far_apart(vectors_ID: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `size` distinct vectors, each drawn with the square of its distance to those before, [<= size, D]."""
    chosen = [int(rng.integers(len(vectors_ID)))]
    nearest_I = np.square(vectors_ID - vectors_ID[chosen[0]]).sum(1)
    while len(chosen) < size and nearest_I.any():
        chosen.append(int(rng.choice(len(vectors_ID), p=nearest_I / nearest_I.sum())))
        nearest_I = np.minimum(nearest_I, np.square(vectors_ID - vectors_ID[chosen[-1]]).sum(1))
    return vectors_ID[chosen]


def told_apart(codes_IL: np.ndarray) -> np.ndarray:
    """The codes and a last one, int64 [I, L + 1], that counts items of equal codes in the order of the catalogue."""
    _, group = np.unique(codes_IL, axis=0, return_inverse=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    number = np.empty(len(group), np.int64)
    number[order] = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.concatenate([codes_IL, number[:, None]], 1)


def digits(count: int, base: int, width: int) -> np.ndarray:
    """0, 1, ..., count - 1 as digits, the highest first, int64 [count, width]."""
    powers = base ** np.arange(width)[::-1]
    return np.arange(count)[:, None] // powers % base
