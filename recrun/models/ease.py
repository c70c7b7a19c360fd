"""EASE: a linear autoencoder of items, solved in closed form.

Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recrun.errors import ConfigError
from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import Sparse, gram_, interaction_matrix, row_blocks
from recrun.models.layers.set_model import SetModel
from recrun.types import Batch, Count, FromData, Positive


class EASE(SetModel):
    """Scores x B of a unit's set of items x, with the weights B that predict the training sets from themselves.

    Minimises ||X - X B||^2 + l2 ||B||^2 subject to diag(B) = 0, for X [units, items] of 0 and 1. With
    P = (X^T X + l2 I)^-1 the solution is B_ij = -P_ij / P_jj off the diagonal (eq. 8 of the paper). By Woodbury's
    identity that is S_ij / (1 - S_jj) with S = X^T (X X^T + l2 I)^-1 X: the smaller of the two matrices is inverted.

    The weights are a dense float32 [I, I]: 6.7 GB for 41,000 items. The inverse is computed in place, by Cholesky's
    method: that of X^T X in the memory of the weights, that of X X^T beside them. Writing the checkpoint takes as much
    memory as the weights again. Time grows with min(units, items)^3.

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
            ConfigError: l2 is so small that the matrix to invert is singular in float32.
        """
        matrix = interaction_matrix(events)
        matrix = matrix[np.flatnonzero(matrix.sum(1))]
        if matrix.shape[0] < matrix.shape[1]:
            self.by_units_(matrix)
        else:
            self.by_items_(matrix)
        self.weights.fill_diagonal_(0)

    def by_items_(self, matrix: Sparse) -> None:
        """B, but for its diagonal, from the inverse P of X^T X + l2 I."""
        inverse_II = self.inverse_(gram_(matrix, self.weights))
        inverse_II /= -inverse_II.diagonal().clone()

    def by_units_(self, matrix: Sparse) -> None:
        """B, but for its diagonal, from the inverse of X X^T + l2 I."""
        users = torch.empty(matrix.shape[0], matrix.shape[0], device=self.weights.device)
        inverse_UU = self.inverse_(gram_(matrix.T.tocsr(), users)).cpu().numpy()
        columns = matrix.T.tocsr()
        for rows in row_blocks(self.weights.shape):
            smoothed_RU = columns[rows] @ inverse_UU
            self.weights[rows] = torch.from_numpy((columns @ np.ascontiguousarray(smoothed_RU.T)).T)
        self.weights /= 1 - self.weights.diagonal().clone()

    def inverse_(self, gram: Tensor) -> Tensor:
        """The inverse of a Gram matrix + l2 I, in its memory."""
        gram.diagonal().add_(self.l2)
        if not invert_(gram):
            raise ConfigError(f"model.l2={self.l2} is too small: X^T X + l2 I cannot be inverted in float32; raise it")
        return gram

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
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
