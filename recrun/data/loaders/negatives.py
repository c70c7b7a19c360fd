"""What a training batch compares its targets with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.loaders.samplers import Positives, Sampler, SamplerName, refuse_too_many
from recrun.data.ragged import Ragged, expand
from recrun.data.types import Float, Ids, Int64
from recrun.errors import ConfigError
from recrun.types import Index, NonNegative

ALPHA = 0.75  # of sampler=popularity, where nothing else is said

Whose: TypeAlias = Literal["query", "batch"]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How a loader draws negatives.

    Attributes:
        num_negatives: K, drawn afresh in each epoch; 0 = none.
        negatives: Whether they are each query's own, or shared by the batch.
        sampler: The distribution they are drawn from: uniform, count^sample_alpha ("popularity") or log(1 + count).
        sample_alpha: For popularity; None = 0.75.
        avoid_positives: Whether the items that a user took in training are never negatives to them.

    Raises:
        ConfigError: sample_alpha is given where it does nothing.
    """

    num_negatives: Index = 4
    negatives: Whose = "query"
    sampler: SamplerName = "uniform"
    sample_alpha: NonNegative | None = None
    avoid_positives: bool = True

    def __post_init__(self) -> None:
        if self.sample_alpha is not None and self.sampler != "popularity":
            raise ConfigError(
                f"loader.sample_alpha={self.sample_alpha} does nothing with loader.sampler={self.sampler}; "
                "it is for loader.sampler=popularity"
            )

    @property
    def alpha(self) -> float:
        """The exponent of sampler=popularity."""
        return ALPHA if self.sample_alpha is None else self.sample_alpha


class NegativeSampler:
    """Draws negatives for the queries of a batch; see `recrun.data.loaders.histories.Histories` for what it gives.

    Args:
        train: The training events of each unit: how often items occur, and who took which.
        units: Ids of the units, for messages.
        n_items: Size of the catalogue.
        target_share: Of each item among the targets, float64 [n_items].
        how: What is drawn.
    """

    def __init__(self, train: Ragged, units: Ids, n_items: int, target_share: Float, how: Drawing) -> None:
        self.target_share, self.how, self.units = target_share, how, units
        self.sampler = Sampler(np.bincount(train.items, minlength=n_items), how.sampler, how.alpha)
        self.positives = Positives.of(train.rows(), train.items.astype(np.int64), len(units), n_items)

    def refuse_nothing_to_draw(self) -> None:
        """Raises if there are not enough negatives.

        Raises:
            ConfigError: More are wanted than the catalogue has.
            DataError: A user took everything that can be drawn.
        """
        refuse_too_many(self.how.num_negatives, self.positives.n_items)
        if self.how.num_negatives and self.how.negatives == "query" and self.how.avoid_positives:
            self.sampler.refuse_if_nothing_is_left(self.positives, self.units)

    def draw(self, rng: np.random.Generator, unit_Q: Int64, part: slice) -> Int64:
        """Negatives for some of a batch's queries: [q, size] where each has its own, [size] where all share them.

        Drawn are those of the whole batch, so that its parts, on several devices, hold together what it holds.

        Args:
            rng: The batch's.
            unit_Q: The unit of each query of the batch.
            part: Which of the queries.
        """
        how = self.how
        if how.negatives == "batch":
            return self.sampler.draw(rng, how.num_negatives)
        if how.avoid_positives:
            return self.sampler.draw_others(rng, unit_Q, how.num_negatives, self.positives)[part]
        return self.sampler.draw(rng, len(unit_Q) * how.num_negatives).reshape(len(unit_Q), how.num_negatives)[part]

    def fields(self, target_Q: Int64, unit_R: Int64, drawn: Int64, scratch: Int64) -> dict[str, np.ndarray]:
        """Fields of a training batch with what `draw` gave for it.

        Args:
            target_Q: The target of each query.
            unit_R: The unit of each row.
            drawn: From `draw`.
            scratch: int64 [n_items], overwritten.
        """
        if self.how.negatives == "batch":
            return self._shared(target_Q, unit_R, drawn, scratch)
        return self._candidates(target_Q, drawn, scratch) if self.how.num_negatives else {}

    def _candidates(self, target_Q: Int64, drawn: Int64, scratch: Int64) -> dict[str, np.ndarray]:
        """Each target, and negatives of its own behind it, as positions among the batch's distinct items."""
        candidates = np.concatenate([target_Q[:, None], drawn], 1)
        columns, position = distinct_items(candidates.ravel(), scratch)
        label = np.zeros(candidates.shape, np.float32)
        label[:, 0] = 1
        return {"columns": columns, "candidates": position.reshape(candidates.shape), "label": label}

    def _shared(self, target_Q: Int64, unit_R: Int64, drawn: Int64, scratch: Int64) -> dict[str, np.ndarray]:
        """The items that all queries of a batch are compared with."""
        columns, position = distinct_items(np.concatenate([target_Q, drawn]), scratch)
        column, sampled = np.split(position, [len(target_Q)])
        fields: dict[str, np.ndarray] = {
            "columns": columns,
            "column": column,
            "sampled": np.bincount(sampled, minlength=len(columns)).astype(np.float32),
            "in_batch_expected": ((len(target_Q) - 1) * self.target_share[columns]).astype(np.float32),
            "sampled_expected": (self.how.num_negatives * self.sampler.share[columns]).astype(np.float32),
        }
        if self.how.avoid_positives:
            users, owner = np.unique(unit_R, return_inverse=True)
            position, offsets = expand(self.positives.offsets, users)
            item = self.positives.item[position]
            column = np.minimum(scratch[item], len(columns) - 1)  # of items that are no column: left over from before
            there = np.flatnonzero(columns[column] == item)
            user = np.repeat(np.arange(len(users)), np.diff(offsets))
            fields |= {"owner": owner, "own_user": user[there], "own_column": column[there]}
        return fields


def distinct_items(item: Int64, scratch: Int64) -> tuple[Int64, Int64]:
    """The distinct ones, ascending, [C], and which of these each is, [N]; `scratch` [n_items] is overwritten."""
    at = np.arange(len(item))
    scratch[item] = at  # of equal ones the last one stays
    columns = np.sort(item[scratch[item] == at])
    scratch[columns] = at[: len(columns)]
    return columns, scratch[item]
