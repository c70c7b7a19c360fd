"""ItemKNN: items are recommended that resemble those of the user.

Sarwar, Karypis, Konstan, Riedl: Item-Based Collaborative Filtering Recommendation Algorithms, WWW 2001;
Deshpande, Karypis: Item-Based Top-N Recommendation Algorithms, TOIS 2004.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import Sparse, interaction_matrix
from recrun.models.layers.nearest_items import nearest_items
from recrun.models.layers.set_model import SetModel
from recrun.models.layers.similarity import Similarity, extent, feature_weights, similarity
from recrun.models.layers.sparse_rows import SparseRows
from recrun.types import Batch, Count, FromData, NonNegative


class ItemKNN(SetModel):
    """The score of item i for a unit with items S is the sum of s(i, j) over those j in S that are neighbours of i.

    The neighbours of i are the `neighbors` items most similar to it, by the users who took both; ties go to the lower
    index. See recrun.models.layers.similarity for s. Time grows with the sum over users of |S|^2, memory with
    `neighbors` per item.

    Args:
        n_items: Items in the catalogue.
        neighbors: Of each item.
        similarity: Of two items; tfidf and bm25 count a user less who took much.
        shrink: Added to the denominator: similarities that rest on few users become smaller.
    """

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        neighbors: Count = 100,
        similarity: Similarity = "cosine",
        shrink: NonNegative = 0.0,
    ) -> None:
        super().__init__()
        self.n_items, self.neighbors, self.similarity, self.shrink = n_items, neighbors, similarity, shrink
        self.targets = SparseRows()  # of item j in a row the items i that it is a neighbour of

    def solve(self, events: TrainingEvents) -> None:
        """Computes each item's neighbours from the training events."""
        self.targets.fill(self.nearest(interaction_matrix(events)).T.tocsr())

    def nearest(self, matrix: Sparse) -> Sparse:
        """Similarities s(i, j) of each item i with its neighbours j, CSR [I, I]."""
        weight_U = feature_weights(self.similarity, matrix.sum(1), self.n_items)
        sizes_I = matrix.sum(0)
        of_item = extent(self.similarity, sizes_I, weight_U @ matrix, max(1.0, sizes_I.mean()))

        def of_pairs(overlap: np.ndarray, item: np.ndarray, other: np.ndarray) -> np.ndarray:
            found: np.ndarray = similarity(self.similarity, overlap, of_item[item], of_item[other], self.shrink)
            return found

        return nearest_items((matrix.T * weight_U).tocsr(), matrix, of_pairs, self.neighbors)

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
        return self.targets.summed(batch["items"], batch["items_offsets"], self.n_items)
