"""PureSVD: the training matrix, smoothed by its leading singular vectors.

Cremonesi, Koren, Turrin: Performance of Recommender Algorithms on Top-N Recommendation Tasks, RecSys 2010.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import svds
from torch import Tensor

from recrun.errors import ConfigError
from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import interaction_matrix
from recrun.models.layers.set_model import SetModel
from recrun.types import Batch, Count, FromData


class PureSVD(SetModel):
    """Scores x Q Q^T of a unit's set of items x, with Q the right singular vectors of the largest singular values.

    X = P S Q^T is the truncated decomposition of the training matrix of 0 and 1, by Lanczos' method; time grows with
    events times rank.

    Args:
        n_items: Items in the catalogue.
        rank: Singular vectors that are kept, D.
    """

    item_factors: Tensor

    def __init__(self, n_items: FromData[Count], *, rank: Count = 32) -> None:
        super().__init__()
        self.rank = rank
        self.register_buffer("item_factors", torch.zeros(n_items, rank))

    def solve(self, events: TrainingEvents) -> None:
        """Computes Q from the training events.

        Raises:
            ConfigError: The matrix has not so many singular vectors.
        """
        matrix = interaction_matrix(events).astype(np.float64)
        if self.rank >= min(matrix.shape):
            raise ConfigError(
                f"model.rank={self.rank} must be below the number of units, {events.n_units}, and of items, "
                f"{events.n_items}; lower it"
            )
        start = np.random.default_rng(0).random(min(matrix.shape))
        _, _, found = svds(matrix, self.rank, v0=start)
        self.item_factors.copy_(torch.from_numpy(found[::-1].T.copy()))

    def embed_users(self, batch: Batch) -> Tensor:
        """x Q, float32 [B, D]: inner products with the items' vectors are the scores."""
        return F.embedding_bag(batch["items"], self.item_factors, batch["items_offsets"][:-1], mode="sum")

    def embed_items(self, batch: Batch) -> Tensor:
        """Q of the items in `batch["item"]`, float32 [B, D]."""
        return self.item_factors[batch["item"]]

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
        return self.embed_users(batch) @ self.item_factors.t()

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item per unit, float32 [B]."""
        return (self.embed_users(batch) * self.item_factors[items_B]).sum(1)
