"""SASRec: self-attention over a history, which at every position predicts the next item.

Kang, McAuley: Self-Attentive Sequential Recommendation, ICDM 2018.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.two_tower import Padded, Retriever, row_of_query
from recrun.types import Batch, Count, FromData, Positive, Probability


class SASRec(Retriever):
    """Blocks of causal attention and a small network, over items plus positions; items share one table with the output.

    It knows no user but by the history. Training with loader.rows=sequences asks at all positions of a history at once.

    Args:
        n_items: Items in the catalogue.
        max_length: Items of the longest history.
        embedding_dim: Width throughout.
        n_layers: Blocks.
        head_num: Heads of each block's attention.
        dropout: Of the input, of attention's and of the networks' outputs.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
        init_std: Standard deviation of the items' vectors at the start; None = 1 / sqrt(embedding_dim). A smaller one
            keeps what rare items were given at random from deciding their scores.
    """

    def __init__(
        self,
        n_items: FromData[Count],
        max_length: FromData[Count],
        *,
        embedding_dim: Count = 64,
        n_layers: Count = 2,
        head_num: Count = 1,
        dropout: Probability = 0.2,
        temperature: Positive = 1.0,
        normalize: bool = False,
        init_std: Positive | None = None,
    ) -> None:
        super().__init__(n_items, temperature, normalize)
        if embedding_dim % head_num:
            raise ConfigError(f"model.embedding_dim={embedding_dim} must be a multiple of model.head_num={head_num}")
        self.dropout = dropout
        spread = math.sqrt(embedding_dim) if init_std is None else 1 / init_std
        self.table = nn.Parameter(torch.randn(n_items, embedding_dim) / spread)
        self.position = nn.Parameter(torch.randn(max_length, embedding_dim) * 0.1)
        self.blocks = nn.ModuleList(self.block(embedding_dim, head_num, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(embedding_dim)

    def block(self, width: int, heads: int, dropout: float) -> nn.Module:
        """One layer."""
        return TransformerBlock(width, heads, dropout)

    def queries(self, batch: Batch) -> Tensor:
        """A user's vector at each query of a batch, [Q, D]: of the history up to there."""
        items_N, offsets = batch["items"], batch["items_offsets"]
        row_N = row_of_query(torch.arange(len(items_N), device=items_N.device), offsets)
        padded = Padded.of(row_N, offsets[:-1], len(batch["longest"]))
        x_ND = look_up(self.table, Bags(items_N)) * math.sqrt(self.table.shape[1])
        x_ND = x_ND + self.position[padded.positions % padded.longest]
        x_ND = F.dropout(x_ND, self.dropout, self.training)
        vectors: Tensor = self.norm(self.through_blocks(x_ND, padded, batch)[batch["query"]])
        return self.unit(vectors)

    def through_blocks(self, x_ND: Tensor, padded: Padded, batch: Batch) -> Tensor:
        """What the layers make of histories, [N, D]."""
        for block in self.blocks:
            x_ND = block(x_ND, padded)
        return x_ND

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return self.unit(look_up(self.table, Bags(items_U)))


class TransformerBlock(nn.Module):
    """Attention, then a network of one hidden layer; what goes into each is normalised, what comes out is added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm, self.network_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.three = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.network: nn.Module = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, width))

    def forward(self, x_ND: Tensor, padded: Padded) -> Tensor:
        """[N, D], histories one after another."""
        x_ND = x_ND + self.drop(self.attend(self.three(self.attention_norm(x_ND)), padded))
        return x_ND + self.drop(self.network(self.network_norm(x_ND)))

    def attend(self, qkv_N: Tensor, padded: Padded) -> Tensor:
        """Attention of each position to itself and those before it; rows end in padding, which is not attended to."""
        rows = padded.pad(qkv_N).view(padded.n_rows, padded.longest, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = self.attention(rows[0], rows[1], rows[2], padded)
        attended: Tensor = self.joined(padded.flat(seen.transpose(1, 2).flatten(2)))
        return attended

    def attention(self, query: Tensor, key: Tensor, value: Tensor, padded: Padded) -> Tensor:
        """Causal attention of rows, [R, heads, longest, D / heads] each."""
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)

    def drop(self, x: Tensor) -> Tensor:
        """Dropout in training."""
        return F.dropout(x, self.dropout, self.training)
