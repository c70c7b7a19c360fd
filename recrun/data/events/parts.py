"""Rows divided into what a model is trained on, what it is shown and what is held out; sparse throughout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from recrun.data.events import splits
from recrun.data.events.rows import TEST, TRAIN, VALID, Ids, Int8, Int32, Int64, Mask, Rows, compact
from recrun.data.ragged import expand
from recrun.errors import ConfigError, DataError

SplitName: TypeAlias = Literal["random", "temporal", "leave_last_out", "strong", "provided"]


@dataclass(frozen=True)
class Ragged:
    """One row of items per user: row u is `items[offsets[u]:offsets[u + 1]]`, sorted.

    Attributes:
        offsets: int64 [U + 1].
        items: int32 [N].
    """

    offsets: Int64
    items: Int32

    @classmethod
    def of(cls, user: Int32, item: Int32, n_users: int) -> Ragged:
        """From pairs that are sorted by user."""
        offsets = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(user, minlength=n_users), out=offsets[1:])
        return cls(offsets, np.ascontiguousarray(item))

    def lengths(self) -> Int64:
        """Items per row, [U]."""
        return np.diff(self.offsets)

    def gather(self, index: Int64) -> tuple[Int64, Int64]:
        """The rows `index` [B], one after another: items int64 [N] and offsets int64 [B + 1]."""
        place, offsets = expand(self.offsets, index)
        return self.items[place].astype(np.int64), offsets


@dataclass(frozen=True)
class SplitSettings:
    """How rows are divided; see recrun.data.events.splits and `Interactions`."""

    name: SplitName
    valid_fraction: float
    test_fraction: float
    heldout_users: int | float
    fold_in: float
    seed: int


@dataclass(frozen=True)
class Parts:
    """What `Interactions` serves.

    Attributes:
        users, items: Ids by index.
        known: Each user's training row or, for a held-out user of the strong split, the fold-in row.
        valid, test: Each user's held-out items; never in `known`.
        train_users: Users that are trained on, int32, ascending.
        counts: Rows read and dropped.
    """

    users: Ids
    items: Ids
    known: Ragged
    valid: Ragged
    test: Ragged
    train_users: Int32
    counts: Mapping[str, int]

    def judged(self, held_out: Ragged) -> Int64:
        """Users with an input and held-out items, ascending: only they can be judged."""
        return np.flatnonzero((held_out.lengths() > 0) & (self.known.lengths() > 0))

    def fingerprint(self) -> str:
        """sha256 over vocabularies and parts; the order of the rows in the input files does not matter to it."""
        digest = hashlib.sha256()
        for ids in (self.users, self.items):
            digest.update("\n".join(ids.astype(str)).encode() + b"\0")
        for array in (self.train_users, *_arrays(self.known), *_arrays(self.valid), *_arrays(self.test)):
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()


def on_catalogue(parts: Parts, items: Ids) -> Parts:
    """The same parts over a given catalogue, in its order; interactions with other items are dropped and counted.

    Args:
        parts: Over the catalogue of their own data.
        items: Ids as text, in the order that a model's weights have.

    Raises:
        DataError: No user has an input and held-out items in this catalogue.
    """
    index_of = {str(item): index for index, item in enumerate(items)}
    index = np.array([index_of.get(str(item), -1) for item in parts.items], np.int32)
    known, valid, test = (_renumbered(part, index) for part in (parts.known, parts.valid, parts.test))
    dropped = sum(len(part.items) for part in (parts.known, parts.valid, parts.test))
    dropped -= sum(len(part.items) for part in (known, valid, test))
    counts = {**parts.counts, "unknown_items": parts.counts.get("unknown_items", 0) + dropped}
    fresh = replace(parts, items=items, known=known, valid=valid, test=test, counts=counts)
    if not any(len(fresh.judged(part)) for part in (valid, test)):
        raise DataError(f"nobody can be judged: {dropped} interactions are with items that the catalogue does not have")
    return fresh


def _renumbered(ragged: Ragged, index: Int32) -> Ragged:
    """Items through `index`, rows sorted again; -1 drops an item."""
    item = index[ragged.items]
    kept = item >= 0
    row = np.repeat(np.arange(len(ragged.offsets) - 1), ragged.lengths())[kept]
    order = np.lexsort((item[kept], row))
    return Ragged(np.concatenate([[0], np.cumsum(kept)])[ragged.offsets], item[kept][order])


def _arrays(ragged: Ragged) -> tuple[Int64, Int32]:
    return ragged.offsets, ragged.items


def divide(rows: Rows, how: SplitSettings) -> Parts:
    """Splits rows that are distinct and sorted by user.

    Raises:
        DataError: The rows lack what the split needs, or nobody has held-out items.
        ConfigError: More users are to be held out than there are.
    """
    parts = _divide_users(rows, how) if how.name == "strong" else _divide_rows(rows, how)
    for name, held_out in (("valid", parts.valid), ("test", parts.test)):
        if not len(parts.judged(held_out)):
            raise DataError(
                f"nobody can be judged on the {name} part: {len(parts.users)} users, {len(parts.items)} items, "
                f"{len(rows)} interactions, and no user has both an input and {name} items under split={how.name}; "
                + _NEEDS[how.name]
            )
    return parts


_NEEDS: Mapping[SplitName, str] = {
    "random": "a user needs 3 interactions to have one in each part",
    "temporal": "users must have interactions on both sides of the cuts in time",
    "leave_last_out": "a user needs 3 interactions to have one in each part",
    "strong": "a held-out user needs 5 interactions with items of the training users",
    "provided": "the files must hold out items of users that are in the train file",
}


def _divide_rows(rows: Rows, how: SplitSettings) -> Parts:
    """Each user's rows are divided; the vocabulary is that of all parts together."""
    part = _part_of_rows(rows, how)
    known = _select(rows, part == TRAIN)
    return Parts(
        users=rows.users,
        items=rows.items,
        known=known,
        valid=_select(rows, part == VALID),
        test=_select(rows, part == TEST),
        train_users=np.flatnonzero(known.lengths()).astype(np.int32),
        counts=rows.counts,
    )


