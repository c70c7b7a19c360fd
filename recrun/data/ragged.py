"""Ragged arrays: rows of any length, flat, one after another, and offsets that say where each begins and ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recrun.data.types import Int32, Int64, Mask, Times


@dataclass(frozen=True)
class Ragged:
    """Rows of integers: row u is `items[offsets[u]:offsets[u + 1]]`.

    Attributes:
        offsets: int64 [U + 1].
        items: int32 or int64 [N].
        times: Of each entry, float64 seconds [N]; None where nobody wants them.
    """

    offsets: Int64
    items: Int32 | Int64
    times: Times | None = None

    @classmethod
    def of(cls, row: Int32 | Int64, items: Int32 | Int64, n_rows: int) -> Ragged:
        """From the row of each entry, ascending, and its value."""
        return cls.of_lengths(np.bincount(row, minlength=n_rows), items)

    @classmethod
    def of_lengths(cls, lengths: Int64, items: Int32 | Int64) -> Ragged:
        """From the length of each row and the flat values."""
        return cls(offsets_of(lengths), items)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self) -> Int64:
        """Entries per row, [U]."""
        return np.diff(self.offsets)

    def rows(self) -> Int64:
        """The row of each entry, [N]."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def take(self, index: Int32 | Int64) -> Ragged:
        """The rows `index`, in that order."""
        positions, offsets = expand(self.offsets, index)
        return self.at(positions, offsets)

    def at(self, positions: Int64, offsets: Int64) -> Ragged:
        """Rows that end where `offsets` say, made of the entries at `positions`."""
        return Ragged(offsets, self.items[positions], None if self.times is None else self.times[positions])

    def gather(self, index: Int32 | Int64) -> tuple[Int64, Int64]:
        """The rows `index` [B] as fields of a batch: items int64 [N] and offsets int64 [B + 1]."""
        positions, offsets = expand(self.offsets, index)
        return self.items[positions].astype(np.int64), offsets

    def keep(self, mask: Mask) -> Ragged:
        """The same rows with those entries only that a mask [N] selects."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        times = None if self.times is None else self.times[mask]
        return Ragged(kept[self.offsets], self.items[mask], times)

    def last(self, size: int) -> Ragged:
        """The last `size` entries of each row."""
        end = self.offsets[1:]
        return self.at(*spans(np.maximum(self.offsets[:-1], end - size), end))

    def sets(self, n_items: int) -> Ragged:
        """Each row's distinct entries, ascending; entries are below `n_items`."""
        key = self.rows() * n_items + self.items
        key.sort()
        key = key[np.diff(key, prepend=-1) > 0]
        row, item = np.divmod(key, n_items)
        return Ragged.of(row, item.astype(np.int32), len(self))


def joined(first: Ragged, second: Ragged) -> Ragged:
    """The rows of `first`, each continued by that of `second`."""
    offsets = first.offsets + second.offsets
    items = np.empty(offsets[-1], first.items.dtype)
    of_first = np.arange(len(first.items)) + np.repeat(second.offsets[:-1], first.lengths())
    of_second = np.arange(len(second.items)) + np.repeat(first.offsets[1:], second.lengths())
    items[of_first], items[of_second] = first.items, second.items
    if first.times is None or second.times is None:
        return Ragged(offsets, items)
    times = np.empty(offsets[-1], first.times.dtype)
    times[of_first], times[of_second] = first.times, second.times
    return Ragged(offsets, items, times)


def offsets_of(lengths: Int64) -> Int64:
    """Where rows of these lengths begin and end, int64 [U + 1]."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def spans(begin: Int64, end: Int64) -> tuple[Int64, Int64]:
    """The positions begin, begin + 1, ..., end - 1 of each of B spans, one after another, and offsets int64 [B + 1]."""
    lengths = end - begin
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths), offsets


def expand(ends: Int64, rows: Int32 | Int64) -> tuple[Int64, Int64]:
    """Positions of the flat entries of some rows of a ragged array, one row after another, and where each begins.

    Args:
        ends: Where the rows begin and end, [R + 1].
        rows: Which rows, [B].

    Returns:
        Positions int64 [N], offsets int64 [B + 1].
    """
    return spans(ends[rows], ends[np.asarray(rows) + 1])
