"""Session-parallel mini-batches (Hidasi et al. 2016), worked out once, and negatives drawn by popularity."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from recrun.data.events.rows import Float, Int32, Int64

CELLS_PER_ITEM = 4  # of the guide table: more cells, fewer corrections
CHUNK_STEPS = 256
CHUNK_DRAWS = 1 << 16  # so few that they stay in the cache while they are being made


@dataclass(frozen=True)
class Schedule:
    """Which event each slot reads at each step; the event after it is the slot's target.

    A session of L events gives L - 1 transitions. A slot whose session is over takes the next session in order;
    slots that become free at the same step take theirs in slot order. Nothing is dropped: when no session is left,
    slots end one by one and the batch shrinks.

    Attributes:
        slots: Slots in parallel, at most as many as there are sessions.
        bounds: int64 [T + 1], where the transitions of each step begin and end.
        event: int64 [N], places of the input events.
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


class Popularity:
    """Draws items in proportion to count^alpha, independently and with replacement.

    Inversion of a float64 distribution function: `searchsorted(cdf, u, side="right")`, started from a guide table.
    """

    def __init__(self, counts: Int64 | Float, alpha: float) -> None:
        """Sets up; an item that never occurs is never drawn, except that with alpha 0 all are equally likely."""
        cdf = np.cumsum(counts.astype(np.float64) ** alpha)
        self.cdf: Float = cdf / cdf[-1]
        cells = CELLS_PER_ITEM * len(counts)
        self.guide: Int32 = np.searchsorted(self.cdf, np.arange(cells) / cells, side="right").astype(np.int32)

    def draw(self, rng: np.random.Generator, size: int) -> Int32:
        """Items, int32 [size]."""
        u = rng.random(size)
        place = self.guide[(u * len(self.guide)).astype(np.int64)]
        late = np.flatnonzero(self.cdf[place] <= u)
        while len(late):
            place[late] += 1
            late = late[self.cdf[place[late]] <= u[late]]
        return place


class Negatives:
    """An epoch's negatives: `size` items for each step, drawn some steps at a time; any step can be the first asked.

    Attributes:
        size: Items per step.
    """

    def __init__(self, popularity: Popularity, size: int, rng: np.random.Generator) -> None:
        self.popularity, self.size = popularity, size
        self.key = int(rng.integers(2**63))
        self.steps = max(1, min(CHUNK_STEPS, CHUNK_DRAWS // max(size, 1)))
        self.chunk = -1
        self.drawn = np.zeros((0, size), np.int32)

    def at(self, step: int) -> Int32:
        """The step's items, [size]."""
        chunk, row = divmod(step, self.steps)
        if chunk != self.chunk:
            rng = np.random.default_rng([self.key, chunk])
            self.drawn = self.popularity.draw(rng, self.steps * self.size).reshape(self.steps, self.size)
            self.chunk = chunk
        return np.asarray(self.drawn[row], np.int32)
