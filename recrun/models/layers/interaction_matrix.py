"""Training events as a sparse matrix of units and items, and its Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recrun.interfaces import TrainingEvents

Sparse: TypeAlias = Any  # scipy.sparse.csr_array: scipy's stubs make the type of every product a union

BLOCK_BYTES = 1 << 26  # of a block of a dense matrix while it is made


def interaction_matrix(events: TrainingEvents) -> Sparse:
    """X, float32 CSR [n_units, n_items]: 1 where a unit has an item, however often it took it."""
    key = events.unit.astype(np.int64) * events.n_items + events.item
    key.sort()  # numpy.unique hashes, which takes far longer than to sort what is nearly in order
    unit, item = np.divmod(key[np.diff(key, prepend=-1) > 0], events.n_items)
    ones = np.ones(len(unit), np.float32)
    return sparse.csr_array((ones, (unit, item)), (events.n_units, events.n_items))


def gram_(matrix: Sparse, out: Tensor) -> Tensor:
    """X^T X, written block by block into `out`, float32 [I, I]: beside it little memory is needed."""
    transposed = matrix.T.tocsr()
    for rows in row_blocks(out.shape):
        out[rows] = torch.from_numpy((transposed[rows] @ matrix).toarray())
    return out


def row_blocks(shape: Sequence[int]) -> Iterator[slice]:
    """Rows of a dense float32 matrix, some at a time."""
    size = max(1, BLOCK_BYTES // (4 * shape[1]))
    return (slice(at, min(at + size, shape[0])) for at in range(0, shape[0], size))
