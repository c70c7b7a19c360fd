"""New units instead of a split's test units: to predict what comes next in data without a split."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from recrun.data.events.filters import Filters
from recrun.data.events.log import Order, UnitName
from recrun.data.events.split_log import SplitLog
from recrun.data.io.raw_events import RawEvents
from recrun.data.types import TEST, TRAIN, Ids, Times, as_text
from recrun.errors import DataError

logger = logging.getLogger(__name__)


def with_test(made: SplitLog, raw: RawEvents, unit: UnitName | None, order: Order | None) -> SplitLog:
    """The training events with new units for test, those of one event included; nothing for validation.

    Events of items outside the catalogue are ignored and counted.

    Raises:
        DataError: No event is of an item of the catalogue.
    """
    new = Filters().apply(raw, unit, order)
    number = {name: index for index, name in enumerate(map(str, made.items.tolist()))}
    index = np.fromiter((number.get(str(name), -1) for name in new.items.tolist()), np.int32, len(new.items))
    kept = new.take(index[new.item] >= 0)
    ignored, lost = len(new) - len(kept), int(np.count_nonzero(kept.lengths == 0))
    if not len(kept):
        raise DataError(f"none of the {ignored} events of dataset.test_path is of an item that the model knows")
    if ignored:
        logger.warning("%d events of unknown items are ignored; %d units have no other and are left out", ignored, lost)
    there = kept.lengths > 0
    lengths = kept.lengths[there]
    train = made.train
    used = np.flatnonzero(train.lengths())
    return replace(
        made,
        units=_ids(made.units[used], new.units[there]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([train.lengths()[used], lengths]))]),
        item=np.concatenate([train.take(used).items, index[kept.item]]).astype(np.int32),
        part=np.repeat(np.array([TRAIN, TEST], np.int8), [len(train.items), len(kept)]),
        time=None if made.time is None else np.concatenate([_times(train.take(used).times), _times(kept.time)]),
        start=None if made.start is None else np.concatenate([made.start[used], np.full(len(lengths), np.inf)]),
        owners=None,
        assignment=replace(made.assignment, whole_units=True, in_order=True, asked=()),
        counts={**made.counts, "ignored_events": ignored, "ignored_units": lost},
    )


def _times(time: Times | None) -> Times:
    if time is None:
        raise DataError("the model reads times, and the events of dataset.test_path have none")
    return time


def _ids(old: Ids, new: Ids) -> Ids:
    """Ids of both, as numbers where all are."""
    if old.dtype.kind == new.dtype.kind == "i":
        return np.concatenate([old, new])
    return np.concatenate([as_text(old), as_text(new)])
