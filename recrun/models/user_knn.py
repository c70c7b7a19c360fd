"""UserKNN: what the users who resemble a user took.

Resnick et al.: GroupLens, CSCW 1994; of sets as in Dacrema, Cremonesi, Jannach: Are We Really Making Much Progress?,
RecSys 2019.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recrun.evaluation.top_k import top_k
from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import interaction_matrix
from recrun.models.layers.ragged import row_of_entry
from recrun.models.layers.set_model import SetModel
from recrun.models.layers.similarity import Similarity, extent, feature_weights, similarity
from recrun.models.layers.sparse_rows import SparseRows
from recrun.types import Batch, Count, FromData, NonNegative


class UserKNN(SetModel):
    """The score of item i for a unit with items S is the sum of s(S, S_v) over those neighbours v of it that took i.

    The neighbours are the `neighbors` training units whose items S_v are most similar to S; ties go to the lower
    index. See recrun.models.layers.similarity for s. S is the unit's input, so that new units are served as well. A
    unit that was trained on is its own neighbour, too: that adds only to the scores of items which it took itself.

    The weights are the training events. A score costs as much as S and its neighbours have events in common.

    Args:
        n_items: Items in the catalogue.
        neighbors: Of each unit.
        similarity: Of two units; tfidf and bm25 count an item less that many took.
        shrink: Added to the denominator: similarities that rest on few items become smaller.
    """

    item_weight: Tensor
    mean_size: Tensor
    extents: Tensor

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
        self.register_buffer("item_weight", torch.zeros(n_items))  # w of each item in s
        self.register_buffer("mean_size", torch.ones(()))
        self.register_buffer("extents", torch.zeros(0))  # of each training unit, [V]
        self.owners = SparseRows()  # of each item the units that took it, with its w
        self.items = SparseRows()  # of each training unit the items

    def solve(self, events: TrainingEvents) -> None:
        """Takes over the training events of the units that have some."""
        matrix = interaction_matrix(events)
        matrix = matrix[np.flatnonzero(matrix.sum(1))]
        weight_I = feature_weights(self.similarity, matrix.sum(0), matrix.shape[0])
        sizes_V = matrix.sum(1)
        self.item_weight.copy_(torch.from_numpy(weight_I))
        self.mean_size.fill_(float(sizes_V.mean()))
        extents = extent(self.similarity, sizes_V, matrix @ weight_I, float(sizes_V.mean()))
        self.extents = torch.from_numpy(extents.astype(np.float32)).to(self.item_weight.device)
        self.owners.fill((matrix * weight_I).T.tocsr())
        self.items.fill(matrix)

    def similarities(self, items_N: Tensor, offsets: Tensor) -> Tensor:
        """Of B sets of items, ragged, with all training units, float32 [B, V]."""
        overlap_BV = self.owners.summed(items_N, offsets, len(self.extents))
        weights_B = torch.zeros(len(offsets) - 1, device=items_N.device)
        weights_B.index_add_(0, row_of_entry(offsets, len(items_N)), self.item_weight[items_N])
        extents_B = extent(self.similarity, offsets.diff().float(), weights_B, self.mean_size)
        found: Tensor = similarity(self.similarity, overlap_BV, extents_B[:, None], self.extents, self.shrink)
        return found.nan_to_num_(0)  # of an empty set

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
        similarity_BV = self.similarities(batch["items"], batch["items_offsets"])
        nearest_BK = top_k(similarity_BV, self.neighbors)
        row_BK = torch.arange(len(nearest_BK), device=nearest_BK.device)[:, None].expand_as(nearest_BK)
        weight_BK = similarity_BV.gather(1, nearest_BK)
        shape = (len(nearest_BK), self.n_items)
        return self.items.weighted_sums(nearest_BK.flatten(), weight_BK.flatten(), row_BK.flatten(), shape)
