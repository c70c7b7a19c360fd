"""Tables with a structure that a model can learn, made from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from recrun.data.io.chunks import Chunk, Lists, Texts, Wanted
from recrun.data.types import Float, Int64
from recrun.errors import ConfigError
from recrun.types import Count, Index, NonNegative, Probability

ROWS_AT_ONCE = 1 << 18


class FactorizationTable:
    """A user sees an item: user and item have ids and colours, there are numbers, and a history of other items.

    The logit of a click is a factorization machine over the ids, with the numbers, and with how near the item is to
    those of the history. A conversion depends on the same and on tastes of its own, and happens only after a click.
    The time that a user stays, `dwell`, is a sum of both logits and noise. Columns: user, item, colour, place; age,
    price; history; click, conversion, dwell.
    """

    def __init__(
        self,
        n_rows: Count = 40_000,
        n_users: Count = 300,
        n_items: Count = 200,
        n_colours: Count = 12,
        n_factors: Count = 4,
        mean_history: Count = 6,
        affinity: NonNegative = 0.8,
        history_weight: NonNegative = 1.0,
        missing: Probability = 0.02,
        popularity_exponent: NonNegative = 0.8,
        seed: Index = 0,
    ) -> None:
        """Sets up, without drawing.

        Args:
            n_rows: Rows.
            n_users: Users.
            n_items: Items.
            n_colours: Colours of items, and places of users.
            n_factors: Width of the factorization machine.
            mean_history: Items of a history, about; some are empty.
            affinity: Weight of users' and items' factors.
            history_weight: Weight of the nearness of item and history.
            missing: Share of the numbers that are missing.
            popularity_exponent: The item of rank r is drawn in proportion to 1 / r^exponent.
            seed: Decides the data; apart from the run's seed, so that runs can be compared.
        """
        if n_items < n_colours:
            raise ConfigError(f"dataset.source.n_items={n_items} are fewer than n_colours={n_colours}")
        self.settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.n_rows, self.n_users, self.n_items, self.n_colours = n_rows, n_users, n_items, n_colours
        self.n_factors, self.mean_history, self.affinity, self.missing = n_factors, mean_history, affinity, missing
        self.history_weight, self.popularity_exponent, self.seed = history_weight, popularity_exponent, seed

    def identity(self) -> dict[str, Any]:
        """All arguments: they decide the rows."""
        return {"factorization_table": 1, **self.settings}

    def header(self) -> list[str]:
        """The columns."""
        return ["user", "item", "colour", "place", "age", "price", "history", "click", "conversion", "dwell"]

    def location(self, row: int) -> str:
        """Where a row is."""
        return f"dataset.source, row {row + 1}" if row >= 0 else "dataset.source"

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """Draws the rows, some at a time."""
        rng = np.random.default_rng(self.seed)
        world = TableWorld(self, rng)
        for begin in range(0, self.n_rows, ROWS_AT_ONCE):
            yield world.chunk(min(ROWS_AT_ONCE, self.n_rows - begin), rng)


class TableWorld:
    """What decides the labels."""

    def __init__(self, table: FactorizationTable, rng: np.random.Generator) -> None:
        self.table = table
        factors = (table.n_factors,)
        self.users, self.taste = (rng.normal(0, table.affinity, (table.n_users, *factors)) for _ in range(2))
        self.items = rng.normal(0, table.n_factors**-0.5, (table.n_items, *factors))
        self.mood, self.appeal = rng.normal(0, 0.7, table.n_users), rng.normal(0, 0.7, table.n_items)
        self.colour = rng.permutation(np.arange(table.n_items) % table.n_colours)
        self.place = rng.integers(0, table.n_colours, table.n_users)
        self.places = rng.normal(0, 1.2, (table.n_colours, table.n_colours))
        odds = 1 / np.arange(1, table.n_items + 1) ** table.popularity_exponent
        self.popularity = np.cumsum(rng.permutation(odds / odds.sum()))

    def chunk(self, size: int, rng: np.random.Generator) -> Chunk:
        """Rows."""
        table = self.table
        user, item = rng.integers(0, table.n_users, size), self.draw(size, rng)
        age, price = rng.normal(40, 12, size), rng.lognormal(3, 1, size)
        lengths = rng.poisson(table.mean_history, size)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        history = self.draw(int(offsets[-1]), rng)
        near = self.nearness(item, history, lengths)
        numbers = 0.03 * (age - 40) - 0.5 * (np.log(price) - 3)
        colour, place = self.colour[item], self.place[user]
        click_logit = (self.users[user] * self.items[item]).sum(1) + self.mood[user] + self.appeal[item]
        click_logit += self.places[place, colour] + numbers + table.history_weight * near - 0.7
        other_logit = 0.7 * click_logit + (self.taste[user] * self.items[item]).sum(1)
        click = rng.random(size) < sigmoid(click_logit)
        conversion = click & (rng.random(size) < sigmoid(other_logit))
        texts = {"user": user, "item": item, "colour": colour, "place": place}
        return Chunk(
            size,
            {name: named(name, values) for name, values in texts.items()},
            {"history": Lists(offsets, named("item", history))},
            {
                "age": self.with_gaps(age, rng),
                "price": self.with_gaps(price, rng),
                "click": click.astype(np.float64),
                "conversion": conversion.astype(np.float64),
                "dwell": 0.5 * click_logit + 0.3 * other_logit + rng.normal(0, 0.5, size),
            },
        )

    def draw(self, size: int, rng: np.random.Generator) -> Int64:
        """Items by popularity."""
        place = np.searchsorted(self.popularity, rng.random(size), side="right")
        return np.minimum(place, self.table.n_items - 1)

    def nearness(self, item: Int64, history: Int64, lengths: Int64) -> Float:
        """The share of a history that has the item's colour, less what chance gives, in units of its spread."""
        row = np.repeat(np.arange(len(item)), lengths)
        same = np.bincount(row, self.colour[history] == self.colour[item][row], len(item))
        share = same / np.maximum(lengths, 1)
        return np.asarray((share - share.mean()) / max(float(share.std()), 1e-9))

    def with_gaps(self, numbers: Float, rng: np.random.Generator) -> Float:
        """Some of them are missing."""
        return np.where(rng.random(len(numbers)) < self.table.missing, np.nan, numbers)


def named(name: str, numbers: Int64) -> Texts:
    """Numbered things as text, "item7"."""
    values = np.empty(int(numbers.max(initial=0)) + 1, object)
    values[:] = [f"{name}{number}" for number in range(len(values))]
    return Texts(numbers.astype(np.int32), values)


def sigmoid(logits: Float) -> Float:
    """1 / (1 + e^-x)."""
    return np.asarray(1 / (1 + np.exp(-logits)))
