"""Session-parallel mini-batches (Hidasi et al. 2016), worked out once."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from recrun.data.types import Int64


@dataclass(frozen=True)
class Schedule:
    """Which event each slot reads at each step; the event after it is the slot's target.

    A session of L events gives L - 1 transitions. A slot whose session is over takes the next session in order;
    slots that become free at the same step take theirs in slot order. Nothing is dropped: when no session is left,
    slots end one by one and the batch shrinks.

    Attributes:
        slots: Slots in parallel, at most as many as there are sessions.
        bounds: int64 [T + 1], where the transitions of each step begin and end.
        event: int64 [N], positions of the input events.
        slot: int64 [N], ascending within a step.
        first: bool [N], whether the event is its session's first: the slot's state is reset before it.
    """

    slots: int
    bounds: Int64
    event: Int64
    slot: Int64
    first: np.ndarray

    @classmethod
    def of(cls, offsets: Int64, batch_size: int) -> Schedule:
        """Of sessions in the order of `offsets`; sessions of one event have no transition and are skipped."""
        begin, steps = offsets[:-1], np.diff(offsets) - 1
        begin, steps = begin[steps > 0], steps[steps > 0]
        slots = min(batch_size, len(steps))
        start, slot = _assign(steps, slots)
        base = np.cumsum(steps) - steps
        within = np.arange(steps.sum()) - np.repeat(base, steps)
        step, row = np.repeat(start, steps) + within, np.repeat(slot, steps)
        order = np.argsort(step * slots + row, kind="stable")
        bounds = np.concatenate([[0], np.cumsum(np.bincount(step))])
        return cls(slots, bounds, (np.repeat(begin, steps) + within)[order], row[order], (within == 0)[order])

    def __len__(self) -> int:
        return len(self.bounds) - 1


def _assign(steps: Int64, slots: int) -> tuple[Int64, Int64]:
    """The step at which each session starts and its slot."""
    free = list(range(slots))  # a heap of step * slots + slot: where a slot is free
    taken = [heapq.heapreplace(free, free[0] + length * slots) for length in steps.tolist()]
    start, slot = np.divmod(np.array(taken, np.int64), max(slots, 1))
    return start, slot
