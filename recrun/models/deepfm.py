"""DeepFM: a factorization machine and hidden layers over the same vectors (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, single_task
from recrun.models.layers.mlp import RowLayers
from recrun.models.layers.pairs import pairs
from recrun.types import Batch, Count, FromData, Positive, Probability


class DeepFM(nn.Module):
    """logit = linear(ids, numbers) + sum over pairs of fields of <v_i, v_j> + mlp(all vectors, numbers).

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        mlp_hidden_size: Sizes of the hidden layers.
        dropout: Of the hidden layers' outputs.
        batch_norm: Whether hidden layers are normalised.
        init_std: Standard deviation of the vectors at the start.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        features: FromData[Features],
        tasks: FromData[Sequence[Task]],
        embedding_dim: Count = 16,
        mlp_hidden_size: Sequence[Count] = (256, 128),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "deepfm")
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std, first_order=True)
        self.linear = nn.Parameter(torch.zeros(len(features.dense), 1))
        width, n_dense = features.n_vectors * embedding_dim, len(features.dense)
        self.mlp = RowLayers(width, n_dense, mlp_hidden_size, dropout, batch_norm)
        self.output = nn.Linear(self.mlp.width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        vectors_BFE, first_order_B1 = self.embedding.with_first_order(batch)
        hidden_BH = self.mlp(vectors_BFE.flatten(1), batch)
        linear_B1 = first_order_B1 + batch["dense"] @ self.linear
        logits: Tensor = linear_B1 + pairs(vectors_BFE) + self.output(hidden_BH)
        return logits
