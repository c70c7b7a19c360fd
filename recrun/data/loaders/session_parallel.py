"""Session-parallel mini-batches with shared negatives: for recurrent models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any, ClassVar

import numpy as np

from recrun.data.events.features import FeatureTables
from recrun.data.events.split_log import SplitLog
from recrun.data.loaders.loader import Arrays, tensors
from recrun.data.loaders.popularity import EpochNegatives, PopularitySampler
from recrun.data.loaders.session_schedule import Schedule
from recrun.data.ragged import Ragged
from recrun.data.types import Ids, Int64
from recrun.errors import DataError
from recrun.types import Batch, Count, Index, NonNegative

BLOCK = 16  # training batches that are put together at once: so few that the cache holds them


class SessionParallel:
    """Batches of one transition of each of many sessions, side by side, in order of the sessions' beginnings.

    Training batch: `slot` int64 [B], ascending (a row carries on from the last row of its slot), `first` bool [B] (it
    begins a session), `weight` float32 [B] (1 / slots: the loss of a batch that has shrunk stays a share of the
    whole), `input` and `target` int64 [B], positions in `items`. With bptt > 1 it holds the transitions of so many
    steps, one after another, and `step_groups` int64 says how many each has. Shared by the rows: `items` int64 [U],
    the distinct items at hand: first the C columns (targets and drawn items), ascending, then those that are input
    only. `in_batch` and `sampled` float32 [C], how often each column is a target and how often it was drawn;
    `in_batch_q` and `sampled_q` float32 [C], log(count) and sample_alpha * log(count), the logarithms of the odds of
    being either.

    Evaluation batch: whole sequences, ragged `items`.

    Args:
        num_negatives: Items drawn per batch, shared by its rows.
        sample_alpha: They are drawn in proportion to count^alpha: 0 = uniform, 1 = by popularity.
        bptt: Steps per batch: gradients go back at most so many, and the targets of all of them are negatives too.
    """

    kind: ClassVar[str] = "session_parallel"
    has_labels: ClassVar[bool] = False
    sequential: ClassVar[bool] = True
    needs_order: ClassVar[bool] = True

    def __init__(self, num_negatives: Index = 2048, sample_alpha: NonNegative = 0.5, bptt: Count = 1) -> None:
        self.num_negatives, self.sample_alpha, self.bptt = num_negatives, sample_alpha, bptt

    def bind(self, log: SplitLog, features: FeatureTables) -> SessionBatches:
        """The batches of a log; features are not read."""
        return SessionBatches(self, log)


class SessionBatches:
    """See `SessionParallel`."""

    unit: ClassVar[str] = "events"
    sizes: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, keys: SessionParallel, log: SplitLog) -> None:
        self.num_negatives, self.bptt, self.n_items = keys.num_negatives, keys.bptt, len(log.items)
        self.train = _by_start(log)
        counts = np.bincount(self.train.items, minlength=self.n_items)
        self.popularity = PopularitySampler(counts, keys.sample_alpha)
        self.log_count = np.log(np.maximum(counts, 1)).astype(np.float32)
        self.alpha = np.float32(keys.sample_alpha)
        self.schedule = lru_cache(maxsize=2)(lambda size: Schedule.of(self.train.offsets, size))

    def train_size(self) -> int:
        """Transitions: events less sessions."""
        return int(np.maximum(self.train.lengths() - 1, 0).sum())

    def train_steps(self, batch_size: int) -> int:
        """Batches in an epoch: at its end slots have nothing more to read, and one may hold many steps."""
        return -(-len(self.schedule(batch_size)) // self.bptt)

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int, stride: int) -> Iterator[Batch]:
        """All transitions once, in the same order in every epoch; `rng` decides the negatives.

        Raises:
            DataError: No training session has two events.
        """
        if not self.train_size():
            raise DataError(
                f"there is nothing to train on: of {len(self.train)} training sessions none has two events; "
                "lower the held-out share, or give more data"
            )
        schedule = self.schedule(batch_size)
        negatives = EpochNegatives(self.popularity, self.num_negatives, rng)
        count = self.train_steps(batch_size)
        blocks = (range(at, min(at + BLOCK, count)) for at in range(start, count, BLOCK))
        return islice(chain.from_iterable(self._block(schedule, block, negatives) for block in blocks), 0, None, stride)

    def inputs(self, sequences: Ragged, unit: Int64) -> Arrays:
        """The whole sequences."""
        return {"items": sequences.items.astype(np.int64), "items_offsets": sequences.offsets}

    def vocabulary(self) -> dict[str, Ids]:
        """None."""
        return {}

    def _block(self, schedule: Schedule, batches: range, negatives: EpochNegatives) -> Iterator[Batch]:
        """Some batches, put together at once: item i of the k-th of them counts as item i + k * n_items of them all."""
        steps = schedule.bounds[batches.start * self.bptt : batches.stop * self.bptt + 1]
        step = np.minimum(np.arange(len(batches) + 1) * self.bptt, len(steps) - 1)
        now, rows = slice(steps[0], steps[-1]), np.diff(steps[step])
        event, of_row = schedule.event[now], np.repeat(np.arange(len(batches)), rows)
        first = np.arange(len(batches) + 1) * self.n_items
        inputs, targets = (self.train.items[positions] + first[of_row] for positions in (event, event + 1))
        drawn = np.stack([negatives.at(batch) for batch in batches]) + first[:-1, None]
        columns, copies = np.unique(np.concatenate([drawn.ravel(), targets]), return_counts=True)
        begin, target = columns.searchsorted(first), columns.searchsorted(targets)
        position, items, sizes = _input_positions(inputs, of_row, columns, first)
        in_batch = np.bincount(target, minlength=len(columns))
        log_count = self.log_count[columns - np.repeat(first[:-1], np.diff(begin))]
        by_row = {
            "slot": schedule.slot[now],
            "first": schedule.first[now],
            "weight": np.full(len(event), 1 / schedule.slots, np.float32),
            "input": position,
            "target": target - begin[of_row],
        }
        by_column = {
            "in_batch": in_batch.astype(np.float32),
            "sampled": (copies - in_batch).astype(np.float32),
            "in_batch_q": log_count,
            "sampled_q": log_count * self.alpha,
        }
        by_step = {"step_groups": np.diff(steps)} if self.bptt > 1 else {}
        by_item = {"items": items}
        return _in_turn((by_row, rows), (by_column, np.diff(begin)), (by_item, sizes), (by_step, np.diff(step)))


def _by_start(log: SplitLog) -> Ragged:
    """The training sessions in order of their beginnings; without an order, as they are numbered."""
    index = np.flatnonzero(log.train.lengths())
    if log.start is not None:
        index = index[np.argsort(log.start[index], kind="stable")]
    return log.train.take(index)


def _input_positions(inputs: Int64, of_row: Int64, columns: Int64, first: Int64) -> tuple[Int64, Int64, Int64]:
    """Positions of a block's inputs among the items of their batch, these items, and how many each batch has.

    A batch's items are its columns and then those inputs that are none.
    """
    position, begin = columns.searchsorted(inputs), columns.searchsorted(first)
    missing = columns.take(position, mode="clip") != inputs
    others, rank = np.unique(inputs[missing], return_inverse=True)
    before = others.searchsorted(first)
    position[missing] = rank + (begin[1:] - before[:-1])[of_row[missing]]
    items = np.insert(columns, np.repeat(begin[1:], np.diff(before)), others)
    sizes = np.diff(begin + before)
    return position - begin[of_row], items - np.repeat(first[:-1], sizes), sizes


def _in_turn(*groups: tuple[dict[str, Any], Int64]) -> Iterator[Batch]:
    """Batches from arrays that hold one after another; each group comes with how much of its arrays each batch has."""
    fields: dict[str, Any] = {}
    for arrays, sizes in groups:
        fields |= {name: whole.split_with_sizes(sizes.tolist()) for name, whole in tensors(**arrays).items()}
    return (dict(zip(fields, batch, strict=True)) for batch in zip(*fields.values(), strict=True))
