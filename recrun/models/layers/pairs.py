"""The second-order part of a factorization machine, with a hand-written gradient (Rendle 2010)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def pairs(vectors_BFE: Tensor) -> Tensor:
    """Sum over all pairs of a row's vectors of their inner product, [B, 1], as half of (sum)^2 - sum of squares."""
    total: Tensor = _Pairs.apply(vectors_BFE)  # type: ignore[no-untyped-call]
    return total


class _Pairs(torch.autograd.Function):
    """The gradient in v_i is the sum of the others: one pass over the vectors, where autograd would make six."""

    @staticmethod
    def forward(ctx: Any, vectors_BFE: Tensor) -> Tensor:
        sum_BE = vectors_BFE.sum(1)
        ctx.save_for_backward(vectors_BFE, sum_BE)
        norms = (torch.linalg.vector_norm(part, dim=1, keepdim=True) for part in (sum_BE, vectors_BFE.flatten(1)))
        of_sum_B1, of_all_B1 = norms
        total_B1: Tensor = (of_sum_B1.square() - of_all_B1.square()) / 2
        return total_B1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B1: Tensor) -> Tensor:
        vectors_BFE, sum_BE = ctx.saved_tensors
        return torch.addcmul((sum_BE * grad_B1)[:, None], vectors_BFE, grad_B1[:, None], value=-1)
