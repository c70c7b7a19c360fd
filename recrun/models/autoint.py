"""AutoInt: self-attention over the vectors of a row's fields (Song et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.features import Features, Task
from recrun.models.layers.embedding import FeatureEmbedding, NumberEmbedding, single_task
from recrun.models.layers.mlp import hidden_layers, output_width
from recrun.types import Batch, Count, FromData, Positive, Probability


class AutoInt(nn.Module):
    """logit = linear(attention layers over all vectors), and hidden layers beside it if there are any (AutoInt+).

    A number is a vector of its column, times the number.

    Args:
        features: What the batches hold.
        tasks: One classification.
        embedding_dim: Width of the vectors.
        attention_layers: Number of layers.
        head_num: Attention heads.
        head_dim: Width of each head.
        mlp_hidden_size: Sizes of the hidden layers; [] = none, as in the paper's first model.
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
        attention_layers: Count = 3,
        head_num: Count = 2,
        head_dim: Count = 32,
        mlp_hidden_size: Sequence[Count] = (),
        dropout: Probability = 0.0,
        batch_norm: bool = False,
        init_std: Positive = 0.01,
    ) -> None:
        super().__init__()
        self.tasks = single_task(tasks, "autoint")
        self.embedding = FeatureEmbedding(features, embedding_dim, init_std)
        self.numbers = NumberEmbedding(len(features.dense), embedding_dim, init_std)
        n_vectors = features.n_vectors + len(features.dense)
        widths = [embedding_dim, *[head_num * head_dim] * attention_layers]
        self.attention = nn.Sequential(*(Interacting(width, head_num, head_dim) for width in widths[:-1]))
        self.of_attention = nn.Linear(n_vectors * widths[-1], 1)
        self.mlp = hidden_layers(n_vectors * embedding_dim, mlp_hidden_size, dropout, batch_norm)
        last = output_width(n_vectors * embedding_dim, mlp_hidden_size)
        self.of_mlp = nn.Linear(last, 1, bias=False) if mlp_hidden_size else None

    def forward(self, batch: Batch) -> Tensor:
        """Logits [B, 1]."""
        vectors_BFE = torch.cat([self.embedding(batch), self.numbers(batch)], 1)
        logits: Tensor = self.of_attention(self.attention(vectors_BFE).flatten(1))
        return logits if self.of_mlp is None else logits + self.of_mlp(self.mlp(vectors_BFE.flatten(1)))


class Interacting(nn.Module):
    """relu(concatenated heads + W e), each head softmax(<W_q e_i, W_k e_j>) W_v e_j; without scaling or biases."""

    def __init__(self, width: int, head_num: int, head_dim: int) -> None:
        super().__init__()
        self.heads = (head_num, head_dim)
        self.query_key_value_rest = nn.Linear(width, 4 * head_num * head_dim, bias=False)

    def forward(self, vectors_BFE: Tensor) -> Tensor:
        """[B, F, head_num * head_dim]."""
        *three, rest_BFX = self.query_key_value_rest(vectors_BFE).chunk(4, -1)
        query, key, value = (part.unflatten(-1, self.heads).transpose(1, 2) for part in three)
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return F.relu(attended.transpose(1, 2).flatten(2) + rest_BFX)
