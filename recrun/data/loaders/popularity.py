"""Items drawn by popularity: in proportion to count^alpha."""

from __future__ import annotations

import numpy as np

from recrun.data.types import Float, Int32, Int64

CELLS_PER_ITEM = 4  # of the guide table: more cells, fewer corrections
CHUNK_STEPS = 256
CHUNK_DRAWS = 1 << 16  # so few that they stay in the cache while they are being made


class PopularitySampler:
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
        index = self.guide[(u * len(self.guide)).astype(np.int64)]
        late = np.flatnonzero(self.cdf[index] <= u)
        while len(late):
            index[late] += 1
            late = late[self.cdf[index[late]] <= u[late]]
        return index


class EpochNegatives:
    """An epoch's negatives: `size` items for each step, drawn some steps at a time; any step can be the first asked.

    Attributes:
        size: Items per step.
    """

    def __init__(self, popularity: PopularitySampler, size: int, rng: np.random.Generator) -> None:
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
