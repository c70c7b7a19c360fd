"""Factorization machine of second order (Rendle 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, NumberEmbedding, single_task
from recrun.models.layers.pairs import pairs
from recrun.types import Batch, Count, FromData, Positive


class FactorizationMachine(nn.Module):
    """logit = bias + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j, over the ids (x = 1) and the numbers of a row.

    A sequence is one term: the mean of its entries' weights and vectors.

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        init_std: Standard deviation of the vectors at the start.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        features: FromData[Features],
        tasks: FromData[Sequence[Task]],
        embedding_dim: Count = 16,
        init_std: Positive = 0.01,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "fm")
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std, first_order=True)
        self.numbers = NumberEmbedding(len(features.dense), embedding_dim, init_std)
        self.linear = nn.Parameter(torch.zeros(len(features.dense), 1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        vectors_BFE, first_order_B1 = self.embedding.with_first_order(batch)
        linear_B1 = first_order_B1 + torch.addmm(self.bias, batch["dense"], self.linear)
        return linear_B1 + pairs(torch.cat([vectors_BFE, self.numbers(batch)], 1))
