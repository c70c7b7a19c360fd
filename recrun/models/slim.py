"""SLIM: sparse, non-negative weights between items, an elastic net per item.

Ning, Karypis: SLIM: Sparse Linear Methods for Top-N Recommender Systems, ICDM 2011.
"""

from __future__ import annotations

import logging

import torch
from scipy import sparse
from torch import Tensor

from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import gram_, interaction_matrix
from recrun.models.layers.set_model import SetModel
from recrun.models.layers.sparse_rows import SparseRows
from recrun.types import Batch, Count, FromData, NonNegative, Positive

ROWS_AT_ONCE = 64  # weights of so many items are improved between two products with all weights

logger = logging.getLogger(__name__)


class SLIM(SetModel):
    """Scores x W of a unit's set of items x, with sparse weights W that predict the training sets from themselves.

    Minimises 1/2 ||X - X W||^2 + l2/2 ||W||^2 + l1 ||W||_1 subject to W >= 0 and diag(W) = 0, by coordinate descent on
    the Gram matrix, for all items at once, until no weight moves by more than `tolerance` in a sweep. A sweep takes
    time I^3; solving takes two dense float32 [I, I], 3.2 GB for 20,000 items. What is kept is sparse.

    Args:
        n_items: Items in the catalogue.
        l1: Penalty of weights: greater for fewer of them.
        l2: Penalty of squares of weights.
        sweeps: At most.
        tolerance: Largest move of a weight in the last sweep.
    """

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        l1: NonNegative = 5.0,
        l2: Positive = 50.0,
        sweeps: Count = 100,
        tolerance: Positive = 1e-3,
    ) -> None:
        super().__init__()
        self.n_items, self.l1, self.l2, self.sweeps, self.tolerance = n_items, l1, l2, sweeps, tolerance
        self.weights = SparseRows()  # of each item what it adds to others

    def solve(self, events: TrainingEvents) -> None:
        """Computes W from the training events; warns if it is not found within `sweeps`."""
        device = self.weights.offsets.device
        empty_II = torch.zeros(self.n_items, self.n_items, device=device)
        weights_II, gram_II = empty_II, gram_(interaction_matrix(events), torch.empty_like(empty_II))
        for _ in range(self.sweeps):
            moved = self.sweep_(weights_II, gram_II)
            if moved <= self.tolerance:
                break
        else:
            logger.warning(
                "after model.sweeps=%d a weight still moves by %.2g, more than model.tolerance=%g; raise one of them, "
                "or model.l2",
                self.sweeps,
                moved,
                self.tolerance,
            )
        self.weights.fill(sparse.csr_array(weights_II.cpu().numpy()))

    def sweep_(self, weights_II: Tensor, gram_II: Tensor) -> float:
        """Puts each weight in turn at its best given the others; returns how far the one that moved most did."""
        moved = weights_II.new_zeros(())
        for at in range(0, self.n_items, ROWS_AT_ONCE):
            rows = slice(at, at + ROWS_AT_ONCE)
            predicted_RI = gram_II[rows] @ weights_II
            for row, item in enumerate(range(*rows.indices(self.n_items))):
                curvature = gram_II[item, item]
                best_I = gram_II[item] - predicted_RI[row] + curvature * weights_II[item] - self.l1
                best_I = best_I.clamp_(min=0) / (curvature + self.l2)
                best_I[item] = 0
                step_I = best_I - weights_II[item]
                weights_II[item] = best_I
                predicted_RI.addr_(gram_II[rows, item], step_I)
                moved = torch.maximum(moved, step_I.abs().max())
        return float(moved)

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
        return self.weights.summed(batch["items"], batch["items_offsets"], self.n_items)
