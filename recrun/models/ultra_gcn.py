"""UltraGCN: matrix factorisation whose losses hold what passing a graph without end would lead to.

Mao, Zhu, Xiao, Lu, Wang, He: UltraGCN: Ultra Simplification of Graph Convolutional Networks for Recommendation,
CIKM 2021.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recrun.interfaces import TrainingEvents
from recrun.models.layers.embedding import Bags, look_up
from recrun.models.layers.interaction_matrix import Sparse, interaction_matrix
from recrun.models.layers.nearest_items import nearest_items
from recrun.models.layers.user_table import UserTable
from recrun.objectives.base import Objective
from recrun.objectives.retrieval import Negatives
from recrun.types import Batch, Count, FromData, NonNegative, Positive


class UltraGCN(UserTable):
    """Scores <e_u, e_i> / temperature, and what `GraphConstraints` asks of the graph of training pairs.

    See `UserTable` for users without training pairs.

    Args:
        n_users: Users of the log.
        n_items: Items in the catalogue.
        pairs: Of training: the graph. The checkpoint holds what is needed of it.
        embedding_dim: Width of the vectors.
        neighbors: Items that each item is joined with.
        init_std: Standard deviation of the vectors at the start.
        temperature: Divides the scores.
    """

    of_user: Tensor
    of_item: Tensor
    neighbours: Tensor
    strengths: Tensor

    def __init__(
        self,
        n_users: FromData[Count],
        n_items: FromData[Count],
        pairs: FromData[TrainingEvents],
        *,
        embedding_dim: Count = 64,
        neighbors: Count = 10,
        init_std: Positive = 1e-4,
        temperature: Positive = 1.0,
    ) -> None:
        super().__init__(n_items, pairs, temperature)
        self.users = nn.Parameter(torch.randn(n_users, embedding_dim) * init_std)
        self.items = nn.Parameter(torch.randn(n_items, embedding_dim) * init_std)
        matrix = interaction_matrix(pairs)
        users, items = matrix.sum(1), matrix.sum(0)
        self.register_buffer("of_user", torch.from_numpy(np.sqrt(users + 1) / np.maximum(users, 1)).float())
        self.register_buffer("of_item", torch.from_numpy(1 / np.sqrt(items + 1)).float())
        neighbours, strengths = padded_rows(omega(matrix, neighbors), neighbors)
        self.register_buffer("neighbours", torch.from_numpy(neighbours))
        self.register_buffer("strengths", torch.from_numpy(strengths))

    def user_vectors(self, user_B: Tensor) -> Tensor:
        """Vectors of users of training, [B, D]."""
        return look_up(self.users, Bags(user_B))

    def item_vectors(self, items_U: Tensor) -> Tensor:
        """Vectors of items, [U, D]."""
        return look_up(self.items, Bags(items_U))

    def betas(self, user_B: Tensor, items_C: Tensor) -> Tensor:
        """beta_ui = sqrt(d_u + 1) / (d_u sqrt(d_i + 1)) of users and items, with d how often each occurs, [B, C]."""
        return self.of_user[user_B, None] * self.of_item[items_C]


class GraphConstraints(Objective):
    """The losses of UltraGCN, each a mean over the batch's pairs (u, i) (equations 9 to 13).

        edges       -(w1 + w2 beta_ui) log sigmoid(s_ui)
        negatives   -negative_weight mean over drawn j of (w3 + w4 beta_uj) log sigmoid(-s_uj)
        neighbors   -neighbor_weight sum over neighbours j of i of omega_ij log sigmoid(s_uj)

    The drawn items are shared by the batch, and are no negatives to who took them (loader.avoid_positives). The
    paper's penalty is `trainer.regularization.embedding_l2`, of the rows of the batch.

    Args:
        w1: Of every pair.
        w2: Of beta of a pair.
        w3: Of every negative.
        w4: Of beta of a negative.
        negative_weight: Of the negatives' mean.
        neighbor_weight: Of items and their neighbours, lambda.
    """

    needs: ClassVar[tuple[str, ...]] = ("queries", "item_vectors", "temperature", "betas", "neighbours", "strengths")
    demands: ClassVar[dict[str, tuple[Any, ...]]] = {"loader.negatives": ("batch",)}
    refuses: ClassVar[dict[str, dict[Any, str]]] = {"loader.num_negatives": {0: "draw some, for example 256"}}

    def __init__(
        self,
        w1: NonNegative = 1e-6,
        w2: NonNegative = 1.0,
        w3: NonNegative = 1e-6,
        w4: NonNegative = 1.0,
        negative_weight: NonNegative = 300.0,
        neighbor_weight: NonNegative = 5e-4,
    ) -> None:
        super().__init__()
        self.w1, self.w2, self.w3, self.w4 = w1, w2, w3, w4
        self.negative_weight, self.neighbor_weight = negative_weight, neighbor_weight

    def forward(self, model: UltraGCN, batch: Batch) -> dict[str, Tensor]:
        """{"edges", "negatives", "neighbors"}."""
        column_B1, target_B = batch["column"][:, None], batch["columns"][batch["column"]]
        user_BD = model.queries(batch).float() / model.temperature
        scores_BC = user_BD @ model.item_vectors(batch["columns"]).float().t()
        beta_BC = model.betas(batch["user"], batch["columns"])
        edges_B1 = (self.w1 + self.w2 * beta_BC) * F.softplus(-scores_BC)
        counted_BC = counts(batch)
        others_BC = counted_BC * (self.w3 + self.w4 * beta_BC) * F.softplus(scores_BC)
        mean_B = others_BC.sum(1) / counted_BC.sum(1).clamp(min=1)
        near_BK = model.neighbours[target_B]
        near_BKD = model.item_vectors(near_BK.flatten()).float().view(*near_BK.shape, -1)
        joined_BK = model.strengths[target_B] * F.softplus(-(user_BD[:, None] * near_BKD).sum(2))
        return {
            "edges": edges_B1.gather(1, column_B1).mean(),
            "negatives": self.negative_weight * mean_B.mean(),
            "neighbors": self.neighbor_weight * joined_BK.sum(1).mean(),
        }


def counts(batch: Batch) -> Tensor:
    """How often each column was drawn as a negative to each pair's user, float32 [B, C]."""
    negatives = Negatives.of(batch, batch["sampled"])
    counted_BC = negatives.weight_C.expand(len(batch["user"]), -1).clone()
    if negatives.taken_UC is not None:
        counted_BC.masked_fill_(negatives.taken_UC[negatives.user_Q], 0)
    return counted_BC.scatter_(1, batch["column"][:, None], 0)


def omega(matrix: Sparse, k: int) -> Sparse:
    """omega_ij = G_ij / (g_i - G_ii) sqrt(g_i / g_j), of the k items j that have the highest of it, CSR [I, I].

    G = X^T X counts the users who took both; g_i is the sum of its row i.
    """
    counts_I, sums_I = matrix.sum(0), matrix.sum(1) @ matrix
    own_I = np.sqrt(sums_I) / np.maximum(sums_I - counts_I, 1)

    def values(overlap: np.ndarray, item: np.ndarray, other: np.ndarray) -> np.ndarray:
        found: np.ndarray = overlap * own_I[item] / np.sqrt(sums_I[other])
        return found

    return nearest_items(matrix.T.tocsr(), matrix, values, k)


def padded_rows(matrix: Sparse, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns, int64, and values, float32, of a CSR matrix with at most k entries a row, [R, k]; 0 behind the last."""
    columns, values = np.zeros((matrix.shape[0], k), np.int64), np.zeros((matrix.shape[0], k), np.float32)
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    place = np.arange(len(row)) - matrix.indptr[row]
    columns[row, place], values[row, place] = matrix.indices, matrix.data
    return columns, values
