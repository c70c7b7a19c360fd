"""Each unit's items as a set: for autoencoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from recrun.data.events.features import FeatureTables
from recrun.data.events.split_log import SplitLog
from recrun.data.loaders.loader import Arrays, tensors
from recrun.data.ragged import Ragged
from recrun.data.types import Ids, Int64
from recrun.types import Batch


class UserRows:
    """Batches of units with their items, each item once.

    Every batch: `user` int64 [B] and, ragged, `items` int64, ascending: in training a unit's whole training row.
    """

    kind: ClassVar[str] = "user_rows"
    has_labels: ClassVar[bool] = False

    def bind(self, log: SplitLog, features: FeatureTables) -> UserRowBatches:
        """The batches of a log; features are not read."""
        return UserRowBatches(log)


class UserRowBatches:
    """See `UserRows`."""

    unit: ClassVar[str] = "users"
    sizes: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, log: SplitLog) -> None:
        self.n_items = len(log.items)
        self.rows = log.train.sets(self.n_items)
        self.learners = np.flatnonzero(self.rows.lengths()).astype(np.int32)

    def train_size(self) -> int:
        """Units with a training row."""
        return len(self.learners)

    def train_steps(self, batch_size: int) -> int:
        """Batches in one training epoch."""
        return -(-self.train_size() // batch_size)

    def train_batches(self, batch_size: int, rng: np.random.Generator, start: int, stride: int) -> Iterator[Batch]:
        """All units with a training row once, in the order that `rng` decides; the last batch may be short."""
        units = self.learners[rng.permutation(self.train_size())]
        batches = range(start * batch_size, len(units), stride * batch_size)
        return (self._train_batch(units[first : first + batch_size].astype(np.int64)) for first in batches)

    def _train_batch(self, unit: Int64) -> Batch:
        items, offsets = self.rows.gather(unit)
        return tensors(user=unit, items=items, items_offsets=offsets)

    def inputs(self, sequences: Ragged, unit: Int64) -> Arrays:
        """The sequences as sets."""
        row = sequences.sets(self.n_items)
        return {"user": unit, "items": row.items.astype(np.int64), "items_offsets": row.offsets}

    def vocabulary(self) -> dict[str, Ids]:
        """None."""
        return {}
