"""DSSM: two towers, one for users and one for items, that meet in an inner product.

Huang, He, Gao, Deng, Acero, Heck: Learning Deep Structured Semantic Models for Web Search using Clickthrough Data,
CIKM 2013. Here with ids and features instead of letter trigrams.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recrun.errors import ConfigError
from recrun.features import Features
from recrun.models.layers.embedding import FeatureEmbedding
from recrun.models.layers.two_tower import FeatureTable, Retriever, at_queries, history_means, tower
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class DSSM(Retriever):
    """A user is fields and the mean of a history, an item its fields and lists; a network on each side.

    Args:
        n_items: Items in the catalogue.
        user_features: Fields of `sparse`.
        item_features: Fields and lists of items.
        item_values: Their values for every item.
        embedding_dim: Width of the embeddings.
        mlp_hidden_size: Widths of both towers' layers; the last one is that of the vectors.
        dropout: Of the hidden layers.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
    """

    def __init__(
        self,
        n_items: FromData[Count],
        user_features: FromData[Features],
        item_features: FromData[Features],
        item_values: FromData[Mapping[str, Any]],
        *,
        embedding_dim: Count = 32,
        mlp_hidden_size: Counts = (128, 64),
        dropout: Probability = 0.0,
        temperature: Positive = 0.1,
        normalize: bool = True,
    ) -> None:
        super().__init__(n_items, temperature, normalize)
        if not (item_features.fields or item_features.sequences):
            raise ConfigError("model=dssm knows items by their features: name some in dataset.item_fields, at least id")
        self.items = FeatureTable(item_values)
        self.user_embedding = FeatureEmbedding(user_features, embedding_dim, std=0.1)
        self.item_embedding = FeatureEmbedding(item_features, embedding_dim, std=0.1)
        self.watched = nn.Parameter(torch.randn(n_items, embedding_dim) * 0.1)
        user_width = (len(user_features.fields) + 1) * embedding_dim
        item_width = item_features.n_vectors * embedding_dim
        self.user_tower = tower(user_width, mlp_hidden_size, dropout)
        self.item_tower = tower(item_width, mlp_hidden_size, dropout)

    def queries(self, batch: Batch) -> Tensor:
        """A user's vector at each query of a batch, [Q, D]."""
        fields_QE = at_queries(self.user_embedding(batch).flatten(1), batch)
        history_QE = history_means(self.watched, batch)
        vectors: Tensor = self.user_tower(torch.cat([fields_QE, history_QE], 1))
        return self.unit(vectors)

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        vectors: Tensor = self.item_tower(self.item_embedding(self.items.batch(items_U)).flatten(1))
        return self.unit(vectors)
