"""ESMM: clicks and the conversions that follow them, both learned from all impressions.

Ma, Zhao, Huang, Wang, Hu, Zhu, Gai: Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click
Conversion Rate, SIGIR 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.models.layers.mlp import RowLayers
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class ESMM(nn.Module):
    """P(click) and P(click and conversion) = P(click) P(conversion | click); the second factor is never trained alone.

    The tasks are two classifications: the click, then the conversion, 1 only in rows that are clicked. The sum of their
    cross-entropies is the paper's loss.

    Args:
        features: Inputs; the data's.
        tasks: Outputs; the data's.
        embedding_dim: Width of an id's vector, which both towers share.
        mlp_hidden_size: Units of each tower's layers.
        dropout: Of the layers.
        batch_norm: Normalises the layers.
        init_std: Standard deviation of the vectors at the start.

    Raises:
        ConfigError: The tasks are others.
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
        if [task.kind for task in tasks] != ["classification"] * 2:
            named = ", ".join(f"{task.name} ({task.kind})" for task in tasks) or "none"
            raise ConfigError(f"model=esmm needs two classifications, click and conversion; the tasks are {named}")
        self.tasks = tuple(tasks)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        sizes = features.n_vectors * embedding_dim, len(features.dense), mlp_hidden_size
        self.towers = nn.ModuleList(RowLayers(*sizes, dropout, batch_norm) for _ in range(2))
        self.outputs = nn.ModuleList(nn.Linear(mlp_hidden_size[-1], 1) for _ in range(2))

    def forward(self, batch: Batch) -> Tensor:
        """Logits of a click and of a click with conversion, [B, 2]."""
        return torch.stack(self.per_task(batch), 1)

    def per_task(self, batch: Batch) -> list[Tensor]:
        """As `forward`, [B] each."""
        click_B, conversion_B = self.click_and_conversion(batch)
        return [click_B, logit_of_product(click_B, conversion_B)]

    def click_and_conversion(self, batch: Batch) -> list[Tensor]:
        """Logits of a click and of a conversion after a click, [B] each."""
        vectors_BX = self.embedding(batch).flatten(1)
        towers = zip(self.towers, self.outputs, strict=True)
        return [output(tower(vectors_BX, batch)).squeeze(1) for tower, output in towers]

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The embedding. Through the product both losses also train the towers, but these are not shared."""
        yield from self.embedding.parameters()

    def last_shared_layer(self) -> Tensor:
        """The embedding's table: no layer above it is shared."""
        return self.embedding.table


def logit_of_product(first: Tensor, second: Tensor) -> Tensor:
    """The logit of sigmoid(first) * sigmoid(second), without loss of precision for any logits.

    The odds against are e^-a + e^-b + e^-(a + b).
    """
    first, second = first.float(), second.float()
    return -torch.stack([-first, -second, -(first + second)]).logsumexp(0)
