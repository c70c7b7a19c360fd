"""The items nearest to each item by what both have in common, from blocks of a sparse product."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy import sparse

from recrun.models.layers.interaction_matrix import Sparse

LOW_BITS = np.uint64(0xFFFFFFFF)
ROWS_AT_ONCE = 512  # items whose similarities to all others are computed together

# From the overlaps of pairs of items, their first items and their second ones, [N] each, positive values [N].
PairValues: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def nearest_items(weighted_IU: Sparse, matrix_UI: Sparse, values: PairValues, k: int) -> Sparse:
    """The k other items of highest value of each item, CSR [I, I]; ties go to the lower index.

    Args:
        weighted_IU: Items by users, CSR, with weights.
        matrix_UI: Users by items, CSR; overlaps are entries of `weighted_IU @ matrix_UI`.
        values: Of pairs of different items that have an overlap.
        k: Kept of each item.
    """
    n_items = matrix_UI.shape[1]
    rows = min(ROWS_AT_ONCE, 1 << 32 - n_items.bit_length())  # what `highest` can number
    blocks = []
    for at in range(0, n_items, rows):
        block = (weighted_IU[at : at + rows] @ matrix_UI).tocoo()
        row, column = block.coords
        other = row + at != column
        row, column, overlap = row[other], column[other], block.data[other]
        blocks.append(highest(row, column, values(overlap, row + at, column), block.shape, k))
    return sparse.vstack(blocks, format="csr")


def highest(row: np.ndarray, column: np.ndarray, values: np.ndarray, shape: tuple[int, int], k: int) -> Sparse:
    """The k highest of each row of a sparse matrix of positive values, the lower column first among equal ones.

    One integer holds row, falling value and column, for NumPy sorts integers with vector instructions. Positive
    floats are in the order of their bits.

    Args:
        row, column, values: Of each entry, [N].
        shape: [R, C] with R C < 2^32.
        k: Kept of each row.
    """
    bits = np.uint64(shape[1].bit_length())
    falling = LOW_BITS - values.astype(np.float32).view(np.uint32).astype(np.uint64)
    key = ((row.astype(np.uint64) << np.uint64(32) | falling) << bits) | column.astype(np.uint64)
    key.sort()
    counts = np.bincount(row, minlength=shape[0])
    position = np.arange(len(key)) - np.repeat(np.cumsum(counts) - counts, counts)
    key = key[position < k]
    kept = (LOW_BITS - (key >> bits & LOW_BITS)).astype(np.uint32).view(np.float32)
    column = (key & (np.uint64(1) << bits) - np.uint64(1)).astype(np.int64)
    ends = np.cumsum(np.minimum(counts, k))
    return sparse.csr_array((kept, column, np.concatenate([[0], ends])), shape)
