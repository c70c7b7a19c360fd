"""EASE: a linear autoencoder of items, solved in closed form.

Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recrun.errors import ConfigError
from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import gram_, interaction_matrix
from recrun.models.layers.set_model import SetModel
from recrun.types import Batch, Count, FromData, Positive


class EASE(SetModel):
    """Scores x B of a unit's set of items x, with the weights B that predict the training sets from themselves.

    Minimises ||X - X B||^2 + l2 ||B||^2 subject to diag(B) = 0, for X [units, items] of 0 and 1. With
    P = (X^T X + l2 I)^-1 the solution is B_ij = -P_ij / P_jj off the diagonal (eq. 8 of the paper).

    The weights are a dense float32 [I, I]: 6.7 GB for 41,000 items. P is computed in their memory, by Cholesky's
    method, so that solving takes little more; writing the checkpoint takes as much again. Time grows with I^3.

    Args:
        n_items: Items in the catalogue.
        l2: Regularisation; greater for more data.
    """

    weights: Tensor

    def __init__(self, n_items: FromData[Count], *, l2: Positive = 500.0) -> None:
        super().__init__()
        self.l2 = l2
        self.register_buffer("weights", torch.zeros(n_items, n_items))

    def solve(self, events: TrainingEvents) -> None:
        """Computes B from the training events.

        Raises:
            ConfigError: l2 is so small that X^T X + l2 I is singular in float32.
        """
        weights = gram_(interaction_matrix(events), self.weights)
        weights.diagonal().add_(self.l2)
        if not invert_(weights):
            raise ConfigError(f"model.l2={self.l2} is too small: X^T X + l2 I cannot be inverted in float32; raise it")
        weights /= -weights.diagonal().clone()
        weights.fill_diagonal_(0)

    def forward(self, batch: Batch) -> Tensor:
        """Scores of all items, float32 [B, I]."""
        return F.embedding_bag(batch["items"], self.weights, batch["items_offsets"][:-1], mode="sum")


def invert_(matrix: Tensor) -> bool:
    """Inverts a symmetric positive definite matrix in its own memory; False if it is not positive definite."""
    columns = matrix.t()  # LAPACK's order: what is given to it otherwise is copied
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(columns, out=(columns, failed))
    if failed:
        return False
    torch.cholesky_inverse(columns, out=columns)
    return True
