"""Ragged arrays: rows of any length, flat, one after another, and offsets that say where each begins and ends."""

from __future__ import annotations

import numpy as np

from recrun.data.types import Int32, Int64


def spans(begin: Int64, end: Int64) -> tuple[Int64, Int64]:
    """The places begin, begin + 1, ..., end - 1 of each of B spans, one after another, and offsets int64 [B + 1]."""
    lengths = end - begin
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths), offsets


def expand(ends: Int64, rows: Int32 | Int64) -> tuple[Int64, Int64]:
    """Places of the flat entries of some rows of a ragged array, one row after another, and where each begins.

    Args:
        ends: Where the rows begin and end, [R + 1].
        rows: Which rows, [B].

    Returns:
        Places int64 [N], offsets int64 [B + 1].
    """
    return spans(ends[rows], ends[np.asarray(rows) + 1])
