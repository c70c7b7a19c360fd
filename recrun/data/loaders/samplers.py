"""Items that a user did not take: drawn for many queries at once, from one of three distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.loaders.popularity import PopularitySampler
from recrun.data.types import Float, Int32, Int64, Mask
from recrun.errors import ConfigError, DataError

SamplerName: TypeAlias = Literal["uniform", "popularity", "log"]
ROUNDS = 20  # of drawing again what is a user's own, before the rest is drawn from what is left over
LEAST_SHARE = 1e-9  # of the distribution that must be left for a user


@dataclass(frozen=True)
class Positives:
    """Which items each user took in training: U rows, each sorted.

    Attributes:
        keys: user * n_items + item, ascending, distinct, int64 [P].
        item: int32 [P].
        n_items: Size of the catalogue.
        offsets: int64 [U + 1], where each user's keys begin and end.
    """

    keys: Int64
    item: Int32
    n_items: int
    offsets: Int64

    @classmethod
    def of(cls, user: Int64, item: Int64, n_users: int, n_items: int) -> Positives:
        """From training events."""
        keys = np.unique(user * n_items + item)
        return cls(
            keys, (keys % n_items).astype(np.int32), n_items, np.searchsorted(keys, np.arange(n_users + 1) * n_items)
        )

    def has(self, user: Int64, item: Int64) -> Mask:
        """Whether `user` [n] took `item` [n]."""
        key = user * self.n_items + item
        return np.asarray(self.keys[np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)] == key, np.bool_)


class Sampler:
    """Draws items independently and with replacement: uniformly, by count^alpha, or by log(1 + count).

    Attributes:
        share: Probability of each item, float64 [n_items].
    """

    def __init__(self, counts: Int64, distribution: SamplerName, alpha: float) -> None:
        weights = {"uniform": np.ones(len(counts)), "popularity": counts.astype(np.float64) ** alpha}
        weight: Float = weights[distribution] if distribution in weights else np.log1p(counts) + 1e-6
        self.share: Float = weight / weight.sum()
        self._distribution = PopularitySampler(weight, 1.0)

    def draw(self, rng: np.random.Generator, size: int) -> Int64:
        """Items, int64 [size]."""
        return self._distribution.draw(rng, size).astype(np.int64)

    def draw_others(self, rng: np.random.Generator, user: Int64, size: int, own: Positives) -> Int64:
        """Items that `user` [Q] did not take, int64 [Q, size], in proportion to `share` among these."""
        who = np.repeat(user, size)
        drawn = self.draw(rng, len(who))
        taken = np.flatnonzero(own.has(who, drawn))
        for _ in range(ROUNDS):
            if not len(taken):
                break
            drawn[taken] = self.draw(rng, len(taken))
            taken = taken[own.has(who[taken], drawn[taken])]
        for at in taken.tolist():  # of a user who took nearly all that can be drawn
            left = self.share.copy()
            left[own.item[own.offsets[who[at]] : own.offsets[who[at] + 1]]] = 0
            drawn[at] = rng.choice(len(left), p=left / left.sum())
        return drawn.reshape(len(user), size)

    def refuse_if_nothing_is_left(self, own: Positives, users: np.ndarray) -> None:
        """Raises DataError for a user who took everything that can be drawn."""
        taken = np.concatenate([[0.0], np.cumsum(self.share[own.item])])
        left = 1 - np.diff(taken[own.offsets])
        if left.min(initial=1) < LEAST_SHARE:
            raise DataError(
                f"user {users[int(left.argmin())]} took every item that can be drawn as a negative; "
                "use loader.avoid_positives=false, another loader.sampler, or drop the user"
            )


def refuse_too_many(num_negatives: int, n_items: int) -> None:
    """Raises ConfigError if more negatives are wanted than the catalogue has others."""
    if num_negatives >= n_items:
        raise ConfigError(
            f"loader.num_negatives={num_negatives}, but there are {n_items} items in the catalogue; lower it, or set "
            "it to 0 with objective=catalogue_softmax, which compares with all of them"
        )