def _part_of_rows(rows: Rows, how: SplitSettings) -> Int8:
    if how.name == "provided":
        if rows.part is None:
            raise ConfigError("dataset.split=provided needs files that are split already, not dataset.source")
        return rows.part
    if how.name == "random":
        rng = np.random.default_rng(how.seed)
        return splits.random_split(rows.user, how.valid_fraction, how.test_fraction, rng)
    if rows.time is None:
        raise DataError(f"dataset.split={how.name} needs the time of each interaction, and the data have none")
    if how.name == "temporal":
        return splits.temporal_split(rows.time, how.valid_fraction, how.test_fraction)
    return splits.leave_last_out(rows.user, rows.time)


def _divide_users(rows: Rows, how: SplitSettings) -> Parts:
    """Whole users are held out (strong generalisation); the vocabulary is that of the training users."""
    rng = np.random.default_rng(how.seed)
    role = splits.hold_out_users(len(rows.users), _heldout_count(len(rows.users), how.heldout_users), rng)
    rows, unknown = _learnable_items(rows, role)
    role_of_row = role[rows.user]
    target = np.zeros(len(rows), np.bool_)
    heldout = np.flatnonzero(role_of_row != TRAIN)
    target[heldout] = splits.held_out_rows(rows.user[heldout], how.fold_in, rng)
    return Parts(
        users=rows.users,
        items=rows.items,
        known=_select(rows, ~target),
        valid=_select(rows, target & (role_of_row == VALID)),
        test=_select(rows, target & (role_of_row == TEST)),
        train_users=np.flatnonzero(role == TRAIN).astype(np.int32),
        counts={**rows.counts, "unknown_items": unknown},
    )


def _heldout_count(n_users: int, heldout: int | float) -> int:
    count = heldout if isinstance(heldout, int) else int(n_users * heldout)
    if count < 1 or 2 * count >= n_users:
        raise ConfigError(
            f"dataset.heldout_users={heldout} holds out {count} users for valid and as many for test, "
            f"of {n_users} in all; at least one is needed for each of train, valid and test"
        )
    return count


def _learnable_items(rows: Rows, role: Int8) -> tuple[Rows, int]:
    """Drops rows with items that no training user has; says how many."""
    learnable = np.zeros(len(rows.items), np.bool_)
    learnable[rows.item[role[rows.user] == TRAIN]] = True
    kept = learnable[rows.item]
    dropped = len(rows) - int(np.count_nonzero(kept))
    users = rows.users  # a held-out user keeps an index even if every row went
    return replace(compact(rows.take(kept)), user=rows.user[kept], users=users), dropped


def _select(rows: Rows, which: Mask) -> Ragged:
    return Ragged.of(rows.user[which], rows.item[which], len(rows.users))
