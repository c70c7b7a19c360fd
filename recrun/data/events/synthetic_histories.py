"""Histories with features that say something of what comes next, made from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from recrun.data.events.side_tables import SideTable
from recrun.data.events.synthetic import numbered_ids
from recrun.data.io.raw_events import RawEvents
from recrun.data.types import Float, Int64
from recrun.types import Count, Index, NonNegative, Probability

LIKED = 3  # genres that a user likes


class Watchers:
    """Every item has a genre, every user a segment; users of a segment like the same three genres.

    A user watches some items of one genre, then turns to another one of those they like; some (`noise`) are of any
    genre. Within a genre popularity follows a power law. Users' table: `segment`, `device` (noise). Items' table:
    `year` (noise), `tags`, the genre and another word. The same arguments give the same rows.

    Args:
        n_users, n_items: Users, items in the catalogue; those that nobody watches do not show up.
        n_events: Events aimed at; repeated ones are left out.
        n_genres, n_segments: Genres of items, segments of users.
        stay: Share of the events that have the genre of the event before.
        noise: Share of the events of any genre.
        popularity_exponent: The item of rank r in its genre is drawn in proportion to 1 / r^exponent.
        seed: Decides the data; apart from the run's seed, so that runs can be compared.
    """

    def __init__(
        self,
        n_users: Count = 1000,
        n_items: Count = 500,
        n_events: Count = 20_000,
        n_genres: Count = 20,
        n_segments: Count = 10,
        stay: Probability = 0.7,
        noise: Probability = 0.1,
        popularity_exponent: NonNegative = 0.7,
        seed: Index = 0,
    ) -> None:
        self.n_users, self.n_items, self.n_events = n_users, n_items, n_events
        self.n_genres, self.n_segments = min(n_genres, n_items), n_segments
        self.stay, self.noise, self.popularity_exponent, self.seed = stay, noise, popularity_exponent, seed
        rng = np.random.default_rng([seed, 0])
        self._genre = rng.permutation(np.arange(n_items) % self.n_genres)
        self._segment = rng.integers(0, n_segments, n_users)

    def identity(self) -> dict[str, Any]:
        """All arguments: they decide the events."""
        names = ("n_users", "n_items", "n_events", "n_genres", "n_segments", "stay", "noise", "popularity_exponent")
        return {"watchers": 1, "seed": self.seed, **{name: getattr(self, name) for name in names}}

    def events(self) -> RawEvents:
        """Draws the events; `time` counts a user's events."""
        rng = np.random.default_rng([self.seed, 1])
        length = 3 + rng.poisson(max(self.n_events / self.n_users - 3, 0), self.n_users)
        user = np.repeat(np.arange(self.n_users), length)
        within = np.arange(len(user)) - np.repeat(np.cumsum(length) - length, length)
        item = self._items(rng, self._genres(rng, user, within))
        return RawEvents(
            item.astype(np.int32),
            np.arange(self.n_items),
            user.astype(np.int32),
            np.arange(self.n_users),
            time=within.astype(np.float64),
            counts={"rows_read": len(user)},
        )

    def sides(self) -> tuple[SideTable, SideTable]:
        """The tables of users and of items."""
        rng = np.random.default_rng([self.seed, 2])
        device = rng.choice(["phone", "screen"], self.n_users).astype(object)
        users = {"segment": numbered_ids("s", self._segment), "device": device}
        other = rng.choice(["old", "new", "short", "long"], self.n_items).astype(object)
        items = {
            "year": rng.integers(1990, 2020, self.n_items).astype(str).astype(object),
            "tags": numbered_ids("g", self._genre) + " " + other,
        }
        ids = (np.arange(n).astype(str).astype(object) for n in (self.n_users, self.n_items))
        name = "dataset.source"
        return SideTable(name, next(ids), users), SideTable(name, next(ids), items)

    def _genres(self, rng: np.random.Generator, user: Int64, within: Int64) -> Int64:
        """The genre of each event, [n]."""
        liked = rng.permuted(np.tile(np.arange(self.n_genres), (self.n_segments, 1)), axis=1)[:, :LIKED]
        drawn = liked[self._segment[user], rng.integers(0, liked.shape[1], len(user))]
        turns = (within == 0) | (rng.random(len(user)) >= self.stay)
        genre = drawn[np.maximum.accumulate(np.where(turns, np.arange(len(user)), 0))]
        anything = rng.random(len(user)) < self.noise
        return np.where(anything, rng.integers(0, self.n_genres, len(user)), genre)

    def _items(self, rng: np.random.Generator, genre: Int64) -> Int64:
        """An item of each genre, by popularity, [n]."""
        order = np.argsort(self._genre, kind="stable")
        first = np.searchsorted(self._genre[order], np.arange(self.n_genres + 1))
        rank = np.arange(self.n_items) - np.repeat(first[:-1], np.diff(first)) + 1
        total: Float = np.concatenate([[0.0], np.cumsum(rank**-self.popularity_exponent)])
        low, high = total[first[genre]], total[first[genre + 1]]
        index = np.searchsorted(total, low + rng.random(len(genre)) * (high - low), side="right") - 1
        return np.asarray(order[np.minimum(index, self.n_items - 1)])
