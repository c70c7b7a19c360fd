"""Shared bottom: one network for all tasks and a tower for each (Caruana 1997)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.models.layers.mlp import RowLayers
from recrun.models.layers.towers import Towers
from recrun.types import Batch, Count, FromData, Positive, Probability


class SharedBottom(nn.Module):
    """A row's vector through the bottom's layers, then through each task's tower.

    Args:
        features: Inputs; the data's.
        tasks: Outputs; the data's.
        embedding_dim: Width of an id's vector.
        mlp_hidden_size: Units of the bottom's layers.
        tower_hidden_size: Units of each tower's layers.
        dropout: Of all layers.
        batch_norm: Normalises all layers.
        init_std: Standard deviation of the vectors at the start.
    """

    kind: ClassVar[str] = "table"
    sparse_gradients: ClassVar[bool] = True

    def __init__(
        self,
        features: FromData[Features],
        tasks: FromData[Sequence[Task]],
        *,
        embedding_dim: Count = 16,
        mlp_hidden_size: Sequence[Count] = (256, 128),
        tower_hidden_size: Sequence[Count] = (32,),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        width, n_dense = features.n_vectors * embedding_dim, len(features.dense)
        self.bottom = RowLayers(width, n_dense, mlp_hidden_size, dropout, batch_norm)
        self.towers = Towers(len(tasks), self.bottom.width, tower_hidden_size, dropout, batch_norm)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of classifications and values of regressions, [B, T]."""
        return torch.stack(self.per_task(batch), 1)

    def per_task(self, batch: Batch) -> list[Tensor]:
        """As `forward`, [B] for each task."""
        shared_BH = self.bottom(self.embedding(batch).flatten(1), batch)
        found: list[Tensor] = self.towers([shared_BH] * len(self.tasks))
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """What all tasks use."""
        yield from self.embedding.parameters()
        yield from self.bottom.parameters()

    def last_shared_layer(self) -> Tensor:
        """The weight of the bottom's last layer; of a bottom without layers the embedding's table."""
        return self.embedding.table if self.bottom.first is None else self.bottom.last_weight()
