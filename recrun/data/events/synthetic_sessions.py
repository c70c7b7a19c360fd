"""Session logs with a structure that a model can learn, made from a seed."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from recrun.data.io.raw_events import RawEvents
from recrun.data.types import Float, Int64
from recrun.types import Count, Index, NonNegative, Positive, Probability

DAY = 86_400
DECAY = 0.7  # of the odds of an item's successors, best first


class MarkovSessions:
    """Popularity follows a power law, and every item has a few successors that tend to come next.

    With probability `follow` the next item is a successor of the current one, else it is drawn by popularity. The
    same arguments give the same rows.
    """

    def __init__(
        self,
        n_events: Count = 30_000,
        n_items: Count = 500,
        n_successors: Count = 10,
        follow: Probability = 0.8,
        popularity_exponent: NonNegative = 0.9,
        mean_length: Annotated[float, Ge(2)] = 5.0,
        days: Positive = 14.0,
        seed: Index = 0,
    ) -> None:
        """Sets up, without drawing.

        Args:
            n_events: Events aimed at; a session's more may come out.
            n_items: Items in the catalogue; those that nobody draws do not show up.
            n_successors: Successors of an item.
            follow: Share of the events that follow their predecessor.
            popularity_exponent: The item of rank r is drawn in proportion to 1 / r^exponent.
            mean_length: Events per session, 2 at least, geometrically distributed.
            days: Length of the log.
            seed: Decides the data; apart from the run's seed, so that runs can be compared.
        """
        self.n_events, self.n_items, self.n_successors, self.follow = n_events, n_items, n_successors, follow
        self.popularity_exponent, self.mean_length, self.days, self.seed = popularity_exponent, mean_length, days, seed

    def identity(self) -> dict[str, Any]:
        """All arguments: they decide the rows."""
        return {"markov_sessions": 1, **vars(self)}

    def events(self) -> RawEvents:
        """Draws the events, session after session in order of time."""
        rng = np.random.default_rng(self.seed)
        lengths = self._lengths(rng)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        item = self._walk(lengths, offsets, rng)
        begin = np.sort(rng.uniform(0, self.days * DAY, len(lengths)))
        gap = np.floor(rng.exponential(60, offsets[-1])) + 1
        gap[offsets[:-1]] = 0
        elapsed = np.cumsum(gap)
        time = np.repeat(begin - elapsed[offsets[:-1]], lengths) + elapsed
        return RawEvents(
            item.astype(np.int32),
            np.arange(self.n_items),
            session=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
            sessions=np.arange(len(lengths)),
            time=time,
            counts={"rows_read": len(item)},
        )

    def _lengths(self, rng: np.random.Generator) -> Int64:
        """Events of each session, `n_events` in sum or a session's more."""
        extra = rng.geometric(1 / (self.mean_length - 1), self.n_events // 2 + 1)
        lengths = 1 + extra
        return np.asarray(lengths[: np.searchsorted(np.cumsum(lengths), self.n_events) + 1], np.int64)

    def _walk(self, lengths: Int64, offsets: Int64, rng: np.random.Generator) -> Int64:
        """All sessions advance together, longest first, so that those still going are the first."""
        cumulative = self._popularity(rng)
        successors = _draw(cumulative, rng, self.n_items * self.n_successors).reshape(self.n_items, -1)
        odds = np.cumsum(DECAY ** np.arange(self.n_successors))
        order = np.argsort(-lengths, kind="stable")
        start, length = offsets[:-1][order], lengths[order]
        item = np.empty(offsets[-1], np.int64)
        now = item[start] = _draw(cumulative, rng, len(order))
        for step in range(1, int(length[0])):
            going = int(np.searchsorted(-length, -step))
            which = np.minimum(np.searchsorted(odds, rng.random(going) * odds[-1]), self.n_successors - 1)
            follows = rng.random(going) < self.follow
            now = np.where(follows, successors[now[:going], which], _draw(cumulative, rng, going))
            item[start[:going] + step] = now
        return item

    def _popularity(self, rng: np.random.Generator) -> Float:
        """Cumulative popularity by item; an id says nothing of it."""
        odds = 1 / np.arange(1, self.n_items + 1) ** self.popularity_exponent
        return np.cumsum(rng.permutation(odds))


def _draw(cumulative: Float, rng: np.random.Generator, size: int) -> Int64:
    index = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    return np.asarray(np.minimum(index, len(cumulative) - 1), np.int64)
