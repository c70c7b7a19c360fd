"""The columns of scores that the sampled losses see, and operations on rows that a CPU does fast."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CACHE_LINE = 16  # numbers


class ScoreColumns(NamedTuple):
    """What a loss knows besides the scores [B, C].

    Attributes:
        target_B: int64, each row's own column.
        in_batch_C, sampled_C: Copies of each column that are a row's target, and that were drawn.
        in_batch_q_C, sampled_q_C: Logarithms of the odds of being either.
    """

    target_B: Tensor
    in_batch_C: Tensor
    sampled_C: Tensor
    in_batch_q_C: Tensor
    sampled_q_C: Tensor

    @property
    def copies_C(self) -> Tensor:
        """Copies of each column."""
        return self.in_batch_C + self.sampled_C

    def own(self, values_BC: Tensor) -> Tensor:
        """Each row's value in its own column, [B, 1]."""
        return values_BC.gather(1, self.target_B[:, None])

    def add_own(self, values_BC: Tensor, own_B1: Tensor) -> Tensor:
        """Adds to each row's own column, in place."""
        return values_BC.scatter_add_(1, self.target_B[:, None], own_B1)

    def negatives(self, scores_BC: Tensor) -> Tensor:
        """Softmax of each row over the copies of all columns but its target, [B, C]."""
        copies = self.copies_C
        own = self.own(scores_BC) + (copies[self.target_B] - 1).log_()[:, None]
        share = (scores_BC + copies.log()).scatter_(1, self.target_B[:, None], own)
        return row_softmax_(share)


def dot(one_BC: Tensor, other_BC: Tensor) -> Tensor:
    """The inner product of each row, [B, 1]."""
    if one_BC.device.type == "cpu":  # NumPy does not write the products down
        return torch.from_numpy(np.einsum("bc,bc->b", one_BC.numpy(), other_BC.numpy()))[:, None]
    return (one_BC * other_BC).sum(1, keepdim=True)


def row_softmax_(logits_BC: Tensor) -> Tensor:
    """Softmax of each row, in place: on a CPU faster than torch.softmax, which does not use the vector library."""
    exp_(logits_BC)
    return logits_BC.mul_(logits_BC.sum(1, keepdim=True).reciprocal_())


def exp_(logits_BC: Tensor) -> Tensor:
    """The exponentials of each row, in place; the largest is 1."""
    return logits_BC.sub_(logits_BC.amax(1, keepdim=True)).exp_()


def aligned(rows: int, columns: int, like: Tensor) -> Tensor:
    """An empty matrix whose rows begin at whole cache lines, which makes its products a tenth faster."""
    return like.new_empty(rows, -(-columns // CACHE_LINE) * CACHE_LINE)[:, :columns]
