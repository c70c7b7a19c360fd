"""What readers of all formats give: some rows at a time, each column as text, lists, numbers, integers or times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recrun.data.ragged import expand
from recrun.data.types import Float, Ids, Int32, Int64

Numbers: TypeAlias = NDArray[Any]  # of any floating type

CHUNK_ROWS = 1 << 17
NO_CODES, NO_NUMBERS, NO_VALUES = np.zeros(0, np.int32), np.zeros(0), np.empty(0, object)


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
        codes = np.append(self.codes, np.int32(len(self.values)))[index]
        return Texts(codes, np.append(self.values, np.array([""], object)))


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

    def take(self, index: Int64) -> Lists:
        """Some of the cells; those at -1 are empty."""
        nobody = len(self.offsets) - 1
        place, offsets = expand(np.append(self.offsets, self.offsets[-1]), np.where(index < 0, nobody, index))
        return Lists(offsets, Texts(self.texts.codes[place], self.texts.values))


class NotIntegers(Exception):
    """Ids are not all plain integers ("007" is not): read the file again with ids as text."""


@dataclass(frozen=True)
class Wanted:
    """Which columns are read, and as what.

    Attributes:
        texts: As text.
        numbers: As numbers.
        lists: As lists of texts, by their separator.
        integers: As int64; a reader raises `NotIntegers` if that would change an id.
        times: As times, numbers or dates.
        required: Columns without missing cells: a reader refuses them, naming the row.
        rows: At a time; None = as many as fit into little memory.
    """

    texts: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    lists: Mapping[str, str] = field(default_factory=dict)
    integers: frozenset[str] = frozenset()
    times: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    rows: int | None = None

    @property
    def columns(self) -> frozenset[str]:
        """All of them."""
        return self.texts | self.numbers | self.lists.keys() | self.integers | self.times

    def only(self, names: Set[str]) -> Wanted:
        """Those of some columns."""
        lists = {name: separator for name, separator in self.lists.items() if name in names}
        kinds = (self.integers & names, self.times & names, self.required & names, self.rows)
        return Wanted(self.texts & names, self.numbers & names, lists, *kinds)

    def and_texts(self, names: Iterable[str]) -> Wanted:
        """More columns, as text."""
        return replace(self, texts=self.texts | frozenset(names))


@dataclass(frozen=True)
class Times:
    """Times of R rows: seconds since 1970 where they are `dates`, else numbers of a unit to be found out; float64."""

    values: Float
    dates: bool


@dataclass(frozen=True)
class Chunk:
    """R rows.

    Attributes:
        size: R.
        texts, lists: Cells by column.
        numbers: [R] by column, NaN = there is none, never infinite. Of the precision of the file: float64, or float32
            and float16 of binary formats, so that .7 compares as .7 whichever it is.
        integers: int64 [R] by column.
        times: By column.
        part: TRAIN, VALID or TEST where the source says which of them the rows belong to.
    """

    size: int
    texts: Mapping[str, Texts] = field(default_factory=dict)
    lists: Mapping[str, Lists] = field(default_factory=dict)
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    integers: Mapping[str, Int64] = field(default_factory=dict)
    times: Mapping[str, Times] = field(default_factory=dict)
    part: int | None = None

    def bad_cell(self, required: Set[str]) -> tuple[int, str, str] | None:
        """Row, column and fault of a cell that is infinite, or missing where it must not be."""
        for name, numbers in {**self.numbers, **{name: times.values for name, times in self.times.items()}}.items():
            bad = np.isinf(numbers)
            if name in required:
                bad |= np.isnan(numbers)
            if bad.any():
                row = int(bad.argmax())
                return row, name, "is missing" if np.isnan(numbers[row]) else f"is {numbers[row]}, not a finite number"
        for name in self.texts.keys() & required:
            empty = np.flatnonzero(self.texts[name].values == "")
            bad = np.isin(self.texts[name].codes, empty)
            if len(empty) and bad.any():
                return int(bad.argmax()), name, "is missing"
        return None


class DataFile(Protocol):
    """Gives rows."""

    def header(self) -> list[str]:
        """Names of the columns there are."""

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The rows in order. Raises DataError for a cell that cannot be used."""

    def location(self, row: int) -> str:
        """Where a row is, counted from 0 over all chunks, for errors: "file:line"; below 0 what the source is."""


def joined_chunks(chunks: Sequence[Chunk], wanted: Wanted) -> Chunk:
    """One after another."""
    return Chunk(
        sum(chunk.size for chunk in chunks),
        {name: joined_texts([chunk.texts[name] for chunk in chunks]) for name in wanted.texts},
        {name: joined_lists([chunk.lists[name] for chunk in chunks]) for name in wanted.lists},
        {name: joined_numbers([chunk.numbers[name] for chunk in chunks]) for name in wanted.numbers},
    )


def joined_numbers(parts: Sequence[Numbers]) -> Numbers:
    """One after another, in their precision."""
    return np.concatenate(parts) if parts else NO_NUMBERS


def joined_texts(parts: Sequence[Texts]) -> Texts:
    """One after another; a text of several parts is there several times."""
    begins = np.cumsum([0, *(len(part.values) for part in parts)])
    codes = [part.codes + np.int32(begin) for part, begin in zip(parts, begins[:-1], strict=True)]
    return Texts(np.concatenate([NO_CODES, *codes]), np.concatenate([NO_VALUES, *(part.values for part in parts)]))


def joined_lists(parts: Sequence[Lists]) -> Lists:
    """One after another."""
    lengths = [np.diff(part.offsets) for part in parts]
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return Lists(offsets, joined_texts([part.texts for part in parts]))
