"""What a training batch of histories compares its targets with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events.rows import Float, Int64
from recrun.data.loaders.queries import Asked
from recrun.data.loaders.samplers import Positives, Sampler, SamplerName, refuse_too_many
from recrun.data.loaders.user_histories import Histories
from recrun.data.ragged import expand

Whose: TypeAlias = Literal["query", "batch"]


@dataclass(frozen=True)
class Drawing:
    """How negatives are drawn.

    Attributes:
        size: Negatives of each query, or of the batch.
        whose: Whether they are each query's own.
        law, alpha: See `Sampler`.
        avoid_positives: Whether the items that a user took in training are never negatives to him.
    """

    size: int
    whose: Whose
    law: SamplerName
    alpha: float
    avoid_positives: bool


class Contrast:
    """Draws negatives for the questions of a batch; see `recrun.data.events.retrieval.Retrieval` for what it gives.

    Args:
        made: The histories: how often items occur in training, and who took which.
        target_share: Of each item among what training asks for, float64 [n_items].
        how: What is drawn.
    """

    def __init__(self, made: Histories, target_share: Float, how: Drawing) -> None:
        self.target_share, self.how, self.users = target_share, how, made.users
        user, item = made.training()
        n_items = len(made.items)
        self.sampler = Sampler(np.bincount(item, minlength=n_items), how.law, how.alpha)
        self.positives = Positives.of(user, item, len(made.users), n_items)

    def refuse_nothing_to_draw(self) -> None:
        """Raises if there are not enough negatives.

        Raises:
            ConfigError: More are wanted than the catalogue has.
            DataError: A user took everything that can be drawn.
        """
        refuse_too_many(self.how.size, self.positives.n_items)
        if self.how.size and self.how.whose == "query" and self.how.avoid_positives:
            self.sampler.refuse_if_nothing_is_left(self.positives, self.users)

    def draw(self, rng: np.random.Generator, asker_Q: Int64, part: slice) -> Int64:
        """Negatives for some of a batch's questions: [q, size] where each has its own, [size] where all share them.

        Drawn are those of the whole batch, so that its parts, on several devices, hold together what it holds.

        Args:
            rng: The batch's.
            asker_Q: The user of each question of the batch.
            part: Which of the questions.
        """
        how = self.how
        if how.whose == "batch":
            return self.sampler.draw(rng, how.size)
        if how.avoid_positives:
            return self.sampler.draw_others(rng, asker_Q, how.size, self.positives)[part]
        return self.sampler.draw(rng, len(asker_Q) * how.size).reshape(len(asker_Q), how.size)[part]

    def of(self, asked: Asked, drawn: Int64, scratch: Int64) -> dict[str, np.ndarray]:
        """Fields of a training batch with what `draw` gave for it. `scratch` [n_items] is overwritten."""
        if self.how.whose == "batch":
            return self._shared(asked, drawn, scratch)
        return self._candidates(asked, drawn, scratch) if self.how.size else {}

    def _candidates(self, asked: Asked, drawn: Int64, scratch: Int64) -> dict[str, np.ndarray]:
        """Each target, and negatives of its own behind it, as places among the batch's distinct items."""
        candidates = np.concatenate([asked.target[:, None], drawn], 1)
        columns, place = numbered(candidates.ravel(), scratch)
        label = np.zeros(candidates.shape, np.float32)
        label[:, 0] = 1
        return {"columns": columns, "candidates": place.reshape(candidates.shape), "label": label}

    def _shared(self, asked: Asked, drawn: Int64, scratch: Int64) -> dict[str, np.ndarray]:
        """The items that all queries of a batch are compared with."""
        columns, place = numbered(np.concatenate([asked.target, drawn]), scratch)
        column, sampled = np.split(place, [len(asked.target)])
        fields: dict[str, np.ndarray] = {
            "columns": columns,
            "column": column,
            "sampled": np.bincount(sampled, minlength=len(columns)).astype(np.float32),
            "in_batch_expected": ((len(asked.target) - 1) * self.target_share[columns]).astype(np.float32),
            "sampled_expected": (self.how.size * self.sampler.share[columns]).astype(np.float32),
        }
        if self.how.avoid_positives:
            users, owner = np.unique(asked.user, return_inverse=True)
            place, offsets = expand(self.positives.offsets, users)
            item = self.positives.item[place]
            column = np.minimum(scratch[item], len(columns) - 1)  # of items that are no column: left over from before
            there = np.flatnonzero(columns[column] == item)
            user = np.repeat(np.arange(len(users)), np.diff(offsets))
            fields |= {"owner": owner, "own_user": user[there], "own_column": column[there]}
        return fields


def numbered(item: Int64, scratch: Int64) -> tuple[Int64, Int64]:
    """The distinct ones, ascending, [C], and which of these each is, [N]; `scratch` [n_items] is overwritten."""
    at = np.arange(len(item))
    scratch[item] = at  # of equal ones the last stands
    columns = np.sort(item[scratch[item] == at])
    scratch[columns] = at[: len(columns)]
    return columns, scratch[item]
