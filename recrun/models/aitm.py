"""AITM: tasks in a sequence, such as click and purchase, each given a representation by the one before.

Xi, Chen, Yan, Zhang, Zhu, Zhuang, Chen: Modeling the Sequential Dependence among Audience Multi-step Conversions with
Multi-task Learning in Targeted Display Advertising, KDD 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun import capabilities
from recrun.errors import ConfigError
from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.models.layers.mlp import RowLayers, hidden_layers
from recrun.objectives.multi_task import MultiTask
from recrun.types import Batch, Count, Counts, FromData, NonNegative, Positive, Probability


class AITM(nn.Module):
    """A network for each task on a shared embedding; attention weighs its result against what the task before knows.

    Args:
        features: Inputs; the data's.
        tasks: Outputs in their order; the data's.
        embedding_dim: Width of an id's vector.
        mlp_hidden_size: Units of each task's layers.
        dropout: Of the layers.
        batch_norm: Normalises the layers.
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
        mlp_hidden_size: Counts = (256, 128),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 1e-4,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        sizes = features.n_vectors * embedding_dim, len(features.dense), mlp_hidden_size
        self.bottoms = nn.ModuleList(RowLayers(*sizes, dropout, batch_norm) for _ in range(len(tasks)))
        width = mlp_hidden_size[-1]
        self.handed_on = nn.ModuleList(
            hidden_layers(width, [width], dropout, batch_norm) for _ in range(len(tasks) - 1)
        )
        self.transfers = nn.ModuleList(Transfer(width) for _ in range(len(tasks) - 1))
        self.outputs = nn.ModuleList(nn.Linear(width, 1) for _ in range(len(tasks)))

    def forward(self, batch: Batch) -> Tensor:
        """Logits of classifications and values of regressions, [B, T]."""
        return torch.stack(self.per_task(batch), 1)

    def per_task(self, batch: Batch) -> list[Tensor]:
        """As `forward`, [B] for each task."""
        vectors_BX = self.embedding(batch).flatten(1)
        states = [self.bottoms[0](vectors_BX, batch)]
        for bottom, hand_on, transfer in zip(self.bottoms[1:], self.handed_on, self.transfers, strict=True):
            states.append(transfer(torch.stack([hand_on(states[-1]), bottom(vectors_BX, batch)], 1)))
        return [output(state_BH).squeeze(1) for output, state_BH in zip(self.outputs, states, strict=True)]

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """What more than one task uses: the embedding, and of each task but the last all that it passes on."""
        yield from self.embedding.parameters()
        for part in (self.bottoms[:-1], self.handed_on[:-1], self.transfers[:-1]):
            yield from part.parameters()

    def last_shared_layer(self) -> Tensor:
        """The weight of the last layer that all tasks use: of the first task's."""
        first = self.bottoms[0]
        assert isinstance(first, RowLayers)
        return first.last_weight()


class Transfer(nn.Module):
    """Attention over two states by the product of each one's own query and key (the paper's equations 3 and 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value, self.key, self.query = (nn.Linear(width, width) for _ in range(3))

    def forward(self, states_B2H: Tensor) -> Tensor:
        """[B, H]."""
        score_B2 = (self.query(states_B2H) * self.key(states_B2H)).sum(2) / math.sqrt(states_B2H.shape[2])
        mixed_BH: Tensor = (score_B2.softmax(1)[:, :, None] * self.value(states_B2H)).sum(1)
        return mixed_BH


class Calibrated(MultiTask):
    """`MultiTask`, and a penalty where a classification is likelier than the one that it needs, before it.

    Args:
        calibration_weight: Of the mean of max(0, p_t - p_(t-1)), summed over the classifications after the first.
    """

    def __init__(self, calibration_weight: NonNegative = 0.6) -> None:
        super().__init__()
        self.calibration_weight = calibration_weight

    def forward(self, model: capabilities.MultiTask, batch: Batch) -> dict[str, Tensor]:
        """{task: mean loss} and {"calibration": weighted penalty}.

        Raises:
            ConfigError: There are no two classifications.
        """
        outputs = model.per_task(batch)
        penalty = self.calibration_weight * self.excess(model.tasks, outputs)
        return {**self.losses(model.tasks, outputs, batch["label"]), "calibration": penalty}

    def excess(self, tasks: Sequence[Task], outputs: Sequence[Tensor]) -> Tensor:
        """By how much each classification is likelier than the one before it, the mean over rows, summed."""
        pairs = zip(tasks, outputs, strict=True)
        chances = [output_B.float().sigmoid() for task, output_B in pairs if task.kind == "classification"]
        if len(chances) < 2:
            named = ", ".join(f"{task.name} ({task.kind})" for task in tasks)
            raise ConfigError(
                f"objective=calibrated compares each classification with the one before it, and the tasks are {named}; "
                "add one to dataset.tasks, or choose objective=multi_task"
            )
        return torch.stack([F.relu(later - earlier).mean() for earlier, later in pairwise(chances)]).sum()
