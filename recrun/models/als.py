"""iALS: factors of users and items for implicit feedback, by alternating least squares.

Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008; with the regularisation of
Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation Benchmarks, RecSys 2022.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from recrun.interfaces import TrainingEvents
from recrun.models.layers.interaction_matrix import Sparse, interaction_matrix
from recrun.models.layers.set_model import SetModel
from recrun.types import Batch, Count, FromData, NonNegative, Positive

INITIAL = 0.1  # standard deviation of a score before the first epoch, as in the paper
FLOATS_AT_ONCE = 1 << 18  # of gathered factors and systems: what fits a cache


class ALS(SetModel):
    """Scores <w_u, h_i>, with w_u solved from the unit's input, so that new units are served as well.

    Minimises, over the pairs S of training (each once),

        sum_{(u,i) in S} (1 - <w_u, h_i>)^2  +  a sum_{u,i} <w_u, h_i>^2
            +  r (sum_u (|S_u| + a n_items)^e |w_u|^2  +  sum_i (|S_i| + a n_units)^e |h_i|^2)

    with unobserved_weight a, regularization r and its exponent e. An epoch solves all w, then all h, exactly: a system
    of D equations per unit or item, or of |S_u| where these are fewer, many at once by Cholesky's method. With m the
    less of |S_u| and D it takes time |S_u| D m + m^3 per unit or item.

    Args:
        n_items: Items in the catalogue.
        embedding_dim: Width of the factors, D; more for more data.
        regularization: r.
        regularization_exponent: e: 1 = in proportion to how often a unit or item occurs, 0 = the same for all.
        unobserved_weight: a, of a pair that did not occur.
        epochs: Times that both sides are solved.
    """

    item_factors: Tensor
    gram: Tensor

    def __init__(
        self,
        n_items: FromData[Count],
        *,
        embedding_dim: Count = 32,
        regularization: Positive = 0.01,
        regularization_exponent: NonNegative = 1.0,
        unobserved_weight: Positive = 0.3,
        epochs: Count = 16,
    ) -> None:
        super().__init__()
        self.regularization, self.exponent = regularization, regularization_exponent
        self.unobserved_weight, self.epochs = unobserved_weight, epochs
        start_ID = torch.randn(n_items, embedding_dim) * INITIAL / math.sqrt(embedding_dim)
        self.register_buffer("item_factors", start_ID)
        self.register_buffer("gram", start_ID.t() @ start_ID)

    @torch.no_grad()
    def solve(self, events: TrainingEvents) -> None:
        """Alternates between the factors of units and items."""
        matrix, device = interaction_matrix(events), self.item_factors.device
        units, items = rows_of(matrix, device), rows_of(matrix.T.tocsr(), device)
        for _ in range(self.epochs):
            unit_factors = self.factors(*units, self.item_factors, self.gram)
            self.item_factors.copy_(self.factors(*items, unit_factors, unit_factors.t() @ unit_factors))
            torch.mm(self.item_factors.t(), self.item_factors, out=self.gram)

    def factors(self, index_N: Tensor, offsets: Tensor, other_ID: Tensor, gram: Tensor) -> Tensor:
        """The best factors of one side given those of the other, float32 [B, D].

        Args:
            index_N, offsets: What each row took, ragged.
            other_ID: Factors of what is taken.
            gram: Their Gram matrix, [D, D].
        """
        lengths_B, width = offsets.diff(), other_ID.shape[1]
        strength_B = self.regularization * (lengths_B + self.unobserved_weight * len(other_ID)) ** self.exponent
        solved_BD = other_ID.new_zeros(len(lengths_B), width)
        values_D, basis_DD = torch.linalg.eigh(gram.double())
        weights_D, basis_DD = (self.unobserved_weight * values_D.clamp(min=0)).float(), basis_DD.float()
        rotated_ID = other_ID @ basis_DD
        for rows, longest in blocks(lengths_B, FLOATS_AT_ONCE, width):
            position = torch.arange(longest, device=offsets.device)
            inside = position < lengths_B[rows, None]
            at = (offsets[rows, None] + position).where(inside, 0)
            taken_RLD = F.embedding(index_N[at], rotated_ID).mul_(inside[:, :, None])
            solved_BD[rows] = (few if longest < width else many)(taken_RLD, weights_D + strength_B[rows, None])
        found: Tensor = solved_BD @ basis_DD.t()
        return found

    def embed_users(self, batch: Batch) -> Tensor:
        """w of the batch's units, float32 [B, D]: inner products with the items' factors are the scores."""
        with torch.autocast(batch["items"].device.type, enabled=False):
            return self.factors(batch["items"], batch["items_offsets"], self.item_factors, self.gram)

    def embed_items(self, batch: Batch) -> Tensor:
        """h of the items in `batch["item"]`, float32 [B, D]."""
        return self.item_factors[batch["item"]]

    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""
        return self.embed_users(batch) @ self.item_factors.t()

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item per unit, float32 [B]."""
        return (self.embed_users(batch) * self.item_factors[items_B]).sum(1)


def rows_of(matrix: Sparse, device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns of each row of a sparse matrix, ragged, int64."""
    columns, offsets = torch.from_numpy(matrix.indices).long(), torch.from_numpy(matrix.indptr).long()
    return columns.to(device), offsets.to(device)


def many(taken_RLD: Tensor, diagonal_RD: Tensor) -> Tensor:
    """(A + Z^T Z)^-1 Z^T 1 of R rows with a diagonal A each, from their D x D systems, [R, D]."""
    left = taken_RLD.mT @ taken_RLD
    left.diagonal(dim1=1, dim2=2).add_(diagonal_RD)
    return torch.cholesky_solve(taken_RLD.sum(1)[:, :, None], torch.linalg.cholesky(left))[:, :, 0]


def few(taken_RLD: Tensor, diagonal_RD: Tensor) -> Tensor:
    """The same from L x L systems: A^-1 Z^T (1 + Z A^-1 Z^T)^-1 1, by Woodbury's identity; rows of 0 add nothing."""
    scaled_RLD = taken_RLD / diagonal_RD[:, None]
    left = scaled_RLD @ taken_RLD.mT
    left.diagonal(dim1=1, dim2=2).add_(1)
    ones = left.new_ones(len(left), left.shape[1], 1)
    shares_RL1 = torch.cholesky_solve(ones, torch.linalg.cholesky(left))
    solved_RD: Tensor = (shares_RL1.mT @ scaled_RLD)[:, 0]
    return solved_RD


def blocks(lengths_B: Tensor, floats: int, width: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of similar length, with their greatest: so many that vectors and systems have `floats` numbers, or one.

    Empty rows are left out.
    """
    falling, order = lengths_B.sort(descending=True, stable=True)
    lengths = falling[: int((lengths_B > 0).sum())].tolist()
    at = 0
    while at < len(lengths):
        small = min(lengths[at], width)
        end = at + max(1, floats // (lengths[at] * width + small * small))
        yield order[at : min(end, len(lengths))], lengths[at]
        at = end
