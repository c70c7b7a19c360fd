"""A sparse matrix among a model's buffers, whose rows are added up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recrun.models.layers.ragged import row_of_entry

ENTRIES_AT_ONCE = 1 << 22


class SparseRows(nn.Module):
    """A sparse matrix [R, C]: of row r the columns and values from `offsets[r]` to `offsets[r + 1]`.

    It is empty until it is filled, or takes what a checkpoint holds.
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offsets", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("columns", torch.zeros(0, dtype=torch.int32))
        self.register_buffer("values", torch.zeros(0))

    def fill(self, matrix: Any) -> None:
        """Takes over a scipy.sparse CSR array."""
        device = self.offsets.device
        self.offsets = torch.from_numpy(matrix.indptr.astype(np.int64)).to(device)
        self.columns = torch.from_numpy(matrix.indices.astype(np.int32)).to(device)
        self.values = torch.from_numpy(matrix.data.astype(np.float32)).to(device)

    def weighted_sums(self, index_N: Tensor, weight_N: Tensor, row_N: Tensor, shape: tuple[int, int]) -> Tensor:
        """Sums of rows of the matrix, dense float32 `shape` = [B, C]: row `index` times `weight` is added to `row`."""
        sums = torch.zeros(shape, device=weight_N.device)
        begin_N, lengths_N = self.offsets[index_N], self.offsets.diff()[index_N]
        for chunk in row_slices(lengths_N):
            lengths = lengths_N[chunk]
            total = int(lengths.sum())
            first = begin_N[chunk] - (lengths.cumsum(0) - lengths)
            entry = torch.arange(total, device=sums.device) + first.repeat_interleave(lengths, output_size=total)
            cell = (row_N[chunk] * shape[1]).repeat_interleave(lengths, output_size=total) + self.columns[entry]
            weight = weight_N[chunk].repeat_interleave(lengths, output_size=total)
            sums.view(-1).index_add_(0, cell, self.values[entry] * weight)
        return sums

    def summed(self, items_N: Tensor, offsets: Tensor, width: int) -> Tensor:
        """Sums of the rows that each row of a ragged field names, [B, `width`]."""
        ones = torch.ones(len(items_N), device=items_N.device)
        return self.weighted_sums(items_N, ones, row_of_entry(offsets, len(items_N)), (len(offsets) - 1, width))


def row_slices(lengths_N: Tensor) -> Iterator[slice]:
    """Slices of rows with `ENTRIES_AT_ONCE` entries together at most, or of one row."""
    ends = lengths_N.cumsum(0).cpu().numpy()
    at, done = 0, 0
    while at < len(ends):
        end = max(at + 1, int(np.searchsorted(ends, done + ENTRIES_AT_ONCE, side="right")))
        yield slice(at, end)
        at, done = end, int(ends[end - 1])
