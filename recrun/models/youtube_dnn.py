"""The candidate generator of YouTube: a network turns what was watched, and by whom, into a vector.

Covington, Adams, Sargin: Deep Neural Networks for YouTube Recommendations, RecSys 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recrun.features import Features
from recrun.models.layers.embedding import Bags, FeatureEmbedding, look_up
from recrun.models.layers.two_tower import Retriever, at_queries, history_means, tower
from recrun.types import Batch, Count, Counts, FromData, Positive, Probability


class YoutubeDNN(Retriever):
    """A network over the mean of a history's embeddings and the user's fields; items are rows of the softmax.

    Args:
        n_items: Items in the catalogue.
        user_features: Fields of `sparse`.
        embedding_dim: Width of the embeddings of what was watched and of the fields.
        mlp_hidden_size: Widths of the layers; the last one is that of users' and items' vectors.
        dropout: Of the hidden layers.
        temperature: Divides the scores.
        normalize: Whether scores are cosines.
    """

    def __init__(
        self,
        n_items: FromData[Count],
        user_features: FromData[Features],
        *,
        embedding_dim: Count = 32,
        mlp_hidden_size: Counts = (128, 64),
        dropout: Probability = 0.0,
        temperature: Positive = 1.0,
        normalize: bool = False,
    ) -> None:
        super().__init__(n_items, temperature, normalize)
        self.user_embedding = FeatureEmbedding(user_features, embedding_dim, std=0.1)
        self.watched = nn.Parameter(torch.randn(n_items, embedding_dim) * 0.1)
        self.output = nn.Parameter(torch.randn(n_items, mlp_hidden_size[-1]) * 0.1)
        self.tower = tower((user_features.n_vectors + 1) * embedding_dim, mlp_hidden_size, dropout)

    def queries(self, batch: Batch) -> Tensor:
        """A user's vector at each query of a batch, [Q, D]."""
        fields_QE = at_queries(self.user_embedding(batch).flatten(1), batch)
        history_QE = history_means(self.watched, batch)
        vectors: Tensor = self.tower(torch.cat([history_QE, fields_QE], 1))
        return self.unit(vectors)

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return self.unit(look_up(self.output, Bags(items_U)))
