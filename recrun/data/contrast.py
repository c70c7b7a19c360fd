"""What a training batch of histories compares its targets with."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from recrun.data.histories import Histories
from recrun.data.negatives import Positives, Sampler, SamplerName, refuse_too_many
from recrun.data.questions import Asked
from recrun.data.ragged import expand
from recrun.data.rows import Int64

Whose: TypeAlias = Literal["query", "batch"]


class Contrast:
    """Draws negatives for the questions of a batch; see `recrun.data.retrieval.Retrieval` for what it gives.

    Args:
        made: The histories: how often items occur in training, and who took which.
        size: Negatives of each query, or of the batch.
        whose: Whether they are each query's own.
        law, alpha: See `Sampler`.
        avoid_positives: Whether the items that a user took in training are never negatives to him.

    Raises:
        ConfigError: More are wanted than the catalogue has.
        DataError: A user took everything that can be drawn.
    """

    def __init__(
        self, made: Histories, size: int, whose: Whose, law: SamplerName, alpha: float, avoid_positives: bool
    ) -> None:
        self.size, self.whose, self.avoid_positives = size, whose, avoid_positives
        user, item = made.training()
        n_items = len(made.items)
        refuse_too_many(size, n_items)
        counts = np.bincount(item, minlength=n_items)
        self.sampler = Sampler(counts, law, alpha)
        self.positives = Positives.of(user, item, len(made.users), n_items)
        if size and whose == "query" and avoid_positives:
            self.sampler.refuse_if_nothing_is_left(self.positives, made.users)
        firsts = made.offsets[:-1][made.trained > made.offsets[:-1]]
        as_target = counts - np.bincount(made.item[firsts], minlength=n_items)
        self.target_share = as_target / as_target.sum()

    def of(self, asked: Asked, rng: np.random.Generator, scratch: Int64) -> dict[str, np.ndarray]:
        """Fields of a training batch. `scratch` [n_items] is overwritten."""
        if self.whose == "batch":
            return self._columns(asked, rng, scratch)
        return self._candidates(asked, rng) if self.size else {}

    def _candidates(self, asked: Asked, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Each target, and negatives of its own behind it."""
        user = asked.user[asked.row]
        if self.avoid_positives:
            drawn = self.sampler.draw_others(rng, user, self.size, self.positives)
        else:
            drawn = self.sampler.draw(rng, len(user) * self.size).reshape(len(user), -1)
        candidates = np.concatenate([asked.target[:, None], drawn], 1)
        label = np.zeros(candidates.shape, np.float32)
        label[:, 0] = 1
        return {"candidates": candidates, "label": label}

    def _columns(self, asked: Asked, rng: np.random.Generator, scratch: Int64) -> dict[str, np.ndarray]:
        """The items that all queries of a batch are compared with."""
        drawn = self.sampler.draw(rng, self.size)
        columns = np.unique(np.concatenate([asked.target, drawn]))
        scratch[columns] = np.arange(len(columns))
        fields = {
            "columns": columns,
            "column": scratch[asked.target],
            "sampled": np.bincount(scratch[drawn], minlength=len(columns)).astype(np.float32),
            "in_batch_expected": ((len(asked.target) - 1) * self.target_share[columns]).astype(np.float32),
            "sampled_expected": (self.size * self.sampler.share[columns]).astype(np.float32),
        }
        if self.avoid_positives:
            users, owner = np.unique(asked.user, return_inverse=True)
            place, offsets = expand(self.positives.offsets, users)
            item = self.positives.item[place]
            column = np.minimum(scratch[item], len(columns) - 1)  # of items that are no column: left over from before
            there = np.flatnonzero(columns[column] == item)
            user = np.repeat(np.arange(len(users)), np.diff(offsets))
            fields |= {"owner": owner, "own_user": user[there], "own_column": column[there]}
        return fields
