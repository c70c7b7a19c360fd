"""PLE: levels of experts, some of each task and some of all, that gates mix from level to level.

Tang, Liu, Zhao, Gong: Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
Recommendations, RecSys 2020. One level is its CGC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.models.layers.experts import Experts, mixture
from recrun.models.layers.mlp import SideBySide
from recrun.models.layers.towers import Towers
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class PLE(nn.Module):
    """A row's vector through the levels, then what each task has of the last one through its tower.

    Args:
        features: Inputs; the data's.
        tasks: Outputs; the data's.
        embedding_dim: Width of an id's vector.
        n_levels: Levels.
        n_specific_experts: Experts of each task in a level.
        n_shared_experts: Experts of all tasks in a level.
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
        n_levels: Count = 2,
        n_specific_experts: Count = 2,
        n_shared_experts: Count = 2,
        expert_hidden_size: Counts = (128, 64),
        tower_hidden_size: Sequence[Count] = (32,),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        inputs = [(features.n_vectors * embedding_dim, len(features.dense))] + [(expert_hidden_size[-1], 0)] * (
            n_levels - 1
        )
        n_experts = (n_specific_experts, n_shared_experts)
        self.levels = nn.ModuleList(
            Level(len(tasks), *n_experts, *widths, expert_hidden_size, dropout, batch_norm, n_levels - 1 - at)
            for at, widths in enumerate(inputs)
        )
        self.towers = Towers(len(tasks), expert_hidden_size[-1], tower_hidden_size, dropout, batch_norm)

    def forward(self, batch: Batch) -> Tensor:
        """Logits of classifications and values of regressions, [B, T]."""
        return torch.stack(self.per_task(batch), 1)

    def per_task(self, batch: Batch) -> list[Tensor]:
        """As `forward`, [B] for each task."""
        first, *others = self.levels
        states = first([self.embedding(batch).flatten(1)] * (len(self.tasks) + 1), batch["dense"])
        for level in others:
            states = level(states)
        found: list[Tensor] = self.towers(states)
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """What more than one task uses."""
        yield from self.embedding.parameters()
        for level in self.levels:
            assert isinstance(level, Level)
            yield from level.shared_parameters()

    def last_shared_layer(self) -> Tensor:
        """The weight of the last layer of the last level's shared experts."""
        *_, last = self.levels
        assert isinstance(last, Level)
        return last.shared.last_weight()


class Level(nn.Module):
    """Experts of each task and shared ones, each group with a gate.

    A task's gate mixes its own and the shared experts, the shared gate all of them; the last level needs none.

    Args:
        n_tasks: T.
        n_specific, n_shared: Experts of each task, and of all.
        width, n_dense: Of the inputs' vectors, and how many numbers they have besides.
        hidden: Units of the experts' layers.
        dropout, batch_norm: Of the experts.
        above: Levels that follow.
    """

    def __init__(
        self,
        n_tasks: int,
        n_specific: int,
        n_shared: int,
        width: int,
        n_dense: int,
        hidden: Sequence[int],
        dropout: float,
        batch_norm: bool,
        above: int,
    ) -> None:
        super().__init__()
        self.above = above
        self.specific = nn.ModuleList(
            Experts(n_specific, width, n_dense, hidden, dropout, batch_norm) for _ in range(n_tasks)
        )
        self.shared = Experts(n_shared, width, n_dense, hidden, dropout, batch_norm)
        self.gates = nn.ModuleList(SideBySide(width, n_dense, n_specific + n_shared) for _ in range(n_tasks))
        self.shared_gate = SideBySide(width, n_dense, n_tasks * n_specific + n_shared) if above else None

    def forward(self, states: Sequence[Tensor], dense_BD: Tensor | None = None) -> list[Tensor]:
        """States of the tasks and the shared one, [B, X] each, to those after this level, [B, K]."""
        *of_tasks, shared_BX = states
        gates = [] if self.shared_gate is None else [self.shared_gate]
        shared_BEK, shared_gates_BG = self.shared(shared_BX, dense_BD, gates)
        groups: list[Tensor] = []
        found: list[Tensor] = []
        for experts, gate, state_BX in zip(self.specific, self.gates, of_tasks, strict=True):
            own_BEK, gates_BG = experts(state_BX, dense_BD, [gate])
            groups.append(own_BEK)
            found.append(mixture(gates_BG, own_BEK, shared_BEK))
        if self.shared_gate is not None:
            found.append(mixture(shared_gates_BG, *groups, shared_BEK))
        return found

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """What more than one task uses; below the last level the tasks' own experts too, by the shared gate."""
        yield from self.shared.parameters()
        if self.shared_gate is not None:
            yield from self.shared_gate.parameters()
            yield from self.specific.parameters()
        if self.above > 1:
            yield from self.gates.parameters()
