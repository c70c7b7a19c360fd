"""Hidden layers over the vectors and numbers of a row, without any other part (Covington et al. 2016, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, single_task
from recrun.models.layers.mlp import RowLayers
from recrun.types import Batch, Count, FromData, Positive, Probability


class DNN(nn.Module):
    """logit = linear(mlp(vectors, numbers)).

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
        self.tasks = single_task(tasks, "dnn")
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        width, n_dense = features.n_vectors * embedding_dim, len(features.dense)
        self.mlp = RowLayers(width, n_dense, mlp_hidden_size, dropout, batch_norm)
        self.output = nn.Linear(self.mlp.width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        logits: Tensor = self.output(self.mlp(self.embedding(batch).flatten(1), batch))
        return logits
