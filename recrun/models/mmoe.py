"""MMoE: experts that all tasks share, and for each task a gate that mixes them.

Ma, Zhao, Yi, Chen, Hong, Chi: Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts,
KDD 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.models.layers.experts import Experts, mixtures
from recrun.models.layers.mlp import SideBySide
from recrun.models.layers.towers import Towers
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class MMoE(nn.Module):
    """A row's vector through all experts at once, mixed for each task, then through its tower.

    Args:
        features: Inputs; the data's.
        tasks: Outputs; the data's.
        embedding_dim: Width of an id's vector.
        n_experts: Experts.
        expert_hidden_size: Units of each expert's layers.
        tower_hidden_size: Units of each tower's layers.
        dropout: Of experts and towers.
        batch_norm: Normalises the layers of experts and towers.
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
        n_experts: Count = 4,
        expert_hidden_size: Counts = (128, 64),
        tower_hidden_size: Sequence[Count] = (32,),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        width, n_dense = features.n_vectors * embedding_dim, len(features.dense)
        self.experts = Experts(n_experts, width, n_dense, expert_hidden_size, dropout, batch_norm)
        self.gates = SideBySide(width, n_dense, len(tasks) * n_experts)
        self.towers = Towers(len(tasks), expert_hidden_size[-1], tower_hidden_size, dropout, batch_norm)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of classifications and values of regressions, [B, T]."""
        return torch.stack(self.per_task(batch), 1)

    def per_task(self, batch: Batch) -> list[Tensor]:
        """As `forward`, [B] for each task."""
        experts_BEK, gates_BG = self.experts(self.embedding(batch).flatten(1), batch["dense"], [self.gates])
        found: list[Tensor] = self.towers(mixtures(gates_BG, len(self.tasks), experts_BEK))
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """What all tasks use; a gate is its task's own."""
        yield from self.embedding.parameters()
        yield from self.experts.parameters()

    def last_shared_layer(self) -> Tensor:
        """The weight of the experts' last layers."""
        return self.experts.last_weight()
