"""BPR-MF: matrix factorisation that learns to rank what a user took above what they did not.

Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian Personalized Ranking from Implicit Feedback, UAI 2009.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recrun.interfaces import TrainingEvents
from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.user_table import UserTable
from recrun.types import Count, FromData, Positive


class BPRMF(UserTable):
    """Scores <w_u, h_i> / temperature. See `UserTable` for users without training pairs.

    With objective=pairwise it minimises the mean of -log sigmoid(<w_u, h_i> - <w_u, h_j>) over pairs (u, i) and drawn
    items j; `trainer.regularization.embedding_l2` is the paper's penalty, of the rows of the batch.

    Args:
        n_users: Users of the log.
        n_items: Items in the catalogue.
        pairs: Of training.
        embedding_dim: Width of w and h.
        temperature: Divides the scores.
    """

    def __init__(
        self,
        n_users: FromData[Count],
        n_items: FromData[Count],
        pairs: FromData[TrainingEvents],
        *,
        embedding_dim: Count = 64,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__(n_items, pairs, temperature)
        self.users = nn.Parameter(torch.randn(n_users, embedding_dim) * 0.1)
        self.items = nn.Parameter(torch.randn(n_items, embedding_dim) * 0.1)

    def user_vectors(self, user_B: Tensor) -> Tensor:
        """Vectors of users of training, [B, D]."""
        return look_up(self.users, Bags(user_B))

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return look_up(self.items, Bags(items_U))
