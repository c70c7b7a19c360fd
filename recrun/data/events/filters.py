"""What is dropped from a log before it is split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events.log import (
    EventLog,
    Order,
    UnitName,
    chosen_order,
    chosen_unit,
    compact,
    event_ranks,
    in_order,
    unit_columns,
    units_with_ties,
)
from recrun.data.io.raw_events import RawEvents
from recrun.data.types import Int32, Mask
from recrun.errors import DataError
from recrun.types import Count

Repeats: TypeAlias = Literal["first", "last", "keep", "error"]


@dataclass(frozen=True)
class Filters:
    """Which events stay, applied in this order.

    Attributes:
        threshold: Least rating that counts as an event; None = all rows count.
        repeats: Which event of a repeated (unit, item) pair stays, in the order of the file; keep = all of them.
        duplicate_events: Whether events that repeat unit, item and time are dropped.
        immediate_repeats: Whether events with the item of the event before them are dropped.
        min_unit_count: Fewest events of a unit (user or session).
        min_item_count: Fewest events of an item.
        core: fixed_point: both minima hold in the end. once: items, then units, one time, as papers often do.
    """

    threshold: float | None = None
    repeats: Repeats = "keep"
    duplicate_events: Literal["keep", "drop"] = "keep"
    immediate_repeats: Literal["keep", "drop"] = "keep"
    min_unit_count: Count = 1
    min_item_count: Count = 1
    core: Literal["fixed_point", "once"] = "fixed_point"

    def apply(self, raw: RawEvents, unit: UnitName | None = None, order: Order | None = None) -> EventLog:
        """The log of some events as they were read.

        Args:
            raw: In the order of the file.
            unit, order: See `chosen_unit`, `chosen_order`.

        Raises:
            ConfigError: The data have no such unit.
            DataError: They have no such order, a pair is repeated where that is an error, or nothing is left.
        """
        log = _as_log(raw, chosen_unit(raw, unit), chosen_order(raw, order))
        if self.repeats != "keep":
            log = _distinct(log, self.repeats)
        log = in_order(log)
        if self.duplicate_events == "drop":
            log = _without(log, _duplicates(log), "duplicate_events")
        if self.immediate_repeats == "drop":
            log = _without(log, _repeats_previous(log), "immediate_repeats")
        log = _k_core(log, self.min_unit_count, self.min_item_count, self.core)
        self._refuse_empty(log)
        log = compact(log)
        return log.counted(units_with_ties=units_with_ties(log))

    def _refuse_empty(self, log: EventLog) -> None:
        if len(log):
            return
        dropped = {
            f"dataset.filters.threshold={self.threshold}": log.counts.get("below_threshold", 0),
            f"repeats={self.repeats}": log.counts.get("repeats", 0),
            "duplicate_events=drop": log.counts.get("duplicate_events", 0),
            "immediate_repeats=drop": log.counts.get("immediate_repeats", 0),
            f"min_unit_count={self.min_unit_count} and min_item_count={self.min_item_count}": log.counts.get(
                "below_min_count", 0
            ),
        }
        causes = ", ".join(f"{key} dropped {count}" for key, count in dropped.items() if count)
        raise DataError(f"no events are left of {log.counts.get('rows_read', 0)} rows: {causes or 'none were read'}")


def _as_log(raw: RawEvents, unit: UnitName, order: Order) -> EventLog:
    index, units, owners = unit_columns(raw, unit)
    return EventLog(
        unit=index,
        item=raw.item,
        units=units,
        items=raw.items,
        rank=event_ranks(raw, order),
        time=raw.time if order == "time" else None,
        part=raw.part,
        owners=owners,
        counts=raw.counts,
    )


def _distinct(log: EventLog, keep: Repeats) -> EventLog:
    """One event per (unit, item) pair, its first or last one of the file; sorted by unit, then item.

    Raises:
        DataError: If `keep` is "error" and a pair occurs twice.
    """
    pair = log.unit.astype(np.int64) * len(log.items) + log.item
    order = np.argsort(pair, kind="stable")
    pair = pair[order]
    same = pair[1:] == pair[:-1]
    repeats = int(np.count_nonzero(same))
    if repeats and keep == "error":
        unit, item = divmod(int(pair[np.flatnonzero(same)[0]]), len(log.items))
        raise DataError(
            f"{log.units[unit]!s} has item {log.items[item]!s} more than once ({repeats} repeated rows); "
            "dataset.filters.repeats=first or last keeps one of each, keep keeps all"
        )
    end = np.ones(min(len(log), 1), np.bool_)
    kept = np.concatenate([end, ~same] if keep == "first" else [~same, end])
    del pair, same
    return log.take(order[kept]).counted(repeats=repeats)


def _without(log: EventLog, dropped: Mask, name: str) -> EventLog:
    return log.take(~dropped).counted(**{name: int(np.count_nonzero(dropped))})


def _repeats_previous(log: EventLog) -> Mask:
    """Events with the item of the event before them."""
    same = np.zeros(len(log), np.bool_)
    same[1:] = (log.unit[1:] == log.unit[:-1]) & (log.item[1:] == log.item[:-1])
    return same


def _duplicates(log: EventLog) -> Mask:
    """Events whose unit, time and item have occurred before; without times, whose unit and item have."""
    columns = [log.unit, log.item] if log.time is None else [log.unit, log.time, log.item]
    order = np.lexsort(columns[::-1])
    now, before = order[1:], order[:-1]
    same = np.zeros(len(log), np.bool_)
    same[now] = np.logical_and.reduce([column[now] == column[before] for column in columns])
    return same


def _k_core(log: EventLog, min_unit: int, min_item: int, mode: str) -> EventLog:
    """Keeps items with `min_item` events and units with `min_unit` events: items first, then units."""
    before = len(log)
    while True:
        size = len(log)
        log = _frequent(log, log.item, len(log.items), min_item)
        log = _frequent(log, log.unit, len(log.units), min_unit)
        if len(log) == size or mode == "once":
            return log.counted(below_min_count=before - len(log))


def _frequent(log: EventLog, index: Int32, size: int, minimum: int) -> EventLog:
    if minimum <= 1 or not len(log):
        return log
    kept = np.bincount(index, minlength=size) >= minimum
    return log if kept.all() else log.take(kept[index])
