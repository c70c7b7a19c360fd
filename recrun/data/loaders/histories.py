"""Histories in order, with features and negatives: for two-tower and sequence models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recrun.data.events.features import FeatureTables
from recrun.data.events.split_log import SplitLog
from recrun.data.loaders.loader import Arrays, tensors
from recrun.data.loaders.negatives import Drawing, NegativeSampler
from recrun.data.loaders.training_queries import (
    Epoch,
    RowName,
    interactions,
    learners,
    sequences,
    target_shares,
    training_targets,
)
from recrun.data.ragged import Ragged, spans
from recrun.data.types import Ids, Int64, Times
from recrun.errors import DataError
from recrun.types import Batch, Count


@dataclass(frozen=True, kw_only=True)
class Histories(Drawing):
    """Batches of histories, with the negatives that training compares with.

    Every batch: `sparse` int32 [R, F], fields of each row's user; `items` int64, ragged, each row's latest items,
    oldest first, at most `his_size`; `query` int64 [Q], ascending: positions in `items` whose next item is wanted. A
    row has a query at its end, and more before with rows=sequences. `longest` int64 [T] is 0, 1, ...: T is the length
    of the longest row, known without synchronising with a GPU, as it is a shape. With `times`, and where the data have
    them, `times` int64 [N], the seconds of each of `items`.

    Training batch, besides: `target` int64 [Q]; `columns` int64 [C], the distinct items among targets and drawn
    ones. With negatives=query, `candidates` int64 [Q, 1 + K], positions in `columns`, the target's first, and `label`
    float32 of that shape. With negatives=batch: `column` int64 [Q], each target's position; `sampled` float32 [C], how
    often each was drawn; `in_batch_expected`, `sampled_expected` float32 [C], how often it would be among the other
    targets, and drawn, on average. With avoid_positives also which columns a user took: `own_user`, `own_column`
    int64 [P], users numbered as in `owner` int64 [R], each row's one. With negatives=query and none of them: neither.

    Attributes:
        his_size: Items of a history that a model reads.
        rows: A training row per interaction, all shuffled; or per unit, with all positions of a window of `his_size`
            items, another window in each epoch.
        times: Whether batches hold the times of a history's items, where the data have times.
    """

    kind: ClassVar[str] = "histories"
    needs_order: ClassVar[bool] = True
    has_candidates: ClassVar[bool] = True

    his_size: Count = 50
    rows: RowName = "interactions"
    times: bool = False

    def bind(self, log: SplitLog, features: FeatureTables) -> HistoryBatches:
        """The batches of a log."""
        return HistoryBatches(self, log, features)


class HistoryBatches:
    """See `Histories`."""

    def __init__(self, keys: Histories, log: SplitLog, features: FeatureTables) -> None:
        self.his_size, self.rows, self.train, self.n_items = keys.his_size, keys.rows, log.train, len(log.items)
        self.unit = "users" if keys.rows == "sequences" else "interactions"
        self.users, self.items = features.users, features.items
        self.sizes: Mapping[str, Any] = {
            "max_length": keys.his_size,
            "user_features": self.users.features,
            "item_features": self.items.features,
            "item_values": self.items.values,
            "item_ids": log.items,
            "has_times": log.time is not None,
        }
        self.names = log.units
        self.drawing: Drawing = keys
        self._sampler: NegativeSampler | None = None

    @property
    def sampler(self) -> NegativeSampler:
        """Draws negatives; made when training begins, for data that only serve to evaluate need not allow it."""
        if self._sampler is None:
            if not len(learners(self.train)):
                raise DataError(
                    f"there is nothing to train on: none of {len(self.train)} units has two training events; "
                    "give more data, or hold out less"
                )
            shares = target_shares(self.train, self.rows, self.his_size, self.n_items)
            self._sampler = NegativeSampler(self.train, self.names, self.n_items, shares, self.drawing)
            self._sampler.refuse_nothing_to_draw()
        return self._sampler

    def train_size(self) -> int:
        """Training rows: events after a unit's first, or units with two at least."""
        return len(training_targets(self.train)[0]) if self.rows == "interactions" else len(learners(self.train))

    def train_steps(self, batch_size: int) -> int:
        """Batches in one training epoch."""
        return -(-self.train_size() // batch_size)

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int, stride: int) -> Iterator[Batch]:
        """All rows once, in the order that `rng` decides; the last batch may be short.

        With `stride` n, n batches in turn are the parts of one of n * batch_size rows, and have its negatives.
        """
        sampler = self.sampler
        key = int(rng.integers(2**63))
        rows = interactions if self.rows == "interactions" else sequences
        epoch = rows(self.train, rng, self.his_size)
        scratch = np.zeros(self.n_items, np.int64)
        for at in range(start, -(-len(epoch.unit) // batch_size), stride):
            step = at // stride
            part = slice(at * batch_size, (at + 1) * batch_size)
            whole = slice(step * stride * batch_size, (step + 1) * stride * batch_size)
            yield self._train_batch(sampler, epoch, part, whole, np.random.default_rng([key, step]), scratch)

    def _train_batch(
        self,
        sampler: NegativeSampler,
        epoch: Epoch,
        part: slice,
        whole: slice,
        rng: np.random.Generator,
        scratch: Int64,
    ) -> Batch:
        queries = epoch.queries(part, self.train)
        before = len(epoch.query_units(slice(whole.start, part.start)))
        drawn = sampler.draw(rng, epoch.query_units(whole), slice(before, before + len(queries.position)))
        fields: dict[str, Any] = {"sparse": self.users.values["sparse"][queries.unit], "items": queries.items}
        fields |= {"items_offsets": queries.offsets, "longest": _longest(queries.offsets)}
        fields |= {"query": queries.position, "target": queries.target, **_times(queries.times)}
        return tensors(**fields, **sampler.fields(queries.target, queries.unit, drawn, scratch))

    def inputs(self, sequences: Ragged, unit: Int64) -> Arrays:
        """The latest items of each sequence, with the fields of its user, and one query at its end."""
        end = sequences.offsets[1:]
        positions, offsets = spans(np.maximum(sequences.offsets[:-1], end - self.his_size), end)
        return {
            "sparse": self.users.values["sparse"][unit],
            "items": sequences.items[positions].astype(np.int64),
            "items_offsets": offsets,
            "longest": _longest(offsets),
            "query": offsets[1:] - 1,
            **_times(None if sequences.times is None else sequences.times[positions]),
        }

    def vocabulary(self) -> dict[str, Ids]:
        """What the ids of features mean."""
        return {"user_features": self.users.names, "item_features": self.items.names}


def _times(times: Times | None) -> Arrays:
    return {} if times is None else {"times": times.astype(np.int64)}


def _longest(offsets: Int64) -> Int64:
    return np.arange(np.diff(offsets).max(initial=0), dtype=np.int64)
