"""Logistic regression on ids and numbers (Richardson et al. 2007): the linear baseline of click prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, single_task
from recrun.types import Batch, FromData, Positive


class LogisticRegression(nn.Module):
    """logit = bias + sum of the ids' weights + sum of number times weight; of a sequence, the mean of its ids' weights.

    Args:
        features: What the batches hold.
        tasks: One classification.
        init_std: Standard deviation of the ids' weights at the start.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self, features: FromData[Features], tasks: FromData[Sequence[Task]], init_std: Positive = 1e-4
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "lr")
        self.embedding = FeatureEmbedding(features, 1, init_std)
        self.linear = nn.Parameter(torch.zeros(len(features.dense), 1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        logits: Tensor = self.embedding(batch).sum(1) + torch.addmm(self.bias, batch["dense"], self.linear)
        return logits
