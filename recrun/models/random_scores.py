"""Random scores: what a ranking is worth that knows nothing; the floor of every comparison."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from recrun.interfaces import TrainingEvents
from recrun.types import Batch, Count, FromData, Index

# Odd multipliers of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014), as signed.
GOLDEN, FIRST, SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685
BITS = 24  # a float32 holds so many exactly


class RandomScores(nn.Module):
    """The score of an item is a hash of seed, unit and item: random, yet the same however units are batched.

    Args:
        n_items: Items in the catalogue.
        seed: Of the scores; apart from the run's seed.
    """

    kind: ClassVar[tuple[str, ...]] = ("user_rows", "pairs", "histories", "session_parallel")
    key: Tensor

    def __init__(self, n_items: FromData[Count], *, seed: Index = 0) -> None:
        super().__init__()
        self.n_items = n_items
        self.register_buffer("key", torch.tensor(seed))

    def solve(self, events: TrainingEvents) -> None:
        """Nothing is learned."""

    def forward(self, batch: Batch) -> Tensor:
        """Scores of all items, float32 [B, I], in [0, 1)."""
        return self.scores(self.units(batch)[:, None], torch.arange(self.n_items, device=self.key.device))

    def predict(self, batch: Batch, items_B: Tensor) -> Tensor:
        """The score of one item per unit, float32 [B]."""
        return self.scores(self.units(batch), items_B)

    def units(self, batch: Batch) -> Tensor:
        """Index of each unit, int64 [B]; 0 where the batch does not say it."""
        return batch["user"] if "user" in batch else batch["items_offsets"][1:] * 0

    def scores(self, unit: Tensor, item: Tensor) -> Tensor:
        """A uniform number for each pair of two int64 tensors of shapes that broadcast."""
        hashed: Tensor = mixed(mixed(mixed(self.key) + unit) + item) & (2**BITS - 1)
        uniform: Tensor = hashed.float() / 2**BITS
        return uniform


def mixed(x: Tensor) -> Tensor:
    """SplitMix64's mixing of int64, which wraps around."""
    x = x * GOLDEN + GOLDEN
    x = (x ^ shifted(x, 30)) * FIRST
    x = (x ^ shifted(x, 27)) * SECOND
    x = x ^ shifted(x, 31)
    return x


def shifted(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right."""
    without_sign: Tensor = (x >> bits) & (2 ** (64 - bits) - 1)
    return without_sign
