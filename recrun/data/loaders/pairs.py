"""Pairs of a user and an item, with negatives: for matrix factorisation and models of the graph of such pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from recrun.data.events.features import FeatureTables
from recrun.data.events.split_log import SplitLog
from recrun.data.loaders.loader import Arrays, tensors
from recrun.data.loaders.negatives import Drawing, NegativeSampler
from recrun.data.ragged import Ragged
from recrun.data.types import Float, Ids, Int64
from recrun.interfaces import TrainingEvents
from recrun.types import Batch, Index

Sampling: TypeAlias = Literal["pairs", "users"]


@dataclass(frozen=True, kw_only=True)
class Pairs(Drawing):
    """Batches of the distinct pairs of a unit and an item that it took in training.

    Training batch: `user` int64 [B], `target` int64 [B], and fields of negatives as in
    `recrun.data.loaders.histories.Histories`, where each row has one query: `columns` int64 [C] and, with
    negatives=query, `candidates` int64 [B, 1 + K] and `label` float32 [B, 1 + K].

    Batch for evaluation: `user` int64 [B] and, ragged, `items` int64, ascending, without repetition.

    Attributes:
        sampling: What an epoch is. pairs: each pair once, shuffled. users: as many draws as there are pairs, with
            replacement, of a unit (all alike) and of one of its items: the authors' code of LightGCN. It gives those
            with few pairs more weight.
    """

    kind: ClassVar[str] = "pairs"
    has_candidates: ClassVar[bool] = True

    num_negatives: Index = 1
    sampling: Sampling = "pairs"

    def bind(self, log: SplitLog, features: FeatureTables) -> PairBatches:
        """The batches of a log; features are not read."""
        return PairBatches(self, log)


class PairBatches:
    """See `Pairs`."""

    unit: ClassVar[str] = "pairs"

    def __init__(self, keys: Pairs, log: SplitLog) -> None:
        self.drawing, self.sampling, self.names, self.n_items = keys, keys.sampling, log.units, len(log.items)
        self.rows = log.train.sets(self.n_items)
        self.user = self.rows.rows()
        pairs = TrainingEvents(self.user.astype(np.int32), self.rows.items, len(log.units), self.n_items)
        self.sizes: Mapping[str, Any] = {"pairs": pairs}

    @cached_property
    def sampler(self) -> NegativeSampler:
        """Draws negatives; made when training begins, for data that only serve to evaluate need not allow it."""
        sampler = NegativeSampler(self.rows, self.names, self.n_items, self.target_share(), self.drawing)
        sampler.refuse_nothing_to_draw()
        return sampler

    def target_share(self) -> Float:
        """Of each item among the targets of an epoch, float64 [n_items]."""
        weight = None if self.sampling == "pairs" else 1 / np.diff(self.rows.offsets)[self.user]
        count = np.bincount(self.rows.items, weight, minlength=self.n_items)
        share: Float = count / count.sum()
        return share

    def epoch(self, rng: np.random.Generator) -> Int64:
        """Positions of an epoch's pairs in `rows`, [train_size]."""
        if self.sampling == "pairs":
            return rng.permutation(self.train_size())
        length = np.diff(self.rows.offsets)
        user = rng.choice(np.flatnonzero(length), self.train_size())
        position: Int64 = self.rows.offsets[user] + (rng.random(self.train_size()) * length[user]).astype(np.int64)
        return position

    def train_size(self) -> int:
        """Distinct pairs."""
        return len(self.user)

    def train_steps(self, batch_size: int) -> int:
        """Batches in one training epoch."""
        return -(-self.train_size() // batch_size)

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int, stride: int) -> Iterator[Batch]:
        """An epoch's pairs, as `rng` decides; the last batch may be short.

        With `stride` n, n batches in turn are the parts of one of n * batch_size rows, and have its negatives.
        """
        sampler, key = self.sampler, int(rng.integers(2**63))
        order, scratch = self.epoch(rng), np.zeros(self.n_items, np.int64)
        for at in range(start, self.train_steps(batch_size), stride):
            step, before = divmod(at, stride)
            whole = order[step * stride * batch_size : (step + 1) * stride * batch_size]
            part = slice(before * batch_size, (before + 1) * batch_size)
            drawn = sampler.draw(np.random.default_rng([key, step]), self.user[whole], part)
            user, target = self.user[whole[part]], self.rows.items[whole[part]].astype(np.int64)
            yield tensors(user=user, target=target, **sampler.fields(target, user, drawn, scratch))

    def inputs(self, sequences: Ragged, unit: Int64) -> Arrays:
        """The sequences as sets."""
        row = sequences.sets(self.n_items)
        return {"user": unit, "items": row.items.astype(np.int64), "items_offsets": row.offsets}

    def vocabulary(self) -> dict[str, Ids]:
        """None."""
        return {}
