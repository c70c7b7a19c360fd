"""What models share that score a catalogue from a unit's set of items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.interfaces import TrainingEvents
from recrun.types import Batch


class SetModel(nn.Module, ABC):
    """A model whose scores follow from the batch's items alone: units that were not trained on are served as well."""

    kind: ClassVar[str] = "user_rows"

    @abstractmethod
    def solve(self, events: TrainingEvents) -> None:
        """Sets the buffers from all training events."""

    @abstractmethod
    def scores(self, batch: Batch) -> Tensor:
        """Of all items, float32 [B, I]."""

    def forward(self, batch: Batch) -> Tensor:
        """Scores of all items, float32 [B, I], also under autocast: they are sums of what was solved in float32."""
        with torch.autocast(batch["items"].device.type, enabled=False):
            return self.scores(batch)

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item per unit, float32 [B]."""
        return self.forward(batch).gather(1, items_B[:, None])[:, 0]
