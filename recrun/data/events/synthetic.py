"""One log for all models of a catalogue: events with times and features to learn from, made from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from recrun.data.events.side_tables import SideTable
from recrun.data.io.raw_events import RawEvents
from recrun.data.types import Float, Ids, Int32, Int64
from recrun.errors import ConfigError
from recrun.types import Count, Index, NonNegative, Positive, Probability

TASTES = np.array([0.5, 0.3, 0.2])  # how a user's draws fall on the three groups that they like
ROUNDS = 6  # of drawing again what came out twice
DRAWS_AT_ONCE = 1 << 20
HOUR, MONTH = 3600.0, 30 * 86_400.0
OVERLAP = 0.3  # of the groups that a user turns to one after another


class LatentTaste:
    """Every item is in one group and every user likes three; popularity follows a power law, activity is lognormal.

    Some of a user's items (`noise`) come from the whole catalogue, the others from the groups that they like; within
    both, by popularity. Users come at some time of a month and take their items within hours, those of a group mostly
    one after another. Users' table: `taste`, the group that they like most. Items' table: `group`, `shelf` (says
    nothing). The same arguments give the same events.
    """

    def __init__(
        self,
        n_users: Count = 2000,
        n_items: Count = 1000,
        n_interactions: Count = 60_000,
        n_groups: Count = 20,
        noise: Probability = 0.25,
        popularity_exponent: NonNegative = 0.8,
        activity_spread: Positive = 0.8,
        min_activity: Count = 5,
        seed: Index = 0,
    ) -> None:
        """Sets up, without drawing.

        Args:
            n_users: Users.
            n_items: Items in the catalogue; those that nobody draws do not show up.
            n_interactions: Interactions aimed at; a few per cent less come out where users exhaust their groups.
            n_groups: Groups of items.
            noise: Share of the draws from the whole catalogue.
            popularity_exponent: The item of rank r is drawn in proportion to 1 / r^exponent.
            activity_spread: Standard deviation of the logarithm of the users' numbers of items.
            min_activity: Fewest draws of a user.
            seed: Decides the data; apart from the run's seed, so that runs can be compared.
        """
        if n_interactions > n_users * n_items // 2:
            raise ConfigError(
                f"dataset.source.n_interactions={n_interactions} is more than half of n_users x n_items "
                f"({n_users} x {n_items}); lower it, or raise n_items"
            )
        self.n_users, self.n_items, self.n_interactions = n_users, n_items, n_interactions
        self.n_groups, self.noise, self.seed = n_groups, noise, seed
        self.popularity_exponent, self.activity_spread = popularity_exponent, activity_spread
        self.min_activity = min_activity

    def identity(self) -> dict[str, Any]:
        """All arguments: they decide the rows."""
        return {"synthetic": 2, **vars(self)}

    def events(self) -> RawEvents:
        """Draws the events, sorted by user, then item."""
        rng = np.random.default_rng(self.seed)
        world = self._world(rng)
        chunks = list(self._chunks(world, rng))
        user = np.concatenate([pair // self.n_items for pair in chunks]).astype(np.int32)
        item = np.concatenate([pair % self.n_items for pair in chunks]).astype(np.int32)
        return RawEvents(
            item,
            np.arange(self.n_items),
            user,
            np.arange(self.n_users),
            time=self._times(user, world.catalogue.group[item], rng),
            counts={"rows_read": len(user)},
        )

    def sides(self) -> tuple[SideTable, SideTable]:
        """The tables of users and of items."""
        world = self._world(np.random.default_rng(self.seed))
        shelf = np.random.default_rng([self.seed, 1]).integers(0, 10, self.n_items)
        users = {"taste": numbered_ids("g", world.likes[:, 0])}
        items = {"group": numbered_ids("g", world.catalogue.group), "shelf": numbered_ids("s", shelf)}
        name = "dataset.source"
        return SideTable(name, numbered_ids("", np.arange(self.n_users)), users), SideTable(
            name, numbered_ids("", np.arange(self.n_items)), items
        )

    def _world(self, rng: np.random.Generator) -> _World:
        activity = self._activity(rng)
        likes = rng.integers(0, self.n_groups, (self.n_users, len(TASTES)))
        return _World(activity, likes, _Catalogue(self.n_items, self.n_groups, self.popularity_exponent, rng))

    def _times(self, user: Int32, group: Int64, rng: np.random.Generator) -> Float:
        """Seconds of each event: a user's groups come in some order, and overlap a little."""
        turn = rng.random((self.n_users, self.n_groups))[user, group] + OVERLAP * rng.random(len(user))
        order = np.lexsort((turn, user))
        elapsed = np.cumsum(np.ceil(rng.exponential(HOUR, len(user))))
        count = np.bincount(user, minlength=self.n_users)
        first = np.cumsum(count) - count
        time = np.empty(len(user))
        begin = np.ceil(rng.uniform(0, MONTH, self.n_users)) - elapsed[np.minimum(first, len(user) - 1)]
        time[order] = elapsed + np.repeat(begin, count)
        return time

    def _chunks(self, world: _World, rng: np.random.Generator) -> Iterator[Int64]:
        """Sorted distinct (user, item) pairs, user * n_items + item, of some users at a time."""
        activity, likes, catalogue = world.activity, world.likes, world.catalogue
        chunk_of_user = np.cumsum(activity) // DRAWS_AT_ONCE
        for users in np.split(np.arange(self.n_users), np.flatnonzero(np.diff(chunk_of_user)) + 1):
            pairs = np.zeros(0, np.int64)
            for _ in range(ROUNDS):
                have = np.bincount(pairs // self.n_items - users[0], minlength=len(users))
                drawn = np.repeat(users, activity[users] - have)
                item = self._draw(drawn, likes, catalogue, rng)
                pairs = np.sort(np.concatenate([pairs, drawn * self.n_items + item]))
                pairs = pairs[np.diff(pairs, prepend=-1) > 0]
            yield pairs

    def _activity(self, rng: np.random.Generator) -> Int64:
        """Items of each user, int64 [n_users], about `n_interactions` in sum."""
        weight = rng.lognormal(0, self.activity_spread, self.n_users)
        fewest = min(self.min_activity, self.n_interactions // self.n_users)
        spare = self.n_interactions - fewest * self.n_users
        most = max(self.n_items // 2, fewest)
        return np.asarray(np.minimum(fewest + np.rint(weight / weight.sum() * spare), most), np.int64)

    def _draw(self, user: Int64, likes: Int64, catalogue: _Catalogue, rng: np.random.Generator) -> Int32:
        """One item for each entry of `user` [N]."""
        taste = np.searchsorted(np.cumsum(TASTES)[:-1], rng.random(len(user)), side="right")
        anything = rng.random(len(user)) < self.noise
        group = np.where(anything, -1, likes[user, taste])
        return catalogue.pick(group, rng.random(len(user)))


def numbered_ids(letter: str, numbers: Int64) -> Ids:
    """Texts of a letter and a number."""
    return np.array([f"{letter}{number}" for number in numbers.tolist()], object)


class _World(NamedTuple):
    activity: Int64  # draws of each user
    likes: Int64  # groups that each user likes, the most liked first, [n_users, 3]
    catalogue: _Catalogue


class _Catalogue:
    """Items in order of their groups, so that a range of cumulative popularity is a group."""

    def __init__(self, n_items: int, n_groups: int, exponent: float, rng: np.random.Generator) -> None:
        popularity = 1 / np.arange(1, n_items + 1) ** exponent
        group = rng.permutation(np.arange(n_items) % n_groups)  # as equal in size as can be
        order = np.argsort(group, kind="stable")
        self.items: Int32 = rng.permutation(n_items)[order].astype(np.int32)  # an id says nothing of the popularity
        self.group = np.empty(n_items, np.int64)
        self.group[self.items] = group[order]
        self.cumulative = np.cumsum(popularity[order])
        ends = np.searchsorted(group[order], np.arange(n_groups), side="right")
        self.upper = np.append(np.concatenate([[0.0], self.cumulative])[ends], self.cumulative[-1])
        self.lower = np.append(np.concatenate([[0.0], self.upper[:-2]]), 0.0)  # the last entry is the whole

    def pick(self, group: Int64, quantile: Float) -> Int32:
        """Items [N] at `quantile` [N] of the popularity of `group` [N]; group -1 is the whole catalogue."""
        lower, upper = self.lower[group], self.upper[group]
        position = np.searchsorted(self.cumulative, lower + quantile * (upper - lower), side="right")
        return np.asarray(self.items[np.minimum(position, len(self.items) - 1)], np.int32)
