"""What comes out of a table's source, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from recrun.data.rows import Float, Ids, Int32, Int64


@dataclass(frozen=True)
class Texts:
    """Cells of text: `values[codes]`, so that each distinct text is looked at once.

    Attributes:
        codes: int32 [N].
        values: Distinct texts, objects [V]; a cell without a text is "".
    """

    codes: Int32
    values: Ids

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: Int64) -> Texts:
        """Some of the cells; those at -1 are ""."""
        codes = np.where(index < 0, len(self.values), self.codes[index]) if len(self) else np.zeros_like(index)
        return Texts(codes.astype(np.int32), np.append(self.values, np.array([""], object)))


@dataclass(frozen=True)
class Lists:
    """Cells that hold any number of texts: cell i is `texts[offsets[i]:offsets[i + 1]]`, offsets int64 [R + 1]."""

    offsets: Int64
    texts: Texts

    @classmethod
    def split(cls, cells: Texts, separator: str) -> Lists:
        """Cells of text taken apart at a separator; blanks around the parts and empty parts are dropped."""
        parts = [[part for piece in text.split(separator) if (part := piece.strip())] for text in cells.values]
        ends = np.cumsum([0, *map(len, parts)])
        values, codes = np.unique(np.array([part for row in parts for part in row], object), return_inverse=True)
        place, offsets = expand(ends, cells.codes)
        return cls(offsets, Texts(codes.astype(np.int32)[place], values))


@dataclass(frozen=True)
class Wanted:
    """Which columns are read, and as what: text, numbers, or lists of texts by their separator."""

    texts: frozenset[str]
    numbers: frozenset[str]
    lists: Mapping[str, str]

    @property
    def columns(self) -> frozenset[str]:
        """All of them."""
        return self.texts | self.numbers | self.lists.keys()


@dataclass(frozen=True)
class Chunk:
    """R rows.

    Attributes:
        size: R.
        texts, lists: Cells by column.
        numbers: float64 [R] by column; NaN = there is none. Never infinite.
        part: TRAIN, VALID or TEST where the source says which part the rows belong to.
    """

    size: int
    texts: Mapping[str, Texts] = field(default_factory=dict)
    lists: Mapping[str, Lists] = field(default_factory=dict)
    numbers: Mapping[str, Float] = field(default_factory=dict)
    part: int | None = None


class TableSource(Protocol):
    """Gives the rows of a table: files, or a generator."""

    def identity(self) -> Mapping[str, Any]:
        """Plain values that change whenever the rows would: content hashes, settings, seeds."""

    def header(self) -> list[str]:
        """Names of the columns there are."""

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The rows in order. Raises DataError for a cell that cannot be used."""

    def place(self, row: int) -> str:
        """Where a row is, counted from 0 over all chunks, for errors: "file:line"."""


def expand(ends: Int64, rows: Int32 | Int64) -> tuple[Int64, Int64]:
    """Places of the flat entries of some rows of a ragged array, one row after another, and where each begins.

    Args:
        ends: Where the rows begin and end, [R + 1].
        rows: Which rows, [B].

    Returns:
        Places int64 [N], offsets int64 [B + 1].
    """
    start = ends[rows]
    lengths = ends[np.asarray(rows) + 1] - start
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths), offsets
