"""What models share that have a vector for each user."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from recrun.interfaces import TrainingEvents
from recrun.models.layers.ragged import row_of_entry
from recrun.models.layers.two_tower import Retriever
from recrun.types import Batch


class UserTable(Retriever):
    """Base of models that learn a vector of each user from the pairs of training.

    A user of the log without such pairs (fold-in users of split=strong, users whose first event is validation's) has
    the mean of the vectors of the items in their input, so that they are ranked near these. Users that the log does not
    have are refused: a run's weights go with its vocabulary of users.

    Args:
        n_items: Items in the catalogue.
        pairs: Of training.
        temperature: Divides the scores.
    """

    kind: ClassVar[str] = "pairs"
    known: Tensor

    def __init__(self, n_items: int, pairs: TrainingEvents, temperature: float) -> None:
        super().__init__(n_items, temperature, normalize=False)
        known = torch.zeros(pairs.n_units, dtype=torch.bool)
        known[torch.from_numpy(pairs.unit).long()] = True
        self.register_buffer("known", known)

    @abstractmethod
    def user_vectors(self, user_B: Tensor) -> Tensor:
        """Vectors of users of training, [B, D]."""

    def queries(self, batch: Batch) -> Tensor:
        """Users' vectors, [B, D]."""
        user_B = batch["user"]
        vectors_BD = self.user_vectors(user_B)
        if self.training or self.known[user_B].all():
            return vectors_BD
        return vectors_BD.where(self.known[user_B, None], self.mean_of_items(batch))

    def mean_of_items(self, batch: Batch) -> Tensor:
        """Of the items in each user's input, [B, D]; 0 of none."""
        items_N, offsets = batch["items"], batch["items_offsets"]
        vectors_ND = self.item_vectors(items_N)
        sums_BD = vectors_ND.new_zeros(len(offsets) - 1, vectors_ND.shape[1])
        sums_BD = sums_BD.index_add(0, row_of_entry(offsets, len(items_N)), vectors_ND)
        return sums_BD / offsets.diff().clamp(min=1)[:, None]
