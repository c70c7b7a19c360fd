"""LightGCN: vectors of users and items, smoothed over the graph of who took what.

He, Deng, Wang, Li, Zhang, Wang: LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation,
SIGIR 2020.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import Sparse, interaction_matrix
from recrun.models.layers.sparse_rows import SparseRows
from recrun.models.layers.user_table import UserTable
from recrun.types import Batch, Count, FromData, NonNegative, Positive


class LightGCN(UserTable):
    """Scores <e_u, e_i> / temperature, with e the mean of E, A E, A^2 E, ..., A^n_layers E.

    E is a table of vectors of users and items, the only weights; A joins u and i by 1 / sqrt(|N_u| |N_i|) where u took
    i in training. In training the graph is passed once per step, forward and backward; in eval mode once.

    With objective=pairwise the loss is the paper's: the mean of -log sigmoid(<e_u, e_i> - <e_u, e_j>), and as a loss of
    its own `decay` / 2 times the mean over pairs of |E_u|^2 + |E_i|^2 + |E_j|^2. objective=listwise is a softmax over
    the drawn items. objective=in_batch and catalogue_softmax leave the decay out. See `UserTable` for users without
    training pairs.

    Args:
        n_users: Users of the log.
        n_items: Items in the catalogue.
        pairs: Of training: the graph. The checkpoint holds it.
        embedding_dim: Width of the vectors.
        n_layers: Steps in the graph.
        decay: Penalty of the squares of the batch's rows of E, as a loss of its own.
        temperature: Divides the scores.
    """

    sparse_gradients: ClassVar[bool] = False

    def __init__(
        self,
        n_users: FromData[Count],
        n_items: FromData[Count],
        pairs: FromData[TrainingEvents],
        *,
        embedding_dim: Count = 64,
        n_layers: Count = 3,
        decay: NonNegative = 1e-4,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__(n_items, pairs, temperature)
        self.n_users, self.n_layers, self.decay = n_users, n_layers, decay
        self.table = nn.Parameter(torch.randn(n_users + n_items, embedding_dim) * 0.1)
        self.graph = SparseRows()
        self.graph.fill(normalised(interaction_matrix(pairs)))
        self.smooth_VD: Tensor | None = None
        self.smoothed_at = (-1, False)

    def smoothed(self) -> Tensor:
        """e of all users and items, [V, D]; computed anew once the table has changed."""
        now = (self.table._version, torch.is_grad_enabled())
        if self.smooth_VD is None or self.smoothed_at != now:
            found: Tensor = _Smooth.apply(self.table, self.graph, self.n_layers)  # type: ignore[no-untyped-call]
            self.smooth_VD, self.smoothed_at = found, now
        return self.smooth_VD

    def user_vectors(self, user_B: Tensor) -> Tensor:
        """Vectors of users of training, [B, D]."""
        return self.smoothed()[user_B]

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return self.smoothed()[items_U + self.n_users]

    def with_losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """What `forward` gives, and the decay of the table's rows that the batch used.

        Raises:
            ConfigError: The batch has no candidates.
        """
        logits_BC = self(batch)
        users_BD = F.embedding(batch["user"], self.table)
        items_BCD = F.embedding(batch["columns"][batch["candidates"]] + self.n_users, self.table)
        squares = users_BD.square().sum() + items_BCD.square().sum()
        return logits_BC, {"decay": self.decay / 2 * squares / len(users_BD)}

    def train(self, mode: bool = True) -> LightGCN:
        """Forgets what was computed from weights that may have changed."""
        self.smooth_VD = None
        super().train(mode)
        return self


class _Smooth(torch.autograd.Function):
    """P(A) E with P(A) = (1 + A + ... + A^n) / (n + 1). A is symmetric, hence P(A) is, and the gradient is P(A) G."""

    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, graph: SparseRows, n_layers: int) -> Tensor:
        ctx.graph, ctx.n_layers = graph, n_layers
        return smooth(table_VD.detach(), graph, n_layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_VD: Tensor) -> tuple[Tensor, None, None]:
        return smooth(grad_VD.contiguous(), ctx.graph, ctx.n_layers), None, None


def smooth(table_VD: Tensor, graph: SparseRows, n_layers: int) -> Tensor:
    """The mean of E, A E, ..., A^n_layers E, as E + A (E + A (E + ...)). One fused pass over the edges per layer."""
    begins, total_VD = graph.offsets[:-1].int(), table_VD
    for _ in range(n_layers):
        neighbours_VD = F.embedding_bag(graph.columns, total_VD, begins, mode="sum", per_sample_weights=graph.values)
        total_VD = neighbours_VD.add_(table_VD)
    return total_VD / (n_layers + 1)


def normalised(matrix: Sparse) -> Sparse:
    """A of users and items, CSR [U + I, U + I]: an edge counts 1 over the root of the product of its ends' degrees."""
    users, items = matrix.sum(1), matrix.sum(0)
    scaled = matrix.copy()
    scaled.data /= np.sqrt(np.repeat(users, np.diff(matrix.indptr)) * items[matrix.indices])
    return sparse.block_array([[None, scaled], [scaled.T, None]], format="csr")
