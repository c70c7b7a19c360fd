"""Popularity: everybody is recommended what occurs most often in training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recrun.interfaces import TrainingEvents
from recrun.types import Batch, Count, FromData


class Popularity(nn.Module):
    """The score of an item is the number of its training events, the same for everybody.

    Args:
        n_items: Items in the catalogue.
    """

    kind: ClassVar[tuple[str, ...]] = ("user_rows", "pairs", "histories", "session_parallel")
    counts: Tensor

    def __init__(self, n_items: FromData[Count]) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(n_items))

    def solve(self, events: TrainingEvents) -> None:
        """Counts the training events of each item."""
        counts = np.bincount(events.item, minlength=events.n_items)
        self.counts.copy_(torch.from_numpy(counts))

    def forward(self, batch: Batch) -> Tensor:
        """Scores of all items, float32 [B, I]."""
        return self.counts.repeat(len(batch["items_offsets"]) - 1, 1)

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item per unit, float32 [B]."""
        return self.counts[items_B]
