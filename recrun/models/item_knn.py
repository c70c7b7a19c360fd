"""ItemKNN: items are recommended that resemble those of the user.

Sarwar, Karypis, Konstan, Riedl: Item-Based Collaborative Filtering Recommendation Algorithms, WWW 2001;
Deshpande, Karypis: Item-Based Top-N Recommendation Algorithms, TOIS 2004.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from torch import Tensor

from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import Sparse, interaction_matrix
from recrun.models.layers.set_model import SetModel
from recrun.models.layers.similarity import Similarity, extent, feature_weights, similarity
from recrun.models.layers.sparse_rows import SparseRows
from recrun.types import Batch, Count, FromData, NonNegative

LOW_BITS = np.uint64(0xFFFFFFFF)
ROWS_AT_ONCE = 512  # items whose similarities to all others are computed together


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
        weighted = (matrix.T * weight_U).tocsr()
        rows = min(ROWS_AT_ONCE, 1 << 32 - self.n_items.bit_length())  # what `highest` can number
        blocks = []
        for at in range(0, self.n_items, rows):
            block = (weighted[at : at + rows] @ matrix).tocoo()
            row, column = block.coords
            other = row + at != column
            row, column, overlap = row[other], column[other], block.data[other]
            values = similarity(self.similarity, overlap, of_item[row + at], of_item[column], self.shrink)
            blocks.append(highest(row, column, values, block.shape, self.neighbors))
        return sparse.vstack(blocks, format="csr")

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
        return self.targets.summed(batch["items"], batch["items_offsets"], self.n_items)


def highest(row: np.ndarray, column: np.ndarray, values: np.ndarray, shape: tuple[int, int], k: int) -> Sparse:
    """The k highest of each row of a sparse matrix of positive values, the lower column first among equal ones.

    One integer holds row, falling value and column, for NumPy sorts integers with vector instructions. Positive
    floats are in the order of their bits.

    Args:
        row, column, values: Of each entry, [N].
        shape: [R, C] with R C < 2^32.
        k: Kept of each row.
    """
    bits = np.uint64(shape[1].bit_length())
    falling = LOW_BITS - values.astype(np.float32).view(np.uint32).astype(np.uint64)
    key = ((row.astype(np.uint64) << np.uint64(32) | falling) << bits) | column.astype(np.uint64)
    key.sort()
    counts = np.bincount(row, minlength=shape[0])
    position = np.arange(len(key)) - np.repeat(np.cumsum(counts) - counts, counts)
    key = key[position < k]
    kept = (LOW_BITS - (key >> bits & LOW_BITS)).astype(np.uint32).view(np.float32)
    column = (key & (np.uint64(1) << bits) - np.uint64(1)).astype(np.int64)
    ends = np.cumsum(np.minimum(counts, k))
    return sparse.csr_array((kept, column, np.concatenate([[0], ends])), shape)
