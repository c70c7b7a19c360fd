"""Ragged arrays: rows of any length, flat, one after another, and offsets that say where each begins and ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recrun.data.types import Int32, Int64, Mask


@dataclass(frozen=True)
class Ragged:
    """Rows of integers: row u is `items[offsets[u]:offsets[u + 1]]`.

    Attributes:
        offsets: int64 [U + 1].
        items: int32 or int64 [N].
    """

    offsets: Int64
    items: Int32 | Int64

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
        return Ragged(offsets, self.items[positions])

    def gather(self, index: Int32 | Int64) -> tuple[Int64, Int64]:
        """The rows `index` [B] as fields of a batch: items int64 [N] and offsets int64 [B + 1]."""
        positions, offsets = expand(self.offsets, index)
        return self.items[positions].astype(np.int64), offsets

    def keep(self, mask: Mask) -> Ragged:
        """The same rows with those entries only that a mask [N] selects."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return Ragged(kept[self.offsets], self.items[mask])

    def last(self, size: int) -> Ragged:
        """The last `size` entries of each row."""
        end = self.offsets[1:]
        positions, offsets = spans(np.maximum(self.offsets[:-1], end - size), end)
        return Ragged(offsets, self.items[positions])

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
    before = np.repeat(second.offsets[:-1], first.lengths())
    items[np.arange(len(first.items)) + before] = first.items
    before = np.repeat(first.offsets[1:], second.lengths())
    items[np.arange(len(second.items)) + before] = second.items
    return Ragged(offsets, items)


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
