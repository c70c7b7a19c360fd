"""xDeepFM: a compressed interaction network of the fields' vectors beside hidden layers (Lian et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, NumberEmbedding, single_task
from recrun.models.layers.mlp import RowLayers
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class XDeepFM(nn.Module):
    """logit = linear(ids, numbers) + linear(interaction network of all vectors) + mlp(vectors, numbers).

    In the interaction network a number is a vector of its column, times the number.

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        cin_hidden_size: Feature maps of each layer of the interaction network.
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
        cin_hidden_size: Counts = (32, 32),
        mlp_hidden_size: Sequence[Count] = (256, 128),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 0.01,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "xdeepfm")
        n_dense = len(features.dense)
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std, first_order=True)
        self.numbers = NumberEmbedding(n_dense, embedding_dim, init_std)
        self.linear = nn.Parameter(torch.zeros(n_dense, 1))
        self.cin = CompressedInteractions(features.n_vectors + n_dense, cin_hidden_size)
        self.of_cin = nn.Linear(sum(cin_hidden_size), 1, bias=False)
        self.mlp = RowLayers(features.n_vectors * embedding_dim, n_dense, mlp_hidden_size, dropout, batch_norm)
        self.output = nn.Linear(self.mlp.width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        vectors_BFE, first_order_B1 = self.embedding.with_first_order(batch)
        linear_B1 = first_order_B1 + batch["dense"] @ self.linear
        crossed_BX = self.cin(torch.cat([vectors_BFE, self.numbers(batch)], 1))
        hidden_BH = self.mlp(vectors_BFE.flatten(1), batch)
        logits: Tensor = linear_B1 + self.of_cin(crossed_BX) + self.output(hidden_BH)
        return logits


class CompressedInteractions(nn.Module):
    """x^k_h = sum_{i,j} W^k_{h,ij} (x^{k-1}_i * x^0_j), entry by entry, and all feature maps summed along the vectors.

    Equations 6 to 8 of the paper, with the identity as activation, which it finds best (section 4.3.3).

    Args:
        n_vectors: Vectors of a row, F.
        hidden: Feature maps of each layer.
    """

    def __init__(self, n_vectors: int, hidden: Sequence[int]) -> None:
        super().__init__()
        befores = [n_vectors, *hidden[:-1]]
        self.layers = nn.ModuleList(
            nn.Linear(before * n_vectors, after, bias=False) for before, after in zip(befores, hidden, strict=True)
        )

    def forward(self, vectors_BFE: Tensor) -> Tensor:
        """[B, X], X = sum of `hidden`."""
        x_BEF = vectors_BFE.transpose(1, 2).contiguous()
        maps_BEH, sums = x_BEF, []
        for layer in self.layers:
            maps_BEH = layer((maps_BEH[..., :, None] * x_BEF[..., None, :]).flatten(2))
            sums.append(maps_BEH.sum(1))
        return torch.cat(sums, 1)
