"""Training events as a sparse matrix of units and items, and its Gram matrix."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recrun.interfaces import TrainingEvents

Sparse: TypeAlias = Any  # scipy.sparse.csr_array: scipy's stubs make the type of every product a union

BLOCK_BYTES = 1 << 26  # of a dense block of a Gram matrix while it is made


def interaction_matrix(events: TrainingEvents) -> Sparse:
    """X, float32 CSR [n_units, n_items]: 1 where a unit has an item, however often it took it."""
    key = np.unique(events.unit.astype(np.int64) * events.n_items + events.item)
    unit, item = np.divmod(key, events.n_items)
    ones = np.ones(len(key), np.float32)
    return sparse.csr_array((ones, (unit, item)), (events.n_units, events.n_items))


def gram_(matrix: Sparse, out: Tensor) -> Tensor:
    """X^T X, written block by block into `out`, float32 [I, I]: beside it little memory is needed."""
    transposed = matrix.T.tocsr()
    rows = max(1, BLOCK_BYTES // (4 * len(out)))
    for at in range(0, len(out), rows):
        out[at : at + rows] = torch.from_numpy((transposed[at : at + rows] @ matrix).toarray())
    return out
