"""Arithmetic on the rows of ragged fields: entry n belongs to row b where offsets[b] <= n < offsets[b + 1]."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def row_of_entry(offsets: Tensor, n_entries: int) -> Tensor:
    """The row of each entry, int64 [N]."""
    rows_B = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(rows_B, offsets.diff(), output_size=n_entries)


def for_entries(values_BE: Tensor, offsets: Tensor, n_entries: int) -> Tensor:
    """Each row's vector once for each of its entries, [N, E]."""
    spread: Tensor = _ForEntries.apply(values_BE, offsets, n_entries)  # type: ignore[no-untyped-call]
    return spread


def weighted_sum(weight_N: Tensor, values_NE: Tensor, offsets: Tensor) -> Tensor:
    """Sum over the entries of each row of weight * vector, [B, E]; 0 where a row has none."""
    total: Tensor = _WeightedSum.apply(weight_N, values_NE, offsets)  # type: ignore[no-untyped-call]
    return total


def softmax_in_rows(scores_N: Tensor, offsets: Tensor) -> Tensor:
    """The softmax over the entries of each row, [N]."""
    row_N = row_of_entry(offsets, len(scores_N))
    highest_B = scores_N.new_full([len(offsets) - 1], -torch.inf)
    highest_B = highest_B.scatter_reduce(0, row_N, scores_N.detach(), "amax")
    shares_N = (scores_N - highest_B[row_N]).exp()
    total_B = torch.zeros_like(highest_B).index_add(0, row_N, shares_N)
    return shares_N / total_B[row_N]


def _sum_in_rows(values_NE: Tensor, offsets: Tensor, weight_N: Tensor | None) -> Tensor:
    """One pass over the entries; index_add takes ten times as long."""
    order_N = torch.arange(len(values_NE), device=values_NE.device)
    return F.embedding_bag(order_N, values_NE, offsets[:-1], mode="sum", per_sample_weights=weight_N)


class _ForEntries(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values_BE: Tensor, offsets: Tensor, n_entries: int) -> Tensor:
        ctx.save_for_backward(offsets)
        return values_BE.index_select(0, row_of_entry(offsets, n_entries))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NE: Tensor) -> tuple[Tensor, None, None]:
        return _sum_in_rows(grad_NE.contiguous(), ctx.saved_tensors[0], None), None, None


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_N: Tensor, values_NE: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(weight_N, values_NE, offsets)
        return _sum_in_rows(values_NE.detach().contiguous(), offsets, weight_N.detach().to(values_NE.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BE: Tensor) -> tuple[Tensor, Tensor, None]:
        weight_N, values_NE, offsets = ctx.saved_tensors
        grad_NE = grad_BE.index_select(0, row_of_entry(offsets, len(values_NE)))
        slope_N = torch.linalg.vecdot(grad_NE, values_NE).to(weight_N.dtype)
        return slope_N, grad_NE.mul_(weight_N[:, None]), None
